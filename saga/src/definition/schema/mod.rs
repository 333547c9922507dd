//! The JSON Schema of a saga's input (draft 2020-12): what an input must be like for a start to be taken.
//!
//! Only schemas whose cost is bounded are used: nothing is fetched, no schema contains itself, patterns are matched in linear time, and one
//! value is judged in so many steps at the most. So an input is judged in at most as many as it has values, times those; that
//! product is bounded too.

mod cost;

use super::distinct;
use cost::Cost;
use jsonschema::{Draft, PatternOptions, ValidationOptions, Validator, ValidatorMap};
use sagamq_api::JsonText;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use std::sync::Arc;

/// Most bytes of a pattern once it is compiled.
const PATTERN_BYTES_MAX: usize = 1024 * 1024;

/// Most schemas that one value is judged by, each as often as it is.
pub(crate) const SCHEMA_STEPS_MAX: u64 = 10_000;

/// Most steps of judging one input. An optimised build takes seconds for so many.
const INPUT_STEPS_MAX: u64 = 500_000_000;

/// Bytes of a value, times branches that each may keep a copy of it, up to which it is told where it does not fit.
const TOLD_BYTES_MAX: u64 = 256 * 1024;

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
    cost: Cost,
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
        let cost = Cost::of(&schema);
        // Already the making of the validator goes every way that judging does.
        let validator = if cost.steps > SCHEMA_STEPS_MAX {
            Err(format!("judging one value takes up to {} schemas, at most {SCHEMA_STEPS_MAX} are allowed", cost.steps))
        } else {
            options().build(&schema).map_err(|error| shortened(error.masked().to_string()))
        };
        Self { schema: Arc::new(schema), validator: Arc::new(validator), cost }
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

    /// Schemas that one value is judged by at most, each as often as it is: what a schema must keep below [`SCHEMA_STEPS_MAX`].
    pub(crate) fn steps_of(schema: &Value) -> u64 {
        Cost::of(schema).steps
    }

    /// Steps of judging an input of so many bytes, at most.
    pub(crate) fn steps(&self, bytes: usize) -> u64 {
        // A value takes two bytes: itself, and what parts it from the next one.
        self.cost.steps.saturating_mul(bytes as u64 / 2 + 1)
    }

    /// Whether it may be told where a value of so many bytes does not fit: to tell of `anyOf` and `oneOf`, the validator copies what it is about
    /// for each of their branches.
    pub(crate) fn tells_of(&self, bytes: usize) -> bool {
        self.cost.branches.saturating_mul(bytes as u64) <= TOLD_BYTES_MAX
    }

    /// Why the input does not fit, if it does not: the first place that is found. Numbers beyond 64 bits are judged by their doubles.
    #[must_use]
    pub fn misfit(&self, input: &JsonText) -> Option<Misfit> {
        let misfit = |pointer: &str, reason: String| Misfit { pointer: shortened(pointer.to_owned()), reason: shortened(reason) };
        let validator = match &*self.validator {
            Ok(validator) => validator,
            Err(reason) => return Some(misfit("", format!("this version of the server cannot use the schema: {reason}"))),
        };
        let input_bytes = input.len();
        let input = match distinct::read(input.as_str()) {
            Ok(input) => input,
            Err(distinct::Unreadable { pointer, reason }) => return Some(misfit(&pointer, reason)),
        };
        let (values, most) = (values(&input), INPUT_STEPS_MAX / self.cost.steps);
        if values > most {
            let reason =
                format!("it has {values} values, and a schema of this size judges at most {most}: send less, or make the schema smaller");
            return Some(misfit("", reason));
        }
        if validator.is_valid(&input) {
            return None;
        }
        if !self.tells_of(input_bytes) {
            let reason =
                format!("it does not fit, and of {input_bytes} bytes is not told where: the schema has too many branches for that");
            return Some(misfit("", reason));
        }
        Some(match validator.validate(&input) {
            Err(error) => misfit(error.instance_path().as_str(), error.masked().to_string()),
            Ok(()) => misfit("", "it does not fit".to_owned()),
        })
    }
}

/// Values of a value, with itself and the names of fields.
fn values(value: &Value) -> u64 {
    match value {
        Value::Array(items) => 1 + items.iter().map(values).sum::<u64>(),
        Value::Object(fields) => 1 + fields.values().map(|value| 1 + values(value)).sum::<u64>(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 1,
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

    /// A way around the linter: what an older version stored.
    #[test]
    fn a_schema_that_takes_too_long_is_not_used() {
        let level = |inner: Value| json!({"anyOf": [inner], "unevaluatedProperties": false});
        let nested = (0..60).fold(json!({"properties": {"a": {}}}), |inner, _| level(inner));
        assert!(InputSchema::compile(nested.clone()).is_err_and(|reason| reason.contains("at most 10000")));
        let stored: InputSchema = serde_json::from_value(nested).expect("any JSON");
        let misfit = stored.misfit(&JsonText::parse(br#"{"a": 1}"#.as_slice()).expect("JSON")).expect("it starts nothing");
        assert!(misfit.reason.contains("cannot use the schema"), "{misfit}");
    }

    #[test]
    fn an_input_with_more_values_than_can_be_judged_in_time_does_not_fit() {
        let schema = json!({"items": {"allOf": vec![json!({"minimum": 0}); 1_998]}});
        let list = |count: usize| format!("[{}]", vec!["1"; count].join(","));
        assert_eq!(misfit(schema.clone(), &list(10)), None);
        let (pointer, reason) = misfit(schema, &list(250_001)).expect("too many");
        assert!(pointer.is_empty() && reason.contains("at most 250000"), "{reason}");
    }

    /// Telling why none of many branches fits copies the whole input for each.
    #[test]
    fn where_a_large_input_does_not_fit_is_not_told_of_many_branches() {
        let branches: Vec<Value> = (0..20).map(|number| json!({"required": [format!("f{number}")]})).collect();
        let schema = json!({"properties": {"lines": {"items": {"type": "integer"}}}, "anyOf": branches});
        let input = |lines: usize| format!(r#"{{"lines": [{}]}}"#, vec!["1"; lines].join(","));
        let (_, told) = misfit(schema.clone(), &input(10)).expect("none fits");
        assert!(told.contains("anyOf"), "{told}");
        let (pointer, told) = misfit(schema, &input(10_000)).expect("none fits");
        assert!(pointer.is_empty() && told.contains("too many branches"), "{told}");
        let plain = json!({"properties": {"lines": {"items": {"type": "string"}}}});
        assert_eq!(misfit(plain, &input(10_000)).expect("numbers").0, "/lines/0", "without branches it is told of any size");
    }

    #[test]
    fn what_is_said_of_a_misfit_is_bounded() {
        let name = "x".repeat(10_000);
        let (pointer, reason) =
            misfit(json!({"additionalProperties": {"required": [name]}}), &format!(r#"{{"{name}": {{}}}}"#)).expect("it lacks a field");
        assert!(pointer.len() < 600 && reason.len() < 600, "{} {}", pointer.len(), reason.len());
    }
}
