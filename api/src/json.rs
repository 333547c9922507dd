//! JSON that is kept as it was sent: numbers of any size, the order of fields, repeated fields and the spaces inside.
//!
//! A parsed tree cannot do that: it rounds numbers, drops all but one of repeated fields, and costs a parse and an allocation a node.

use crate::limits::JSON_DEPTH_MAX;
use core::fmt;
#[cfg(feature = "json-schema")]
use schemars::JsonSchema;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};
use std::borrow::Cow;
use std::sync::Arc;
#[cfg(feature = "openapi")]
use utoipa::openapi::schema::{Object, SchemaType};
#[cfg(feature = "openapi")]
use utoipa::openapi::{RefOr, Schema};
#[cfg(feature = "openapi")]
use utoipa::{PartialSchema, ToSchema};

/// One JSON value as its text, without the white space around it. It is well-formed and nests at most [`JSON_DEPTH_MAX`] deep.
///
/// Two texts are equal if their bytes are: `1.0` is not `1`. Clones share the text.
#[derive(Clone)]
// Not `Arc<RawValue>`: making one of a box copies the text, which may have many megabytes.
pub struct JsonText(Arc<Box<RawValue>>);

/// Why a text is not taken as JSON.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonTextError {
    /// It is not well-formed.
    #[error("it is not JSON: {0}")]
    Malformed(String),
    /// It nests deeper than what stores it can read back.
    #[error("it nests {depth} levels deep; at most {JSON_DEPTH_MAX} are taken")]
    TooDeep {
        /// Its levels.
        depth: usize,
    },
}

impl JsonText {
    /// Takes one JSON value; white space around it is dropped.
    ///
    /// # Errors
    /// When the bytes are no JSON, or nest too deep.
    pub fn parse(bytes: &[u8]) -> Result<Self, JsonTextError> {
        // The raw value alone: its skipping does not recurse, so a text of any depth is measured, not overflowed by.
        let raw: Box<RawValue> = serde_json::from_slice(bytes).map_err(|error| JsonTextError::Malformed(error.to_string()))?;
        Self::bounded(raw)
    }

    /// The JSON of a value of Rust.
    ///
    /// # Errors
    /// When `value` cannot be written as JSON (a map whose keys are no strings), or nests too deep.
    pub fn of(value: &(impl Serialize + ?Sized)) -> Result<Self, JsonTextError> {
        let raw = to_raw_value(value).map_err(|error| JsonTextError::Malformed(error.to_string()))?;
        Self::bounded(raw)
    }

    /// `null`.
    #[must_use]
    pub fn null() -> Self {
        Self(Arc::new(RawValue::NULL.to_owned()))
    }

    /// Takes a text that is well-formed already.
    pub(crate) fn bounded(raw: Box<RawValue>) -> Result<Self, JsonTextError> {
        Self::check(raw.get())?;
        Ok(Self(Arc::new(raw)))
    }

    /// Whether a text that is well-formed does not nest too deep.
    pub(crate) fn check(json: &str) -> Result<(), JsonTextError> {
        // Most texts have fewer openings than levels are allowed, and counting them is many times faster than following them.
        // In pieces that a byte counts: the compiler makes vectors of it.
        let opens = |count: u8, byte: &u8| count.wrapping_add(u8::from(matches!(byte, b'[' | b'{')));
        let openings: usize = json.as_bytes().chunks(u8::MAX.into()).map(|piece| usize::from(piece.iter().fold(0, opens))).sum();
        if json.starts_with('"') || openings <= JSON_DEPTH_MAX {
            return Ok(());
        }
        match depth(json) {
            depth if depth > JSON_DEPTH_MAX => Err(JsonTextError::TooDeep { depth }),
            _ => Ok(()),
        }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.get()
    }

    /// Bytes of the text.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "no JSON text is empty")]
    pub fn len(&self) -> usize {
        self.as_str().len()
    }

    /// Whether it is `null`.
    #[must_use]
    pub fn is_null(&self) -> bool {
        self.as_str() == "null"
    }

    /// Whether it is an object.
    #[must_use]
    pub fn is_object(&self) -> bool {
        self.as_str().starts_with('{')
    }

    /// Whether it is a string.
    #[must_use]
    pub fn is_string(&self) -> bool {
        self.as_str().starts_with('"')
    }

    /// Reads it as a type.
    ///
    /// # Errors
    /// When it is not of that type.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(self.as_str())
    }

    /// The tree, for people and for tests: numbers beyond 64 bits are rounded and of repeated fields the last one is kept. What no tree
    /// can hold (`1E400`, half of a surrogate pair) makes the whole a string of its text.
    #[must_use]
    pub fn to_value(&self) -> Value {
        self.read().unwrap_or_else(|_| Value::String(self.as_str().to_owned()))
    }
}

/// Levels of lists and objects in a well-formed JSON text: 0 for a number, 1 for `[]`, 2 for `[[]]`.
#[must_use]
pub fn depth(json: &str) -> usize {
    let (mut now, mut most, mut in_string, mut escaped) = (0_usize, 0, false, false);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'[' | b'{' => {
                now += 1;
                most = most.max(now);
            }
            b']' | b'}' => now = now.saturating_sub(1),
            _ => {}
        }
    }
    most
}

impl PartialEq for JsonText {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.as_str() == other.as_str()
    }
}

impl Eq for JsonText {}

impl Default for JsonText {
    fn default() -> Self {
        Self::null()
    }
}

impl fmt::Debug for JsonText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for JsonText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// As [`JsonText::of`], for trees that are known to be small, such as those of `json!`.
///
/// # Panics
/// When the tree nests too deep.
impl From<Value> for JsonText {
    fn from(value: Value) -> Self {
        Self::of(&value).expect("a tree within the bound on nesting")
    }
}

impl Serialize for JsonText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for JsonText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        Self::bounded(raw).map_err(D::Error::custom)
    }
}

#[cfg(feature = "openapi")]
impl PartialSchema for JsonText {
    fn schema() -> RefOr<Schema> {
        Object::builder().schema_type(SchemaType::AnyValue).into()
    }
}

#[cfg(feature = "openapi")]
impl ToSchema for JsonText {
    fn name() -> Cow<'static, str> {
        "Json".into()
    }
}

#[cfg(feature = "json-schema")]
impl JsonSchema for JsonText {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Json".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        Value::json_schema(generator)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_comes_back_as_it_was() {
        for text in ["12345678901234567890123.50", r#"{"b":1,"a": [ 1E400, -0 ],"b":2}"#, r#""\u0041""#] {
            let json = JsonText::parse(format!(" \n{text}\t").as_bytes()).expect("JSON");
            assert_eq!((json.as_str(), serde_json::to_string(&json).expect("JSON").as_str()), (text, text));
        }
        let within: Vec<JsonText> = serde_json::from_str("[1.10, {\"a\" : 1}]").expect("JSON");
        assert_eq!(serde_json::to_string(&within).expect("JSON"), "[1.10,{\"a\" : 1}]");
    }

    #[test]
    fn what_no_tree_can_hold_does_not_panic() {
        for text in ["[1E400]", r#"{"a":"\ud800"}"#] {
            assert_eq!(JsonText::parse(text.as_bytes()).expect("JSON").to_value(), Value::String(text.to_owned()));
        }
    }

    #[test]
    fn one_level_above_the_bound_is_refused_and_a_million_do_no_harm() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(JsonText::parse(nested(JSON_DEPTH_MAX).as_bytes()).is_ok());
        assert_eq!(JsonText::parse(nested(JSON_DEPTH_MAX + 1).as_bytes()), Err(JsonTextError::TooDeep { depth: JSON_DEPTH_MAX + 1 }));
        assert!(serde_json::from_str::<JsonText>(&nested(1_000_000)).expect_err("too deep").to_string().contains("1000000 levels"));
        assert_eq!(depth(r#"{"a]}[[{\"[":["]"]}"#), 2, "what stands in a string does not nest");
    }

    #[test]
    fn what_is_no_json_is_refused() {
        for text in ["", "{", "1 2", "NaN", "{'a':1}", "01"] {
            assert!(matches!(JsonText::parse(text.as_bytes()), Err(JsonTextError::Malformed(_))), "{text}");
        }
    }
}
