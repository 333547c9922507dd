//! The numbers of what a data directory holds: shards, topics, groups, and their partitions.

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

impl ShardId {
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
