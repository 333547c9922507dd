//! Keys of the state of groups.

use super::{PARTITION_PREFIX_BYTES, successor};
use crate::ids::{GroupId, GroupKey, PartitionKey, ShardId, StreamKey, TopicId};
use core::ops::Range;
use sagamq_api::PartitionId;

impl GroupKey {
    /// Key of a row of the group's state in the partition.
    #[must_use]
    pub fn row(self, row: u8) -> Vec<u8> {
        let mut key = self.partition.prefix(PARTITION_PREFIX_BYTES + 5);
        key.extend_from_slice(&self.group.0.to_be_bytes());
        key.push(row);
        key
    }

    /// The group in its partition and the row, in a key of the `group` family.
    #[must_use]
    pub fn of_row(key: &[u8]) -> Option<(Self, u8)> {
        let (shard, rest) = key.split_first_chunk()?;
        let (topic, rest) = rest.split_first_chunk()?;
        let (partition, rest) = rest.split_first_chunk()?;
        let (group, rest) = rest.split_first_chunk()?;
        let &[row] = rest else { return None };
        let partition = PartitionKey {
            shard: ShardId(u16::from_be_bytes(*shard)),
            topic: TopicId(u32::from_be_bytes(*topic)),
            partition: PartitionId(u32::from_be_bytes(*partition)),
        };
        Some((Self { partition, group: GroupId(u32::from_be_bytes(*group)) }, row))
    }
}

impl StreamKey {
    /// What the keys of stream groups have where those of queue groups have a topic: no topic has this number.
    const NO_TOPIC: [u8; 4] = [0; 4];

    fn prefix(self) -> Vec<u8> {
        [&self.shard.0.to_be_bytes()[..], &Self::NO_TOPIC, &self.group.0.to_be_bytes()].concat()
    }

    /// Key of a row of the group.
    #[must_use]
    pub fn row(self, row: &[u8]) -> Vec<u8> {
        [&self.prefix()[..], row].concat()
    }

    /// Every row of the group.
    #[must_use]
    pub fn all(self) -> Range<Vec<u8>> {
        let start = self.prefix();
        let end = successor(&start);
        start..end
    }

    /// The group and the row, in a key of the `group` family. `None`: it is none of a stream group.
    #[must_use]
    pub fn of_row(key: &[u8]) -> Option<(Self, &[u8])> {
        let (shard, rest) = key.split_first_chunk()?;
        let (group, row) = rest.strip_prefix(&Self::NO_TOPIC)?.split_first_chunk()?;
        Some((Self { shard: ShardId(u16::from_be_bytes(*shard)), group: GroupId(u32::from_be_bytes(*group)) }, row))
    }
}
