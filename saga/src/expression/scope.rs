//! What an expression can see: borrowed from the instance that evaluates it, so that making a scope costs nothing.

use core::fmt;
use sagamq_api::saga::Failure;
use sagamq_api::{JsonText, SagaName, StepId};
use std::collections::{BTreeMap, HashMap};

/// The values that an expression can refer to.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    /// `input`: what the instance was started with.
    pub input: &'a JsonText,
    /// `steps.<id>.output`: what the steps returned.
    pub outputs: &'a dyn Outputs,
    /// `failure`: why the instance is compensated. Only compensations may refer to it.
    pub failure: Option<&'a Failure>,
    /// `saga`: the instance itself. A key is evaluated before there is one.
    pub saga: Option<SagaScope<'a>>,
    /// `item` and `index`: what a call of a step that fans out is for.
    pub item: Option<Item<'a>>,
}

/// An item of a step that fans out.
#[derive(Clone, Copy, Debug)]
pub struct Item<'a> {
    /// `item`: what the list holds.
    pub value: &'a JsonText,
    /// `index`: its place in the list, counted from 0.
    pub index: usize,
}

/// `saga` in an expression.
#[derive(Clone, Copy, Debug)]
pub struct SagaScope<'a> {
    /// `saga.id`: id of the instance.
    pub id: &'a str,
    /// `saga.name`: name of the definition.
    pub name: &'a SagaName,
    /// `saga.version`: version of the definition.
    pub version: u32,
    /// `saga.key`: business key of the instance.
    pub key: &'a str,
}

/// Where the outputs of the steps are found. Implemented for maps, and by whatever holds the state of an instance.
pub trait Outputs: fmt::Debug {
    /// What the step returned; `None` when it has not succeeded, or its outcome is unknown.
    fn output(&self, step: &StepId) -> Option<&JsonText>;
}

impl Outputs for BTreeMap<StepId, JsonText> {
    fn output(&self, step: &StepId) -> Option<&JsonText> {
        self.get(step)
    }
}

impl Outputs for HashMap<StepId, JsonText> {
    fn output(&self, step: &StepId) -> Option<&JsonText> {
        self.get(step)
    }
}

/// No step has returned anything: the scope of a key.
impl Outputs for () {
    fn output(&self, _step: &StepId) -> Option<&JsonText> {
        None
    }
}
