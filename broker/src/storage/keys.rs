//! Every key the broker writes. This file is the document of the key format: big-endian, fixed width, shard first.
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
//!
//! The shard comes first so that a shard is one contiguous range of each family. A tag is never used again for something else.

use crate::ids::{GroupId, GroupKey, PartitionKey, ShardId, StreamKey, TopicId};
use core::ops::Range;
use sagamq_api::{Offset, PartitionId, ScheduleId};

/// Bytes of a key in front that are those of its partition, in the families whose keys begin so.
pub(super) const PARTITION_PREFIX_BYTES: usize = 2 + 4 + 4;

/// Those of the rows of a queue that are the queue's.
pub(super) const QUEUE_PREFIX_BYTES: usize = PARTITION_PREFIX_BYTES + 4;

/// Those of a key of the `meta` family that are the shard's and the tag.
pub(super) const TAG_PREFIX_BYTES: usize = 2 + 1;

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

    /// Key of which record with an idempotency key waits for its time. `hash` is of the idempotency key.
    #[must_use]
    pub fn waiting_key(self, hash: [u8; 16]) -> Vec<u8> {
        [&self.shard.waiting(self.topic, WAITING_KEYS)[..], &self.partition.0.to_be_bytes(), &hash].concat()
    }
}

/// The rows of a topic's records that wait for their time: how many there are, the records, and their idempotency keys.
const WAITING_TOTALS: u8 = 0;
const WAITING_RECORDS: u8 = 1;
const WAITING_KEYS: u8 = 2;

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

/// Bucket in a key of the `dedup` family.
#[must_use]
pub fn dedup_bucket(key: &[u8]) -> Option<u32> {
    key.get(2..6).map(|bucket| u32::from_be_bytes(bucket.try_into().expect("four bytes were taken")))
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

    fn waiting(self, topic: TopicId, row: u8) -> Vec<u8> {
        [&self.0.to_be_bytes()[..], &topic.0.to_be_bytes(), &[row]].concat()
    }

    /// Key of how many records of a topic wait for their time on this shard.
    #[must_use]
    pub fn waiting_totals(self, topic: TopicId) -> Vec<u8> {
        self.waiting(topic, WAITING_TOTALS)
    }

    /// The topic in such a key.
    #[must_use]
    pub fn of_waiting_totals(key: &[u8]) -> Option<TopicId> {
        let (_, rest) = key.split_first_chunk::<2>()?;
        let (topic, row) = rest.split_first_chunk()?;
        (row == [WAITING_TOTALS]).then_some(TopicId(u32::from_be_bytes(*topic)))
    }

    /// Key of a record of this shard that waits for its time.
    ///
    /// # Panics
    /// When it is another shard's.
    #[must_use]
    pub fn waiting_record(self, topic: TopicId, id: ScheduleId) -> Vec<u8> {
        assert_eq!(id.shard, self.0, "a record waits on its own shard");
        let ScheduleId { due_ms, commit, index, .. } = id;
        [&self.waiting(topic, WAITING_RECORDS)[..], &due_ms.to_be_bytes(), &commit.to_be_bytes(), &index.to_be_bytes()].concat()
    }

    /// The records of a topic that wait on this shard, from this one on.
    ///
    /// # Panics
    /// When it is another shard's.
    #[must_use]
    pub fn waiting_from(self, topic: TopicId, first: ScheduleId) -> Range<Vec<u8>> {
        self.waiting_record(topic, first)..successor(&self.waiting(topic, WAITING_RECORDS))
    }

    /// Which record waits under a key.
    #[must_use]
    pub fn of_waiting_record(key: &[u8]) -> Option<ScheduleId> {
        let (shard, rest) = key.split_first_chunk()?;
        let (_, rest) = rest.split_first_chunk::<4>()?;
        let (due_ms, rest) = rest.strip_prefix(&[WAITING_RECORDS])?.split_first_chunk()?;
        let (commit, index) = rest.split_first_chunk()?;
        Some(ScheduleId {
            due_ms: u64::from_be_bytes(*due_ms),
            shard: u16::from_be_bytes(*shard),
            commit: u64::from_be_bytes(*commit),
            index: u32::from_be_bytes(index.try_into().ok()?),
        })
    }

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

    /// An embedder's key.
    #[must_use]
    pub fn saga(self, suffix: &[u8]) -> Vec<u8> {
        let mut key = Vec::with_capacity(2 + suffix.len());
        key.extend_from_slice(&self.0.to_be_bytes());
        key.extend_from_slice(suffix);
        key
    }
}

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
    /// Tag 14, each shard, topic u32, partition u32: how far a partition is compacted, see `log/compaction/row.rs`.
    Compacted(PartitionKey),
}

impl MetaKey {
    const TAG_FORMAT: u8 = 0;
    const TAG_TOPIC: u8 = 1;
    const TAG_GROUP: u8 = 2;
    const TAG_NEXT_IDS: u8 = 3;
    const TAG_CLOCK_MARK: u8 = 4;
    const TAG_POSITIONS: u8 = 5;
    const TAG_COMMIT_NUMBER: u8 = 6;
    const TAG_MESSAGE: u8 = 7;
    const TAG_OUTGOING: u8 = 8;
    const TAG_INCOMING: u8 = 9;
    const TAG_STREAM_GROUP: u8 = 10;
    const TAG_COMPACTED: u8 = 14;
    const TAG_PRODUCER: u8 = 15;
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

    /// Every stream group of the catalogue.
    #[must_use]
    pub fn stream_groups() -> Range<Vec<u8>> {
        vec![0, 0, Self::TAG_STREAM_GROUP]..vec![0, 0, Self::TAG_STREAM_GROUP + 1]
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    prop_compose! {
        fn any_partition()(shard: u16, topic: u32, partition: u32) -> PartitionKey {
            PartitionKey { shard: ShardId(shard), topic: TopicId(topic), partition: PartitionId(partition) }
        }
    }

    /// Numbers that are often equal and often differ in one byte only: where an order by bytes goes wrong.
    fn number() -> impl Strategy<Value = u64> {
        prop_oneof![0..4_u64, (0..64_u32).prop_map(|bit| 1 << bit), (0..64_u32).prop_map(|bit| (1 << bit) - 1), any::<u64>()]
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn log_keys_sort_like_what_they_name_and_give_it_back(
            a in any_partition(), b in any_partition(), same: bool, at_a in number(), at_b in number()
        ) {
            let b = if same { a } else { b };
            prop_assert_eq!(a.log(Offset(at_a)).cmp(&b.log(Offset(at_b))), (a, at_a).cmp(&(b, at_b)));
            prop_assert_eq!(PartitionKey::log_base(&a.log(Offset(at_a))), Some(Offset(at_a)));
            let range = a.log_range(Offset(at_a)..Offset(at_b));
            let key = b.log(Offset(at_a));
            prop_assert_eq!(range.contains(&key), same && at_a < at_b);
        }

        #[test]
        fn time_index_keys_sort_by_time_and_then_by_offset(
            of in any_partition(), at_a: i64, at_b: i64, base_a in number(), base_b in number()
        ) {
            // Times before 1970 count as 1970.
            let named = (at_a.max(0), base_a).cmp(&(at_b.max(0), base_b));
            let (a, b) = (of.time_index(at_a, Offset(base_a)), of.time_index(at_b, Offset(base_b)));
            prop_assert_eq!(a.cmp(&b), named);
            prop_assert_eq!(PartitionKey::time_index_base(&a), Some(Offset(base_a)));
            prop_assert_eq!(PartitionKey::time_index_timestamp(&a), Some(at_a.max(0)));
            prop_assert!(of.all().contains(&a));
        }

        #[test]
        fn a_partition_is_one_range_and_a_shard_is_another(a in any_partition(), b in any_partition(), at in number(), group: u32) {
            for key in [b.log(Offset(at)), b.time_index(5, Offset(at)), GroupKey { partition: b, group: GroupId(group) }.row(7)] {
                prop_assert_eq!(a.all().contains(&key), a == b);
                prop_assert!(b.all().contains(&key));
                prop_assert_eq!(a.shard.topic(a.topic).contains(&key), (a.shard, a.topic) == (b.shard, b.topic));
                prop_assert!(key.starts_with(&b.shard.0.to_be_bytes()));
            }
        }

        #[test]
        fn dedup_keys_of_older_buckets_are_one_range(of in any_partition(), bucket: u32, before: u32, shard: u16, hash: [u8; 16]) {
            let older = ShardId(shard).dedup_before(before);
            prop_assert_eq!(older.contains(&of.dedup(bucket, hash)), of.shard.0 == shard && bucket < before);
            let own = of.shard.dedup_before(before);
            prop_assert_eq!(own.contains(&of.dedup(bucket, hash)), bucket < before);
            prop_assert_eq!(of.shard.dedup_from(before).contains(&of.dedup(bucket, hash)), bucket >= before);
            prop_assert_eq!(dedup_bucket(&of.dedup(bucket, hash)), Some(bucket));
        }

        #[test]
        fn an_embedders_keys_sort_within_their_shard(a: u16, b: u16, left: Vec<u8>, right: Vec<u8>) {
            prop_assert_eq!(ShardId(a).saga(&left).cmp(&ShardId(b).saga(&right)), (a, &left).cmp(&(b, &right)));
        }

        #[test]
        fn the_successor_ends_a_prefix(prefix in proptest::collection::vec(prop_oneof![Just(u8::MAX), any::<u8>()], 0..6), key: Vec<u8>) {
            let end = successor(&prefix);
            let mut inside = prefix.clone();
            inside.extend_from_slice(&key[..key.len().min(24)]);
            prop_assert!(inside < end, "what begins with the prefix is before its successor");
            if key >= prefix && !key.starts_with(&prefix) {
                prop_assert!(key >= end || prefix.iter().all(|byte| *byte == u8::MAX), "what is behind is not");
            }
        }

        #[test]
        fn positions_of_a_shard_are_one_range_and_those_of_a_topic_another(a in any_partition(), b in any_partition()) {
            let key = b.positions();
            prop_assert_eq!(PartitionKey::of_positions(&key), Some(b));
            prop_assert_eq!(a.shard.positions().contains(&key), a.shard == b.shard);
            prop_assert_eq!(a.shard.topic_positions(a.topic).contains(&key), (a.shard, a.topic) == (b.shard, b.topic));
            for other in [MetaKey::ClockMark(b.shard).encode(), MetaKey::CommitNumber(b.shard).encode()] {
                prop_assert!(!b.shard.positions().contains(&other) && b.shard.all().contains(&other));
            }
        }

        #[test]
        fn messages_sort_by_pair_and_sequence_and_give_both_back(
            from: u16, to_a: u16, to_b: u16, same: bool, at_a in number(), at_b in number(), is_embedder: bool
        ) {
            let (channel, other) = match is_embedder {
                true => (Channel::Embedder, Channel::Records),
                false => (Channel::Records, Channel::Embedder),
            };
            let to_b = if same { to_a } else { to_b };
            let message = |to, at| MetaKey::Message(channel, ShardId(from), ShardId(to), at).encode();
            let (a, b) = (message(to_a, at_a), message(to_b, at_b));
            prop_assert_eq!(a.cmp(&b), (to_a, at_a).cmp(&(to_b, at_b)));
            prop_assert_eq!(MetaKey::message(&a), Some((ShardId(to_a), at_a)));
            prop_assert_eq!(a.starts_with(&MetaKey::messages_to(channel, ShardId(from), ShardId(to_b))), to_a == to_b);
            prop_assert!(ShardId(from).messages(channel).contains(&a) && !ShardId(from).messages(other).contains(&a));
            for (key, range) in [
                (MetaKey::Outgoing(channel, ShardId(from), ShardId(to_a)).encode(), ShardId(from).outgoing(channel)),
                (MetaKey::Incoming(channel, ShardId(from), ShardId(to_a)).encode(), ShardId(from).incoming(channel)),
            ] {
                prop_assert_eq!(MetaKey::peer(&key), Some(ShardId(to_a)));
                prop_assert!(range.contains(&key) && !ShardId(from).messages(channel).contains(&key));
            }
        }

        #[test]
        fn a_key_of_a_row_gives_the_group_back(of in any_partition(), group: u32, row: u8) {
            let group = GroupKey { partition: of, group: GroupId(group) };
            prop_assert_eq!(GroupKey::of_row(&group.row(row)), Some((group, row)));
            prop_assert_eq!(GroupKey::of_row(&of.log(Offset(0))), None);
        }

        #[test]
        fn records_that_wait_sort_as_they_are_due_and_lie_with_their_topic(
            of in any_partition(), other: u32, (due_a, due_b) in (number(), number()), (a, b) in (number(), number()), index: u32, hash: [u8; 16]
        ) {
            let (shard, topic) = (of.shard, of.topic);
            let id = |due_ms, commit| ScheduleId { due_ms, shard: shard.0, commit, index };
            let (first, second) = (shard.waiting_record(topic, id(due_a, a)), shard.waiting_record(topic, id(due_b, b)));
            prop_assert_eq!(first.cmp(&second), (due_a, a).cmp(&(due_b, b)));
            prop_assert_eq!(ShardId::of_waiting_record(&first), Some(id(due_a, a)));
            prop_assert_eq!(shard.waiting_from(topic, id(due_b, b)).contains(&first), (due_a, a) >= (due_b, b));
            let (totals, key) = (shard.waiting_totals(topic), of.waiting_key(hash));
            prop_assert_eq!(ShardId::of_waiting_totals(&totals), Some(topic));
            for row in [&totals, &key] {
                prop_assert!(!shard.waiting_from(topic, id(0, 0)).contains(row));
                prop_assert_eq!(ShardId::of_waiting_record(row), None);
            }
            for row in [first, totals, key] {
                prop_assert_eq!(shard.topic(TopicId(other)).contains(&row), topic.0 == other);
                prop_assert!(shard.topic(topic).contains(&row));
            }
        }

        #[test]
        fn producers_of_a_partition_are_one_range_and_give_it_back(a in any_partition(), b in any_partition(), id: u64) {
            let key = b.producer(id);
            prop_assert_eq!(PartitionKey::of_producer(&key), Some((b, id)));
            prop_assert_eq!(a.all().contains(&key), a == b);
            prop_assert_eq!(a.shard.topic(a.topic).contains(&key), (a.shard, a.topic) == (b.shard, b.topic));
        }

        #[test]
        fn catalogue_keys_are_apart(topic: u32, group: u32) {
            let (topic, group) = (MetaKey::Topic(TopicId(topic)).encode(), MetaKey::Group(GroupId(group)).encode());
            for (key, of_topics, of_groups) in
                [(topic, true, false), (group, false, true), (MetaKey::Format.encode(), false, false), (MetaKey::NextIds.encode(), false, false)]
            {
                prop_assert_eq!((MetaKey::topics().contains(&key), MetaKey::groups().contains(&key)), (of_topics, of_groups));
            }
        }
    }

    #[test]
    fn golden_bytes() {
        let partition = PartitionKey { shard: ShardId(1), topic: TopicId(2), partition: PartitionId(3) };
        assert_eq!(partition.log(Offset(4)), b"\0\x01\0\0\0\x02\0\0\0\x03\0\0\0\0\0\0\0\x04");
        assert_eq!(partition.time_index(-1, Offset(4)), b"\0\x01\0\0\0\x02\0\0\0\x03\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x04");
        let group = GroupKey { partition, group: GroupId(5) };
        assert_eq!(group.row(6), b"\0\x01\0\0\0\x02\0\0\0\x03\0\0\0\x05\x06");
        assert_eq!(partition.dedup(6, *b"0123456789abcdef"), b"\0\x01\0\0\0\x06\0\0\0\x02\0\0\0\x030123456789abcdef");
        assert_eq!(partition.producer(4), b"\0\x01\0\0\0\x02\0\0\0\x03\0\0\0\0\0\0\0\x04");
        assert_eq!(ShardId(1).saga(b"own"), b"\0\x01own");
        let id = ScheduleId { due_ms: 3, shard: 1, commit: 4, index: 5 };
        assert_eq!(ShardId(1).waiting_totals(TopicId(2)), b"\0\x01\0\0\0\x02\0");
        let record = b"\0\x01\0\0\0\x02\x01\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0\x04\0\0\0\x05";
        assert_eq!(ShardId(1).waiting_record(TopicId(2), id), record);
        assert_eq!(partition.waiting_key(*b"0123456789abcdef"), b"\0\x01\0\0\0\x02\x02\0\0\0\x030123456789abcdef");
        assert_eq!(MetaKey::Format.encode(), b"\0\0\0");
        assert_eq!(MetaKey::Topic(TopicId(2)).encode(), b"\0\0\x01\0\0\0\x02");
        assert_eq!(MetaKey::Group(GroupId(5)).encode(), b"\0\0\x02\0\0\0\x05");
        assert_eq!(MetaKey::NextIds.encode(), b"\0\0\x03");
        assert_eq!(MetaKey::ClockMark(ShardId(1)).encode(), b"\0\x01\x04");
        assert_eq!(MetaKey::Positions(partition).encode(), b"\0\x01\x05\0\0\0\x02\0\0\0\x03");
        assert_eq!(MetaKey::CommitNumber(ShardId(1)).encode(), b"\0\x01\x06");
        assert_eq!(MetaKey::Message(Channel::Embedder, ShardId(1), ShardId(2), 3).encode(), b"\0\x01\x07\0\x02\0\0\0\0\0\0\0\x03");
        assert_eq!(MetaKey::Outgoing(Channel::Embedder, ShardId(1), ShardId(2)).encode(), b"\0\x01\x08\0\x02");
        assert_eq!(MetaKey::Incoming(Channel::Embedder, ShardId(1), ShardId(2)).encode(), b"\0\x01\x09\0\x02");
        assert_eq!(MetaKey::Message(Channel::Records, ShardId(1), ShardId(2), 3).encode(), b"\0\x01\x0b\0\x02\0\0\0\0\0\0\0\x03");
        assert_eq!(MetaKey::Outgoing(Channel::Records, ShardId(1), ShardId(2)).encode(), b"\0\x01\x0c\0\x02");
        assert_eq!(MetaKey::Incoming(Channel::Records, ShardId(1), ShardId(2)).encode(), b"\0\x01\x0d\0\x02");
        assert_eq!(MetaKey::Producer(5).encode(), b"\0\0\x0f\0\0\0\x05");
        assert_eq!(MetaKey::StreamGroup(GroupId(5)).encode(), b"\0\0\x0a\0\0\0\x05");
        let stream = StreamKey { shard: ShardId(1), group: GroupId(5) };
        assert_eq!(stream.row(b"row"), b"\0\x01\0\0\0\0\0\0\0\x05row");
        assert_eq!(StreamKey::of_row(&stream.row(b"row")), Some((stream, &b"row"[..])));
        assert_eq!(StreamKey::of_row(&group.row(6)), None);
        assert!(stream.all().contains(&stream.row(b"")) && !ShardId(1).topic(TopicId(1)).contains(&stream.row(b"")));
    }

    #[test]
    fn other_bytes_are_no_log_key() {
        assert_eq!(PartitionKey::log_base(b""), None);
        assert_eq!(PartitionKey::log_base(&[0; 17]), None);
        assert_eq!(PartitionKey::log_base(&[0; 19]), None);
        assert_eq!(PartitionKey::time_index_base(&[0; 18]), None);
    }
}
