//! The JSON Schema of a saga's input (draft 2020-12): what an input must be like for a start to be taken.
//!
//! The linter lets only schemas through whose cost is bounded: nothing is fetched, no schema contains itself, patterns are matched in
//! linear time. So an input is judged in at most as many steps as it has values, times the schemas that one value can meet.

use super::distinct;
use jsonschema::{Draft, PatternOptions, ValidationOptions, Validator, ValidatorMap};
use sagamq_api::JsonText;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use std::sync::Arc;

/// Most bytes of a pattern once it is compiled.
const PATTERN_BYTES_MAX: usize = 1024 * 1024;

/// Longest text of what an input lacks, and of the place, in bytes: both may quote what was sent.
const REASON_BYTES_MAX: usize = 512;

/// An input that a schema does not take.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("at `{pointer}`: {reason}")]
pub struct Misfit {
    /// The value that does not fit, as a JSON pointer into the input; empty for the input itself.
    pub pointer: String,
    /// What the schema says of it.
    pub reason: String,
}

/// The schema of an input. A copy costs two references.
#[derive(Clone, Debug)]
pub struct InputSchema {
    schema: Arc<Value>,
    /// A version of this program that cannot use a schema that an older one took starts nothing with it; what runs goes on.
    validator: Arc<Result<Validator, String>>,
}

impl InputSchema {
    /// A schema that can be used.
    ///
    /// # Errors
    /// Why it cannot.
    pub(crate) fn compile(schema: Value) -> Result<Self, String> {
        let compiled = Self::load(schema);
        match &*compiled.validator {
            Ok(_) => Ok(compiled),
            Err(reason) => Err(reason.clone()),
        }
    }

    fn load(schema: Value) -> Self {
        let validator = options().build(&schema).map_err(|error| shortened(error.masked().to_string()));
        Self { schema: Arc::new(schema), validator: Arc::new(validator) }
    }

    /// The schema.
    #[must_use]
    pub fn schema(&self) -> &Value {
        &self.schema
    }

    /// A validator for each schema in it, by its place as the fragment of a URI: `#/properties/amount`.
    pub(crate) fn parts(&self) -> Option<ValidatorMap> {
        options().build_map(&self.schema).ok()
    }

    /// Why the input does not fit, if it does not: the first place that is found. Numbers beyond 64 bits are judged by their doubles.
    #[must_use]
    pub fn misfit(&self, input: &JsonText) -> Option<Misfit> {
        let misfit = |pointer: &str, reason: String| Misfit { pointer: shortened(pointer.to_owned()), reason: shortened(reason) };
        let validator = match &*self.validator {
            Ok(validator) => validator,
            Err(reason) => return Some(misfit("", format!("this version of the server cannot use the schema: {reason}"))),
        };
        let input = match distinct::read(input.as_str()) {
            Ok(input) => input,
            Err(distinct::Unreadable { pointer, reason }) => return Some(misfit(&pointer, reason)),
        };
        let error = validator.validate(&input).err()?;
        Some(misfit(error.instance_path().as_str(), error.masked().to_string()))
    }
}

/// How schemas are read: patterns by an engine whose time is linear, formats as rules and not as notes, and nothing from elsewhere.
pub(crate) fn options() -> ValidationOptions<'static> {
    let patterns = PatternOptions::regex().size_limit(PATTERN_BYTES_MAX).dfa_size_limit(PATTERN_BYTES_MAX);
    jsonschema::options().with_draft(Draft::Draft202012).with_pattern_options(patterns).should_validate_formats(true).offline()
}

fn shortened(mut text: String) -> String {
    if text.len() > REASON_BYTES_MAX {
        let end = (0..=REASON_BYTES_MAX).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

impl Serialize for InputSchema {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.schema.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for InputSchema {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Value::deserialize(deserializer).map(Self::load)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn misfit(schema: Value, input: &str) -> Option<(String, String)> {
        let schema = InputSchema::compile(schema).expect("a legal schema");
        schema.misfit(&JsonText::parse(input.as_bytes()).expect("JSON")).map(|Misfit { pointer, reason }| (pointer, reason))
    }

    #[test]
    fn a_misfit_names_its_place_and_does_not_repeat_the_value() {
        let schema = json!({"properties": {"lines": {"items": {"properties": {"count": {"type": "integer"}}}}}});
        let (pointer, reason) = misfit(schema.clone(), r#"{"lines": [{"count": 1}, {"count": "secret"}]}"#).expect("a text is no integer");
        assert_eq!(pointer, "/lines/1/count");
        assert!(reason.contains("integer") && !reason.contains("secret"), "{reason}");
        assert_eq!(misfit(schema, r#"{"lines": [{"count": 2}]}"#), None);
    }

    #[test]
    fn a_field_that_is_there_twice_cannot_be_judged() {
        let schema = json!({"properties": {"a": {"properties": {"b": {"type": "integer"}}}}});
        let (pointer, reason) = misfit(schema, r#"{"a": {"b": "x", "b": 1}}"#).expect("nobody knows which counts");
        assert_eq!(pointer, "/a/b");
        assert!(reason.contains("twice"), "{reason}");
    }

    #[test]
    fn formats_are_rules_and_patterns_end() {
        assert!(misfit(json!({"properties": {"at": {"format": "date"}}}), r#"{"at": "yesterday"}"#).is_some());
        let slow = json!({"properties": {"a": {"pattern": "^(a+)+$"}}});
        assert!(misfit(slow, &format!(r#"{{"a": "{}!"}}"#, "a".repeat(100_000))).is_some(), "in linear time");
        assert!(InputSchema::compile(json!({"properties": {"a": {"pattern": "(?=a)"}}})).is_err(), "what needs going back is refused");
    }

    #[test]
    fn what_is_said_of_a_misfit_is_bounded() {
        let name = "x".repeat(10_000);
        let (pointer, reason) =
            misfit(json!({"additionalProperties": {"required": [name]}}), &format!(r#"{{"{name}": {{}}}}"#)).expect("it lacks a field");
        assert!(pointer.len() < 600 && reason.len() < 600, "{} {}", pointer.len(), reason.len());
    }
}
