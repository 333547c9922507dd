//! Reads single records: those that a group reserved, or dead letters.

use super::batches::{Met, next_base, next_offset, unpack, visit};
use super::error::ReadError;
use crate::log::batch::{BatchError, Record, StoredRecord};
use crate::log::budget::Budget;
use crate::log::partition::Partition;
use crate::storage::{Storage, StorageError};
use bytes::Bytes;
use core::borrow::Borrow;
use core::ops::{ControlFlow, Range};
use sagamq_api::Offset;

/// Batches without a wanted record that are passed by until it is faster to look for the next one.
const SKIPPED_MAX: usize = 8;

/// What was found of single records.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// The records, in order of their offsets.
    pub(crate) records: Vec<StoredRecord>,
    /// Offsets within sound batches that hold no record any more, or that lie before the log's start.
    pub(crate) gone: Vec<Offset>,
    /// The longest range of offsets without a record that was met, from one that was wanted on.
    pub(crate) gap: Option<Range<Offset>>,
    /// Offsets that could not be read; what is behind them was.
    pub(crate) failed: Vec<Offset>,
    /// Why the last of them could not, or that the device failed: that may pass.
    pub(crate) error: Option<ReadError>,
}

/// Single records that are looked for.
struct Picking<'a> {
    /// Those that are left, in order.
    wanted: &'a [Offset],
    found: Found,
    budget: &'a mut Budget,
    /// Why the batch before could not be read: where the next one begins, its end is known.
    damage: Option<ReadError>,
    /// Batches in a row that hold nothing that is wanted.
    skipped: usize,
    /// No more of them fits.
    is_over: bool,
}

/// The records at these offsets, which must be sorted, as far as the budget goes. A batch that cannot be read does not keep those behind
/// it from being read. Blocks on storage.
pub(crate) fn read_at(storage: &dyn Storage, partition: &Partition, offsets: &[Offset], budget: &mut Budget) -> Found {
    let (log_start, high_watermark) = (partition.log_start(), partition.high_watermark());
    let offsets = &offsets[..offsets.partition_point(|&offset| offset < high_watermark)];
    let (gone, wanted) = offsets.split_at(offsets.partition_point(|&offset| offset < log_start));
    let found = Found { gone: gone.to_vec(), ..Found::default() };
    let mut picking = Picking { wanted, found, budget, damage: None, skipped: 0, is_over: false };
    while let Some(&first) = picking.wanted.first() {
        if picking.budget.is_full() {
            break;
        }
        picking.skipped = 0;
        let left = picking.wanted.len();
        let bytes_max = picking.budget.payload_bytes_left().max(1);
        // Those of the tail are shared before they are looked at: no more than may hold what is wanted.
        let batches_max = left.saturating_add(SKIPPED_MAX);
        let visited = visit(storage, partition, first, (batches_max, bytes_max), &mut |met| picking.take(met));
        if picking.is_over {
            break;
        }
        let Some(&at) = picking.wanted.first() else { break };
        match (visited, picking.damage.take()) {
            // Nobody knows how much of what is stored is damaged, so each record is looked for by itself.
            (Err(error @ StorageError::Corrupt(_)), damage) => picking.fail_before(at.next(), damage.unwrap_or(error.into())),
            (Err(error), damage) => picking.fail_before(next_base(storage, partition, at), damage.unwrap_or(error.into())),
            // There is no batch behind it.
            (Ok(false), Some(damage)) => picking.fail_before(high_watermark, damage),
            (Ok(true), Some(damage)) => picking.fail_before(next_base(storage, partition, at), damage),
            (Ok(_), None) if picking.wanted.len() == left => picking.fail_before(high_watermark, ReadError::Missing { offset: first }),
            (Ok(_), None) => {}
        }
    }
    picking.found.without_trimmed(partition.cut_at())
}

impl Found {
    /// Puts a record in the place of the one at an offset that was asked for, also where none is any more, or none can be read.
    pub(crate) fn put(&mut self, offset: Offset, kept: Record) {
        let Record { timestamp_ms, payload } = kept;
        match self.records.binary_search_by_key(&offset, |record| record.offset) {
            Ok(at) => self.records[at].payload = payload,
            Err(at) if self.gone.contains(&offset) || self.failed.contains(&offset) => {
                self.gone.retain(|&gone| gone != offset);
                self.failed.retain(|&failed| failed != offset);
                if self.failed.is_empty() {
                    self.error = None;
                }
                self.records.insert(at, StoredRecord { offset, timestamp_ms, payload });
            }
            // It did not fit.
            Err(_) => {}
        }
    }

    /// What could not be read because retention took it meanwhile is gone, and nothing is wrong with it.
    fn without_trimmed(mut self, log_start: Offset) -> Self {
        let (trimmed, failed): (Vec<Offset>, Vec<Offset>) = self.failed.into_iter().partition(|&offset| offset < log_start);
        if failed.is_empty() {
            self.error = None;
        }
        self.failed = failed;
        if !trimmed.is_empty() {
            self.gone.extend(trimmed);
            self.gone.sort_unstable();
        }
        self
    }
}

impl Picking<'_> {
    /// Breaks when no more is to be picked, or the next record is far.
    fn take(&mut self, met: Met<'_>) -> ControlFlow<()> {
        let base = met.base();
        if let Some(&first) = self.wanted.first()
            && first < base
        {
            let reason = self.damage.take().unwrap_or(ReadError::Missing { offset: first });
            self.fail_before(base, reason);
        }
        let Some(&first) = self.wanted.first() else { return ControlFlow::Break(()) };
        match met {
            Met::Cached(batch) if batch.next() <= first => {}
            Met::Stored { value, .. } if next_offset(value).is_some_and(|next| next <= first) => return self.skip(),
            Met::Cached(batch) => match batch.records() {
                Ok(records) => {
                    let raw_bytes = batch.unpacked_bytes_beside();
                    if raw_bytes > 0 && !self.budget.admit_batch(raw_bytes) {
                        self.is_over = true;
                        return ControlFlow::Break(());
                    }
                    self.expect(records.len());
                    self.pick(base, records.iter().map(Ok), batch.next(), raw_bytes, StoredRecord::clone);
                }
                Err(reason) => self.fail_before(batch.next(), ReadError::Damaged { base, reason }),
            },
            Met::Stored { value, .. } => match unpack(base, value, self.budget) {
                None => self.is_over = true,
                Some(Ok(batch)) => {
                    self.expect(batch.header().records_count as usize);
                    self.pick(base, batch.records(), batch.header().next_offset(), batch.bytes(), core::convert::identity);
                }
                Some(Err(error)) => self.damage = Some(error),
            },
        }
        self.skipped = 0;
        if self.is_over || self.wanted.is_empty() || self.budget.is_full() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn skip(&mut self) -> ControlFlow<()> {
        self.skipped += 1;
        // The first may be the one before what is looked for, and the next the one behind it.
        if self.skipped > SKIPPED_MAX { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    /// Makes room for what a batch of so many records may give.
    fn expect(&mut self, records: usize) {
        self.found.records.reserve(records.min(self.wanted.len()));
    }

    /// Takes what is wanted out of a batch whose records keep `raw_bytes`, which were charged for them: none if it lies in memory anyway.
    fn pick<R: Borrow<StoredRecord>>(
        &mut self,
        base: Offset,
        records: impl IntoIterator<Item = Result<R, BatchError>>,
        next: Offset,
        raw_bytes: usize,
        own: impl Fn(R) -> StoredRecord,
    ) {
        let (before, mut is_sound) = (self.found.records.len(), true);
        let mut records = records.into_iter();
        while !self.wanted.is_empty()
            && let Some(record) = records.next()
        {
            let record = match record {
                Ok(record) => record,
                Err(reason) => {
                    self.damage = Some(ReadError::Damaged { base, reason });
                    is_sound = false;
                    break;
                }
            };
            self.gone_before(record.borrow().offset);
            if self.wanted.first() != Some(&record.borrow().offset) {
                continue;
            }
            if !self.budget.admit_record(&record.borrow().payload) {
                self.is_over = true;
                break;
            }
            self.found.records.push(own(record));
            self.wanted = &self.wanted[1..];
        }
        if !self.is_over && is_sound {
            self.gone_before(next);
        }
        let picked = &mut self.found.records[before..];
        if raw_bytes > 2 * picked.iter().map(|record| record.payload.len()).sum::<usize>() {
            // A few records of a large batch would keep all of it in memory.
            picked.iter_mut().for_each(detach);
            self.budget.drop_batch(raw_bytes);
        }
    }

    /// Notes that a sound batch holds nothing at what is wanted before `end`.
    fn gone_before(&mut self, end: Offset) {
        // Most of the time nothing is, and that is asked for every record.
        if self.wanted.first().is_none_or(|&first| first >= end) {
            return;
        }
        let (gone, wanted) = self.wanted.split_at(self.wanted.partition_point(|&offset| offset < end));
        let length = |gap: &Range<Offset>| gap.end.0 - gap.start.0;
        let gap = gone[0]..end;
        if self.found.gap.as_ref().is_none_or(|longest| length(longest) < length(&gap)) {
            self.found.gap = Some(gap);
        }
        self.found.gone.extend_from_slice(gone);
        self.wanted = wanted;
    }

    fn fail_before(&mut self, end: Offset, error: ReadError) {
        let (failed, wanted) = self.wanted.split_at(self.wanted.partition_point(|&offset| offset < end));
        self.found.failed.extend_from_slice(failed);
        if !matches!(self.found.error, Some(ReadError::Storage(StorageError::Io(_)))) {
            self.found.error = Some(error);
        }
        self.wanted = wanted;
    }
}

/// Gives a record memory of its own.
fn detach(record: &mut StoredRecord) {
    for bytes in [&mut record.payload.key, &mut record.payload.value].into_iter().flatten() {
        *bytes = Bytes::copy_from_slice(bytes);
    }
    record.payload.headers.detach();
}
