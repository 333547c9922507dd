//! Reads `lock`, and the rules about locks: how a wait for one ends, and in which order they are taken.

use super::check::kind;
use super::draft::{Draft, Lock, Step};
use super::fields::Fields;
use super::graph::Graph;
use super::node::{Node, Value};
use super::report::Report;
use super::rule::Rule;
use super::{scalar, values};
use crate::definition::{Definition, StepKind};
use std::sync::Arc;

/// `lock`: a key, or a mapping.
pub(super) fn read(node: &Node, report: &mut Report<'_>) -> Option<Lock> {
    let Value::Map(_) = &node.value else {
        return Some(Lock { span: node.span, key: Some(key(node, report)?), timeout: None });
    };
    let mut fields = Fields::open(node, "`lock`", report)?;
    let found = fields.require("key", "name what is locked: `lock: { key: \"sku/${ input.sku }\", timeout: 30s }`", report);
    let found = found.and_then(|node| key(node, report));
    let timeout = fields.take("timeout").and_then(|node| scalar::duration(node, "the timeout", report));
    fields.finish(report);
    Some(Lock { span: node.span, key: found, timeout })
}

fn key(node: &Node, report: &mut Report<'_>) -> Option<super::draft::Values> {
    let text = scalar::text(node, "the key of a lock", report)?;
    if text.value.is_empty() {
        report.add_with_help(
            Rule::MissingField,
            text.span,
            "the key of the lock is empty",
            "name what is locked: `\"sku/${ input.sku }\"`",
        );
        return None;
    }
    values::read(node, report)
}

/// How waits for locks end, and that none begins where it cannot end otherwise.
pub(super) fn waits(draft: &Draft, graph: &Graph, report: &mut Report<'_>) {
    for (at, step) in draft.steps.iter().enumerate() {
        let Some(lock) = &step.lock else { continue };
        let must_succeed = kind(draft, graph, at) == StepKind::Retriable && step.optional.is_none();
        let budget = draft.timeout.as_ref().filter(|_| kind(draft, graph, at) != StepKind::Retriable);
        if must_succeed {
            behind_pivot(draft, graph, at, lock, report);
            continue;
        }
        match (&lock.timeout, budget) {
            (Some(timeout), Some(budget)) if timeout.value >= budget.value => {
                let message =
                    format!("the wait for the lock may take {:?}, but the whole saga times out after {:?}", timeout.value, budget.value);
                report.add_with_help(Rule::TimeoutTooShort, timeout.span, message, "shorten this timeout, or lengthen the saga's");
            }
            (None, None) => {
                let message = format!("nothing ends the wait of `{}` for its lock but whoever holds it", name(step));
                let help = if budget.is_none() && draft.timeout.is_some() {
                    "write `lock: { key: …, timeout: 30s }`"
                } else {
                    "write `lock: { key: …, timeout: 30s }`, or give the saga a `timeout`"
                };
                report.add_with_help(Rule::EndlessWait, lock.span, message, help);
            }
            _ => {}
        }
    }
}

/// Behind the pivot nothing gives way, so what is locked there must be held already.
fn behind_pivot(draft: &Draft, graph: &Graph, at: usize, lock: &Lock, report: &mut Report<'_>) {
    let step = &draft.steps[at];
    if let Some(timeout) = &lock.timeout {
        let message = format!("`{}` comes behind the pivot, where nothing is undone: it cannot fail when its time is over", name(step));
        report.add_with_help(Rule::FailsBehindPivot, timeout.span, message, "remove `timeout`: the lock is to be held by then");
    }
    let is_held_by = |(before, other): (usize, &Step)| {
        let is_sure = other.when.is_none() && other.optional.is_none() && kind(draft, graph, before) != StepKind::Retriable;
        is_sure && graph.is_ancestor(before, at) && other.lock.as_ref().is_some_and(|other| other.text() == lock.text())
    };
    if lock.key.is_some() && graph.is_sound() && !draft.steps.iter().enumerate().any(is_held_by) {
        let message = format!(
            "`{}` comes behind the pivot and asks for a lock that no step before it is sure to have asked for: there it can neither fail nor be \
             undone, so it may wait for ever, and a circle of such waits is ended by nobody",
            name(step)
        );
        let help = "ask for it before: give the pivot, or a step before it without `when` and `optional`, a `lock` with the same key";
        report.add_with_help(Rule::LockBehindPivot, lock.span, message, help);
    }
}

/// Two locks of a definition that two of its instances may take in two orders.
pub(super) fn order(draft: &Draft, graph: &Graph, report: &mut Report<'_>) {
    if !graph.is_sound() {
        return;
    }
    let locks: Vec<(usize, &Step, &Lock)> =
        draft.steps.iter().enumerate().filter_map(|(at, step)| Some((at, step, step.lock.as_ref()?))).collect();
    for (place, &(at, step, lock)) in locks.iter().enumerate() {
        // Told once a step, of the first one above it.
        let found = locks[..place].iter().find_map(|&(other, before, of_other)| {
            let (one, two) = (of_other.text()?, lock.text()?);
            let is_ordered = graph.is_ancestor(other, at) || graph.is_ancestor(at, other);
            let is_one_kind = of_other.kind_of_key() == lock.kind_of_key() && !(of_other.is_fixed() && lock.is_fixed());
            let is_crossed = is_ordered && is_one_kind && !(of_other.compares() && lock.compares());
            (one != two && (!is_ordered || is_crossed)).then_some((before, is_ordered))
        });
        let Some((other, is_ordered)) = found else { continue };
        let (step, other) = (name(step), name(other));
        let (message, help) = if is_ordered {
            let message = format!(
                "`{other}` and `{step}` lock two keys of one kind: of two sagas, one may take them in this order and the other in the opposite one, \
                 and then the younger of the two is undone"
            );
            let help = "let the first of them lock the smaller key of both, `${ a < b ? a : b }`, and the second the larger one";
            (message, help.to_owned())
        } else {
            let message = format!(
                "`{other}` and `{step}` have no order and lock two keys: of two sagas, one may take them in one order and the other in the opposite \
                 one, and then the younger of the two is undone"
            );
            (message, format!("add `{other}` to the `after` of `{step}`, or lock one key for both"))
        };
        report.add_with_help(Rule::LockOrder, lock.span, message, help);
    }
}

/// Two locks of the text that another definition takes in the opposite order, as far as the beginnings of their keys tell.
pub(super) fn beside(draft: &Draft, graph: &Graph, others: &[Arc<Definition>], report: &mut Report<'_>) {
    if !graph.is_sound() {
        return;
    }
    let locks: Vec<(usize, &Step, &Lock)> =
        draft.steps.iter().enumerate().filter_map(|(at, step)| Some((at, step, step.lock.as_ref()?))).collect();
    for &(at, step, lock) in &locks {
        let Some(second) = lock.kind_of_key().filter(|kind| !kind.is_empty()) else { continue };
        let before = locks.iter().filter(|(before, ..)| graph.is_ancestor(*before, at));
        let found =
            before.filter_map(|(_, step, lock)| Some((step, lock.kind_of_key().filter(|kind| !kind.is_empty() && *kind != second)?)));
        let crossed = found.filter_map(|(before, first)| Some((before, others.iter().find(|other| takes(other, &second, &first))?, first)));
        // Told once a step.
        let Some((before, other, first)) = crossed.into_iter().next() else { continue };
        let message = format!(
            "`{}` locks `{first}…` and then `{}` locks `{second}…`, and version {} of saga `{}` takes them in the opposite order: of two sagas that \
             do, the younger one is undone",
            name(before),
            name(step),
            other.version,
            other.name
        );
        report.add_with_help(Rule::LockOrder, lock.span, message, "take them in one order in all definitions");
    }
}

/// Whether a definition takes a lock whose key begins so, and behind it one whose key begins so.
fn takes(definition: &Definition, first: &str, second: &str) -> bool {
    let steps = &definition.steps;
    let of = |at: usize| steps[at].lock.as_ref().map(|lock| lock.key.literal_prefix());
    let is_behind_first = |at: usize| {
        let (mut open, mut seen) = (steps[at].after.clone(), vec![false; steps.len()]);
        while let Some(before) = open.pop() {
            if !core::mem::replace(&mut seen[before], true) {
                if of(before).as_deref() == Some(first) {
                    return true;
                }
                open.extend(&steps[before].after);
            }
        }
        false
    };
    (0..steps.len()).any(|at| of(at).as_deref() == Some(second) && is_behind_first(at))
}

fn name(step: &Step) -> &str {
    step.id.as_ref().map_or("this step", |id| id.as_str())
}

impl Lock {
    /// The text of its key.
    fn text(&self) -> Option<String> {
        self.key.as_ref().map(|key| key.template.shown())
    }

    /// What its key begins with, whatever the input is.
    fn kind_of_key(&self) -> Option<String> {
        self.key.as_ref().map(|key| key.template.literal_prefix())
    }

    /// Whether its key depends on a comparison: then it is taken to be the smaller or the larger of two.
    fn compares(&self) -> bool {
        self.key.as_ref().is_some_and(|key| key.template.sources().iter().any(|source| source.contains(['<', '>'])))
    }

    /// Whether its key is the same for every instance.
    fn is_fixed(&self) -> bool {
        self.key.as_ref().is_some_and(|key| key.template.is_literal())
    }
}
