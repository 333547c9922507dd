//! A record's bytes, whatever a transport makes of them.

use crate::record::headers::Headers;
use bytes::Bytes;

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
