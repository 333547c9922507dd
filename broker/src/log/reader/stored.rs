//! Reads whole batches, as they are stored.

use super::batches::{Met, visit};
use super::error::ReadError;
use crate::log::batch::{self, BatchHeader, unpacked_bytes_max};
use crate::log::budget::Budget;
use crate::log::partition::Partition;
use crate::storage::Storage;
use core::ops::ControlFlow;
use sagamq_api::Offset;

/// Batches one behind the other.
#[derive(Debug)]
pub(crate) struct ReadBatches {
    pub(crate) bytes: Vec<u8>,
    /// Where to read on.
    pub(crate) next: Offset,
}

/// What a read has so far.
struct Reading<'a> {
    high_watermark: Offset,
    read: ReadBatches,
    budget: &'a mut Budget,
    error: Option<ReadError>,
}

/// Batches from the one that holds `from` on, as far as the budget goes; at least one if there is one, unless the budget lacks memory. Each
/// that comes out of storage is checked against its checksum. Blocks on storage.
pub(crate) fn read_batches(
    storage: &dyn Storage,
    partition: &Partition,
    from: Offset,
    budget: &mut Budget,
) -> Result<ReadBatches, ReadError> {
    let (log_start, high_watermark) = (partition.log_start(), partition.high_watermark());
    if from < log_start || from > high_watermark {
        return Err(ReadError::OutOfRange { offset: from, log_start, high_watermark });
    }
    let read = ReadBatches { bytes: Vec::new(), next: from };
    let mut reading = Reading { high_watermark, read, budget, error: None };
    while reading.read.next < high_watermark {
        let before = reading.read.next;
        let bytes_max = reading.budget.payload_bytes_left().max(1);
        let is_over = visit(storage, partition, before, (usize::MAX, bytes_max), &mut |met| reading.take(met))?;
        if is_over || reading.read.next == before {
            break;
        }
    }
    match reading.error {
        // What was read before the damage is sound and is returned; the reader meets the damage when he comes to it.
        Some(error) if reading.read.bytes.is_empty() => Err(error),
        None if reading.read.bytes.is_empty() && !reading.budget.is_lacking() && reading.read.next < high_watermark => {
            Err(ReadError::missing(partition, from, reading.read.next))
        }
        _ => Ok(reading.read),
    }
}

impl Reading<'_> {
    /// Breaks when no more is to be read.
    fn take(&mut self, met: Met<'_>) -> ControlFlow<()> {
        if met.base() > self.read.next {
            // What lies between is not there: nobody is given what comes behind it as if it came next.
            return ControlFlow::Break(());
        }
        let header = match met {
            Met::Cached(batch) => Ok((*batch.header(), &batch.bytes()[..])),
            Met::Stored { base, value } => match batch::check(value) {
                Ok(header) => Ok((header, value)),
                Err(reason) => Err(ReadError::Damaged { base, reason }),
            },
        };
        match header {
            Ok((header, bytes)) => self.push(&header, bytes),
            Err(error) => {
                self.error = Some(error);
                ControlFlow::Break(())
            }
        }
    }

    fn push(&mut self, header: &BatchHeader, bytes: &[u8]) -> ControlFlow<()> {
        // The tail may hold a batch whose watermark has not risen yet.
        if header.base_offset >= self.high_watermark {
            return ControlFlow::Break(());
        }
        // Where a part of the log is missing, the batch before it is met.
        if header.next_offset() <= self.read.next {
            return ControlFlow::Continue(());
        }
        let unpacked = unpacked_bytes_max(bytes).max(bytes.len());
        if !self.budget.admit_stored(bytes.len(), unpacked, header.records_count as usize) {
            return ControlFlow::Break(());
        }
        self.read.bytes.extend_from_slice(bytes);
        self.read.next = header.next_offset();
        if self.budget.is_full() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}
