//! Finding the positions of a partition at open, from its first and its last batch.

use crate::log::batch::{Batch, BatchError};
use crate::log::offsets::LogOffsets;
use crate::log::partition::Partition;
use crate::shard::ShardLog;
use crate::storage::keys::PartitionKey;
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
pub(crate) fn recover(storage: &dyn Storage, key: PartitionKey, tail_bytes_max: usize) -> Result<ShardLog, RecoveryError> {
    let range = key.log_range(Offset(0)..Offset(u64::MAX));
    let mut newest = None;
    storage.scan(Family::Log, &range.start..&range.end, Direction::Backward, &mut |key, value| {
        newest = PartitionKey::log_base(key).map(|base| (base, Bytes::copy_from_slice(value)));
        ControlFlow::Break(())
    })?;
    let Some((key_base, value)) = newest else {
        return Ok(shard_log(key, LogOffsets::recovered(Offset(0), Offset(0)), i64::MIN, tail_bytes_max));
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
    Ok(shard_log(key, LogOffsets::recovered(oldest, batch.next_offset()), batch.max_timestamp(), tail_bytes_max))
}

/// A partition that has no records yet, or these.
pub(crate) fn shard_log(key: PartitionKey, offsets: LogOffsets, timestamp_ms_max: i64, tail_bytes_max: usize) -> ShardLog {
    let partition = Arc::new(Partition::new(key, offsets, tail_bytes_max));
    // The index may hold a higher time than the newest batch; a time index entry more than needed does no harm.
    ShardLog { partition, timestamp_ms_max, timestamp_ms_indexed: i64::MIN }
}
