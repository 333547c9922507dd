//! The numbers of what a data directory holds: shards, topics, groups, and their partitions.

use core::hash::Hasher;
use sagamq_api::PartitionId;

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

/// A group in one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupKey {
    /// Partition.
    pub partition: PartitionKey,
    /// Group.
    pub group: GroupId,
}

/// A stream group on its home shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamKey {
    /// The shard that has all of the group.
    pub shard: ShardId,
    /// The group.
    pub group: GroupId,
}

/// Hashes keys that are made of these numbers. They are ours, and no client chooses them, so a fast hash is enough.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct NumberHasher(u64);

impl NumberHasher {
    fn add(&mut self, number: u64) {
        self.0 = (self.0.rotate_left(5) ^ number).wrapping_mul(0x517c_c1b7_2722_0a95);
    }
}

impl Hasher for NumberHasher {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.add(byte.into()));
    }

    fn write_u16(&mut self, number: u16) {
        self.add(number.into());
    }

    fn write_u32(&mut self, number: u32) {
        self.add(number.into());
    }

    fn write_u64(&mut self, number: u64) {
        self.add(number);
    }

    fn finish(&self) -> u64 {
        // The upper bits are the best of a product, and a table takes the lower ones.
        self.0.rotate_left(26)
    }
}

impl ShardId {
    /// Most shards of a data directory.
    pub const COUNT_MAX: u16 = 256;

    /// The shard that has the format, the secret, and the catalogue of topics and groups.
    pub const CONTROL: Self = Self(0);

    /// The shard that owns this partition of every topic, among so many shards.
    ///
    /// # Panics
    /// When there are no shards.
    #[must_use]
    pub fn of(partition: PartitionId, shards: u16) -> Self {
        Self(u16::try_from(partition.0 % u32::from(shards)).expect("the remainder is below a u16"))
    }
}

impl PartitionKey {
    /// A partition of a topic, among so many shards.
    ///
    /// # Panics
    /// When there are no shards.
    #[must_use]
    pub fn of(topic: TopicId, partition: PartitionId, shards: u16) -> Self {
        Self { shard: ShardId::of(partition, shards), topic, partition }
    }
}
