//! Reads one record after the other.

use super::batches::{Met, unpack, visit};
use super::error::ReadError;
use crate::log::batch::{BatchError, StoredRecord};
use crate::log::budget::Budget;
use crate::log::partition::Partition;
use crate::storage::Storage;
use core::borrow::Borrow;
use core::ops::{ControlFlow, Range};
use sagamq_api::Offset;

/// What a read has so far.
struct Reading<'a> {
    range: Range<Offset>,
    records: Vec<StoredRecord>,
    /// Where to read on.
    next: Offset,
    budget: &'a mut Budget,
    error: Option<ReadError>,
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
    let mut reading = Reading { range: from..high_watermark, records: Vec::new(), next: from, budget, error: None };
    while reading.next < high_watermark {
        let before = reading.next;
        let bytes_max = reading.budget.payload_bytes_left().max(1);
        let is_over = visit(storage, partition, before, (usize::MAX, bytes_max), &mut |met| reading.take(met))?;
        if is_over || reading.next == before {
            break;
        }
    }
    match reading.error {
        // What was read before the damage is sound and is returned; the reader meets the damage when he comes to it.
        Some(error) if reading.records.is_empty() => Err(error),
        None if is_missing(&reading) => Err(ReadError::missing(partition, from, reading.next)),
        _ => Ok(reading.records),
    }
}

/// Whether nothing was read although there is memory for it and something should be there.
fn is_missing(reading: &Reading<'_>) -> bool {
    reading.records.is_empty() && !reading.budget.is_lacking() && reading.next < reading.range.end
}

impl Reading<'_> {
    /// Breaks when no more is to be read.
    fn take(&mut self, met: Met<'_>) -> ControlFlow<()> {
        if met.base() > self.next {
            // What lies between is not there: nobody is given what comes behind it as if it came next.
            return ControlFlow::Break(());
        }
        let taken = match met {
            Met::Cached(batch) => match batch.records() {
                Ok(records) => self.push(batch.base(), records.iter().map(Ok), batch.next(), StoredRecord::clone),
                Err(reason) => Err(ReadError::Damaged { base: batch.base(), reason }),
            },
            Met::Stored { base, value } => match unpack(base, value, self.budget) {
                None => return ControlFlow::Break(()),
                Some(Ok(batch)) => self.push(base, batch.records(), batch.header().next_offset(), core::convert::identity),
                Some(Err(error)) => Err(error),
            },
        };
        match taken {
            Ok(true) if !self.budget.is_full() => ControlFlow::Continue(()),
            Ok(_) => ControlFlow::Break(()),
            Err(error) => {
                self.error = Some(error);
                ControlFlow::Break(())
            }
        }
    }

    /// Whether all of them fitted.
    fn push<R: Borrow<StoredRecord>>(
        &mut self,
        base: Offset,
        records: impl IntoIterator<Item = Result<R, BatchError>>,
        next: Offset,
        own: impl Fn(R) -> StoredRecord,
    ) -> Result<bool, ReadError> {
        for record in records {
            let record = record.map_err(|reason| ReadError::Damaged { base, reason })?;
            // The tail may hold a batch whose watermark has not risen yet.
            // Where a part of the log is missing, a batch that was read is met again.
            if record.borrow().offset < self.next || !self.range.contains(&record.borrow().offset) {
                continue;
            }
            if !self.budget.admit_record(&record.borrow().payload) {
                return Ok(false);
            }
            self.records.push(own(record));
        }
        // Where a part of the log is missing, the batch before it is met.
        self.next = self.next.max(next);
        Ok(true)
    }
}
