//! Finding the positions of a partition at open, from its first and its last batch.

use crate::ids::PartitionKey;
use crate::log::batch::{Batch, BatchError};
use crate::log::offsets::LogOffsets;
use crate::log::owned::OwnedLog;
use crate::log::partition::Partition;
use crate::log::tail::TailMemory;
use crate::storage::{Direction, Family, Storage, StorageError};
use bytes::Bytes;
use core::ops::ControlFlow;
use sagamq_api::Offset;
use std::sync::Arc;

/// Why a partition cannot be opened.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RecoveryError {
    /// The newest batch does not match its checksum.
    #[error("topic {} partition {}: the newest batch is damaged: {reason}", key.topic.0, key.partition)]
    Damaged {
        /// The partition.
        key: PartitionKey,
        /// What is wrong with the batch.
        reason: BatchError,
    },
    /// The newest batch lies at another offset than its key says.
    #[error("topic {} partition {}: the batch at {key_base} says that it begins at {batch_base}", key.topic.0, key.partition)]
    Misplaced {
        /// The partition.
        key: PartitionKey,
        /// Offset in the key.
        key_base: Offset,
        /// Offset in the batch.
        batch_base: Offset,
    },
    /// The device failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Opens a partition: everything that is stored is durable, so the high watermark is the end of the newest batch.
pub(crate) fn recover(storage: &dyn Storage, key: PartitionKey, tail: &TailMemory) -> Result<OwnedLog, RecoveryError> {
    let range = key.log_range(Offset(0)..Offset(u64::MAX));
    let mut newest = None;
    storage.scan(Family::Log, &range.start..&range.end, Direction::Backward, &mut |key, value| {
        newest = PartitionKey::log_base(key).map(|base| (base, Bytes::copy_from_slice(value)));
        ControlFlow::Break(())
    })?;
    let Some((key_base, value)) = newest else {
        return Ok(new_log(key, tail));
    };
    let batch = Batch::parse(value).map_err(|reason| RecoveryError::Damaged { key, reason })?;
    if batch.base_offset() != key_base {
        return Err(RecoveryError::Misplaced { key, key_base, batch_base: batch.base_offset() });
    }
    let mut oldest = key_base;
    storage.scan(Family::Log, &range.start..&range.end, Direction::Forward, &mut |key, _| {
        oldest = PartitionKey::log_base(key).unwrap_or(oldest);
        ControlFlow::Break(())
    })?;
    let timestamp_ms_indexed = last_indexed(storage, key)?;
    let offsets = LogOffsets::recovered(oldest, batch.next_offset());
    let partition = Arc::new(Partition::new(key, offsets, tail));
    partition.guess_record_bytes(&batch);
    // The newest batch need not hold the highest time. Where the index does not say it either, it is less than a step above the
    // last entry, and the next entry is at least a step above: no entry is ever below a record before it.
    Ok(OwnedLog::new(partition, batch.max_timestamp().max(timestamp_ms_indexed), timestamp_ms_indexed))
}

/// A partition that has no records yet.
pub(crate) fn new_log(key: PartitionKey, tail: &TailMemory) -> OwnedLog {
    let partition = Arc::new(Partition::new(key, LogOffsets::recovered(Offset(0), Offset(0)), tail));
    OwnedLog::new(partition, i64::MIN, i64::MIN)
}

/// The highest time in the time index, which is its last entry's.
fn last_indexed(storage: &dyn Storage, key: PartitionKey) -> Result<i64, StorageError> {
    let (range, mut last) = (key.all(), i64::MIN);
    storage.scan(Family::TimeIndex, &range.start..&range.end, Direction::Backward, &mut |key, _| {
        last = PartitionKey::time_index_timestamp(key).unwrap_or(last);
        ControlFlow::Break(())
    })?;
    Ok(last)
}
