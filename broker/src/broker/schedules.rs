//! Records that wait for their time: list those of a topic as they are due, and cancel one.

use super::parameter::{ParameterError, in_range};
use super::topics::TopicError;
use crate::broker::Broker;
use crate::ids::{ShardId, TopicId};
use crate::log::batch::Batch;
use crate::shard::commit::WriteError;
use crate::shard::input::Input;
use crate::shard::log::LogOp;
use crate::shard::log::append_error::AppendError;
use crate::shard::log::cancel::CancelRequest;
use crate::shard::log::schedules::row::{Row, Totals};
use crate::storage::{Direction, Family, Storage, StorageError};
use bytes::Bytes;
use core::ops::ControlFlow;
use sagamq_api::audit::AuditOutcome;
use sagamq_api::limits::{PAGE_ROWS_DEFAULT, PAGE_ROWS_MAX, RESPONSE_BYTES_MAX};
use sagamq_api::schedule::ScheduleQuery;
use sagamq_api::{PartitionId, ScheduleId, TopicName};

/// Why nothing was done with records that wait.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ScheduleError {
    /// No such topic.
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// A parameter is out of range.
    #[error(transparent)]
    Parameter(#[from] ParameterError),
    /// No record waits under this id.
    #[error(
        "no record of topic `{topic}` waits as schedule {schedule}: it was appended when it was due, it was cancelled, or it never was; \
         if this request was repeated, the first one may have cancelled it"
    )]
    NotFound {
        /// The topic.
        topic: TopicName,
        /// What was asked for.
        schedule: ScheduleId,
    },
    /// The rows could not be read.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The shard refused, or the write failed.
    #[error(transparent)]
    Append(#[from] AppendError),
}

/// Records that wait.
#[derive(Clone, Debug)]
pub struct Schedules {
    /// In the order in which they are due.
    pub schedules: Vec<Schedule>,
    /// Where to go on, if there are more.
    pub next_cursor: Option<ScheduleId>,
}

/// A record that waits.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// Names it, and says when it is due.
    pub id: ScheduleId,
    /// The partition that it will be appended to.
    pub partition: PartitionId,
    /// When it arrived, in milliseconds since 1970.
    pub arrived_ms: u64,
    /// Its key.
    pub key: Option<Bytes>,
    /// Bytes of key, value and headers.
    pub bytes: u32,
}

impl Broker {
    /// The topic's records that wait, in the order in which they are due: a page of those that are durable.
    ///
    /// # Errors
    /// When there is no such topic, a parameter is out of range, or storage fails.
    pub async fn schedules(&self, topic: &TopicName, query: &ScheduleQuery) -> Result<Schedules, ScheduleError> {
        let topic = self.topic(topic)?;
        let max = in_range("max_records", query.max_records.unwrap_or(PAGE_ROWS_DEFAULT), 1, PAGE_ROWS_MAX)? as usize;
        let after = query.cursor.as_deref().map(str::parse).transpose();
        let after = after.map_err(|_| ParameterError::new("`cursor` is not one that an answer gave"))?;
        let (storage, id) = (std::sync::Arc::clone(&self.0.storage), topic.id);
        let shards: Vec<ShardId> = self.0.shards_of(topic.partitions.len()).collect();
        Ok(self.blocking(move || read_page(&*storage, &shards, id, after, max)).await?)
    }

    /// Takes a record away before it is due: it is never appended, and its idempotency key is free again. Durable when it returns.
    ///
    /// # Errors
    /// When there is no such topic, no record waits under this id, or the write fails.
    pub async fn cancel_schedule(&self, topic: &TopicName, schedule: ScheduleId) -> Result<(), ScheduleError> {
        let topic = self.topic(topic)?;
        let not_found = || ScheduleError::NotFound { topic: topic.name.clone(), schedule };
        if schedule.shard >= self.shards() {
            return Err(not_found());
        }
        let shard = ShardId(schedule.shard);
        if let Some(reason) = self.0.write_stops.reason(shard) {
            return Err(AppendError::from(WriteError::Stopped(reason.to_owned())).into());
        }
        let note = self.note(AuditOutcome::Deleted, &[("topic", &topic.name), ("schedule", &schedule)]);
        let cancel = |reply| Input::Log(LogOp::Cancel(CancelRequest { topic: std::sync::Arc::clone(&topic), id: schedule, note, reply }));
        let was_there = self.0.shard(shard).ask(cancel).await.map_err(AppendError::from)??;
        if was_there { Ok(()) } else { Err(not_found()) }
    }
}

/// The first ids of all shards behind a place, and then their rows, as many as fit an answer.
fn read_page(
    storage: &dyn Storage,
    shards: &[ShardId],
    topic: TopicId,
    after: Option<ScheduleId>,
    max: usize,
) -> Result<Schedules, StorageError> {
    let mut ids = Vec::new();
    for &shard in shards {
        // One more than asked for says whether there are more.
        ids.extend(first_ids(storage, shard, topic, after, max + 1)?);
    }
    ids.sort_unstable();
    let (mut schedules, mut bytes, mut last) = (Vec::new(), 0, None);
    for id in ids {
        if schedules.len() == max || bytes > RESPONSE_BYTES_MAX as usize {
            return Ok(Schedules { schedules, next_cursor: last });
        }
        last = Some(id);
        // It may have been appended or cancelled since.
        let Some(row) = storage.get(Family::Schedule, &ShardId(id.shard).waiting_record(topic, id))? else { continue };
        let schedule = read_row(id, &row).ok_or_else(|| StorageError::Corrupt(format!("record {id} that waits cannot be read")))?;
        bytes += schedule.key.as_ref().map_or(0, Bytes::len);
        schedules.push(schedule);
    }
    Ok(Schedules { schedules, next_cursor: None })
}

fn first_ids(
    storage: &dyn Storage,
    shard: ShardId,
    topic: TopicId,
    after: Option<ScheduleId>,
    max: usize,
) -> Result<Vec<ScheduleId>, StorageError> {
    let Some(totals) = storage.get(Family::Schedule, &shard.waiting_totals(topic))? else { return Ok(Vec::new()) };
    let totals = Totals::decode(&totals, shard.0)
        .ok_or_else(|| StorageError::Corrupt(format!("how many records of topic {} wait cannot be read", topic.0)))?;
    // Ids sort by time and then by shard, so of the moment of the last one only shards behind its own have any left. Before the first that waits lie
    // only the remains of those that were appended.
    let at = |due_ms| ScheduleId { due_ms, shard: shard.0, commit: 0, index: 0 };
    let from = match after {
        None => at(0),
        Some(after) if after.shard == shard.0 => after,
        Some(after) if after.shard < shard.0 => at(after.due_ms),
        Some(after) => at(after.due_ms.saturating_add(1)),
    };
    let range = shard.waiting_from(topic, from.max(totals.first));
    let (mut ids, mut fault) = (Vec::new(), None);
    storage.scan(Family::Schedule, &range.start..&range.end, Direction::Forward, &mut |key, _| {
        match ShardId::of_waiting_record(key) {
            None => fault = Some(format!("{key:02x?} is no record that waits")),
            Some(id) if after.is_some_and(|after| id <= after) => return ControlFlow::Continue(()),
            Some(id) => ids.push(id),
        }
        if fault.is_some() || ids.len() == max { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    fault.map_or(Ok(ids), |reason| Err(StorageError::Corrupt(reason)))
}

fn read_row(id: ScheduleId, row: &Bytes) -> Option<Schedule> {
    let Row { partition, arrived_ms, record_bytes, batch, .. } = Row::decode(row)?;
    let record = Batch::parse(batch).ok()?.records().ok()?.pop()?;
    // A copy: the rest of the record need not stay with it.
    let key = record.payload.key.map(|key| Bytes::copy_from_slice(&key));
    Some(Schedule { id, partition, arrived_ms, key, bytes: record_bytes })
}
