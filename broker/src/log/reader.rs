//! Reading a partition: from the tail in memory, else from storage. Never above the high watermark.

use crate::ids::PartitionKey;
use crate::log::batch::{Batch, BatchError, StoredRecord};
use crate::log::budget::Budget;
use crate::log::partition::Partition;
use crate::log::tail::CachedBatch;
use crate::storage::{Direction, Family, Storage, StorageError};
use core::ops::ControlFlow;
use sagamq_api::Offset;

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
    /// No batch holds the offset, although it lies between the log's start and its end.
    #[error("no batch holds offset {offset}: a part of the log is missing")]
    Missing {
        /// The offset.
        offset: Offset,
    },
    /// The device failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// What was found of single records.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// The records, in order of their offsets.
    pub(crate) records: Vec<StoredRecord>,
    /// Offsets within sound batches that hold no record any more, or that lie before the log's start.
    pub(crate) gone: Vec<Offset>,
    /// Offsets that could not be read; what is behind them was.
    pub(crate) failed: Vec<Offset>,
    /// Why the last of them could not.
    pub(crate) error: Option<ReadError>,
}

/// Records from `from` on as far as the budget goes; at least one if there is one, unless the budget lacks memory. Blocks on storage.
pub(crate) fn read(
    storage: &dyn Storage,
    partition: &Partition,
    from: Offset,
    budget: &mut Budget,
) -> Result<Vec<StoredRecord>, ReadError> {
    let (log_start, high_watermark) = (partition.log_start(), partition.high_watermark());
    if from < log_start || from > high_watermark {
        return Err(ReadError::OutOfRange { offset: from, log_start, high_watermark });
    }
    let mut records: Vec<StoredRecord> = Vec::new();
    let mut next = from;
    while next < high_watermark && !budget.is_full() {
        let batches = batches(storage, partition, next, budget)?;
        let Some(last) = batches.last() else { break };
        next = last.next();
        for batch in &batches {
            let decoded = batch.records().map_err(|reason| ReadError::Damaged { base: batch.base(), reason })?;
            // The tail may hold a batch whose watermark has not risen yet.
            for record in decoded.iter().filter(|record| record.offset >= from && record.offset < high_watermark) {
                if !budget.admit_record(&record.payload) {
                    return Ok(records);
                }
                records.push(record.clone());
            }
        }
    }
    Ok(records)
}

/// The records at these offsets, which must be sorted, as far as the budget goes. A batch that cannot be read does not keep those behind
/// it from being read. Blocks on storage.
pub(crate) fn read_at(storage: &dyn Storage, partition: &Partition, offsets: &[Offset], budget: &mut Budget) -> Found {
    let mut found = Found::default();
    let (log_start, high_watermark) = (partition.log_start(), partition.high_watermark());
    let mut wanted = offsets.iter().copied().filter(|&offset| offset < high_watermark).peekable();
    while let Some(offset) = wanted.next_if(|&offset| offset < log_start) {
        found.gone.push(offset);
    }
    while let Some(&first) = wanted.peek() {
        if budget.is_full() {
            break;
        }
        let (batch, raw_bytes) = match batch_of(storage, partition, first, budget) {
            Ok(Some(batch)) => batch,
            Ok(None) => break,
            Err((end, error)) => {
                while let Some(offset) = wanted.next_if(|&offset| offset < end) {
                    found.failed.push(offset);
                }
                found.error = Some(error);
                continue;
            }
        };
        let decoded = match batch.records() {
            Ok(decoded) => decoded,
            Err(reason) => {
                while let Some(offset) = wanted.next_if(|&offset| offset < batch.next()) {
                    found.failed.push(offset);
                }
                found.error = Some(ReadError::Damaged { base: batch.base(), reason });
                budget.drop_batch(raw_bytes);
                continue;
            }
        };
        let before = found.records.len();
        let mut is_admitted = true;
        while is_admitted && let Some(&offset) = wanted.peek().filter(|&&offset| offset < batch.next()) {
            match decoded.binary_search_by_key(&offset, |record| record.offset) {
                Ok(index) if budget.admit_record(&decoded[index].payload) => found.records.push(decoded[index].clone()),
                Ok(_) => is_admitted = false,
                Err(_) => found.gone.push(offset),
            }
            if is_admitted {
                wanted.next();
            }
        }
        let picked = &mut found.records[before..];
        if raw_bytes > 2 * picked.iter().map(|record| record.payload.len()).sum::<usize>() {
            // A few records of a large batch would keep all of it in memory.
            picked.iter_mut().for_each(detach);
            budget.drop_batch(raw_bytes);
        }
        if !is_admitted {
            break;
        }
    }
    found
}

/// Gives a record memory of its own.
fn detach(record: &mut StoredRecord) {
    for bytes in [&mut record.payload.key, &mut record.payload.value].into_iter().flatten() {
        *bytes = bytes::Bytes::copy_from_slice(bytes);
    }
}

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
        // Only looked through, a part at a time.
        let found = batches(storage, partition, start, &mut Budget::unshared(usize::MAX, 1024 * 1024))?;
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

/// Batches from the one that holds `from` on: at least one if there is one below the high watermark and the budget has memory for it.
fn batches(storage: &dyn Storage, partition: &Partition, from: Offset, budget: &mut Budget) -> Result<Vec<CachedBatch>, ReadError> {
    let (bytes_max, records_max) = (budget.payload_bytes_left().max(1), budget.records_left());
    if let Some(batches) = partition.read_tail(from, bytes_max) {
        return Ok(batches);
    }
    let high_watermark = partition.high_watermark();
    // The batch that holds `from` begins at or before it.
    let range = partition.key.log_range(Offset(0)..high_watermark);
    let at = partition.key.log_range(from..high_watermark).start;
    let mut found: Vec<CachedBatch> = Vec::new();
    let mut damage = None;
    let (mut bytes, mut records) = (0, 0);
    storage.scan_from(Family::Log, &range.start..&range.end, &at, &mut |key, value| {
        if !budget.admit_batch(value.len()) {
            return ControlFlow::Break(());
        }
        match Batch::parse(bytes::Bytes::copy_from_slice(value)) {
            Ok(batch) => {
                bytes += batch.len();
                records += usize::try_from(batch.next_offset().0 - batch.base_offset().0.max(from.0)).unwrap_or(usize::MAX);
                found.push(CachedBatch::new(batch));
            }
            Err(reason) => {
                damage = Some((PartitionKey::log_base(key).unwrap_or(from), reason));
                return ControlFlow::Break(());
            }
        }
        if bytes >= bytes_max || records >= records_max { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    match damage {
        // What was read before the damage is sound and is returned; the reader meets the damage when he comes to it.
        Some((base, reason)) if found.is_empty() => Err(ReadError::Damaged { base, reason }),
        _ => Ok(found),
    }
}

/// The batch that holds `offset`, with the bytes that were charged for it: none if it lies in memory anyway. `None`: the budget has
/// no memory for it. An error comes with the first offset behind what cannot be read.
fn batch_of(
    storage: &dyn Storage,
    partition: &Partition,
    offset: Offset,
    budget: &mut Budget,
) -> Result<Option<(CachedBatch, usize)>, (Offset, ReadError)> {
    if let Some(batch) = partition.read_tail(offset, 1).and_then(|batches| batches.into_iter().next()) {
        return Ok(Some((batch, 0)));
    }
    let damaged = |error: ReadError| (next_base(storage, partition, offset), error);
    let range = partition.key.log_range(Offset(0)..offset.next());
    let at = partition.key.log_range(offset..offset.next()).start;
    let mut base = offset;
    let mut parsed = None;
    let mut is_admitted = true;
    let scanned = storage.scan_from(Family::Log, &range.start..&range.end, &at, &mut |key, value| {
        base = PartitionKey::log_base(key).unwrap_or(offset);
        is_admitted = budget.admit_batch(value.len());
        if is_admitted {
            parsed = Some((Batch::parse(bytes::Bytes::copy_from_slice(value)), value.len()));
        }
        ControlFlow::Break(())
    });
    scanned.map_err(|error| damaged(error.into()))?;
    match parsed {
        None if !is_admitted => Ok(None),
        Some((Ok(batch), bytes)) if batch.next_offset() > offset => Ok(Some((CachedBatch::new(batch), bytes))),
        Some((Err(reason), bytes)) => {
            budget.drop_batch(bytes);
            Err(damaged(ReadError::Damaged { base, reason }))
        }
        Some((Ok(_), bytes)) => {
            budget.drop_batch(bytes);
            Err(damaged(ReadError::Missing { offset }))
        }
        None => Err(damaged(ReadError::Missing { offset })),
    }
}

/// Where the next batch behind `offset` begins; the high watermark if there is none or it cannot be told.
fn next_base(storage: &dyn Storage, partition: &Partition, offset: Offset) -> Offset {
    let mut next = partition.high_watermark();
    let range = partition.key.log_range(offset.next()..next);
    let _ = storage.scan(Family::Log, &range.start..&range.end, Direction::Forward, &mut |key, _| {
        next = PartitionKey::log_base(key).unwrap_or(next);
        ControlFlow::Break(())
    });
    next.max(offset.next())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{ShardId, TopicId};
    use crate::log::batch::Record;
    use crate::log::offsets::LogOffsets;
    use crate::log::tail::TailMemory;
    use crate::storage::memory::MemoryStorage;
    use sagamq_api::PartitionId;
    use sagamq_api::record::Payload;

    #[test]
    fn the_tail_is_read_up_to_the_watermark() {
        let key = PartitionKey { shard: ShardId(0), topic: TopicId(1), partition: PartitionId(0) };
        let partition = Partition::new(key, LogOffsets::recovered(Offset(0), Offset(0)), &TailMemory::new(1024 * 1024));
        let batch = |base| {
            let record = Record { timestamp_ms: 0, payload: Payload::default() };
            Batch::encode(&[record.clone(), record]).expect("encodes").with_base_offset(Offset(base))
        };
        partition.append(4);
        partition.publish(vec![batch(0)]);
        partition.push_tail(vec![batch(2)]);
        let records = read(&MemoryStorage::new(), &partition, Offset(0), &mut Budget::unshared(10, usize::MAX)).expect("reads");
        assert_eq!(records.iter().map(|record| record.offset.0).collect::<Vec<_>>(), [0, 1]);
        let offsets = [Offset(1), Offset(2)];
        let found = read_at(&MemoryStorage::new(), &partition, &offsets, &mut Budget::unshared(10, usize::MAX));
        assert_eq!(found.records.iter().map(|record| record.offset.0).collect::<Vec<_>>(), [1]);
    }
}
