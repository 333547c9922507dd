//! Which JSON stands for which bytes.

use crate::headers::{APPLICATION_JSON, CONTENT_TYPE};
use crate::json::{JsonText, JsonTextError};
use crate::record::base64::Decoded;
use bytes::Bytes;
use serde::de::Error;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// Why the payload of a record was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PayloadError {
    /// Both forms of a field are there.
    #[error("`{0}` and `{0}_base64` cannot both be given")]
    Both(&'static str),
    /// The field is no base64.
    #[error("`{field}_base64` is not base64: {reason}")]
    Base64 {
        /// `key` or `value`.
        field: &'static str,
        /// What the decoder says.
        reason: String,
    },
    /// The value is a JSON string that stands for no text.
    #[error("`value` is a string that is no text: {0}")]
    NotText(String),
}

pub(super) fn from_base64(field: &'static str, base64: &str, into: &mut Decoded) -> Result<Bytes, PayloadError> {
    into.decode(base64).map_err(|reason| PayloadError::Base64 { field, reason })
}

/// The text that a JSON string stands for.
pub(super) fn text_of(json: &str) -> Result<String, PayloadError> {
    serde_json::from_str(json).map_err(|reason| PayloadError::NotText(reason.to_string()))
}

/// The bytes that a `value` stands for.
pub(super) fn stored(value: &JsonText, says_json: bool) -> Result<Bytes, PayloadError> {
    if says_json || !value.is_string() {
        return Ok(Bytes::copy_from_slice(value.as_str().as_bytes()));
    }
    text_of(value.as_str()).map(Bytes::from)
}

/// How a `value` says what these bytes are.
#[derive(Clone, Copy)]
pub(super) enum Shown<'a> {
    /// It is this JSON.
    Json(&'a str),
    /// It is a string of this text.
    Text(&'a str),
    /// It does not: they stand in `value_base64`.
    Bytes(&'a [u8]),
}

/// The form that stands for these bytes.
pub(super) fn shown(bytes: &[u8], says_json: bool) -> Shown<'_> {
    if !says_json {
        return core::str::from_utf8(bytes).map_or(Shown::Bytes(bytes), Shown::Text);
    }
    // The raw value alone: its skipping does not recurse, so a text of any depth is measured, not overflowed by.
    match serde_json::from_slice::<&RawValue>(bytes) {
        Ok(raw) if raw.get().len() == bytes.len() && JsonText::check(raw.get()).is_ok() => Shown::Json(raw.get()),
        _ => Shown::Bytes(bytes),
    }
}

/// A field that is there has a value: `null` is JSON as well, and not the same as a field that is not there.
pub(crate) fn value_in<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<JsonText>, D::Error> {
    JsonText::bounded(Box::<RawValue>::deserialize(deserializer)?).map(Some).map_err(|reason| too_deep(&reason))
}

/// As [`value_in`], without a copy of the text.
pub(super) fn raw_value_in<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    let raw = <&RawValue>::deserialize(deserializer)?;
    JsonText::check(raw.get()).map_err(|reason| too_deep(&reason))?;
    Ok(Some(raw))
}

fn too_deep<E: Error>(reason: &JsonTextError) -> E {
    E::custom(format_args!("{reason}: send the text as `value_base64` with the header `{CONTENT_TYPE}: {APPLICATION_JSON}`"))
}
