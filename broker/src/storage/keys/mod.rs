//! Every key the broker writes. This module is the document of the key format: big-endian, fixed width, shard first.
//!
//! | family | key | value |
//! |---|---|---|
//! | `log` | shard u16, topic u32, partition u32, base offset u64 | a Kafka RecordBatch v2 |
//! | `time_index` | shard u16, topic u32, partition u32, timestamp u64, base offset u64 | empty |
//! | `group` | shard u16, topic u32, partition u32, group u32, row u8 | a part of the group's state in the partition |
//! | `group` | shard u16, 0 u32, group u32, row | a row of a stream group, on its home shard; no topic has number 0 |
//! | `dedup` | shard u16, bucket u32, topic u32, partition u32, hash of the idempotency key 16 bytes | where the first one was stored |
//! | `schedule` | shard u16, topic u32, 0 u8 | how many records of the topic wait on the shard |
//! | `schedule` | shard u16, topic u32, 1 u8, due u64, commit u64, index u32 | a record that waits, in the order in which they are due |
//! | `schedule` | shard u16, topic u32, 2 u8, partition u32, hash of the idempotency key 16 bytes | which record with that key waits |
//! | `producer` | shard u16, topic u32, partition u32, producer id u64 | what the partition knows of the producer |
//! | `saga` | shard u16, the embedder's own key | the embedder's own |
//! | `meta` | shard u16, tag u8, by tag | see [`MetaKey`] |
//! | `meta` | 0xffff u16, tag u8, by tag | of a copy of a log: what belongs to the directory and to no shard, see [`LocalKey`] |
//!
//! The shard comes first so that a shard is one contiguous range of each family. A tag is never used again for something else.

mod dedup;
mod group;
mod local;
mod meta;
mod partition;
mod schedule;
#[cfg(test)]
mod tests;

pub use dedup::dedup_bucket;
pub use local::LocalKey;
pub(in crate::storage) use meta::TAG_PREFIX_BYTES;
pub use meta::{CLOCK_MARK_STEP_MS, Channel, MetaKey};
pub(in crate::storage) use partition::{PARTITION_PREFIX_BYTES, QUEUE_PREFIX_BYTES};

use crate::ids::{ShardId, TopicId};
use core::ops::Range;

impl ShardId {
    /// The shard that a key begins with; none if it is too short to be one.
    #[must_use]
    pub fn of_key(key: &[u8]) -> Option<Self> {
        let (shard, _) = key.split_first_chunk()?;
        Some(Self(u16::from_be_bytes(*shard)))
    }

    /// Every key of a topic on this shard in a family whose keys begin with the partition.
    #[must_use]
    pub fn topic(self, topic: TopicId) -> Range<Vec<u8>> {
        let mut start = self.0.to_be_bytes().to_vec();
        start.extend_from_slice(&topic.0.to_be_bytes());
        let end = successor(&start);
        start..end
    }

    /// Every key of this shard in a family.
    #[must_use]
    pub fn all(self) -> Range<Vec<u8>> {
        let start = self.0.to_be_bytes().to_vec();
        let end = successor(&start);
        start..end
    }

    /// An embedder's key.
    #[must_use]
    pub fn saga(self, suffix: &[u8]) -> Vec<u8> {
        let mut key = Vec::with_capacity(2 + suffix.len());
        key.extend_from_slice(&self.0.to_be_bytes());
        key.extend_from_slice(suffix);
        key
    }
}

/// The first key behind every key that begins with `prefix`.
#[must_use]
pub fn successor(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.last_mut() {
        if *last < u8::MAX {
            *last += 1;
            return end;
        }
        end.pop();
    }
    // Only a prefix of nothing but 0xff has no successor of its own length; no key is longer than this.
    vec![u8::MAX; 64]
}
