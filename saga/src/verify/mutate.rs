//! What the properties of a definition are worth: a part of it is taken out, and somebody should notice.

use super::report::verify;
use super::subject::{Bounds, Subject};
use crate::definition::{Definition, StepKind};
use serde::Serialize;

/// Faults on a way when a part is missing: one shows it, if it is ever shown.
const FAULTS: u8 = 1;

/// A definition without one of its parts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mutant {
    /// What was taken out.
    pub what: String,
    /// The first property that is broken without it; `None`: nobody noticed.
    pub noticed_by: Option<String>,
}

/// Takes out each compensation, each dependency and the pivots, one by one.
#[must_use]
pub fn mutants(subject: Subject<'_>, bounds: Bounds) -> Vec<Mutant> {
    let bounds = Bounds { faults: bounds.faults.min(FAULTS), ..bounds };
    let broken: Vec<String> = verify(subject, bounds, None).violations.into_iter().map(|violation| violation.property).collect();
    let without = |(what, definition): (String, Definition)| {
        let report = verify(Subject { definition: &definition, ..subject }, bounds, None);
        // What is broken anyway says nothing about what was taken out.
        let found = report.violations.into_iter().map(|violation| violation.property).find(|property| !broken.contains(property));
        Mutant { what, noticed_by: found }
    };
    parts(subject.definition).into_iter().map(without).collect()
}

/// What can be taken out, and what is left then.
fn parts(definition: &Definition) -> Vec<(String, Definition)> {
    let mut found = Vec::new();
    for (index, step) in definition.steps.iter().enumerate() {
        if step.compensation.is_some() {
            let mut without = definition.clone();
            without.steps[index].compensation = None;
            found.push((format!("`compensate` of `{}`", step.id), without));
        }
        for before in &step.after {
            let mut without = definition.clone();
            without.steps[index].after.retain(|other| other != before);
            found.push((format!("`{}` before `{}`", definition.steps[*before].id, step.id), with_kinds(without)));
        }
        if step.kind == StepKind::Pivot {
            let mut without = definition.clone();
            without.steps[index].kind = StepKind::Compensatable;
            found.push((format!("`pivot` of `{}`", step.id), with_kinds(without)));
        }
    }
    found
}

/// Steps behind a pivot are behind one still, or not any more.
fn with_kinds(mut definition: Definition) -> Definition {
    for index in 0..definition.steps.len() {
        if definition.steps[index].kind == StepKind::Pivot {
            continue;
        }
        let is_behind = |before: &usize| definition.steps[*before].kind != StepKind::Compensatable;
        let kind = if definition.steps[index].after.iter().any(is_behind) { StepKind::Retriable } else { StepKind::Compensatable };
        definition.steps[index].kind = kind;
    }
    definition
}
