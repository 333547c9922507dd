//! Keys of the `meta` family.

use super::successor;
use crate::ids::{GroupId, PartitionKey, ShardId, TopicId};
use core::ops::Range;

/// Those of a key of the `meta` family that are the shard's and the tag.
pub(in crate::storage) const TAG_PREFIX_BYTES: usize = 2 + 1;

/// How far apart the clock marks of a shard are, in milliseconds.
pub const CLOCK_MARK_STEP_MS: u64 = 100;

/// What messages between shards are about. Each channel has numbers of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    /// What the embedder's shards tell each other.
    Embedder,
    /// Records that an acknowledgement on another shard has produced.
    Records,
}

impl Channel {
    /// The tags of messages, of what was sent, and of what was taken.
    const fn tags(self) -> [u8; 3] {
        match self {
            Self::Embedder => [MetaKey::TAG_MESSAGE, MetaKey::TAG_OUTGOING, MetaKey::TAG_INCOMING],
            Self::Records => [MetaKey::TAG_RECORDS_MESSAGE, MetaKey::TAG_RECORDS_OUTGOING, MetaKey::TAG_RECORDS_INCOMING],
        }
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
    /// Tag 3, shard 0: the next topic and group numbers, JSON.
    NextIds,
    /// Tag 4, each shard: a time in milliseconds since 1970, u64; no time that the shard has stored lies more than
    /// [`CLOCK_MARK_STEP_MS`] behind it.
    ClockMark(ShardId),
    /// Tag 5, each shard, topic u32, partition u32: where a partition stands, see `log/positions.rs`.
    Positions(PartitionKey),
    /// Tag 6, each shard: number of the shard's last commit, u64, and the sum of the ends of its partitions, u64.
    CommitNumber(ShardId),
    /// Tag 7 of the embedder's channel, 11 of that of records; each shard, receiver u16, sequence u64: a message to another shard that is not
    /// known to be taken, see `shard/outbox/row.rs`.
    Message(Channel, ShardId, ShardId, u64),
    /// Tag 8, or 12; each shard, receiver u16: how far its messages to another shard were sent and are gone, see `shard/outbox/row.rs`.
    Outgoing(Channel, ShardId, ShardId),
    /// Tag 9, or 13; each shard, sender u16: number of the last message of another shard that it has taken, u64.
    Incoming(Channel, ShardId, ShardId),
    /// Tag 10, shard 0, group u32: a stream group of the catalogue, JSON.
    StreamGroup(GroupId),
    /// Tag 15, shard 0, number u32: a name of a producer, JSON.
    Producer(u32),
    /// Tag 16, shard 0, id u64: an API key, JSON.
    ApiKey(u64),
    /// Tag 14, each shard, topic u32, partition u32: how far a partition is compacted, see `log/compaction/row.rs`.
    Compacted(PartitionKey),
}

impl MetaKey {
    const TAG_FORMAT: u8 = 0;
    const TAG_TOPIC: u8 = 1;
    const TAG_GROUP: u8 = 2;
    const TAG_NEXT_IDS: u8 = 3;
    const TAG_CLOCK_MARK: u8 = 4;
    pub(super) const TAG_POSITIONS: u8 = 5;
    const TAG_COMMIT_NUMBER: u8 = 6;
    const TAG_MESSAGE: u8 = 7;
    const TAG_OUTGOING: u8 = 8;
    const TAG_INCOMING: u8 = 9;
    const TAG_STREAM_GROUP: u8 = 10;
    const TAG_COMPACTED: u8 = 14;
    const TAG_PRODUCER: u8 = 15;
    const TAG_API_KEY: u8 = 16;
    const TAG_RECORDS_MESSAGE: u8 = 11;
    const TAG_RECORDS_OUTGOING: u8 = 12;
    const TAG_RECORDS_INCOMING: u8 = 13;

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
            Self::StreamGroup(group) => {
                key.push(Self::TAG_STREAM_GROUP);
                key.extend_from_slice(&group.0.to_be_bytes());
            }
            Self::Producer(number) => {
                key.push(Self::TAG_PRODUCER);
                key.extend_from_slice(&number.to_be_bytes());
            }
            Self::ApiKey(id) => {
                key.push(Self::TAG_API_KEY);
                key.extend_from_slice(&id.to_be_bytes());
            }
            Self::ClockMark(shard) => {
                key = shard.0.to_be_bytes().to_vec();
                key.push(Self::TAG_CLOCK_MARK);
            }
            Self::Positions(partition) => key = partition.positions(),
            Self::Compacted(partition) => {
                key = partition.shard.topic_compacted(partition.topic).start;
                key.extend_from_slice(&partition.partition.0.to_be_bytes());
            }
            Self::CommitNumber(shard) => {
                key = shard.0.to_be_bytes().to_vec();
                key.push(Self::TAG_COMMIT_NUMBER);
            }
            Self::Message(channel, from, to, sequence) => {
                key = Self::messages_to(channel, from, to);
                key.extend_from_slice(&sequence.to_be_bytes());
            }
            Self::Outgoing(channel, own, peer) => key = [own.outgoing(channel).start, peer.0.to_be_bytes().to_vec()].concat(),
            Self::Incoming(channel, own, peer) => key = [own.incoming(channel).start, peer.0.to_be_bytes().to_vec()].concat(),
        }
        key
    }

    /// What all messages of a shard to another begin with.
    #[must_use]
    pub fn messages_to(channel: Channel, from: ShardId, to: ShardId) -> Vec<u8> {
        [from.messages(channel).start, to.0.to_be_bytes().to_vec()].concat()
    }

    /// The receiver and the sequence in the key of a message.
    #[must_use]
    pub fn message(key: &[u8]) -> Option<(ShardId, u64)> {
        let ([_, _, Self::TAG_MESSAGE | Self::TAG_RECORDS_MESSAGE], rest) = key.split_first_chunk()? else { return None };
        let (to, sequence) = rest.split_first_chunk()?;
        Some((ShardId(u16::from_be_bytes(*to)), u64::from_be_bytes(sequence.try_into().ok()?)))
    }

    /// The other shard in the key of what was sent or taken.
    #[must_use]
    pub fn peer(key: &[u8]) -> Option<ShardId> {
        match key {
            [_, _, Self::TAG_OUTGOING | Self::TAG_INCOMING | Self::TAG_RECORDS_OUTGOING | Self::TAG_RECORDS_INCOMING, high, low] => {
                Some(ShardId(u16::from_be_bytes([*high, *low])))
            }
            _ => None,
        }
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

    /// Every name of a producer in the catalogue.
    #[must_use]
    pub fn producers() -> Range<Vec<u8>> {
        vec![0, 0, Self::TAG_PRODUCER]..vec![0, 0, Self::TAG_PRODUCER + 1]
    }

    /// Every API key of the catalogue.
    #[must_use]
    pub fn api_keys() -> Range<Vec<u8>> {
        vec![0, 0, Self::TAG_API_KEY]..vec![0, 0, Self::TAG_API_KEY + 1]
    }

    /// Every stream group of the catalogue.
    #[must_use]
    pub fn stream_groups() -> Range<Vec<u8>> {
        vec![0, 0, Self::TAG_STREAM_GROUP]..vec![0, 0, Self::TAG_STREAM_GROUP + 1]
    }
}

impl ShardId {
    /// Where the partitions of this shard stand, in the `meta` family.
    #[must_use]
    pub fn positions(self) -> Range<Vec<u8>> {
        self.meta(MetaKey::TAG_POSITIONS)
    }

    /// The messages of this shard to all others, in the `meta` family.
    #[must_use]
    pub fn messages(self, channel: Channel) -> Range<Vec<u8>> {
        self.meta(channel.tags()[0])
    }

    /// Where its messages to others stand, in the `meta` family.
    #[must_use]
    pub fn outgoing(self, channel: Channel) -> Range<Vec<u8>> {
        self.meta(channel.tags()[1])
    }

    /// What it has taken of the messages of others, in the `meta` family.
    #[must_use]
    pub fn incoming(self, channel: Channel) -> Range<Vec<u8>> {
        self.meta(channel.tags()[2])
    }

    fn meta(self, tag: u8) -> Range<Vec<u8>> {
        let mut start = self.0.to_be_bytes().to_vec();
        start.push(tag);
        let end = successor(&start);
        start..end
    }

    /// Where the partitions of a topic on this shard stand, in the `meta` family.
    #[must_use]
    pub fn topic_positions(self, topic: TopicId) -> Range<Vec<u8>> {
        let mut start = self.positions().start;
        start.extend_from_slice(&topic.0.to_be_bytes());
        let end = successor(&start);
        start..end
    }

    /// How far the partitions of a topic on this shard are compacted, in the `meta` family.
    #[must_use]
    pub fn topic_compacted(self, topic: TopicId) -> Range<Vec<u8>> {
        let mut start = self.meta(MetaKey::TAG_COMPACTED).start;
        start.extend_from_slice(&topic.0.to_be_bytes());
        let end = successor(&start);
        start..end
    }
}
