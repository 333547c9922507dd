//! A record as a client sends it.

use crate::headers::{APPLICATION_JSON, CONTENT_TYPE};
use crate::ids::PartitionId;
use crate::json::{JsonText, JsonTextError};
use crate::record::base64::Decoded;
use crate::record::headers::Headers;
use crate::record::payload::Payload;
use crate::record::value::{PayloadError, from_base64, stored, value_in};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
#[cfg(feature = "openapi")]
use utoipa::ToSchema;

/// A record to produce.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ProduceRecord {
    /// Records with the same key go to the same partition and stay in order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// A key of any bytes, in base64. Not together with `key`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_base64: Option<String>,
    /// The value: any JSON of at most 64 levels. A string is stored as its UTF-8 text, unless the record has the header
    /// `content-type: application/json`; anything else is stored as exactly its JSON text, with that header if there is no `content-type`.
    #[serde(skip_serializing_if = "Option::is_none", default, deserialize_with = "value_in")]
    pub value: Option<JsonText>,
    /// A value of any bytes, in base64. Not together with `value`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value_base64: Option<String>,
    /// Headers by name: text, `null`, `{"base64": ".."}`, or a list of these where a name stands more than once.
    #[serde(skip_serializing_if = "Headers::is_empty", default)]
    pub headers: Headers,
    /// The partition; without it the key decides, else the idempotency key, else the broker.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition: Option<PartitionId>,
    /// Time of the record, in milliseconds since 1970; without it the broker's time of arrival.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timestamp_ms: Option<i64>,
    /// A record with a key that its partition has seen within the topic's deduplication window is not stored again; the answer is the first
    /// one's. The key counts for the partition: the same one sent to another partition is another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
    /// When the record is to be appended, in milliseconds since 1970, at most a year ahead. Until then it waits as a schedule, whose id is in
    /// the answer. A time that is over: at once. The record's time is that of its appending, so not together with `timestamp_ms`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deliver_at: Option<u64>,
    /// As `deliver_at`, in milliseconds from the arrival of the request on. Not together with `deliver_at`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay_ms: Option<u64>,
}

impl ProduceRecord {
    /// A record whose value is text.
    #[must_use]
    pub fn text(value: impl Into<String>) -> Self {
        Self { value: Some(JsonText::of(&value.into()).expect("text is JSON without levels")), ..Self::default() }
    }

    /// A record whose value is any bytes.
    #[must_use]
    pub fn bytes(value: impl AsRef<[u8]>) -> Self {
        Self { value_base64: Some(STANDARD.encode(value)), ..Self::default() }
    }

    /// A record whose value is JSON and that says so in its header: [`ConsumedRecord::json`](super::ConsumedRecord::json) gives the same value back, a string too.
    ///
    /// # Errors
    /// When `value` cannot be written as JSON, for example a map whose keys are no strings, or nests too deep.
    pub fn json(value: &(impl Serialize + ?Sized)) -> Result<Self, JsonTextError> {
        let record = Self { value: Some(JsonText::of(value)?), ..Self::default() };
        Ok(record.with_header(CONTENT_TYPE, APPLICATION_JSON))
    }

    /// The same record with a key.
    #[must_use]
    pub fn with_key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// The same record with this text as the only header of its name. [`Headers::push`] adds one beside others, or one of any bytes.
    #[must_use]
    pub fn with_header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.set(name, value);
        self
    }

    /// The same record with an idempotency key of its own.
    #[must_use]
    pub fn with_idempotency_key(mut self, key: impl Into<String>) -> Self {
        self.idempotency_key = Some(key.into());
        self
    }

    /// The same record for this partition.
    #[must_use]
    pub fn with_partition(mut self, partition: PartitionId) -> Self {
        self.partition = Some(partition);
        self
    }

    /// The same record, to be appended at this time, in milliseconds since 1970.
    #[must_use]
    pub fn deliver_at(mut self, due_ms: u64) -> Self {
        self.deliver_at = Some(due_ms);
        self
    }

    /// The same record, to be appended after this time.
    #[must_use]
    pub fn delayed(mut self, delay: core::time::Duration) -> Self {
        self.delay_ms = Some(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX));
        self
    }

    /// Takes the payload out, as bytes.
    ///
    /// # Errors
    /// When a field is given in both forms, is no base64, or is a string that is no text (half of a surrogate pair).
    pub fn into_payload(self) -> Result<Payload, PayloadError> {
        let mut headers = self.headers;
        let key = match (self.key, self.key_base64) {
            (Some(_), Some(_)) => return Err(PayloadError::Both("key")),
            (Some(text), None) => Some(text.into()),
            (None, Some(base64)) => Some(from_base64("key", &base64, &mut Decoded::default())?),
            (None, None) => None,
        };
        let value = match (self.value, self.value_base64) {
            (Some(_), Some(_)) => return Err(PayloadError::Both("value")),
            (Some(json), None) => {
                if !json.is_string() && !headers.contains(CONTENT_TYPE) {
                    headers.set(CONTENT_TYPE, APPLICATION_JSON);
                }
                Some(stored(&json, headers.say_json())?)
            }
            (None, Some(base64)) => Some(from_base64("value", &base64, &mut Decoded::default())?),
            (None, None) => None,
        };
        Ok(Payload { key, value, headers })
    }
}
