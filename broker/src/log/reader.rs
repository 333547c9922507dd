//! Reading a partition: from the tail in memory, else from storage. Never above the high watermark.

use crate::log::batch::{Batch, BatchError, StoredRecord};
use crate::log::partition::Partition;
use crate::log::tail::CachedBatch;
use crate::storage::{Direction, Family, Storage, StorageError};
use core::ops::ControlFlow;
use sagamq_api::Offset;
use std::collections::BTreeMap;

/// Why records could not be read.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ReadError {
    /// The offset is below the first record or above the high watermark.
    #[error("offset {offset} is outside of {log_start}..={high_watermark}")]
    OutOfRange {
        /// What was asked for.
        offset: Offset,
        /// First offset that is still there.
        log_start: Offset,
        /// Offset after the last durable record.
        high_watermark: Offset,
    },
    /// A batch does not match its checksum or cannot be decoded.
    #[error("the batch at offset {base} is damaged: {reason}")]
    Damaged {
        /// Where the batch begins.
        base: Offset,
        /// What is wrong with it.
        reason: BatchError,
    },
    /// The device failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Up to `records_max` records from `from` on, bounded by bytes; at least one if there is one. Blocks on storage.
pub(crate) fn read(
    storage: &dyn Storage,
    partition: &Partition,
    from: Offset,
    records_max: usize,
    bytes_max: usize,
) -> Result<Vec<StoredRecord>, ReadError> {
    let (log_start, high_watermark) = (partition.log_start(), partition.high_watermark());
    if from < log_start || from > high_watermark {
        return Err(ReadError::OutOfRange { offset: from, log_start, high_watermark });
    }
    let mut records: Vec<StoredRecord> = Vec::new();
    let mut bytes = 0;
    let mut next = from;
    while next < high_watermark && records.len() < records_max && bytes < bytes_max {
        let batches = batches(storage, partition, next, records_max - records.len(), bytes_max - bytes)?;
        let Some(last) = batches.last() else { break };
        next = last.next();
        for batch in &batches {
            let decoded = batch.records().map_err(|reason| ReadError::Damaged { base: batch.base(), reason })?;
            for record in decoded.iter().filter(|record| record.offset >= from) {
                if records.len() >= records_max || (bytes >= bytes_max && !records.is_empty()) {
                    return Ok(records);
                }
                bytes += record.payload.len();
                records.push(record.clone());
            }
        }
    }
    Ok(records)
}

/// The records at these offsets, which must be sorted. One that is not there any more is left out. Blocks on storage.
pub(crate) fn read_at(
    storage: &dyn Storage,
    partition: &Partition,
    offsets: &[Offset],
) -> Result<BTreeMap<Offset, StoredRecord>, ReadError> {
    let mut found = BTreeMap::new();
    let mut wanted = offsets.iter().copied().filter(|&o| o >= partition.log_start() && o < partition.high_watermark()).peekable();
    while let Some(&first) = wanted.peek() {
        let batches = batches(storage, partition, first, 1, 1)?;
        let Some(batch) = batches.first() else { break };
        let decoded = batch.records().map_err(|reason| ReadError::Damaged { base: batch.base(), reason })?;
        while let Some(offset) = wanted.next_if(|&offset| offset < batch.next()) {
            if let Ok(index) = decoded.binary_search_by_key(&offset, |record| record.offset) {
                found.insert(offset, decoded[index].clone());
            }
        }
    }
    Ok(found)
}

/// Offset of the first record with this time or a later one; the high watermark if there is none. Blocks on storage.
pub(crate) fn offset_at_time(storage: &dyn Storage, partition: &Partition, timestamp_ms: i64) -> Result<Offset, ReadError> {
    let index = partition.key.time_index(i64::MIN, Offset(0))..partition.key.time_index(timestamp_ms, Offset(0));
    let mut start = partition.log_start();
    // Entries hold the highest time up to and including a batch: before the last entry below the time, every record is older.
    storage.scan(Family::TimeIndex, &index.start..&index.end, Direction::Backward, &mut |key, _| {
        start = crate::storage::keys::PartitionKey::time_index_base(key).unwrap_or(start).max(start);
        ControlFlow::Break(())
    })?;
    let high_watermark = partition.high_watermark();
    while start < high_watermark {
        let found = batches(storage, partition, start, usize::MAX, 1024 * 1024)?;
        if found.is_empty() {
            break;
        }
        for batch in found {
            if batch.max_timestamp() >= timestamp_ms {
                let decoded = batch.records().map_err(|reason| ReadError::Damaged { base: batch.base(), reason })?;
                if let Some(record) = decoded.iter().find(|r| r.timestamp_ms >= timestamp_ms && r.offset >= start) {
                    return Ok(record.offset);
                }
            }
            start = batch.next();
        }
    }
    Ok(high_watermark)
}

/// Batches from the one that holds `from` on: at least one if there is one below the high watermark.
fn batches(
    storage: &dyn Storage,
    partition: &Partition,
    from: Offset,
    records_max: usize,
    bytes_max: usize,
) -> Result<Vec<CachedBatch>, ReadError> {
    let bytes_max = bytes_max.max(1);
    if let Some(batches) = partition.read_tail(from, bytes_max) {
        return Ok(batches);
    }
    let high_watermark = partition.high_watermark();
    let base = base_of(storage, partition, from)?;
    let range = partition.key.log_range(base..high_watermark);
    let mut found = Vec::new();
    let mut damage = None;
    let (mut bytes, mut records) = (0, 0);
    storage.scan(Family::Log, &range.start..&range.end, Direction::Forward, &mut |_, value| {
        match Batch::parse(bytes::Bytes::copy_from_slice(value)) {
            Ok(batch) => {
                bytes += batch.len();
                records += usize::try_from(batch.next_offset().0 - batch.base_offset().0.max(from.0)).unwrap_or(usize::MAX);
                found.push(CachedBatch::new(batch));
            }
            Err(reason) => {
                damage = Some(reason);
                return ControlFlow::Break(());
            }
        }
        if bytes >= bytes_max || records >= records_max { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    match damage {
        // What was read before the damage is sound and is returned; the reader meets the damage when he comes to it.
        Some(reason) if found.is_empty() => Err(ReadError::Damaged { base, reason }),
        _ => Ok(found),
    }
}

/// Where the batch that holds `offset` begins: the last key at or below it.
fn base_of(storage: &dyn Storage, partition: &Partition, offset: Offset) -> Result<Offset, ReadError> {
    let range = partition.key.log_range(Offset(0)..offset.next());
    let mut base = partition.log_start();
    storage.scan(Family::Log, &range.start..&range.end, Direction::Backward, &mut |key, _| {
        base = crate::storage::keys::PartitionKey::log_base(key).unwrap_or(base);
        ControlFlow::Break(())
    })?;
    Ok(base)
}
