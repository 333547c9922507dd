//! Which steps are in the same place, so that what happens to one of them might as well have happened to the other.
//!
//! Two steps are when they wait for the same steps, the same steps wait for them, they stand alike to the pivot, are reached alike, have as
//! many attempts, neither fans out, and nothing tells them apart by name: no invariant names them, and no compensation reads the output of its own action (that
//! of a step that has succeeded is there for all who may refer to it). What they return and how long they take may differ: outputs are there or
//! not, and the clock is not a part of a state but by what is due first.

use crate::definition::{Call, Definition, Invariant, Target};
use std::collections::HashMap;

/// For each step its class.
pub(super) fn classes(definition: &Definition, invariants: &[Invariant]) -> Vec<u16> {
    let mut known: HashMap<String, u16> = HashMap::new();
    let steps = definition.steps.iter().enumerate().map(|(index, step)| {
        let waiting: Vec<usize> =
            definition.steps.iter().enumerate().filter(|(_, other)| other.after.contains(&index)).map(|(at, _)| at).collect();
        let is_named = invariants.iter().any(|invariant| {
            invariant
                .assertion
                .references()
                .any(|reference| reference.root == "steps" && reference.path.first().is_none_or(|id| *id == step.id.as_str()))
        });
        let reads_itself = step.compensation.iter().any(|undo| {
            let mut references = undo.arguments.references().into_iter();
            references.any(|reference| reference.root == "steps" && reference.path.first().is_none_or(|id| *id == step.id.as_str()))
        });
        let own = (is_named || reads_itself).then_some(index);
        let undo = step.compensation.as_ref().map(reached);
        let queues = step.queue_timeout.is_some();
        // What is told has a name and values of its own.
        let own = own.or((step.emit.is_some() || step.emit_undone.is_some()).then_some(index));
        // What may be left out, or waits, has data and times of its own.
        let waits = step.action.call().is_none() || step.lock.is_some() || step.for_each.is_some();
        let own = own.or((step.when.is_some() || waits).then_some(index));
        format!("{:?}", (own, &step.after, waiting, step.kind, step.action.call().map(reached), undo, queues, step.optional))
    });
    let steps: Vec<String> = steps.collect();
    steps
        .into_iter()
        .map(|step| {
            let next = u16::try_from(known.len()).expect("few steps");
            *known.entry(step).or_insert(next)
        })
        .collect()
}

fn reached(call: &Call) -> (bool, bool, u32, bool) {
    (matches!(call.target, Target::Topic(_)), call.sub_saga().is_some(), call.retry.attempts, call.retry.never_on.is_empty())
}
