//! Keys of idempotency entries: in buckets of time, so that old ones go in one range.

use super::successor;
use crate::ids::{PartitionKey, ShardId};
use core::ops::Range;

/// Bucket in a key of the `dedup` family.
#[must_use]
pub fn dedup_bucket(key: &[u8]) -> Option<u32> {
    key.get(2..6).map(|bucket| u32::from_be_bytes(bucket.try_into().expect("four bytes were taken")))
}

impl PartitionKey {
    /// Key of an idempotency entry. `hash` is of the idempotency key.
    #[must_use]
    pub fn dedup(self, bucket: u32, hash: [u8; 16]) -> Vec<u8> {
        let mut key = Vec::with_capacity(2 + 4 + 4 + 4 + 16);
        key.extend_from_slice(&self.shard.0.to_be_bytes());
        key.extend_from_slice(&bucket.to_be_bytes());
        key.extend_from_slice(&self.topic.0.to_be_bytes());
        key.extend_from_slice(&self.partition.0.to_be_bytes());
        key.extend_from_slice(&hash);
        key
    }
}

impl ShardId {
    /// Idempotency entries of `bucket` and of those above it.
    #[must_use]
    pub fn dedup_from(self, bucket: u32) -> Range<Vec<u8>> {
        let prefix = self.0.to_be_bytes();
        let mut start = prefix.to_vec();
        start.extend_from_slice(&bucket.to_be_bytes());
        start..successor(&prefix)
    }

    /// Idempotency entries of the buckets below `bucket`.
    #[must_use]
    pub fn dedup_before(self, bucket: u32) -> Range<Vec<u8>> {
        let start = self.0.to_be_bytes().to_vec();
        let mut end = start.clone();
        end.extend_from_slice(&bucket.to_be_bytes());
        start..end
    }
}
