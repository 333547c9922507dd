//! A record before and after it is in a batch.

use crate::ids::Offset;
use crate::record::Payload;

/// A record before it has an offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Milliseconds since 1970.
    pub timestamp_ms: i64,
    /// Key, value and headers.
    pub payload: Payload,
}

/// A record read from a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRecord {
    /// Its place in the partition.
    pub offset: Offset,
    /// Milliseconds since 1970.
    pub timestamp_ms: i64,
    /// Key, value and headers. Key and value share the memory of the batch.
    pub payload: Payload,
}

impl StoredRecord {
    /// The record without its offset.
    #[must_use]
    pub fn into_record(self) -> Record {
        Record { timestamp_ms: self.timestamp_ms, payload: self.payload }
    }
}
