//! The stored form of a definition: JSON with a number in front that says how to read it. What stands in it has been checked once,
//! when it was published; reading it back checks only that it is whole.

use super::model::Definition;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::collections::BTreeSet;

/// The form that is written. A form that was written once is read for ever: sagas may run for a year.
const FORMAT: u32 = 1;

/// Why a stored definition cannot be run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoredError {
    /// It was written by a newer version of the server.
    #[error("it is stored in form {0}, this version reads {FORMAT}")]
    Format(u32),
    /// It is damaged.
    #[error("its stored form cannot be read: {0}")]
    Damaged(String),
}

#[derive(Serialize)]
struct Written<'a> {
    format: u32,
    definition: &'a Definition,
}

#[derive(Deserialize)]
struct Form {
    format: u32,
    definition: Box<RawValue>,
}

/// The stored form.
#[must_use]
pub fn store(definition: &Definition) -> Box<RawValue> {
    serde_json::value::to_raw_value(&Written { format: FORMAT, definition }).expect("a definition has text keys and finite numbers")
}

/// The definition of a stored form.
///
/// # Errors
/// When it is of another form, or damaged.
pub fn load(stored: &RawValue) -> Result<Definition, StoredError> {
    let form: Form = serde_json::from_str(stored.get()).map_err(|error| StoredError::Damaged(error.to_string()))?;
    if form.format != FORMAT {
        return Err(StoredError::Format(form.format));
    }
    let definition: Definition = serde_json::from_str(form.definition.get()).map_err(|error| StoredError::Damaged(error.to_string()))?;
    check(&definition).map_err(|reason| StoredError::Damaged(reason.to_owned()))?;
    Ok(definition)
}

/// What the protocol would stumble over.
fn check(definition: &Definition) -> Result<(), &'static str> {
    let ids: BTreeSet<_> = definition.steps.iter().map(|step| &step.id).collect();
    if ids.len() < definition.steps.len() || ids.is_empty() {
        return Err("its steps are none, or two are the same");
    }
    if definition.steps.iter().enumerate().any(|(at, step)| step.after.iter().any(|&before| before >= at)) {
        return Err("a step waits for one that does not stand before it");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).expect("JSON")
    }

    #[test]
    fn what_is_not_whole_is_refused_and_not_guessed() {
        let text = "saga: a\nversion: 1\nkey: ${ input.k }\nservices: { s: { topic: t } }\nsteps:\n  - { id: one, call: s.do }\n  \
            - { id: two, call: s.do }\n";
        let stored = store(&crate::dsl::compile(text).expect("legal").definition);
        assert_eq!(load(&stored).expect("just written").steps.len(), 2);
        let newer = raw(&stored.get().replacen("\"format\":1", "\"format\":2", 1));
        assert_eq!(load(&newer).expect_err("another form"), StoredError::Format(2));
        for (old, new) in [
            ("\"after\":[0]", "\"after\":[1]"),
            ("\"id\":\"two\"", "\"id\":\"one\""),
            ("\"expression\":\"input.k\"", "\"expression\":\"input.\""),
            ("\"version\":1", "\"version\":1,\"unknown\":1"),
        ] {
            assert!(stored.get().contains(old), "{old}");
            let damaged = load(&raw(&stored.get().replacen(old, new, 1)));
            assert!(matches!(damaged, Err(StoredError::Damaged(_))), "{new}: {damaged:?}");
        }
    }
}
