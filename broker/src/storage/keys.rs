//! Every key the broker writes. This file is the document of the key format: big-endian, fixed width, shard first.
//!
//! | family | key | value |
//! |---|---|---|
//! | `log` | shard u16, topic u32, partition u32, base offset u64 | a Kafka RecordBatch v2 |
//! | `time_index` | shard u16, topic u32, partition u32, timestamp u64, base offset u64 | empty |
//! | `group` | shard u16, topic u32, partition u32, group u32 | state of the group in the partition |
//! | `dedup` | shard u16, bucket u32, topic u32, partition u32, hash of the idempotency key 16 bytes | where the first one was stored |
//! | `saga` | shard u16, the embedder's own key | the embedder's own |
//! | `meta` | shard u16, tag u8, by tag | see [`MetaKey`] |
//!
//! The shard comes first so that a shard is one contiguous range of each family. A tag is never used again for something else.

use core::ops::Range;
use sagamq_api::{Offset, PartitionId};

/// Number of a shard. A commit belongs to exactly one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(pub u16);

/// Number of a topic in its data directory. Never used twice, so what a deleted topic left behind is never taken for another's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicId(pub u32);

/// Number of a consumer group in its data directory. Never used twice, so a receipt of a deleted group is never valid again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId(pub u32);

/// A partition with the shard that owns it: the prefix of its keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionKey {
    /// The shard that owns it.
    pub shard: ShardId,
    /// Its topic.
    pub topic: TopicId,
    /// Its number.
    pub partition: PartitionId,
}

const PREFIX: usize = 2 + 4 + 4;

impl PartitionKey {
    fn prefix(self, capacity: usize) -> Vec<u8> {
        let mut key = Vec::with_capacity(capacity);
        key.extend_from_slice(&self.shard.0.to_be_bytes());
        key.extend_from_slice(&self.topic.0.to_be_bytes());
        key.extend_from_slice(&self.partition.0.to_be_bytes());
        key
    }

    /// Key of the batch that begins at `base`.
    #[must_use]
    pub fn log(self, base: Offset) -> Vec<u8> {
        let mut key = self.prefix(PREFIX + 8);
        key.extend_from_slice(&base.0.to_be_bytes());
        key
    }

    /// Keys of the batches that begin at an offset of the half-open range.
    #[must_use]
    pub fn log_range(self, range: Range<Offset>) -> Range<Vec<u8>> {
        self.log(range.start)..self.log(range.end)
    }

    /// Base offset in a key of the `log` family.
    #[must_use]
    pub fn log_base(key: &[u8]) -> Option<Offset> {
        let base = key.get(PREFIX..PREFIX + 8)?;
        (key.len() == PREFIX + 8).then(|| Offset(u64::from_be_bytes(base.try_into().expect("eight bytes were taken"))))
    }

    /// Key of the time-index entry of a batch. Times before 1970 count as 1970.
    #[must_use]
    pub fn time_index(self, timestamp_ms: i64, base: Offset) -> Vec<u8> {
        let mut key = self.prefix(PREFIX + 16);
        key.extend_from_slice(&u64::try_from(timestamp_ms).unwrap_or(0).to_be_bytes());
        key.extend_from_slice(&base.0.to_be_bytes());
        key
    }

    /// Base offset in a key of the `time_index` family.
    #[must_use]
    pub fn time_index_base(key: &[u8]) -> Option<Offset> {
        let base = key.get(PREFIX + 8..PREFIX + 16)?;
        Some(Offset(u64::from_be_bytes(base.try_into().expect("eight bytes were taken"))))
    }

    /// Key of a group's state in this partition.
    #[must_use]
    pub fn group(self, group: GroupId) -> Vec<u8> {
        let mut key = self.prefix(PREFIX + 4);
        key.extend_from_slice(&group.0.to_be_bytes());
        key
    }

    /// Every key of this partition in a family whose keys begin with the partition.
    #[must_use]
    pub fn all(self) -> Range<Vec<u8>> {
        let start = self.prefix(PREFIX);
        let end = successor(&start);
        start..end
    }

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
    /// Idempotency entries of the buckets below `bucket`.
    #[must_use]
    pub fn dedup_before(self, bucket: u32) -> Range<Vec<u8>> {
        let start = self.0.to_be_bytes().to_vec();
        let mut end = start.clone();
        end.extend_from_slice(&bucket.to_be_bytes());
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

/// A key of the `meta` family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetaKey {
    /// Tag 0, shard 0: version of the format (u32), number of shards (u16), secret that signs receipts (32 bytes).
    Format,
    /// Tag 1, shard 0, topic u32: a topic of the catalogue, JSON.
    Topic(TopicId),
    /// Tag 2, shard 0, group u32: a group of the catalogue, JSON.
    Group(GroupId),
    /// Tag 3, shard 0: the next topic and group numbers (u32, u32).
    NextIds,
}

impl MetaKey {
    const TAG_FORMAT: u8 = 0;
    const TAG_TOPIC: u8 = 1;
    const TAG_GROUP: u8 = 2;
    const TAG_NEXT_IDS: u8 = 3;

    /// The bytes.
    #[must_use]
    pub fn encode(self) -> Vec<u8> {
        let mut key = vec![0, 0];
        match self {
            Self::Format => key.push(Self::TAG_FORMAT),
            Self::Topic(topic) => {
                key.push(Self::TAG_TOPIC);
                key.extend_from_slice(&topic.0.to_be_bytes());
            }
            Self::Group(group) => {
                key.push(Self::TAG_GROUP);
                key.extend_from_slice(&group.0.to_be_bytes());
            }
            Self::NextIds => key.push(Self::TAG_NEXT_IDS),
        }
        key
    }

    /// Every topic of the catalogue.
    #[must_use]
    pub fn topics() -> Range<Vec<u8>> {
        vec![0, 0, Self::TAG_TOPIC]..vec![0, 0, Self::TAG_TOPIC + 1]
    }

    /// Every group of the catalogue.
    #[must_use]
    pub fn groups() -> Range<Vec<u8>> {
        vec![0, 0, Self::TAG_GROUP]..vec![0, 0, Self::TAG_GROUP + 1]
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
