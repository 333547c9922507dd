//! The sparse index of a log: from time to offset and to bytes. An entry holds the latest time up to and including its batch, and the bytes
//! of all batches that were ever before it. The first batch of a log has one; between an entry and the next there is no batch whose time is
//! [`STEP_MS`] or more above the entry's.

use crate::ids::PartitionKey;
use crate::storage::{Family, Mutation};
use sagamq_api::Offset;

/// Distance between two entries, in milliseconds of record time.
pub(super) const STEP_MS: i64 = 1_000;

/// The same, in bytes of batches: where many records have one time, the log can still be cut.
pub(super) const STEP_BYTES: u64 = 1024 * 1024;

/// An entry of the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) timestamp_ms: i64,
    pub(super) base: Offset,
    pub(super) bytes: u64,
}

impl Entry {
    pub(super) fn put(&self, partition: PartitionKey) -> Mutation {
        let key = partition.time_index(self.timestamp_ms, self.base);
        Mutation::Put { family: Family::TimeIndex, key, value: self.bytes.to_be_bytes().to_vec().into() }
    }

    pub(super) fn delete(&self, partition: PartitionKey) -> Mutation {
        Mutation::Delete { family: Family::TimeIndex, key: partition.time_index(self.timestamp_ms, self.base) }
    }

    /// `None`: that is no entry.
    pub(super) fn of(key: &[u8], value: &[u8]) -> Option<Self> {
        Some(Self {
            timestamp_ms: PartitionKey::time_index_timestamp(key)?,
            base: PartitionKey::time_index_base(key)?,
            bytes: u64::from_be_bytes(value.try_into().ok()?),
        })
    }
}
