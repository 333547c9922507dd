//! The embedder's door: commit own keys, records, settled records and messages to other shards together, in one write of one shard.
//!
//! The saga orchestrator uses it: one commit acknowledges a reply, appends the saga's events, and sends the next command. A
//! [`ShardCommit`] is made by the embedder of one shard and can name only that shard's keys and partitions: lane topics have one
//! partition a shard, and the commit's shard says which one is meant.

use crate::audit::Note;
use crate::broker::Broker;
use crate::group::queue::HandOut;
use crate::ids::{GroupKey, ShardId};
use crate::liveness::Liveness;
use crate::log::ReadError;
use crate::log::batch::{EncodeError, NewBatch, Record, StoredRecord};
use crate::log::budget::Budget;
use crate::log::partition::Partition;
use crate::shard::commit::WriteError;
use crate::shard::embedded::{EmbeddedAppend, EmbeddedCommit, SubmitError};
use crate::shard::input::Input;
use crate::shard::outbox::inbox::Inbox;
use crate::shard::queues::request::QueueRequest;
use crate::storage::keys::successor;
use crate::storage::{Direction, Family, Mutation, Storage, StorageError, Visitor};
use crate::topic::{Group, Topic};
use sagamq_api::record::Payload;
use sagamq_api::{GroupName, Offset, PartitionId, TopicName};
use std::sync::Arc;
use tokio::sync::oneshot;

/// Bytes that one read of a lane topic returns at the most.
const READ_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Why something cannot be part of a commit.
#[derive(Clone, Debug, thiserror::Error)]
pub enum EmbedError {
    /// No such topic.
    #[error("there is no topic `{0}`")]
    TopicNotFound(TopicName),
    /// The topic has another number of partitions than there are shards, so no partition of it belongs to the shard alone.
    #[error("topic `{topic}` has {partitions} partitions; a lane topic has one a shard, {shards}")]
    NotALaneTopic {
        /// The topic.
        topic: TopicName,
        /// Its partitions.
        partitions: u32,
        /// The shards.
        shards: u16,
    },
    /// No such group.
    #[error("topic `{topic}` has no group `{group}`")]
    GroupNotFound {
        /// The topic.
        topic: TopicName,
        /// The group.
        group: GroupName,
    },
    /// The record cannot be written as a batch.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

/// The embedder's half of one shard; clones are the same one.
#[derive(Clone, Debug)]
pub struct ShardEmbedder {
    broker: Broker,
    shard: ShardId,
}

/// Changes of one shard that become durable together or not at all.
#[derive(Debug)]
pub struct ShardCommit {
    broker: Broker,
    shard: ShardId,
    mutations: Vec<Mutation>,
    appends: Vec<EmbeddedAppend>,
    settles: Vec<(GroupKey, Offset)>,
    unseen: Vec<(GroupKey, Offset)>,
    postpones: Vec<(GroupKey, Offset, u64)>,
    takes: Vec<(ShardId, u64)>,
    messages: Vec<(ShardId, Vec<u8>)>,
    notes: Vec<Note>,
    is_forced: bool,
}

/// A commit that the shard has taken. Later commits of the same shard become durable after it.
#[derive(Debug)]
pub struct Submitted {
    /// Offsets of the appended records, in the order of the appends. Readers see them once they are durable. `None`: the topic of the record
    /// was deleted after the record was added to the commit, so there is no such record; the rest of the commit stands.
    pub offsets: Vec<Option<Offset>>,
    durable: oneshot::Receiver<Result<(), WriteError>>,
    liveness: Liveness,
}

impl Submitted {
    /// Waits until the commit is durable; of one that is [unforced](ShardCommit::unforced), until it is written.
    ///
    /// # Errors
    /// When the write failed; the commit may have been stored all the same, and nothing more will be written.
    pub async fn durable(self) -> Result<(), WriteError> {
        self.durable.await.unwrap_or_else(|_| Err(WriteError::lost(&self.liveness)))
    }
}

impl Broker {
    /// The embedder's door to a shard.
    ///
    /// # Panics
    /// When there is no such shard.
    #[must_use]
    pub fn embedder(&self, shard: u16) -> ShardEmbedder {
        assert!(shard < self.shards(), "shard {shard} of {}", self.shards());
        ShardEmbedder { broker: self.clone(), shard: ShardId(shard) }
    }
}

impl ShardCommit {
    /// Sets a key of the embedder's own.
    pub fn put(&mut self, key: &[u8], value: Vec<u8>) {
        self.mutations.push(Mutation::Put { family: Family::Saga, key: self.shard.saga(key), value: value.into() });
    }

    /// Writes down who made the change that this is: an entry of the audit log, on this shard. What is nothing changes nothing.
    pub fn note(&mut self, note: Note) {
        self.notes.extend(Some(note).filter(|note| !note.is_nothing()));
    }

    /// Removes a key of the embedder's own.
    pub fn delete(&mut self, key: &[u8]) {
        self.mutations.push(Mutation::Delete { family: Family::Saga, key: self.shard.saga(key) });
    }

    /// Appends a record to this shard's partition of a lane topic.
    ///
    /// # Errors
    /// When there is no such lane topic, or the record cannot be encoded.
    pub fn append(&mut self, topic: &TopicName, payload: Payload) -> Result<(), EmbedError> {
        self.add(topic, None, payload)
    }

    /// As [`ShardCommit::append`], for the consumers of a group of the topic: one that [waits](Broker::waiting) gets the record leased
    /// with this commit, if nothing older waits for it.
    ///
    /// # Errors
    /// When there is no such lane topic, or the record cannot be encoded.
    pub fn append_for(&mut self, topic: &TopicName, group: &GroupName, payload: Payload) -> Result<(), EmbedError> {
        let group = lane_topic(&self.broker, topic)?.group(group);
        self.add(topic, group, payload)
    }

    fn add(&mut self, topic: &TopicName, group: Option<Arc<Group>>, payload: Payload) -> Result<(), EmbedError> {
        let partition = lane_partition(&self.broker, self.shard, topic)?;
        let timestamp_ms = i64::try_from(self.broker.clock().now_ms()).expect("the year is below 292 million");
        let records = [Record { timestamp_ms, payload }];
        let batch = NewBatch::encode(&records)?;
        let [Record { payload, .. }] = records;
        // The offset is given by the shard.
        let group = group.map(|group| (group, StoredRecord { offset: Offset(0), timestamp_ms, payload }));
        self.appends.push(EmbeddedAppend { partition, batch, group });
        Ok(())
    }

    /// Settles a record of this shard's partition of a lane topic for a group, whoever has it leased.
    ///
    /// # Errors
    /// When there is no such lane topic or group.
    pub fn settle(&mut self, topic: &TopicName, group: &GroupName, offset: Offset) -> Result<(), EmbedError> {
        self.settles.push((lane_queue(&self.broker, self.shard, topic, group)?, offset));
        Ok(())
    }

    /// As [`ShardCommit::settle`], if the record was never handed out; else nothing of this commit happens, and
    /// [`ShardEmbedder::submit`] says so.
    ///
    /// # Errors
    /// When there is no such lane topic or group.
    pub fn settle_unseen(&mut self, topic: &TopicName, group: &GroupName, offset: Offset) -> Result<(), EmbedError> {
        let key = lane_queue(&self.broker, self.shard, topic, group)?;
        self.unseen.push((key, offset));
        self.settles.push((key, offset));
        Ok(())
    }

    /// Makes a record of this shard's partition of a lane topic due again at `due_ms`, in milliseconds since 1970, whoever has it
    /// leased: its consumer asked for that. Nothing happens if it is settled or was never handed out.
    ///
    /// # Errors
    /// When there is no such lane topic or group.
    pub fn postpone(&mut self, topic: &TopicName, group: &GroupName, offset: Offset, due_ms: u64) -> Result<(), EmbedError> {
        self.postpones.push((lane_queue(&self.broker, self.shard, topic, group)?, offset, due_ms));
        Ok(())
    }

    /// Sends a message to a shard, which may be this one. It gets the next number of its pair when the commit has its place, and is in the
    /// receiver's [`Inbox`] when the commit is durable; the commit is always synced. It is kept until it was [taken](ShardCommit::take).
    ///
    /// # Panics
    /// When there is no such shard.
    pub fn send(&mut self, to: u16, body: Vec<u8>) {
        assert!(to < self.broker.shards(), "shard {to} of {}", self.broker.shards());
        self.messages.push((ShardId(to), body));
    }

    /// Takes a message of another shard: it never comes again, and what follows from it is in this commit, which is always synced. If it is not
    /// the next one of its sender, nothing of this commit happens, and [`ShardEmbedder::submit`] says so.
    ///
    /// # Panics
    /// When there is no such shard.
    pub fn take(&mut self, from: u16, sequence: u64) {
        assert!(from < self.broker.shards(), "shard {from} of {}", self.broker.shards());
        self.takes.push((ShardId(from), sequence));
    }

    /// Asks for no sync of its own: the commit survives the death of the process, and a power cut takes it unless a later commit, of
    /// whatever shard, was synced. Commits stay in their order: none survives without those of its shard before it. One that appends
    /// records or has to do with messages is synced all the same, because others see only what is synced.
    pub fn unforced(&mut self) {
        self.is_forced = false;
    }

    /// Bytes of the records and of the embedder's own keys in it.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.mutations.iter().map(Mutation::len).sum::<usize>() + self.appends.iter().map(|append| append.batch.len()).sum::<usize>()
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.mutations.is_empty()
            && self.appends.is_empty()
            && self.settles.is_empty()
            && self.postpones.is_empty()
            && self.takes.is_empty()
            && self.messages.is_empty()
            && self.notes.is_empty()
    }
}

impl ShardEmbedder {
    /// Number of the shard.
    #[must_use]
    pub fn shard(&self) -> u16 {
        self.shard.0
    }

    /// Whether there is room for what begins something new; see [`Broker::require_room`]. Commits are taken all the same.
    ///
    /// # Errors
    /// [`WriteError::DiskLow`].
    pub fn require_room(&self) -> Result<(), WriteError> {
        self.broker.require_room()
    }

    /// An empty commit of this shard.
    #[must_use]
    pub fn begin(&self) -> ShardCommit {
        ShardCommit {
            broker: self.broker.clone(),
            shard: self.shard,
            mutations: Vec::new(),
            appends: Vec::new(),
            settles: Vec::new(),
            unseen: Vec::new(),
            postpones: Vec::new(),
            takes: Vec::new(),
            messages: Vec::new(),
            notes: Vec::new(),
            is_forced: true,
        }
    }

    /// Hands a commit to the shard. When this returns the commit has its place in the shard's order and its records have their
    /// offsets, but nothing is durable yet: wait for [`Submitted::durable`] before anything outside hears of it.
    ///
    /// # Errors
    /// When the broker shuts down ([`WriteError::ShuttingDown`]), a record that must be unseen was handed out, or a message is not the next
    /// one: nothing of the commit is stored then. After the death of the shard it may be.
    pub async fn submit(&self, commit: ShardCommit) -> Result<Submitted, SubmitError> {
        assert_eq!(commit.shard, self.shard, "a commit is submitted to the shard that began it");
        let (placed, offsets) = oneshot::channel();
        let (durable_sender, durable) = oneshot::channel();
        let ShardCommit { mutations, appends, settles, unseen, postpones, takes, messages, notes, is_forced, .. } = commit;
        let embedded = EmbeddedCommit {
            mutations,
            appends,
            settles,
            unseen,
            postpones,
            takes,
            messages,
            notes,
            is_forced,
            placed,
            durable: durable_sender,
        };
        let input = Input::Embedded(embedded);
        self.broker.0.shard(self.shard).send(input).await?;
        let liveness = self.broker.liveness().clone();
        let offsets = offsets.await.map_err(|_| WriteError::lost(&liveness))??;
        Ok(Submitted { offsets, durable, liveness })
    }

    /// From now on, a group of a lane topic marks in this shard when a record is first handed out; the mark is synced before that,
    /// in the commit of its lease. To be said at every start, before consumers come.
    ///
    /// # Errors
    /// When there is no such lane topic or group.
    pub fn mark_hand_outs(&self, topic: &TopicName, group: &GroupName) -> Result<(), EmbedError> {
        let group = lane_group(&self.broker, topic, group)?;
        group.queue(usize::from(self.shard.0)).view().mark_hand_outs();
        Ok(())
    }

    /// From now on a group of a lane topic gets nothing in this shard, or gets what there is again. Kept in memory only: to be said at every
    /// start, before consumers come.
    ///
    /// # Errors
    /// When there is no such lane topic or group.
    pub fn hold(&self, topic: &TopicName, group: &GroupName, is_held: bool) -> Result<(), EmbedError> {
        let group = lane_group(&self.broker, topic, group)?;
        let index = usize::from(self.shard.0);
        group.queue(index).view().hold(is_held);
        if !is_held {
            group.work.mark(index);
            group.work.wake();
        }
        Ok(())
    }

    /// Whether these records of lane topics were ever handed out to the group, in their order. What cannot be asked, because its topic or
    /// group is gone, is [`HandOut::Unknown`]. An answer holds until the shard gives the record out: what depends on
    /// [`HandOut::Never`] is committed with [`ShardCommit::settle_unseen`].
    ///
    /// # Errors
    /// When the broker shuts down.
    pub async fn hand_outs(&self, group: &GroupName, records: &[(TopicName, Offset)]) -> Result<Vec<HandOut>, WriteError> {
        let keys: Vec<_> = records.iter().map(|(topic, _)| lane_queue(&self.broker, self.shard, topic, group).ok()).collect();
        let asked = keys.iter().zip(records).filter_map(|(key, (_, offset))| key.map(|key| (key, *offset))).collect();
        let mut known =
            self.broker.0.shard(self.shard).ask(|reply| Input::Queue(QueueRequest::HandOuts { asked, reply })).await?.into_iter();
        Ok(keys.iter().map(|key| key.and_then(|_| known.next()).unwrap_or(HandOut::Unknown)).collect())
    }

    /// What other shards have sent to this one.
    #[must_use]
    pub fn inbox(&self) -> Inbox {
        Inbox::new(Arc::clone(&self.broker.0.storage), Arc::clone(&self.broker.0.marks), self.shard)
    }

    /// The written value of a key of the embedder's own. Blocks on storage.
    ///
    /// # Errors
    /// When storage fails.
    pub fn get(&self, key: &[u8]) -> Result<Option<bytes::Bytes>, StorageError> {
        self.broker.0.storage.get(Family::Saga, &self.shard.saga(key))
    }

    /// Visits the embedder's own written keys that begin with `prefix` and are not below `from`, in order, without the shard's
    /// part. Blocks on storage.
    ///
    /// # Errors
    /// When storage fails.
    pub fn scan(&self, prefix: &[u8], from: Option<&[u8]>, visit: Visitor<'_>) -> Result<(), StorageError> {
        let prefix = self.shard.saga(prefix);
        let start = from.map_or_else(|| prefix.clone(), |from| self.shard.saga(from).max(prefix.clone()));
        let end = successor(&prefix);
        self.broker.0.storage.scan(Family::Saga, &start..&end, Direction::Forward, &mut |key, value| {
            visit(key.get(2..).expect("keys of the family begin with the shard"), value)
        })
    }

    /// As [`ShardEmbedder::scan`], over the keys from `range.start` on and below `range.end`, the last one first. Blocks on storage.
    ///
    /// # Errors
    /// When storage fails.
    pub fn scan_back(&self, range: core::ops::Range<&[u8]>, visit: Visitor<'_>) -> Result<(), StorageError> {
        let (start, end) = (self.shard.saga(range.start), self.shard.saga(range.end));
        if start >= end {
            return Ok(());
        }
        self.broker.0.storage.scan(Family::Saga, &start..&end, Direction::Backward, &mut |key, value| {
            visit(key.get(2..).expect("keys of the family begin with the shard"), value)
        })
    }

    /// The embedder needs no record of this shard's partition below this offset any more, so the topic's retention may take it. Of a topic
    /// that the embedder [owns](Broker::own_topic), and none of whose groups it owns, nothing is taken before that is said. Kept in memory
    /// only: to be said after every start.
    ///
    /// # Errors
    /// When there is no such lane topic.
    pub fn release(&self, topic: &TopicName, below: Offset) -> Result<(), EmbedError> {
        lane_partition(&self.broker, self.shard, topic)?.release(below);
        Ok(())
    }

    /// Durable records of this shard's partition of a lane topic, from `from` on.
    ///
    /// # Errors
    /// When there is no such lane topic, or the records cannot be read.
    pub async fn read(
        &self,
        topic: &TopicName,
        from: Offset,
        records_max: usize,
    ) -> Result<Result<Vec<StoredRecord>, ReadError>, EmbedError> {
        let partition = lane_partition(&self.broker, self.shard, topic)?;
        Ok(self.broker.read_from(&partition, from, Budget::unshared(records_max, READ_BYTES_MAX)).await.0)
    }

    /// Waits until this shard's partition of a lane topic has a durable record at `from`. `false`: the broker shuts down instead.
    ///
    /// # Errors
    /// When there is no such lane topic.
    pub async fn wait_for(&self, topic: &TopicName, from: Offset) -> Result<bool, EmbedError> {
        let partition = lane_partition(&self.broker, self.shard, topic)?;
        self.broker.wait_for_record(&partition, from, core::time::Duration::MAX).await;
        Ok(!self.broker.is_shutting_down())
    }
}

fn lane_queue(broker: &Broker, shard: ShardId, topic: &TopicName, group: &GroupName) -> Result<GroupKey, EmbedError> {
    Ok(lane_group(broker, topic, group)?.queue(usize::from(shard.0)).key())
}

fn lane_group(broker: &Broker, topic: &TopicName, group: &GroupName) -> Result<Arc<Group>, EmbedError> {
    let found = lane_topic(broker, topic)?.group(group);
    found.ok_or_else(|| EmbedError::GroupNotFound { topic: topic.clone(), group: group.clone() })
}

fn lane_topic(broker: &Broker, topic: &TopicName) -> Result<Arc<Topic>, EmbedError> {
    let found = broker.0.catalog.topic(topic).ok_or_else(|| EmbedError::TopicNotFound(topic.clone()))?;
    let partitions = found.partitions.count();
    if partitions != u32::from(broker.shards()) {
        return Err(EmbedError::NotALaneTopic { topic: topic.clone(), partitions, shards: broker.shards() });
    }
    Ok(found)
}

fn lane_partition(broker: &Broker, shard: ShardId, topic: &TopicName) -> Result<Arc<Partition>, EmbedError> {
    let found = lane_topic(broker, topic)?;
    let partition = found.partition(PartitionId(u32::from(shard.0)));
    Ok(Arc::clone(partition.expect("a lane topic has a partition for every shard")))
}
