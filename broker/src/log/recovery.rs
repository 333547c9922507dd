//! Finding a partition at open: where it stood is stored, and how far it has come since is what its newest batch says.

use crate::ids::PartitionKey;
use crate::log::batch::{Batch, BatchError};
use crate::log::positions::{Positions, PositionsError};
use crate::storage::{Direction, Family, Storage, StorageError};
use bytes::Bytes;
use core::ops::ControlFlow;
use sagamq_api::Offset;

/// Why a partition cannot be opened.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RecoveryError {
    /// Where it stands cannot be read.
    #[error("topic {} partition {}: where it stands cannot be read: {reason}", key.topic.0, key.partition)]
    Positions {
        /// The partition.
        key: PartitionKey,
        /// What is wrong.
        reason: PositionsError,
    },
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
    /// The newest batch neither ends where the log is said to end nor lies behind it.
    #[error("topic {} partition {}: its log went to {log_end}, its newest batch {}", key.topic.0, key.partition, ends_at(*batch_end))]
    End {
        /// The partition.
        key: PartitionKey,
        /// Where the log ended by its positions.
        log_end: Offset,
        /// Where the newest batch ends; none if there is no batch.
        batch_end: Option<Offset>,
    },
    /// The device failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

fn ends_at(batch_end: Option<Offset>) -> String {
    batch_end.map_or_else(|| "is not there".to_owned(), |end| format!("at {end}"))
}

/// Where a partition of these stored positions stands, and its newest batch; none if it holds none. A partition that is emptied has a row that
/// says where it went on; batches behind the row are where it has come to since.
pub(crate) fn newest_batch(
    storage: &dyn Storage,
    key: PartitionKey,
    positions: Positions,
) -> Result<(Positions, Option<Batch>), RecoveryError> {
    let log_end = positions.log_end;
    let (mut newest, mut bytes_behind) = (None, 0);
    // Those behind the row are few: a row comes with each second of record time and with each mebibyte.
    let behind = key.log_range(log_end..Offset(u64::MAX));
    storage.scan(Family::Log, &behind.start..&behind.end, Direction::Backward, &mut |key, value| {
        bytes_behind += value.len() as u64;
        newest = newest.take().or_else(|| PartitionKey::log_base(key).map(|base| (base, Bytes::copy_from_slice(value))));
        ControlFlow::Continue(())
    })?;
    if newest.is_none() {
        let before = key.log_range(Offset(0)..log_end);
        storage.scan(Family::Log, &before.start..&before.end, Direction::Backward, &mut |key, value| {
            newest = PartitionKey::log_base(key).map(|base| (base, Bytes::copy_from_slice(value)));
            ControlFlow::Break(())
        })?;
    }
    let Some((key_base, value)) = newest else {
        let is_empty = positions.log_start == log_end;
        return if is_empty { Ok((positions, None)) } else { Err(RecoveryError::End { key, log_end, batch_end: None }) };
    };
    let batch = Batch::parse(value).map_err(|reason| RecoveryError::Damaged { key, reason })?;
    if batch.base_offset() != key_base {
        return Err(RecoveryError::Misplaced { key, key_base, batch_base: batch.base_offset() });
    }
    let batch_end = batch.next_offset();
    if batch_end != log_end && batch.base_offset() < log_end {
        return Err(RecoveryError::End { key, log_end, batch_end: Some(batch_end) });
    }
    Ok((Positions { log_end: batch_end, bytes_end: positions.bytes_end.saturating_add(bytes_behind), ..positions }, Some(batch)))
}
