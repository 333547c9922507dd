//! Keys that begin with their partition: of the log, its index by time, positions and producers.

use super::{MetaKey, successor};
use crate::ids::{PartitionKey, ShardId, TopicId};
use core::ops::Range;
use sagamq_api::{Offset, PartitionId};

/// Bytes of a key in front that are those of its partition, in the families whose keys begin so.
pub(in crate::storage) const PARTITION_PREFIX_BYTES: usize = 2 + 4 + 4;

/// Those of the rows of a queue that are the queue's.
pub(in crate::storage) const QUEUE_PREFIX_BYTES: usize = PARTITION_PREFIX_BYTES + 4;

impl PartitionKey {
    pub(super) fn prefix(self, capacity: usize) -> Vec<u8> {
        let mut key = Vec::with_capacity(capacity);
        key.extend_from_slice(&self.shard.0.to_be_bytes());
        key.extend_from_slice(&self.topic.0.to_be_bytes());
        key.extend_from_slice(&self.partition.0.to_be_bytes());
        key
    }

    /// Key of the batch that begins at `base`.
    #[must_use]
    pub fn log(self, base: Offset) -> Vec<u8> {
        let mut key = self.prefix(PARTITION_PREFIX_BYTES + 8);
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
        let base = key.get(PARTITION_PREFIX_BYTES..PARTITION_PREFIX_BYTES + 8)?;
        (key.len() == PARTITION_PREFIX_BYTES + 8).then(|| Offset(u64::from_be_bytes(base.try_into().expect("eight bytes were taken"))))
    }

    /// Key of the time-index entry of a batch. Times before 1970 count as 1970.
    #[must_use]
    pub fn time_index(self, timestamp_ms: i64, base: Offset) -> Vec<u8> {
        let mut key = self.prefix(PARTITION_PREFIX_BYTES + 16);
        key.extend_from_slice(&u64::try_from(timestamp_ms).unwrap_or(0).to_be_bytes());
        key.extend_from_slice(&base.0.to_be_bytes());
        key
    }

    /// Base offset in a key of the `time_index` family.
    #[must_use]
    pub fn time_index_base(key: &[u8]) -> Option<Offset> {
        let base = key.get(PARTITION_PREFIX_BYTES + 8..PARTITION_PREFIX_BYTES + 16)?;
        Some(Offset(u64::from_be_bytes(base.try_into().expect("eight bytes were taken"))))
    }

    /// Time in a key of the `time_index` family; 0 for those before 1970 as well.
    #[must_use]
    pub fn time_index_timestamp(key: &[u8]) -> Option<i64> {
        let timestamp_ms = key.get(PARTITION_PREFIX_BYTES..PARTITION_PREFIX_BYTES + 8)?;
        i64::try_from(u64::from_be_bytes(timestamp_ms.try_into().expect("eight bytes were taken"))).ok()
    }

    /// Key of where the partition stands, in the `meta` family.
    #[must_use]
    pub fn positions(self) -> Vec<u8> {
        let mut key = self.shard.topic_positions(self.topic).start;
        key.extend_from_slice(&self.partition.0.to_be_bytes());
        key
    }

    /// The partition in a key of positions.
    #[must_use]
    pub fn of_positions(key: &[u8]) -> Option<Self> {
        let (shard, rest) = key.split_first_chunk()?;
        let (topic, rest) = rest.strip_prefix(&[MetaKey::TAG_POSITIONS])?.split_first_chunk()?;
        let partition = rest.try_into().ok()?;
        Some(Self {
            shard: ShardId(u16::from_be_bytes(*shard)),
            topic: TopicId(u32::from_be_bytes(*topic)),
            partition: PartitionId(u32::from_be_bytes(partition)),
        })
    }

    /// Every key of this partition in a family whose keys begin with the partition.
    #[must_use]
    pub fn all(self) -> Range<Vec<u8>> {
        let start = self.prefix(PARTITION_PREFIX_BYTES);
        let end = successor(&start);
        start..end
    }

    /// Key of what the partition knows of a producer.
    #[must_use]
    pub fn producer(self, id: u64) -> Vec<u8> {
        let mut key = self.prefix(PARTITION_PREFIX_BYTES + 8);
        key.extend_from_slice(&id.to_be_bytes());
        key
    }

    /// The partition and the producer in such a key.
    #[must_use]
    pub fn of_producer(key: &[u8]) -> Option<(Self, u64)> {
        let (shard, rest) = key.split_first_chunk()?;
        let (topic, rest) = rest.split_first_chunk()?;
        let (partition, id) = rest.split_first_chunk()?;
        let key = Self {
            shard: ShardId(u16::from_be_bytes(*shard)),
            topic: TopicId(u32::from_be_bytes(*topic)),
            partition: PartitionId(u32::from_be_bytes(*partition)),
        };
        Some((key, u64::from_be_bytes(id.try_into().ok()?)))
    }
}
