//! From a time to an offset.

use super::batches::{Met, visit};
use super::error::ReadError;
use crate::ids::PartitionKey;
use crate::log::batch::Batch;
use crate::log::partition::Partition;
use crate::log::tail::CachedBatch;
use crate::storage::{Direction, Family, Storage};
use bytes::Bytes;
use core::ops::ControlFlow;
use sagamq_api::Offset;

/// Offset of the first record with this time or a later one; the high watermark if there is none. Blocks on storage.
pub(crate) fn offset_at_time(storage: &dyn Storage, partition: &Partition, timestamp_ms: i64) -> Result<Offset, ReadError> {
    let index = partition.key.time_index(i64::MIN, Offset(0))..partition.key.time_index(timestamp_ms, Offset(0));
    let mut start = partition.log_start();
    // Entries hold the highest time up to and including a batch: before the last entry below the time, every record is older.
    storage.scan(Family::TimeIndex, &index.start..&index.end, Direction::Backward, &mut |key, _| {
        start = PartitionKey::time_index_base(key).unwrap_or(start).max(start);
        ControlFlow::Break(())
    })?;
    let high_watermark = partition.high_watermark();
    while start < high_watermark {
        let before = start;
        let mut found = None;
        visit(storage, partition, start, (usize::MAX, 1024 * 1024), &mut |met| {
            let looked_at = match met {
                Met::Cached(batch) => Ok(batch.clone()),
                // Only looked through, one at a time.
                Met::Stored { base, value } => {
                    let parsed = Batch::parse(Bytes::copy_from_slice(value));
                    parsed.map(CachedBatch::new).map_err(|reason| ReadError::Damaged { base, reason })
                }
            };
            let first = looked_at.and_then(|batch| {
                let first = if batch.max_timestamp() >= timestamp_ms { first_at(&batch, start, timestamp_ms)? } else { None };
                start = batch.next();
                Ok(first)
            });
            found = first.transpose();
            if found.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        match found {
            Some(found) => return found,
            None if start == before => break,
            None => {}
        }
    }
    Ok(high_watermark)
}

/// The first record of a batch from `start` on that is not older.
fn first_at(batch: &CachedBatch, start: Offset, timestamp_ms: i64) -> Result<Option<Offset>, ReadError> {
    let records = batch.records().map_err(|reason| ReadError::Damaged { base: batch.base(), reason })?;
    Ok(records.iter().find(|record| record.timestamp_ms >= timestamp_ms && record.offset >= start).map(|record| record.offset))
}
