//! The types of a definition.

use super::action::Action;
use super::call::{Call, HttpTarget, RetryPolicy, SubSaga, Target, only_in_sagas};
use super::emission::Emission;
use super::for_each::ForEach;
use super::lock::Lock;
use super::schema::InputSchema;
use crate::expression::Template;
use core::time::Duration;
use jiff::fmt::serde::unsigned_duration::friendly::compact;
use sagamq_api::saga::{Mode, Operation};
use sagamq_api::{SagaName, StepId, TopicName};
use serde::{Deserialize, Serialize};

/// A published saga: immutable under its name and version.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Definition {
    /// Name of the saga.
    pub name: SagaName,
    /// Version; a new text needs a new one.
    pub version: u32,
    /// How instances are run when a start does not say.
    #[serde(default)]
    pub mode: Mode,
    /// Why it cannot be run as a saga, if it is meant for two phases and cannot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_saga: Option<String>,
    /// How often a branch of a transaction is told the decision until it acknowledges it: a commit without end, whatever `attempts` says.
    #[serde(default = "RetryPolicy::decision")]
    pub decision_retry: RetryPolicy,
    /// What the input must be like; `None`: any object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<InputSchema>,
    /// The business key, over `input`: one instance a key.
    pub key: Template,
    /// How long an instance may take until its pivot; then what was done is compensated. After the pivot it goes on.
    #[serde(with = "compact::optional")]
    pub timeout: Option<Duration>,
    /// Steps in a topological order of `after`: the order of the text, as far as that is one.
    pub steps: Vec<Step>,
    /// What a completed instance returns, over `input` and `steps`.
    pub output: Option<Template>,
}

impl Definition {
    /// Every call of every step.
    pub fn calls(&self) -> impl Iterator<Item = &Call> {
        self.steps.iter().flat_map(|step| step.action.call().into_iter().chain(&step.compensation))
    }

    /// What its steps tell others.
    pub fn emissions(&self) -> impl Iterator<Item = &Emission> {
        self.steps.iter().flat_map(|step| step.emit.iter().chain(&step.emit_undone))
    }

    /// The topics that commands are sent to.
    pub fn topics(&self) -> impl Iterator<Item = TopicName> {
        self.calls().filter_map(|call| match &call.target {
            Target::Topic(topic) => Some(topic.clone()),
            Target::Http(_) | Target::Saga(_) => None,
        })
    }

    /// The base URLs that the definition says.
    pub fn http_bases(&self) -> impl Iterator<Item = &str> {
        self.calls().filter_map(|call| match &call.target {
            Target::Topic(_) | Target::Saga(_) => None,
            Target::Http(HttpTarget::Service { default, .. }) => default.as_deref(),
            Target::Http(HttpTarget::Worker { base, .. }) => Some(base.as_str()),
        })
    }

    /// The sagas that its steps start, each with its step.
    pub fn sub_sagas(&self) -> impl Iterator<Item = (&Step, &SubSaga)> {
        self.steps.iter().filter_map(|step| Some((step, step.action.call()?.sub_saga()?)))
    }

    /// Whether it has a point of no return.
    #[must_use]
    pub fn has_pivot(&self) -> bool {
        self.steps.iter().any(|step| step.kind == StepKind::Pivot)
    }

    /// Why it cannot be run in a mode, if it cannot.
    #[must_use]
    pub fn forbids(&self, mode: Mode) -> Option<String> {
        match mode {
            Mode::Saga => self.no_saga.clone(),
            Mode::TwoPhase => self.steps.iter().find_map(Step::no_two_phases),
        }
    }

    /// Whether an expression of it may take more than a moment.
    #[must_use]
    pub fn is_long(&self) -> bool {
        let lists = self.steps.iter().filter_map(|step| step.for_each.as_ref()).map(|each| &each.items);
        let locks = self.steps.iter().filter_map(|step| step.lock.as_ref()).map(|lock| &lock.key);
        let values = self.steps.iter().flat_map(|step| step.when.iter().chain(step.action.value())).chain(lists).chain(locks);
        self.calls().map(|call| &call.arguments).chain(values).chain(&self.output).any(Template::is_long)
            || self.emissions().any(Emission::is_long)
    }
}

/// One step: an action and what undoes it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Id of the step.
    pub id: StepId,
    /// Indices of the steps that must have succeeded first. Without any `after:` in the text: the step before.
    pub after: Vec<usize>,
    /// Where the step stands relative to the pivot.
    pub kind: StepKind,
    /// What it does forward.
    pub action: Action,
    /// The semantic undo. `None`: the step has no effect to undo, or lies behind the pivot.
    pub compensation: Option<Call>,
    /// How long the action may wait to be handed to its participant; `None`: as long as the saga may take. Behind the pivot only of a step
    /// that the saga goes on without.
    #[serde(with = "compact::optional", default, skip_serializing_if = "Option::is_none")]
    pub queue_timeout: Option<Duration>,
    /// Whether the step is done at all: over `input`, `steps` and `saga`, asked once, when its turn has come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<Template>,
    /// The list for each of whose items it is called; `None`: it is called once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub for_each: Option<ForEach>,
    /// Whether the saga goes on without it if it has no effect, and undoes it alone if that is not known.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub optional: bool,
    /// What it tells others when its action has taken effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub emit: Option<Emission>,
    /// What it tells others when that is undone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub emit_undone: Option<Emission>,
    /// The lock that it begins under.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lock: Option<Lock>,
}

impl Step {
    /// Whether its output may be absent although the saga went on behind it.
    #[must_use]
    pub const fn may_be_without_output(&self) -> bool {
        self.when.is_some() || self.optional
    }

    /// Why it cannot be run in two phases, if it cannot.
    fn no_two_phases(&self) -> Option<String> {
        let own = [("when", self.when.is_some()), ("for_each", self.for_each.is_some())];
        let keyword = own
            .into_iter()
            .chain([("optional", self.optional), ("emit", self.emit.is_some()), ("lock", self.lock.is_some())])
            .find_map(|(name, is_there)| is_there.then_some(name));
        keyword.map(|keyword| only_in_sagas(self.id.as_str(), keyword)).or_else(|| self.action.no_branch(&self.id))
    }

    /// What is called.
    ///
    /// # Panics
    /// When there is no compensation and one is asked for, or neither action nor compensation is.
    #[must_use]
    pub fn call(&self, operation: Operation) -> &Call {
        match operation {
            Operation::Action => self.action.call().expect("only a step that calls is called"),
            Operation::Compensation => self.compensation.as_ref().expect("only what has a compensation is compensated"),
            other => panic!("a step has no {other}"),
        }
    }

    /// The same, to change it.
    ///
    /// # Panics
    /// As [`Step::call`].
    #[must_use]
    pub fn call_mut(&mut self, operation: Operation) -> &mut Call {
        match operation {
            Operation::Action => self.action.call_mut().expect("only a step that calls is called"),
            Operation::Compensation => self.compensation.as_mut().expect("only what has a compensation is compensated"),
            other => panic!("a step has no {other}"),
        }
    }
}

/// Where a step stands relative to the pivot (Richardson: compensatable, pivot, retriable).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepKind {
    /// Before the pivot, or in a saga without one: undone when the saga fails.
    Compensatable,
    /// The point of no return: once it succeeded, the saga only goes forward. Its unknown outcome is retried until it is known.
    Pivot,
    /// Behind the pivot: retried until it succeeds.
    Retriable,
}
