//! What a shard finds of itself at open: a function of storage and the shard alone. It changes nothing.

use crate::dedup::sequence::ProducerState;
use crate::dedup::{Buckets, producer_row};
use crate::group::queue::{DecodeError, QueueRow, StoredQueue, StoredRows};
use crate::group::stream::{StoredStream, StreamRow};
use crate::ids::{GroupId, GroupKey, PartitionKey, ShardId, StreamKey, TopicId};
use crate::log::partition::record_bytes;
use crate::log::positions::Positions;
use crate::log::recovery::{RecoveryError, newest_batch};
use crate::shard::commit::LastCommit;
use crate::shard::log::schedules;
use crate::shard::log::schedules::find::FindSchedulesError;
use crate::shard::log::schedules::row::Totals;
use crate::shard::outbox::find::{FindError, FoundOutbox};
use crate::storage::keys::{CLOCK_MARK_STEP_MS, Channel, MetaKey};
use crate::storage::{Direction, Family, Storage, StorageError};
use core::ops::{ControlFlow, Range};
use sagamq_api::Offset;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Why a shard cannot be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ShardError {
    /// A partition cannot be opened.
    #[error(transparent)]
    Partition(#[from] RecoveryError),
    /// The state of a group cannot be read.
    #[error("state of group {} in partition {}: {reason}", key.group.0, key.partition.partition)]
    Group {
        /// The group.
        key: GroupKey,
        /// What is wrong.
        reason: DecodeError,
    },
    /// The state of a stream group cannot be read.
    #[error("state of stream group {}: {reason}", group.0)]
    Stream {
        /// The group.
        group: GroupId,
        /// What is wrong.
        reason: DecodeError,
    },
    /// Something that was stored contradicts the rest.
    #[error("{0}")]
    Damaged(String),
    /// The records that wait for their time cannot be taken over.
    #[error(transparent)]
    Schedules(#[from] FindSchedulesError),
    /// The messages to or from other shards cannot be taken over.
    #[error(transparent)]
    Outbox(#[from] FindError),
    /// The device failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// A partition that has a row of its own.
#[derive(Debug)]
pub(crate) struct FoundLog {
    pub(crate) key: PartitionKey,
    pub(crate) positions: Positions,
    /// Mean bytes of a record of its newest batch, if there is one.
    pub(crate) record_bytes: Option<u64>,
}

/// What a shard finds of itself.
#[derive(Debug)]
pub(crate) struct FoundShard {
    pub(crate) id: ShardId,
    /// Number of its last commit; 0 if it has made none.
    pub(crate) last_commit: u64,
    /// No time that it has stored lies behind this one.
    pub(crate) time_ms: u64,
    /// The topics that have something on the shard.
    pub(crate) topics: BTreeSet<TopicId>,
    pub(crate) logs: Vec<FoundLog>,
    /// The groups that have a state of their own; all others stand at their beginning.
    pub(crate) queues: HashMap<GroupKey, StoredQueue>,
    /// What is stored of the stream groups whose home it is.
    pub(crate) streams: HashMap<GroupId, StoredStream>,
    /// Where there are idempotency entries.
    pub(crate) buckets: Buckets,
    /// Its messages to and from other shards.
    pub(crate) outbox: FoundOutbox,
    /// Records on their way to and from other shards.
    pub(crate) relays: FoundOutbox,
    /// How many records of which topics wait for their time.
    pub(crate) waiting: BTreeMap<TopicId, Totals>,
    /// What partitions know of producers.
    pub(crate) producers: Vec<FoundProducer>,
}

/// Finds what a shard has stored, and refuses what cannot be.
pub(crate) fn recover(storage: &dyn Storage, id: ShardId) -> Result<FoundShard, ShardError> {
    let LastCommit { number: last_commit, log_ends } = last_commit(storage, id)?;
    let mark_ms = number(storage, MetaKey::ClockMark(id), "its clock mark")?;
    let damaged = |what: &str| ShardError::Damaged(format!("shard {}: {what}", id.0));
    let mut logs = Vec::new();
    let read = |key: &[u8], row: &[u8]| (PartitionKey::of_positions(key), Positions::decode(row));
    for (key, row) in rows(storage, Family::Meta, &id.positions(), read)? {
        let key = key.ok_or_else(|| damaged("the positions of something that is no partition"))?;
        let (positions, commit) = row.map_err(|reason| RecoveryError::Positions { key, reason })?;
        if commit > last_commit {
            return Err(damaged(&format!("a row of commit {commit} is there, but its last commit is {last_commit}")));
        }
        let (positions, newest) = newest_batch(storage, key, positions)?;
        logs.push(FoundLog {
            key,
            positions,
            record_bytes: newest.as_ref().map(|batch| record_bytes(batch) / u64::from(batch.records_count()).max(1)),
        });
    }
    let StoredGroups { queues, streams } = groups(storage, id)?;
    let queues = decode_queues(queues, &logs)?;
    let outbox = FoundOutbox::find(storage, Channel::Embedder, id)?;
    let relays = FoundOutbox::find(storage, Channel::Records, id)?;
    let waiting = schedules::find::find(storage, id)?;
    let producers = producers(storage, id, &logs)?;
    if last_commit == 0
        && (!waiting.is_empty()
            || mark_ms.is_some()
            || !queues.is_empty()
            || !streams.is_empty()
            || !outbox.is_empty()
            || !relays.is_empty()
            || !producers.is_empty())
    {
        return Err(damaged("it has rows, but no commit"));
    }
    // A newest batch that is gone is seen by nothing else.
    let found_ends = logs.iter().fold(0, |ends: u64, log| ends.wrapping_add(log.positions.log_end.0));
    if found_ends != log_ends {
        return Err(damaged(&format!("the ends of its logs make {found_ends}, but {log_ends} with its last commit: records are missing")));
    }
    Ok(FoundShard {
        id,
        last_commit,
        time_ms: mark_ms.map_or(0, |mark_ms| mark_ms.saturating_add(CLOCK_MARK_STEP_MS)),
        topics: logs
            .iter()
            .map(|log| log.key.topic)
            .chain(queues.keys().map(|key| key.partition.topic))
            .chain(waiting.keys().copied())
            .chain(producers.iter().map(|((key, _), _)| key.topic))
            .collect(),
        logs,
        queues,
        streams,
        buckets: Buckets::load(storage, id)?,
        outbox,
        relays,
        waiting,
        producers,
    })
}

/// A producer in a partition, by its id, and what is known of it.
pub(crate) type FoundProducer = ((PartitionKey, u64), ProducerState);

/// What is known of producers: none of their batches lies behind the end of its log.
fn producers(storage: &dyn Storage, id: ShardId, logs: &[FoundLog]) -> Result<Vec<FoundProducer>, ShardError> {
    let ends: HashMap<PartitionKey, Offset> = logs.iter().map(|log| (log.key, log.positions.log_end)).collect();
    let read = |key: &[u8], row: &[u8]| PartitionKey::of_producer(key).zip(producer_row::decode(row));
    let rows = rows(storage, Family::Producer, &id.all(), read)?;
    rows.into_iter()
        .map(|row| {
            let (of, state) =
                row.ok_or_else(|| ShardError::Damaged(format!("shard {}: what is known of a producer cannot be read", id.0)))?;
            let (partition, end) = (of.0, ends.get(&of.0).copied().unwrap_or(Offset(0)));
            if state.end() > end {
                return Err(ShardError::Damaged(format!(
                    "producer {} has stored up to {} in partition {} of topic {}, but the log ends at {end}",
                    of.1,
                    state.end(),
                    partition.partition,
                    partition.topic.0
                )));
            }
            Ok((of, state))
        })
        .collect()
}

/// The rows of the `group` family, by group.
#[derive(Default)]
struct StoredGroups {
    queues: HashMap<GroupKey, StoredRows>,
    streams: HashMap<GroupId, StoredStream>,
}

fn groups(storage: &dyn Storage, id: ShardId) -> Result<StoredGroups, ShardError> {
    let mut found = StoredGroups::default();
    let mut failure = None;
    let range = id.all();
    storage.scan(Family::Group, &range.start..&range.end, Direction::Forward, &mut |key, value| match found.add(id, key, value) {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => {
            failure = Some(error);
            ControlFlow::Break(())
        }
    })?;
    if let Some(error) = failure {
        return Err(error);
    }
    for (&group, stream) in &found.streams {
        stream.check().map_err(|reason| ShardError::Stream { group, reason })?;
    }
    Ok(found)
}

impl StoredGroups {
    fn add(&mut self, id: ShardId, key: &[u8], value: &[u8]) -> Result<(), ShardError> {
        let unknown = || ShardError::Damaged(format!("shard {}: the row {key:02x?} is no part of a group's state", id.0));
        if let Some((StreamKey { group, .. }, row)) = StreamKey::of_row(key) {
            let row = StreamRow::of(row).ok_or_else(unknown)?;
            return self.streams.entry(group).or_default().add(row, value).map_err(|reason| ShardError::Stream { group, reason });
        }
        let (key, row) = GroupKey::of_row(key).and_then(|(key, row)| Some((key, QueueRow::of(row)?))).ok_or_else(unknown)?;
        self.queues.entry(key).or_default().add(row, value);
        Ok(())
    }
}

fn decode_queues(rows: HashMap<GroupKey, StoredRows>, logs: &[FoundLog]) -> Result<HashMap<GroupKey, StoredQueue>, ShardError> {
    let ends: HashMap<PartitionKey, Offset> = logs.iter().map(|log| (log.key, log.positions.log_end)).collect();
    let mut queues = HashMap::with_capacity(rows.len());
    for (key, rows) in rows {
        let queue = rows.queue().map_err(|reason| ShardError::Group { key, reason })?;
        let (at, end) = (queue.state.next_fresh(), ends.get(&key.partition).copied().unwrap_or(Offset(0)));
        if at > end {
            let (group, partition) = (key.group.0, key.partition.partition);
            return Err(ShardError::Damaged(format!("group {group} in partition {partition} stands at {at}, but the log ends at {end}")));
        }
        queues.insert(key, queue);
    }
    Ok(queues)
}

fn rows<T>(
    storage: &dyn Storage,
    family: Family,
    range: &Range<Vec<u8>>,
    read: impl Fn(&[u8], &[u8]) -> T,
) -> Result<Vec<T>, StorageError> {
    let mut rows = Vec::new();
    storage.scan(family, &range.start..&range.end, Direction::Forward, &mut |key, value| {
        rows.push(read(key, value));
        ControlFlow::Continue(())
    })?;
    Ok(rows)
}

fn last_commit(storage: &dyn Storage, id: ShardId) -> Result<LastCommit, ShardError> {
    let Some(row) = storage.get(Family::Meta, &MetaKey::CommitNumber(id).encode())? else { return Ok(LastCommit::default()) };
    let unknown = || ShardError::Damaged(format!("shard {}: the number of its last commit cannot be read", id.0));
    LastCommit::decode(&row).ok_or_else(unknown)
}

fn number(storage: &dyn Storage, key: MetaKey, what: &str) -> Result<Option<u64>, ShardError> {
    let Some(bytes) = storage.get(Family::Meta, &key.encode())? else { return Ok(None) };
    let number = bytes[..].try_into().map_err(|_| ShardError::Damaged(format!("{what} cannot be read")))?;
    Ok(Some(u64::from_be_bytes(number)))
}
