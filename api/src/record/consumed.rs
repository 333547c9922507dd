//! A record as a client gets it.

use crate::ids::{Offset, PartitionId};
use crate::json::JsonText;
use crate::record::base64::Decoded;
use crate::record::headers::Headers;
use crate::record::payload::Payload;
use crate::record::value::{PayloadError, Shown, from_base64, shown, stored, value_in};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Serialize};
#[cfg(feature = "openapi")]
use utoipa::ToSchema;

/// A record as it was stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct ConsumedRecord {
    /// Partition of the topic.
    pub partition: PartitionId,
    /// Place in the partition.
    pub offset: Offset,
    /// Milliseconds since 1970.
    pub timestamp_ms: i64,
    /// The key, if it is text.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub key: Option<String>,
    /// The key, if it is no text.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub key_base64: Option<String>,
    /// The value. With the header `content-type: application/json` it is JSON, exactly as it is stored; else a string with the stored text.
    #[serde(skip_serializing_if = "Option::is_none", default, deserialize_with = "value_in")]
    pub value: Option<JsonText>,
    /// The value, if it cannot stand in `value`: bytes that are no text, or that the header calls JSON and that are none, nest more than
    /// 64 levels deep or have white space around them.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub value_base64: Option<String>,
    /// Headers by name: text, `null`, `{"base64": ".."}`, or a list of these where a name stands more than once.
    #[serde(skip_serializing_if = "Headers::is_empty", default)]
    pub headers: Headers,
}

impl ConsumedRecord {
    /// The JSON form of a stored record.
    #[must_use]
    pub fn new(partition: PartitionId, offset: Offset, timestamp_ms: i64, payload: Payload) -> Self {
        let (key, key_base64) = match payload.key.as_deref().map(|key| shown(key, false)) {
            None => (None, None),
            Some(Shown::Text(text) | Shown::Json(text)) => (Some(text.to_owned()), None),
            Some(Shown::Bytes(bytes)) => (None, Some(STANDARD.encode(bytes))),
        };
        let (value, value_base64) = match payload.value.as_deref().map(|value| shown(value, payload.headers.say_json())) {
            None => (None, None),
            Some(Shown::Json(json)) => (Some(JsonText::parse(json.as_bytes()).expect("it was just read as JSON")), None),
            Some(Shown::Text(text)) => (Some(JsonText::of(text).expect("text is JSON without levels")), None),
            Some(Shown::Bytes(bytes)) => (None, Some(STANDARD.encode(bytes))),
        };
        Self { partition, offset, timestamp_ms, key, key_base64, value, value_base64, headers: payload.headers }
    }

    /// The value as the bytes that are stored; none if the record has none.
    ///
    /// # Errors
    /// When the server sent a `value_base64` that is no base64, or a string that is no text.
    pub fn value_bytes(&self) -> Result<Option<Bytes>, PayloadError> {
        match (&self.value, &self.value_base64) {
            (Some(value), _) => stored(value, self.headers.say_json()).map(Some),
            (None, Some(base64)) => from_base64("value", base64, &mut Decoded::default()).map(Some),
            (None, None) => Ok(None),
        }
    }

    /// The value as text: what was sent as text, or the text of the JSON. None if the record has no value or one that is no text.
    #[must_use]
    pub fn text(&self) -> Option<String> {
        String::from_utf8(self.value_bytes().ok()??.into()).ok()
    }

    /// The value read as JSON, whether it was produced as JSON or as text; that of a record without a value is `null`.
    ///
    /// # Errors
    /// When the value is no JSON, or not of this type.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        match &self.value {
            // Most records: nothing is copied.
            Some(value) if self.headers.say_json() || !value.is_string() => value.read(),
            _ => match self.value_bytes().map_err(serde_json::Error::custom)? {
                Some(bytes) => serde_json::from_slice(&bytes),
                None => serde_json::from_str("null"),
            },
        }
    }

    /// Whether its JSON is one line, as it is unless the value is JSON with line breaks.
    #[must_use]
    pub fn is_one_line(&self) -> bool {
        !self.value.as_ref().is_some_and(|value| value.as_str().contains(['\n', '\r']))
    }

    /// Makes its JSON one line, for output of a record a line: JSON with line breaks goes into `value_base64`, where its bytes stay what
    /// they are.
    pub fn make_one_line(&mut self) {
        if !self.is_one_line() {
            self.value_base64 = self.value.take().map(|value| STANDARD.encode(value.as_str()));
        }
    }
}
