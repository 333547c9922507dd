//! Answers with records: written straight into one buffer, which keeps its share of the memory for answers until it is sent.

use axum::body::Body;
use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::response::Response;
use bytes::Bytes;
use sagamq_api::headers::APPLICATION_JSON;
use sagamq_broker::Held;
use sagamq_broker::log::MemoryShare;

/// What a record takes in an answer beside its texts, about.
pub(super) const RECORD_BYTES: usize = 128;

/// What surrounds the records of an answer, about.
const ENVELOPE_BYTES: usize = 128;

/// The body's bytes: the connection drops them when they are written.
struct HeldBytes {
    bytes: Vec<u8>,
    _share: MemoryShare,
}

impl AsRef<[u8]> for HeldBytes {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// A buffer for the answer with records that need about so many bytes.
pub(super) fn buffer(bytes: usize) -> Vec<u8> {
    Vec::with_capacity(ENVELOPE_BYTES + bytes)
}

/// The JSON answer that `write` puts into a buffer of about the size that its records need. The records go before it is sent.
pub(super) fn written<T>(held: Held<T>, size: impl FnOnce(&T) -> usize, write: impl FnOnce(&T, &mut Vec<u8>)) -> Response {
    held_json(held.map(|value| {
        let mut out = buffer(size(&value));
        write(&value, &mut out);
        out
    }))
}

/// A JSON answer of these bytes, which keep their share of the memory.
pub(super) fn held_json(held: Held<Vec<u8>>) -> Response {
    let mut response = held_bytes(held);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(APPLICATION_JSON));
    response
}

/// An answer of these bytes, which keep their share of the memory. It does not say what they are.
pub(super) fn held_bytes(bytes: Held<Vec<u8>>) -> Response {
    Response::new(Body::from(held(bytes)))
}

/// These bytes, which keep their share of the memory.
pub(super) fn held(bytes: Held<Vec<u8>>) -> Bytes {
    let (bytes, share) = bytes.into_parts();
    Bytes::from_owner(HeldBytes { bytes, _share: share })
}

/// An answer of these bytes.
pub(super) fn json(bytes: Bytes) -> Response {
    let mut response = Response::new(Body::from(bytes));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(APPLICATION_JSON));
    response
}
