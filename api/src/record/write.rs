//! Writes records as JSON straight into the buffer of an answer: the fields of a [`ConsumedRecord`](super::ConsumedRecord) in its order,
//! which the tests hold, without the copies that one is made of.

use crate::ids::{Offset, PartitionId};
use crate::record::base64::encode_into;
use crate::record::payload::Payload;
use crate::record::value::{Shown, shown};
use serde::Serialize;

/// A record with its place.
#[derive(Clone, Copy, Debug)]
pub struct RecordOut<'a> {
    /// Partition of the topic.
    pub partition: PartitionId,
    /// Place in the partition.
    pub offset: Offset,
    /// Milliseconds since 1970.
    pub timestamp_ms: i64,
    /// Key, value and headers.
    pub payload: &'a Payload,
}

/// Writes the fields of a record, without the braces around them.
pub fn fields(out: &mut Vec<u8>, record: RecordOut<'_>) {
    let RecordOut { partition, offset, timestamp_ms, payload } = record;
    out.extend_from_slice(br#""partition":"#);
    json(out, &partition);
    out.extend_from_slice(br#","offset":"#);
    json(out, &offset);
    out.extend_from_slice(br#","timestamp_ms":"#);
    json(out, &timestamp_ms);
    if let Some(key) = &payload.key {
        bytes(out, "key", shown(key, false));
    }
    if let Some(value) = &payload.value {
        bytes(out, "value", shown(value, payload.headers.say_json()));
    }
    if !payload.headers.is_empty() {
        out.extend_from_slice(br#","headers":"#);
        json(out, &payload.headers);
    }
}

/// Writes anything small.
///
/// # Panics
/// When it cannot be written as JSON, as a map whose keys are no text.
pub fn json(out: &mut Vec<u8>, value: &(impl Serialize + ?Sized)) {
    serde_json::to_writer(out, value).expect("numbers, names and headers are JSON, and memory takes all of it");
}

/// Writes a string.
pub fn text(out: &mut Vec<u8>, text: &str) {
    // Most texts have nothing to escape. Counting does not stop at the first, so the processor looks at many bytes at a time.
    if text.bytes().filter(|&byte| byte < 0x20 || byte == b'"' || byte == b'\\').count() > 0 {
        return json(out, text);
    }
    out.push(b'"');
    out.extend_from_slice(text.as_bytes());
    out.push(b'"');
}

/// A field for bytes, under its name or its name in base64.
fn bytes(out: &mut Vec<u8>, name: &str, shown: Shown<'_>) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    match shown {
        Shown::Json(json) => {
            out.extend_from_slice(b"\":");
            out.extend_from_slice(json.as_bytes());
        }
        Shown::Text(string) => {
            out.extend_from_slice(b"\":");
            text(out, string);
        }
        Shown::Bytes(bytes) => {
            out.extend_from_slice(b"_base64\":\"");
            encode_into(out, bytes);
            out.push(b'"');
        }
    }
}
