//! What is different between two versions of a definition, and for whom.
//!
//! An instance keeps its version for life, so a new version changes nothing for what runs. It is new starts that see it: they may be refused
//! (the input, the key), and participants are called in another way.

mod change;
mod fields;
mod schema;

pub use change::{Change, SeenBy};

use crate::definition::Definition;
use fields::Fields;
use sagamq_api::SagaName;
use serde::Serialize;

/// Two versions of a definition, compared.
#[derive(Debug, Serialize)]
pub struct Comparison {
    /// The saga.
    pub saga: SagaName,
    /// The version that is compared.
    pub before: u32,
    /// With which one.
    pub after: u32,
    /// Whether every input that the one takes is taken by the other. `false` also where that cannot be told.
    pub takes_old_inputs: bool,
    /// Every difference, in the order of the definition.
    pub changes: Vec<Change>,
}

/// Why two definitions cannot be compared.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("these are two sagas, `{before}` and `{after}`, and no versions of one")]
pub struct TwoSagas {
    /// The one.
    pub before: SagaName,
    /// The other.
    pub after: SagaName,
}

/// Compares two versions.
///
/// # Errors
/// When they are no versions of one saga.
pub fn compare(before: &Definition, after: &Definition) -> Result<Comparison, TwoSagas> {
    if before.name != after.name {
        return Err(TwoSagas { before: before.name.clone(), after: after.name.clone() });
    }
    let mut changes = schema::changes(before.input.as_ref(), after.input.as_ref());
    let takes_old_inputs = !changes.iter().any(|change| change.seen_by == SeenBy::Starters);
    let (old, new) = (Fields::of_saga(before), Fields::of_saga(after));
    changes.extend(old.differences(&new).map(|(what, before, after)| saga_change(what, before, after)));
    changes.extend(steps(before, after));
    Ok(Comparison { saga: before.name.clone(), before: before.version, after: after.version, takes_old_inputs, changes })
}

fn saga_change(what: String, before: Option<String>, after: Option<String>) -> Change {
    let (seen_by, note) = match what.as_str() {
        "key" => (SeenBy::Starters, Some("an input that started an instance may start another one: the key is what makes it one")),
        "mode" => (SeenBy::Participants, Some("a start that names no mode is run in the new one")),
        _ => (SeenBy::Operators, None),
    };
    Change { seen_by, step: None, what, before, after, note: note.map(str::to_owned) }
}

fn steps(before: &Definition, after: &Definition) -> Vec<Change> {
    let ids = |definition: &Definition| definition.steps.iter().map(|step| step.id.to_string()).collect::<Vec<_>>();
    let (old, new) = (ids(before), ids(after));
    let mut changes = Vec::new();
    // In the order of the newer one, and what it has no more at the end.
    let gone: Vec<_> = old.iter().filter(|id| !new.contains(id)).collect();

    for (at, id) in new.iter().enumerate() {
        let fields = Fields::of_step(after, at);
        let Some(was) = old.iter().position(|other| other == id) else {
            changes.push(Change {
                seen_by: SeenBy::Participants,
                step: Some(id.clone()),
                what: "step".to_owned(),
                before: None,
                after: Some(fields.summary()),
                note: None,
            });
            continue;
        };
        for (what, before, after) in Fields::of_step(before, was).differences(&fields) {
            changes.push(Change {
                seen_by: seen_by(&what),
                step: Some(id.clone()),
                note: note(&what, after.as_deref()),
                what,
                before,
                after,
            });
        }
    }
    for id in gone {
        let was = old.iter().position(|other| other == id).expect("it is one of them");
        let summary = Fields::of_step(before, was).summary();
        changes.push(Change {
            seen_by: SeenBy::Participants,
            step: Some(id.clone()),
            what: "step".to_owned(),
            before: Some(summary),
            after: None,
            note: None,
        });
    }
    changes
}

/// What a participant is told, or when it is called at all, is its business; how often and how long is not.
fn seen_by(what: &str) -> SeenBy {
    let is_course =
        ["after", "kind", "queue_timeout", "for_each.max_parallel"].contains(&what) || what.contains(".timeout") || what.contains(".retry");
    if is_course { SeenBy::Operators } else { SeenBy::Participants }
}

fn note(what: &str, after: Option<&str>) -> Option<String> {
    match (what, after) {
        ("kind", Some("pivot")) => Some("from here on nothing is undone".to_owned()),
        ("kind", Some("retriable")) => Some("it stands behind the pivot now, and is called until it succeeds".to_owned()),
        ("kind", Some("compensatable")) => Some("it can be undone now".to_owned()),
        ("compensation", None) => Some("what it did stays".to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
