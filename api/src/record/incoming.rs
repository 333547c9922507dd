//! A record to produce as a server reads it: its texts are those of the body, not copies of them.

use crate::headers::{APPLICATION_JSON, CONTENT_TYPE};
use crate::ids::PartitionId;
use crate::limits::{PRODUCE_HEADERS_MAX, PRODUCE_RECORDS_MAX};
use crate::record::base64::Decoded;
use crate::record::headers::Headers;
use crate::record::payload::Payload;
use crate::record::produce::ProduceRecord;
use crate::record::value::{PayloadError, from_base64, raw_value_in, text_of};
use bytes::Bytes;
use core::fmt;
use core::marker::PhantomData;
use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use std::borrow::Cow;

/// A [`ProduceRecord`](super::ProduceRecord), read without copies.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordIn<'a> {
    /// The key, as text.
    #[serde(borrow, default)]
    pub key: Option<Text<'a>>,
    /// The key, in base64.
    #[serde(borrow, default)]
    pub key_base64: Option<Text<'a>>,
    /// The value: any JSON.
    #[serde(borrow, default, deserialize_with = "raw_value_in")]
    pub value: Option<&'a RawValue>,
    /// The value, in base64.
    #[serde(borrow, default)]
    pub value_base64: Option<Text<'a>>,
    /// Headers by name.
    #[serde(default)]
    pub headers: Headers,
    /// The partition.
    #[serde(default)]
    pub partition: Option<PartitionId>,
    /// Time of the record, in milliseconds since 1970.
    #[serde(default)]
    pub timestamp_ms: Option<i64>,
    /// Its own idempotency key.
    #[serde(borrow, default)]
    pub idempotency_key: Option<Text<'a>>,
    /// When it is to be appended, in milliseconds since 1970.
    #[serde(default)]
    pub deliver_at: Option<u64>,
    /// After how many milliseconds it is to be appended.
    #[serde(default)]
    pub delay_ms: Option<u64>,
}

/// A JSON string: that of the body if it has no escapes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text<'a>(pub Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }

            fn visit_string<E: Error>(self, text: String) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text)))
            }
        }
        deserializer.deserialize_str(Either)
    }
}

impl Text<'_> {
    /// Its bytes: a part of `body` if it lies there.
    #[must_use]
    pub fn into_bytes(self, body: &Bytes) -> Bytes {
        match self.0 {
            Cow::Borrowed(text) => part_of(body, text),
            Cow::Owned(text) => text.into(),
        }
    }
}

/// The bytes of a text: shared with `body` if it lies there, else a copy.
fn part_of(body: &Bytes, text: &str) -> Bytes {
    let (whole, part) = (body.as_ptr_range(), text.as_bytes().as_ptr_range());
    if whole.start <= part.start && part.end <= whole.end {
        return body.slice_ref(text.as_bytes());
    }
    Bytes::copy_from_slice(text.as_bytes())
}

impl RecordIn<'_> {
    /// Takes the payload out, as bytes: parts of `body`, from which the record was read, wherever the text stands there as it is; base64 goes
    /// to `decoded`.
    ///
    /// # Errors
    /// When a field is given in both forms, is no base64, or is a string that is no text (half of a surrogate pair).
    pub fn take_payload(&mut self, body: &Bytes, decoded: &mut Decoded) -> Result<Payload, PayloadError> {
        let mut headers = core::mem::take(&mut self.headers);
        let key = match (self.key.take(), self.key_base64.take()) {
            (Some(_), Some(_)) => return Err(PayloadError::Both("key")),
            (Some(text), None) => Some(text.into_bytes(body)),
            (None, Some(base64)) => Some(from_base64("key", &base64.0, decoded)?),
            (None, None) => None,
        };
        let value = match (self.value, self.value_base64.take()) {
            (Some(_), Some(_)) => return Err(PayloadError::Both("value")),
            (Some(raw), None) => {
                let json = raw.get();
                let inner = json.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
                if inner.is_none() && !headers.contains(CONTENT_TYPE) {
                    headers.set(CONTENT_TYPE, APPLICATION_JSON);
                }
                Some(match inner {
                    Some(text) if !headers.say_json() => {
                        if text.contains('\\') {
                            text_of(json)?.into()
                        } else {
                            part_of(body, text)
                        }
                    }
                    _ => part_of(body, json),
                })
            }
            (None, Some(base64)) => Some(from_base64("value", &base64.0, decoded)?),
            (None, None) => None,
        };
        Ok(Payload { key, value, headers })
    }
}

/// A [`ProduceRequest`](crate::topic::ProduceRequest), read without copies.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordsIn<'a> {
    /// Records; 1 to 10,000, with at most 200,000 headers together.
    #[serde(borrow, deserialize_with = "records_in")]
    pub records: Vec<RecordIn<'a>>,
}

/// What a list of records counts of each.
pub(crate) trait HasHeaders {
    fn headers(&self) -> &Headers;
}

impl HasHeaders for RecordIn<'_> {
    fn headers(&self) -> &Headers {
        &self.headers
    }
}

impl HasHeaders for ProduceRecord {
    fn headers(&self) -> &Headers {
        &self.headers
    }
}

/// Reads records up to the bounds, so that a request is not taken into memory in order to be refused.
pub(crate) fn records_in<'de, D: Deserializer<'de>, R: Deserialize<'de> + HasHeaders>(deserializer: D) -> Result<Vec<R>, D::Error> {
    struct Records<R>(PhantomData<R>);
    impl<'de, R: Deserialize<'de> + HasHeaders> Visitor<'de> for Records<R> {
        type Value = Vec<R>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of records")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<R>, A::Error> {
            let (mut records, mut headers) = (Vec::new(), 0);
            while let Some(record) = list.next_element::<R>()? {
                headers += record.headers().len();
                if records.len() >= PRODUCE_RECORDS_MAX {
                    let max = PRODUCE_RECORDS_MAX;
                    return Err(A::Error::custom(format_args!("the request has more than {max} records: send them with several requests")));
                }
                if headers > PRODUCE_HEADERS_MAX {
                    let max = PRODUCE_HEADERS_MAX;
                    return Err(A::Error::custom(format_args!(
                        "the records have more than {max} headers together: send them with several requests"
                    )));
                }
                records.push(record);
            }
            Ok(records)
        }
    }
    deserializer.deserialize_seq(Records(PhantomData))
}
