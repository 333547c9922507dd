//! Values are JSON with a format byte in front, so that a later version can tell old from new. What belongs to an instance says behind that
//! byte which protocol the instance follows.

use crate::protocol::{EVENT_FORMAT, Protocol, RecordedEvent, UnknownProtocol};
use sagamq_api::saga::SagaSummary;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The format of every JSON value; the same number as that of events.
const FORMAT: u8 = EVENT_FORMAT;

/// What most events take.
const EVENT_BYTES: usize = 256;

/// What most summaries take.
const SUMMARY_BYTES: usize = 384;

/// Stored bytes that cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// The value was written by a newer version, or is damaged.
    #[error("the value has format {found:?}, this version reads {FORMAT}")]
    Format {
        /// The first byte.
        found: Option<u8>,
    },
    /// The instance follows a protocol that this version does not have.
    #[error(transparent)]
    Protocol(#[from] UnknownProtocol),
    /// The value is no JSON of its type.
    #[error("the value cannot be read: {0}")]
    Json(String),
}

impl From<serde_json::Error> for CodecError {
    fn from(error: serde_json::Error) -> Self {
        Self::Json(error.to_string())
    }
}

pub(super) fn encode(value: &impl Serialize) -> Vec<u8> {
    to_json(vec![FORMAT], value)
}

pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    Ok(serde_json::from_slice(json_of(bytes)?)?)
}

pub(super) fn encode_event(event: &RecordedEvent) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(EVENT_BYTES);
    bytes.extend([FORMAT, event.event.protocol() as u8]);
    event.write_json(&mut bytes);
    bytes
}

pub(super) fn decode_event(bytes: &[u8]) -> Result<RecordedEvent, CodecError> {
    let (protocol, json) = of_instance(bytes)?;
    Ok(RecordedEvent::from_json(protocol, json)?)
}

pub(super) fn encode_summary(protocol: Protocol, summary: &SagaSummary) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(SUMMARY_BYTES);
    bytes.extend([FORMAT, protocol as u8]);
    to_json(bytes, summary)
}

/// Reads the summary of an instance of a protocol that this version has.
pub(super) fn decode_summary(bytes: &[u8]) -> Result<SagaSummary, CodecError> {
    let (_, json) = of_instance(bytes)?;
    Ok(serde_json::from_slice(json)?)
}

fn to_json(mut bytes: Vec<u8>, value: &impl Serialize) -> Vec<u8> {
    serde_json::to_writer(&mut bytes, value).expect("stored types have string keys only, and a vector takes any bytes");
    bytes
}

fn json_of(bytes: &[u8]) -> Result<&[u8], CodecError> {
    match bytes.split_first() {
        Some((&FORMAT, rest)) => Ok(rest),
        found => Err(CodecError::Format { found: found.map(|(format, _)| *format) }),
    }
}

fn of_instance(bytes: &[u8]) -> Result<(Protocol, &[u8]), CodecError> {
    let (tag, json) = json_of(bytes)?.split_first().ok_or_else(|| CodecError::Json("it ends before its protocol".to_owned()))?;
    Ok((Protocol::try_from(*tag)?, json))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Event;
    use crate::protocol::saga::SagaEvent;

    #[test]
    fn another_format_is_refused_and_not_guessed() {
        assert_eq!(decode::<u32>(&encode(&7_u32)), Ok(7));
        assert_eq!(decode::<u32>(&[2, b'7']), Err(CodecError::Format { found: Some(2) }));
        assert_eq!(decode::<u32>(&[]), Err(CodecError::Format { found: None }));
        assert!(matches!(decode::<u32>(&[FORMAT, b'x']), Err(CodecError::Json(_))));
    }

    #[test]
    fn an_event_says_its_protocol_and_another_one_is_refused_by_name() {
        let event = RecordedEvent { at_ms: 5, event: Event::Saga(SagaEvent::SagaCompensated) };
        let mut stored = encode_event(&event);
        assert_eq!(stored, [&[3, 1], br#"{"at_ms":5,"event":{"type":"saga_compensated"}}"#.as_slice()].concat());
        assert_eq!(decode_event(&stored), Ok(event));
        stored[1] = 3;
        let error = decode_event(&stored).expect_err("there is no protocol 3");
        assert_eq!(error, CodecError::Protocol(UnknownProtocol(3)));
        assert!(error.to_string().contains("protocol 3"), "{error}");
        assert_eq!(decode_summary(&stored), Err(CodecError::Protocol(UnknownProtocol(3))));
        assert!(matches!(decode_event(&[3]), Err(CodecError::Json(_))));
    }
}
