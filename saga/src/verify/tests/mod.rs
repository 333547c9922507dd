//! Verification verified: definitions that hold, bugs that are planted around the protocol and found by a shortest way, and the search itself.

mod data;
mod each;
mod kinds;
mod matrix;
mod planted;
mod shapes;
mod sub_sagas;

use super::{Bounds, Report, Sample, Subject, sample, verify};
use crate::dsl::{self, Compiled};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// A definition of steps that wait for others; `pivot` is the index of its pivot. The services are called over HTTP and by topic in turn.
pub(super) fn shape(after: &[&[usize]], pivot: Option<usize>, more: &str) -> Compiled {
    let mut text =
        "saga: s\nversion: 1\nkey: ${ input.k }\ntimeout: 1h\nservices: { a: { http: \"http://a\" }, b: { topic: b } }\n".to_owned();
    text.push_str(more);
    text.push_str("steps:\n");
    let mut behind = vec![false; after.len()];
    for (step, before) in after.iter().enumerate() {
        behind[step] = before.iter().any(|before| behind[*before] || pivot == Some(*before));
        let names: Vec<_> = before.iter().map(|before| format!("s{before}")).collect();
        let service = if step % 2 == 0 { "a" } else { "b" };
        let rest = match pivot {
            Some(pivot) if pivot == step => ", pivot: true".to_owned(),
            _ if behind[step] => String::new(),
            _ => format!(", compensate: {service}.undo"),
        };
        let _ = writeln!(text, "  - {{ id: s{step}, call: {service}.do, after: [{}]{rest} }}", names.join(", "));
    }
    if !text.contains(": b.") {
        text = text.replace(", b: { topic: b }", "");
    }
    dsl::compile(&text).unwrap_or_else(|faults| panic!("{faults:?}\n{text}"))
}

/// Steps one after the other.
pub(super) fn line(count: usize) -> Vec<Vec<usize>> {
    (0..count).map(|step| step.checked_sub(1).into_iter().collect()).collect()
}

pub(super) fn linear(count: usize, pivot: Option<usize>) -> Compiled {
    let after = line(count);
    shape(&after.iter().map(Vec::as_slice).collect::<Vec<_>>(), pivot, "")
}

pub(super) fn data(compiled: &Compiled) -> Sample {
    sample(&compiled.definition, None, &BTreeMap::new()).expect("data")
}

pub(super) fn run(compiled: &Compiled, bounds: Bounds) -> Report {
    let data = data(compiled);
    verify(Subject::new(&compiled.definition, &compiled.invariants, &data), bounds, None)
}

pub(super) fn shown(report: &Report) -> String {
    let mut text = format!("{} states, {} moves, depth {}, {:?}\n", report.states, report.steps, report.depth, report.ends);
    for violation in &report.violations {
        let _ = writeln!(text, "{}: {}\n{}", violation.property, violation.what, violation.timeline);
    }
    text
}
