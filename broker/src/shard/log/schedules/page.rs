//! A page of records that are due, read from storage in their order: what is appended with one commit.

use super::row::Row;
use crate::ids::{ShardId, TopicId};
use crate::log::batch::{Batch, Record};
use crate::storage::{Direction, Family, Storage, StorageError};
use bytes::Bytes;
use core::ops::ControlFlow;
use sagamq_api::{PartitionId, ScheduleId};

/// Records of a page: bounds what one commit waits for.
pub(super) const PAGE_RECORDS_MAX: usize = 1_000;

/// Bytes of a page, as far as records allow.
const PAGE_BYTES_MAX: usize = 1024 * 1024;

/// What to read.
pub(super) struct Wanted<'a> {
    pub(super) shard: ShardId,
    pub(super) topic: TopicId,
    /// Number of its partitions.
    pub(super) partitions: u32,
    /// No record waits before this place.
    pub(super) from: ScheduleId,
    pub(super) now_ms: u64,
    /// The first one that storage may not show yet: none behind it is taken up before it.
    pub(super) unseen: Option<ScheduleId>,
    /// Those that storage may still show and that are gone.
    pub(super) is_gone: &'a dyn Fn(ScheduleId) -> bool,
}

/// A record that is due.
#[derive(Debug)]
pub(in crate::shard::log) struct DueRecord {
    pub(in crate::shard::log) id: ScheduleId,
    pub(in crate::shard::log) row: Row,
    /// Bytes of its row.
    pub(super) row_bytes: u64,
    /// What is appended: its time is that of its appending.
    pub(in crate::shard::log) record: Record,
}

/// What was read.
pub(super) struct Read {
    pub(super) records: Vec<DueRecord>,
    /// Those that are due and cannot be read, each with the reason: they keep no other from being appended.
    pub(super) damaged: Vec<(ScheduleId, String)>,
    /// No other record waits before this place; `None`: no other one waits.
    pub(super) next: Option<ScheduleId>,
}

/// Reads the next page.
pub(super) fn read(storage: &dyn Storage, wanted: &Wanted<'_>) -> Result<Read, StorageError> {
    let (mut records, mut damaged, mut bytes, mut next, mut fault) = (Vec::new(), Vec::new(), 0, None, None);
    let range = wanted.shard.waiting_from(wanted.topic, wanted.from);
    storage.scan(Family::Schedule, &range.start..&range.end, Direction::Forward, &mut |key, value| {
        let Some(id) = ShardId::of_waiting_record(key) else {
            fault = Some(format!("{key:02x?} is no record that waits"));
            return ControlFlow::Break(());
        };
        if (wanted.is_gone)(id) {
            return ControlFlow::Continue(());
        }
        let is_full = records.len() == PAGE_RECORDS_MAX || (bytes + value.len() > PAGE_BYTES_MAX && !records.is_empty());
        if is_full || id.due_ms > wanted.now_ms || wanted.unseen.is_some_and(|unseen| unseen < id) {
            next = Some(id);
            return ControlFlow::Break(());
        }
        bytes += value.len();
        match due_record(wanted, id, (key.len() + value.len()) as u64, value) {
            Ok(record) => records.push(record),
            Err(reason) => damaged.push((id, reason)),
        }
        ControlFlow::Continue(())
    })?;
    match fault {
        Some(reason) => Err(StorageError::Corrupt(reason)),
        None => Ok(Read { records, damaged, next: next.into_iter().chain(wanted.unseen).min() }),
    }
}

fn due_record(wanted: &Wanted<'_>, id: ScheduleId, row_bytes: u64, value: &[u8]) -> Result<DueRecord, String> {
    let row = Row::decode(&Bytes::copy_from_slice(value)).ok_or("its row is damaged")?;
    let PartitionId(partition) = row.partition;
    if partition >= wanted.partitions {
        return Err(format!("it is for partition {partition} of {}", wanted.partitions));
    }
    let records = Batch::parse(row.batch.clone()).and_then(|batch| batch.records()).map_err(|error| error.to_string())?;
    let [record] = <[_; 1]>::try_from(records).map_err(|records| format!("it is {} records", records.len()))?;
    let timestamp_ms = i64::try_from(wanted.now_ms).map_err(|error| error.to_string())?;
    Ok(DueRecord { id, row, row_bytes, record: Record { timestamp_ms, payload: record.payload } })
}
