//! Values of the orchestrator's keys: JSON with a format byte in front, so that a later version can tell old from new.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The format of every JSON value; the same number as that of events.
const FORMAT: u8 = crate::protocol::EVENT_FORMAT;

/// Stored bytes that cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// The value was written by a newer version, or is damaged.
    #[error("the value has format {found:?}, this version reads {FORMAT}")]
    Format {
        /// The first byte.
        found: Option<u8>,
    },
    /// The value is no JSON of its type.
    #[error("the value cannot be read: {0}")]
    Json(String),
}

pub(crate) fn encode(value: &impl Serialize) -> Vec<u8> {
    let mut bytes = vec![FORMAT];
    serde_json::to_writer(&mut bytes, value).expect("stored types have string keys only, and a vector takes any bytes");
    bytes
}

pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    match bytes.split_first() {
        Some((&FORMAT, json)) => serde_json::from_slice(json).map_err(|error| CodecError::Json(error.to_string())),
        found => Err(CodecError::Format { found: found.map(|(format, _)| *format) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_format_is_refused_and_not_guessed() {
        assert_eq!(decode::<u32>(&encode(&7_u32)), Ok(7));
        assert_eq!(decode::<u32>(&[1, b'7']), Err(CodecError::Format { found: Some(1) }));
        assert_eq!(decode::<u32>(&[]), Err(CodecError::Format { found: None }));
        assert!(matches!(decode::<u32>(&[FORMAT, b'x']), Err(CodecError::Json(_))));
    }
}
