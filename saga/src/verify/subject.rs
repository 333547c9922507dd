//! What is verified: a definition, what its author says must hold, and data for it.

use super::decides::{Decides, Shipped};
use crate::definition::{Definition, Invariant};
use sagamq_api::{JsonText, StepId};
use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;

/// What is verified.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The definition.
    pub definition: &'a Definition,
    /// What must hold beside what always must.
    pub invariants: &'a [Invariant],
    /// The data of the instance.
    pub sample: &'a Sample,
    /// What decides.
    pub decides: &'a dyn Decides,
    /// Becomes true when the search is to end: it is not complete then.
    pub stop: Option<&'a AtomicBool>,
}

impl<'a> Subject<'a> {
    /// A definition under the protocol as it is shipped.
    #[must_use]
    pub fn new(definition: &'a Definition, invariants: &'a [Invariant], sample: &'a Sample) -> Self {
        Self { definition, invariants, sample, decides: &Shipped, stop: None }
    }
}

/// Data that an instance is run with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// What it is started with.
    pub input: JsonText,
    /// What its steps return, and each item of those that fan out; one that is not named returns `{}`.
    pub outputs: BTreeMap<StepId, JsonText>,
}

/// How far the search goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// How much goes wrong on one way at most.
    pub faults: u8,
    /// Attempts that a call has at most, if its policy does not allow fewer.
    pub attempts: u32,
    /// States that are looked at at most.
    pub states: usize,
    /// Threads.
    pub threads: usize,
    /// Whether steps in the same place stand for each other, and what cannot meet any more is followed in one order.
    pub reduce: bool,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { faults: 2, attempts: 2, states: 3_000_000, threads: 1, reduce: true }
    }
}
