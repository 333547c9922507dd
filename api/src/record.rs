//! Records in JSON: how keys, values and headers of any bytes stand in a document.
//!
//! A value is bytes. Which JSON stands for which bytes depends on one thing, whether the record says that its value is JSON (its last
//! header `content-type` is `application/json`):
//!
//! - **Into the log.** A string in `value` is stored as its UTF-8 text, unless the record says JSON. Any other value, and any value of a
//!   record that says JSON, is stored as exactly its JSON text: numbers, spaces, order and repeated fields as they were sent. A value that
//!   is no string makes a record without a `content-type` say JSON. `value_base64` is stored as the bytes it stands for.
//! - **Out of it.** If the record says JSON and its value is one JSON text, nests at most [`JSON_DEPTH_MAX`](crate::limits::JSON_DEPTH_MAX)
//!   deep and has no white space around it, `value` is that very text. If the record does not say JSON and its value is UTF-8, `value` is a
//!   string. Else the bytes are in `value_base64`.
//!
//! So whatever comes out can be sent in again and is stored as the same bytes.

mod headers;

pub use headers::{Header, Headers};

use crate::headers::{APPLICATION_JSON, CONTENT_TYPE};
use crate::ids::{Offset, PartitionId};
use crate::json::{JsonText, JsonTextError};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
#[cfg(feature = "openapi")]
use utoipa::ToSchema;

/// A record to produce.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ProduceRecord {
    /// Records with the same key go to the same partition and stay in order.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub key: Option<String>,
    /// A key of any bytes, in base64. Not together with `key`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub key_base64: Option<String>,
    /// The value: any JSON of at most 64 levels. A string is stored as its UTF-8 text, unless the record has the header
    /// `content-type: application/json`; anything else is stored as exactly its JSON text, with that header if there is no `content-type`.
    #[serde(skip_serializing_if = "Option::is_none", default, deserialize_with = "value_in")]
    pub value: Option<JsonText>,
    /// A value of any bytes, in base64. Not together with `value`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub value_base64: Option<String>,
    /// Headers by name: text, `null`, `{"base64": ".."}`, or a list of these where a name stands more than once.
    #[serde(skip_serializing_if = "Headers::is_empty", default)]
    pub headers: Headers,
    /// The partition; without it the key decides, else the idempotency key, else the broker.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub partition: Option<PartitionId>,
    /// Time of the record, in milliseconds since 1970; without it the broker's time of arrival.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub timestamp_ms: Option<i64>,
    /// A record with a key that its partition has seen within the topic's deduplication window is not stored again; the answer is the first
    /// one's. The key counts for the partition: the same one sent to another partition is another.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub idempotency_key: Option<String>,
}

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

/// Key, value and headers as bytes: what is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Payload {
    /// The key.
    pub key: Option<Bytes>,
    /// The value; a record may have none.
    pub value: Option<Bytes>,
    /// Headers, in order.
    pub headers: Headers,
}

impl Payload {
    /// Bytes that count against the topic's record limit.
    #[must_use]
    pub fn len(&self) -> usize {
        self.key.as_ref().map_or(0, Bytes::len) + self.value.as_ref().map_or(0, Bytes::len) + self.headers.bytes()
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn from_base64(field: &'static str, base64: &str) -> Result<Bytes, PayloadError> {
    STANDARD.decode(base64).map(Bytes::from).map_err(|reason| PayloadError::Base64 { field, reason: reason.to_string() })
}

/// The bytes that a `value` stands for.
fn stored(value: &JsonText, says_json: bool) -> Result<Bytes, PayloadError> {
    if says_json || !value.is_string() {
        return Ok(Bytes::copy_from_slice(value.as_str().as_bytes()));
    }
    value.read::<String>().map(Bytes::from).map_err(|reason| PayloadError::NotText(reason.to_string()))
}

/// The `value` that stands for these bytes, if there is one.
fn shown(bytes: &[u8], says_json: bool) -> Option<JsonText> {
    if says_json {
        return JsonText::parse(bytes).ok().filter(|json| json.len() == bytes.len());
    }
    let text = core::str::from_utf8(bytes).ok()?;
    Some(JsonText::of(text).expect("text is JSON without levels"))
}

/// A field that is there has a value: `null` is JSON as well, and not the same as a field that is not there.
pub(crate) fn value_in<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<JsonText>, D::Error> {
    let raw = Box::<RawValue>::deserialize(deserializer)?;
    JsonText::bounded(raw).map(Some).map_err(|reason| {
        D::Error::custom(format_args!("{reason}: send the text as `value_base64` with the header `{CONTENT_TYPE}: {APPLICATION_JSON}`"))
    })
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
        Self { value: Some(JsonText::of(&value.into()).expect("text is JSON without levels")), ..Self::default() }
    }

    /// A record whose value is any bytes.
    #[must_use]
    pub fn bytes(value: impl AsRef<[u8]>) -> Self {
        Self { value_base64: Some(STANDARD.encode(value)), ..Self::default() }
    }

    /// A record whose value is JSON and that says so in its header: [`ConsumedRecord::json`] gives the same value back, a string too.
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

    /// Takes the payload out, as bytes.
    ///
    /// # Errors
    /// When a field is given in both forms, is no base64, or is a string that is no text (half of a surrogate pair).
    pub fn into_payload(self) -> Result<Payload, PayloadError> {
        let mut headers = self.headers;
        let key = match (self.key, self.key_base64) {
            (Some(_), Some(_)) => return Err(PayloadError::Both("key")),
            (Some(text), None) => Some(text.into()),
            (None, Some(base64)) => Some(from_base64("key", &base64)?),
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
            (None, Some(base64)) => Some(from_base64("value", &base64)?),
            (None, None) => None,
        };
        Ok(Payload { key, value, headers })
    }
}

impl ConsumedRecord {
    /// The JSON form of a stored record.
    #[must_use]
    pub fn new(partition: PartitionId, offset: Offset, timestamp_ms: i64, payload: Payload) -> Self {
        let (key, key_base64) = encode(payload.key.as_ref());
        let value = payload.value.as_ref().and_then(|bytes| shown(bytes, payload.headers.say_json()));
        let value_base64 = payload.value.filter(|_| value.is_none()).map(|bytes| STANDARD.encode(bytes));
        Self { partition, offset, timestamp_ms, key, key_base64, value, value_base64, headers: payload.headers }
    }

    /// The value as the bytes that are stored; none if the record has none.
    ///
    /// # Errors
    /// When the server sent a `value_base64` that is no base64, or a string that is no text.
    pub fn value_bytes(&self) -> Result<Option<Bytes>, PayloadError> {
        match (&self.value, &self.value_base64) {
            (Some(value), _) => stored(value, self.headers.say_json()).map(Some),
            (None, Some(base64)) => from_base64("value", base64).map(Some),
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Over the wire in both directions, as a server and its clients do it.
    fn round_trip(record: &ProduceRecord) -> ConsumedRecord {
        let sent: ProduceRecord = serde_json::from_str(&serde_json::to_string(record).expect("JSON")).expect("its own form");
        out_of(sent.into_payload().expect("legal"))
    }

    fn out_of(payload: Payload) -> ConsumedRecord {
        let out = ConsumedRecord::new(PartitionId(0), Offset(0), 0, payload);
        serde_json::from_str(&serde_json::to_string(&out).expect("JSON")).expect("its own form")
    }

    fn sent(json: &str) -> Payload {
        serde_json::from_str::<ProduceRecord>(json).expect("legal").into_payload().expect("legal")
    }

    /// What comes out, sent in again.
    fn again(out: ConsumedRecord) -> Payload {
        let ConsumedRecord { key, key_base64, value, value_base64, headers, .. } = out;
        let record = ProduceRecord { key, key_base64, value, value_base64, headers, ..ProduceRecord::default() };
        sent(&serde_json::to_string(&record).expect("JSON"))
    }

    #[test]
    fn json_is_stored_and_comes_back_as_its_very_text() {
        for text in [
            "12345678901234567890123",
            "12345678901234567890.5",
            "1E400",
            "-0.0",
            r#"{"b": 1, "a": [ true,  null ], "b": 2}"#,
            "[\n  1,\r\n\t2\n]",
            "null",
            r#""\u0041\/""#,
        ] {
            let json = r#"{"value": V, "headers": {"content-type": "application/json"}}"#.replace('V', text);
            let payload = sent(&json);
            assert_eq!(payload.value.as_deref(), Some(text.as_bytes()));
            assert_eq!(out_of(payload).value.expect("JSON").as_str(), text);
        }
        // Without the header a string is text, and anything else gets the header.
        assert_eq!(sent(r#"{"value":"\u0041"}"#), Payload { value: Some(Bytes::from_static(b"A")), ..Payload::default() });
        let number = sent(r#"{"value":1.50}"#);
        assert_eq!((number.value.as_deref(), number.headers.get(CONTENT_TYPE)), (Some(b"1.50".as_slice()), Some(APPLICATION_JSON)));
        // Another content type is left alone: what comes out is the text of the JSON.
        let other = sent(r#"{"value":{"a":1.0},"headers":{"content-type":"application/cloudevents+json"}}"#);
        assert_eq!(other.headers.len(), 1);
        assert_eq!(out_of(other).text().as_deref(), Some(r#"{"a":1.0}"#));
    }

    #[test]
    fn what_cannot_stand_in_value_comes_back_as_base64() {
        let of = |header: &str, value: &[u8]| {
            let headers = [(CONTENT_TYPE, header)].into_iter().collect();
            out_of(Payload { value: Some(Bytes::copy_from_slice(value)), headers, ..Payload::default() })
        };
        let deep = format!("{}{}", "[".repeat(65), "]".repeat(65));
        for value in [b" 1".as_slice(), b"1\n", b"{", b"", b"\xff", deep.as_bytes()] {
            let out = of(APPLICATION_JSON, value);
            assert_eq!((out.value.as_ref(), out.value_bytes().expect("base64").as_deref()), (None, Some(value)));
        }
        assert_eq!(of("text/plain", b"{").text().as_deref(), Some("{"));
        assert_eq!(of(APPLICATION_JSON, &deep.as_bytes()[1..deep.len() - 1]).value_base64, None, "64 levels are within the bound");
        assert_eq!(of(APPLICATION_JSON, b" 1").json::<u8>().expect("white space is no matter to who reads it"), 1);
    }

    #[test]
    fn no_value_and_null_are_two_things() {
        assert_eq!(sent("{}").value, None);
        assert_eq!(sent(r#"{"value":null}"#).value.as_deref(), Some(b"null".as_slice()));
        assert_eq!(serde_json::to_string(&round_trip(&ProduceRecord::json(&()).expect("JSON"))).expect("JSON").matches("null").count(), 1);
        assert!(round_trip(&ProduceRecord::default()).value.is_none());
        assert_eq!(round_trip(&ProduceRecord::default()).json::<Option<u8>>().expect("null"), None);
    }

    #[test]
    fn strings_and_enums_of_strings_round_trip_as_json() {
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        enum State {
            Paid,
        }
        let json = |record: Result<ProduceRecord, _>| round_trip(&record.expect("JSON"));
        assert_eq!(json(ProduceRecord::json("7")).json::<String>().expect("a string"), "7");
        assert_eq!(json(ProduceRecord::json(&State::Paid)).json::<State>().expect("a state"), State::Paid);
        assert_eq!(json(ProduceRecord::json(&vec![1, 2])).json::<Vec<u8>>().expect("a list"), [1, 2]);
        assert_eq!(round_trip(&ProduceRecord::text(r#"{"a":1}"#)).json::<serde_json::Value>().expect("JSON as text")["a"], 1);
        assert_eq!(round_trip(&ProduceRecord::text("hi")).text().as_deref(), Some("hi"));
        assert_eq!(round_trip(&ProduceRecord::bytes([0xff])).value_base64.as_deref(), Some("/w=="));
    }

    #[test]
    fn what_is_no_payload_is_refused_with_help() {
        let both = ProduceRecord { value_base64: Some("YQ==".into()), ..ProduceRecord::text("a") };
        assert_eq!(both.into_payload(), Err(PayloadError::Both("value")));
        let bad = ProduceRecord { key_base64: Some("*".into()), ..ProduceRecord::default() };
        assert!(matches!(bad.into_payload(), Err(PayloadError::Base64 { field: "key", .. })));
        let half: ProduceRecord = serde_json::from_str(r#"{"value":"\ud800"}"#).expect("JSON");
        assert!(matches!(half.into_payload(), Err(PayloadError::NotText(_))));
        let deep = format!("{{\"value\":{}{}}}", "[".repeat(65), "]".repeat(65));
        let error = serde_json::from_str::<ProduceRecord>(&deep).expect_err("too deep").to_string();
        assert!(error.contains("65 levels") && error.contains("value_base64"), "{error}");
    }

    #[test]
    fn one_line_a_record() {
        let mut record = round_trip(&serde_json::from_str(r#"{"value":[1,\n2]}"#.replace("\\n", "\n").as_str()).expect("legal"));
        let stored = again(record.clone());
        assert!(!record.is_one_line());
        record.make_one_line();
        assert!(!serde_json::to_string(&record).expect("JSON").contains('\n'));
        assert_eq!(again(record), stored);
    }

    fn json_text() -> impl Strategy<Value = String> {
        let space = || prop::sample::select(vec!["", "", " ", "\n", "\t \r\n"]);
        let leaf = prop_oneof![
            "-?(0|[1-9][0-9]{0,40})(\\.[0-9]{1,40})?([eE][+-]?[0-9]{1,4})?",
            prop::sample::select(vec!["null".to_owned(), "true".to_owned(), "false".to_owned()]),
            any::<String>().prop_map(|text| serde_json::to_string(&text).expect("JSON")),
            Just(r#""\u00e9\ud83d\ude00\/""#.to_owned()),
        ];
        leaf.prop_recursive(6, 40, 5, move |inner| {
            let item = (space(), inner, space()).prop_map(|(before, json, after)| format!("{before}{json}{after}"));
            let field = ("[a-b]", item.clone()).prop_map(|(name, item)| format!("\"{name}\":{item}"));
            prop_oneof![
                proptest::collection::vec(item, 0..5).prop_map(|items| format!("[{}]", items.join(","))),
                proptest::collection::vec(field, 0..5).prop_map(|fields| format!("{{{}}}", fields.join(","))),
            ]
        })
    }

    fn any_headers() -> impl Strategy<Value = Headers> {
        let content_type = prop::sample::select(vec![None, Some(APPLICATION_JSON), Some(APPLICATION_JSON), Some("text/plain")]);
        let others = proptest::collection::vec(("[a-b]", proptest::option::of(proptest::collection::vec(any::<u8>(), 0..4))), 0..3);
        (content_type, others).prop_map(|(content_type, others)| {
            let mut headers = Headers::default();
            content_type.into_iter().for_each(|value| headers.push(CONTENT_TYPE, Some(Bytes::from_static(value.as_bytes()))));
            others.into_iter().for_each(|(name, value)| headers.push(name, value.map(Bytes::from)));
            headers
        })
    }

    fn any_value() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..40),
            any::<String>().prop_map(String::into_bytes),
            json_text().prop_map(String::into_bytes),
            (json_text(), prop::sample::select(vec![" ", "\n", "x"])).prop_map(|(json, end)| format!("{json}{end}").into_bytes()),
        ]
    }

    proptest! {
        #[test]
        fn whatever_comes_out_can_be_sent_in_again(
            value in proptest::option::of(any_value()),
            key in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..4)),
            headers in any_headers(),
        ) {
            let payload = Payload { key: key.map(Bytes::from), value: value.map(Bytes::from), headers };
            let out = out_of(payload.clone());
            prop_assert_eq!(&out.value_bytes().expect("its own form"), &payload.value);
            let stored = again(out.clone());
            prop_assert_eq!((&stored.key, &stored.value), (&payload.key, &payload.value));
            prop_assert_eq!(again(out_of(stored.clone())), stored, "the second time round the headers have their order as well");
            let mut line = out;
            line.make_one_line();
            prop_assert!(!serde_json::to_string(&line).expect("JSON").contains(['\n', '\r']));
            prop_assert_eq!(again(line).value, payload.value);
        }

        #[test]
        fn json_comes_back_as_it_was_sent(json in json_text()) {
            let out = out_of(sent(&format!("{{\"headers\":{{\"content-type\":\"application/json\"}},\"value\": {json} }}")));
            let value = out.value.expect("it is JSON");
            prop_assert_eq!(value.as_str(), json.as_str());
        }
    }
}
