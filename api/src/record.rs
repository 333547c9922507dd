//! Records in JSON: how keys, values and headers of any bytes stand in a document.

use crate::headers::{APPLICATION_JSON, CONTENT_TYPE};
use crate::ids::{Offset, PartitionId};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// A record to produce.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProduceRecord {
    /// Records with the same key go to the same partition and stay in order.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub key: Option<String>,
    /// A key of any bytes, in base64. Not together with `key`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub key_base64: Option<String>,
    /// The value. A string is stored as its UTF-8 bytes; anything else as compact JSON with the header `content-type: application/json`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Value)]
    pub value: Option<Value>,
    /// A value of any bytes, in base64. Not together with `value`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub value_base64: Option<String>,
    /// Headers: text by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub headers: BTreeMap<String, String>,
    /// The partition; without it the key decides, else the idempotency key, else the broker.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub partition: Option<PartitionId>,
    /// Time of the record, in milliseconds since 1970; without it the broker's time of arrival.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub timestamp_ms: Option<i64>,
    /// A record with a key seen within the topic's deduplication window is not stored again; the answer is the first one's.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub idempotency_key: Option<String>,
}

/// A record as it was stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
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
    /// The value: a JSON document if it was produced as one, else text.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Value)]
    pub value: Option<Value>,
    /// The value, if it is no text.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub value_base64: Option<String>,
    /// Headers: text by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub headers: BTreeMap<String, String>,
}

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
}

/// Key, value and headers as bytes: what is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Payload {
    /// The key.
    pub key: Option<Bytes>,
    /// The value; a record may have none.
    pub value: Option<Bytes>,
    /// Headers: text by name.
    pub headers: BTreeMap<String, String>,
}

impl Payload {
    /// Bytes that count against the topic's record limit.
    #[must_use]
    pub fn len(&self) -> usize {
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        self.key.as_ref().map_or(0, Bytes::len) + self.value.as_ref().map_or(0, Bytes::len) + headers
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn decode(field: &'static str, text: Option<String>, base64: Option<String>) -> Result<Option<Bytes>, PayloadError> {
    match (text, base64) {
        (Some(_), Some(_)) => Err(PayloadError::Both(field)),
        (Some(text), None) => Ok(Some(text.into())),
        (None, Some(base64)) => match STANDARD.decode(&base64) {
            Ok(bytes) => Ok(Some(bytes.into())),
            Err(reason) => Err(PayloadError::Base64 { field, reason: reason.to_string() }),
        },
        (None, None) => Ok(None),
    }
}

fn encode(bytes: Option<&Bytes>) -> (Option<String>, Option<String>) {
    match bytes.map(|b| (core::str::from_utf8(b), b)) {
        None => (None, None),
        Some((Ok(text), _)) => (Some(text.to_owned()), None),
        Some((Err(_), bytes)) => (None, Some(STANDARD.encode(bytes))),
    }
}

impl ProduceRecord {
    /// A record whose value is text.
    #[must_use]
    pub fn text(value: impl Into<String>) -> Self {
        Self { value: Some(Value::String(value.into())), ..Self::default() }
    }

    /// A record whose value is any bytes.
    #[must_use]
    pub fn bytes(value: impl AsRef<[u8]>) -> Self {
        Self { value_base64: Some(STANDARD.encode(value)), ..Self::default() }
    }

    /// A record whose value is a JSON document.
    ///
    /// # Errors
    /// When `value` cannot be written as JSON, for example a map whose keys are no strings.
    pub fn json(value: &impl Serialize) -> Result<Self, serde_json::Error> {
        Ok(Self { value: Some(serde_json::to_value(value)?), ..Self::default() })
    }

    /// The same record with a key.
    #[must_use]
    pub fn with_key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// The same record with a header.
    #[must_use]
    pub fn with_header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.insert(name.into(), value.into());
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

    /// Takes the payload out, as bytes.
    ///
    /// # Errors
    /// When a field is given in both forms or is no base64.
    pub fn into_payload(self) -> Result<Payload, PayloadError> {
        let mut headers = self.headers;
        let key = decode("key", self.key, self.key_base64)?;
        let text = match self.value {
            None => None,
            Some(Value::String(text)) => Some(text),
            Some(document) => {
                headers.entry(CONTENT_TYPE.to_owned()).or_insert_with(|| APPLICATION_JSON.to_owned());
                Some(document.to_string())
            }
        };
        let value = decode("value", text, self.value_base64)?;
        Ok(Payload { key, value, headers })
    }
}

impl ConsumedRecord {
    /// The JSON form of a stored record.
    #[must_use]
    pub fn new(partition: PartitionId, offset: Offset, timestamp_ms: i64, payload: Payload) -> Self {
        let (key, key_base64) = encode(payload.key.as_ref());
        let is_json = payload.headers.get(CONTENT_TYPE).is_some_and(|t| t == APPLICATION_JSON);
        let document = payload.value.as_ref().filter(|_| is_json).and_then(|bytes| serde_json::from_slice(bytes).ok());
        let (value, value_base64) = match document {
            Some(document) => (Some(document), None),
            None => {
                let (text, base64) = encode(payload.value.as_ref());
                (text.map(Value::String), base64)
            }
        };
        Self { partition, offset, timestamp_ms, key, key_base64, value, value_base64, headers: payload.headers }
    }

    /// The value as bytes; none if the record has none.
    ///
    /// # Errors
    /// When the server sent a `value_base64` that is no base64.
    pub fn value_bytes(&self) -> Result<Option<Bytes>, PayloadError> {
        let text = self.value.as_ref().map(|value| match value {
            Value::String(text) => text.clone(),
            document => document.to_string(),
        });
        decode("value", text, self.value_base64.clone())
    }

    /// The value read as JSON, whether it was produced as a document or as text.
    ///
    /// # Errors
    /// When the value is no JSON, or not of this type.
    pub fn json<'a, T: Deserialize<'a>>(&'a self) -> Result<T, serde_json::Error> {
        match &self.value {
            Some(Value::String(text)) => serde_json::from_str(text),
            Some(document) => T::deserialize(document),
            None => T::deserialize(&Value::Null),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(record: ProduceRecord) -> ConsumedRecord {
        ConsumedRecord::new(PartitionId(0), Offset(0), 0, record.into_payload().expect("legal"))
    }

    #[test]
    fn what_is_put_in_comes_out() {
        assert_eq!(round_trip(ProduceRecord::text("hi")).value, Some(Value::String("hi".into())));
        let document = serde_json::json!({"b": 1, "a": [true, null]});
        assert_eq!(round_trip(ProduceRecord::json(&document).expect("json")).value, Some(document));
        let binary = round_trip(ProduceRecord::bytes([0xff, 0x00]));
        assert_eq!((binary.value.clone(), binary.value_base64.as_deref()), (None, Some("/wA=")));
        assert_eq!(binary.value_bytes().expect("base64"), Some(Bytes::from_static(&[0xff, 0x00])));
        assert_eq!(round_trip(ProduceRecord::default()).value, None);
    }

    #[test]
    fn a_field_in_two_forms_or_bad_base64_is_refused() {
        let both = ProduceRecord { value_base64: Some("YQ==".into()), ..ProduceRecord::text("a") };
        assert_eq!(both.into_payload(), Err(PayloadError::Both("value")));
        let bad = ProduceRecord { key_base64: Some("*".into()), ..ProduceRecord::default() };
        assert!(matches!(bad.into_payload(), Err(PayloadError::Base64 { field: "key", .. })));
    }
}
