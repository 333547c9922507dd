//! A piece of a log that is compacted: some entries of the index, and the batches between them. Found and read beside the shard, from storage.
//!
//! Batches are never merged over an entry of the index, so the log can be cut at each as before. An entry whose batches hold no record any more
//! goes, and its offsets are taken by the batch before it: where nothing is left, nothing is stored but for one batch.

use super::keys::KeyMap;
use super::row::Compacted;
use crate::ids::PartitionKey;
use crate::log::batch::{Batch, Compression, EncodeError, OFFSETS_MAX, StoredRecord, Unpacked, unpacked_bytes_max};
use crate::log::cut::{BATCH_BYTES_MAX, BATCH_RECORDS_MAX};
use crate::log::index::{Entry, STEP_MS};
use crate::log::partition::Partition;
use crate::log::reader::ReadError;
use crate::storage::{Direction, Family, Mutation, Storage, StorageError};
use bytes::Bytes;
use core::ops::{ControlFlow, Range};
use sagamq_api::Offset;

/// Bytes of batches that one piece has, give or take what lies between two entries.
const PIECE_BYTES: u64 = 1024 * 1024;

/// Bytes of records that one piece has when they are decompressed, give or take those of one entry.
const UNPACKED_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Entries of the index that one piece has.
const PIECE_ENTRIES_MAX: usize = 256;

/// Bytes of batches that are read for their keys at a time.
const GATHER_BYTES: usize = 4 * 1024 * 1024;

/// A piece, by its entries. The last one's batches may go on behind its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    entries: Vec<Entry>,
    pub(crate) end: Offset,
    /// It is the last of its pass: what lies behind its end may belong to its last entry.
    is_last: bool,
}

/// Which records of a piece go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules<'a> {
    pub(crate) keys: &'a KeyMap,
    /// Tombstones below this offset go.
    pub(crate) tombstones_below: Offset,
    /// Bytes that became less behind the piece in this pass.
    pub(crate) shift: u64,
}

/// What a piece becomes.
#[derive(Clone, Debug)]
pub(crate) struct Rewrite {
    /// Its offsets.
    pub(crate) range: Range<Offset>,
    /// Its batches; none if they stay as they are.
    pub(crate) batches: Vec<Batch>,
    /// Entries that change.
    pub(super) entries: Vec<Entry>,
    /// Entries that go.
    pub(super) dropped: Vec<Entry>,
    /// How many bytes it has less.
    pub(crate) saved: u64,
    /// Records that go.
    pub(crate) records: u64,
    /// Bytes of its batches afterwards.
    pub(crate) bytes: u64,
    /// Tombstones that stay.
    pub(crate) tombstones: u64,
    /// Whether everything went that may go. Not if what is left would take more bytes than all did.
    pub(crate) is_whole: bool,
}

impl Piece {
    pub(crate) fn start(&self) -> Offset {
        self.entries[0].base
    }

    /// Where the key of its first entry stands: the piece before ends there.
    fn first(&self) -> &Entry {
        &self.entries[0]
    }
}

impl Rewrite {
    /// Whether nothing of the piece changes.
    pub(crate) fn is_nothing(&self) -> bool {
        self.batches.is_empty() && self.entries.is_empty() && self.dropped.is_empty()
    }

    /// What the entries of the index become.
    pub(in crate::log) fn index(&self, key: PartitionKey) -> impl Iterator<Item = Mutation> + '_ {
        let dropped = self.dropped.iter().map(move |entry| entry.delete(key));
        dropped.chain(self.entries.iter().map(move |entry| entry.put(key)))
    }
}

/// Up to where a log may be compacted: everything before is durable, and older than that. Blocks on storage.
pub(crate) fn cleanable_end(storage: &dyn Storage, partition: &Partition, older_than_ms: Option<i64>) -> Result<Offset, StorageError> {
    let mut end = partition.high_watermark();
    let Some(older_than_ms) = older_than_ms else { return Ok(end) };
    // All between an entry and the next is younger than the entry by less than a step. So from the first entry on that is not a step older
    // there may be something younger.
    let from = partition.key.time_index(older_than_ms.saturating_sub(STEP_MS), Offset(0));
    let all = partition.key.all();
    storage.scan(Family::TimeIndex, &from..&all.end, Direction::Forward, &mut |key, _| {
        end = PartitionKey::time_index_base(key).unwrap_or(end).min(end);
        ControlFlow::Break(())
    })?;
    Ok(end)
}

/// Notes the keys of the records from `from` on, of some batches. Where it stopped: at `end`, if all are noted. Blocks on storage.
pub(crate) fn gather(
    storage: &dyn Storage,
    partition: &Partition,
    range: Range<Offset>,
    keys: &mut KeyMap,
) -> Result<(Offset, usize), ReadError> {
    let (mut at, mut bytes) = (range.start, 0);
    let (mut failed, log) = (None, partition.key.log_range(Offset(0)..range.end));
    let from = partition.key.log(range.start);
    storage.scan_from(Family::Log, &log.start..&log.end, &from, &mut |key, value| {
        let base = PartitionKey::log_base(key).unwrap_or(at);
        let noted = Unpacked::read(value).and_then(|batch| {
            for record in batch.records() {
                let record = record?;
                if let Some(key) = record.payload.key.as_deref().filter(|_| record.offset < range.end) {
                    keys.note(key, record.offset);
                }
            }
            Ok(batch.header().next_offset())
        });
        match noted {
            Ok(next) => at = at.max(next.min(range.end)),
            Err(reason) => {
                failed = Some(ReadError::Damaged { base, reason });
                return ControlFlow::Break(());
            }
        }
        bytes += value.len();
        if bytes >= GATHER_BYTES || keys.is_full() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    match failed {
        Some(error) => Err(error),
        None if at == range.start => Err(ReadError::Missing { offset: range.start }),
        None => Ok((at, bytes)),
    }
}

/// The piece that ends at `end`: the last of all below it, or the one before another. `None`: there is no other. Blocks on storage.
pub(crate) fn piece_before(
    storage: &dyn Storage,
    partition: &Partition,
    end: Offset,
    behind: Option<&Piece>,
) -> Result<Option<Piece>, StorageError> {
    let (log_start, all) = (partition.log_start(), partition.key.all());
    let until = behind.map_or(all.end, |behind| partition.key.time_index(behind.first().timestamp_ms, behind.first().base));
    let mut entries: Vec<Entry> = Vec::new();
    let mut end_bytes = None;
    storage.scan(Family::TimeIndex, &all.start..&until, Direction::Backward, &mut |key, value| {
        let Some(entry) = Entry::of(key, value) else { return ControlFlow::Continue(()) };
        if entry.base >= end {
            // Behind what is compacted.
            return ControlFlow::Continue(());
        }
        if entry.base < log_start {
            return ControlFlow::Break(());
        }
        let from = *end_bytes.get_or_insert(entry.bytes);
        entries.push(entry);
        let is_enough = from - entry.bytes.min(from) >= PIECE_BYTES || entries.len() >= PIECE_ENTRIES_MAX;
        if is_enough { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    entries.reverse();
    Ok((!entries.is_empty()).then_some(Piece { entries, end, is_last: behind.is_none() }))
}

/// Entries below the shift, at most so many, as they are with it: from the last one on. What the row says then. Blocks on storage.
pub(crate) fn fold_shift(
    storage: &dyn Storage,
    key: PartitionKey,
    compacted: &Compacted,
) -> Result<(Vec<Mutation>, Compacted), StorageError> {
    let (mut folded, mut below) = (Vec::new(), Offset(0));
    let all = key.all();
    storage.scan(Family::TimeIndex, &all.start..&all.end, Direction::Backward, &mut |row, value| {
        let Some(entry) = Entry::of(row, value).filter(|entry| entry.base < compacted.shift_below) else {
            return ControlFlow::Continue(());
        };
        if folded.len() >= 4 * PIECE_ENTRIES_MAX {
            below = entry.base.next();
            return ControlFlow::Break(());
        }
        folded.push(Entry { bytes: entry.bytes + compacted.shift, ..entry }.put(key));
        ControlFlow::Continue(())
    })?;
    let shift = if below == Offset(0) { 0 } else { compacted.shift };
    Ok((folded, Compacted { shift, shift_below: below, ..*compacted }))
}

/// The batches of one entry.
struct Segment {
    entry: Entry,
    end: Offset,
    batches: Vec<Batch>,
    left: Vec<StoredRecord>,
}

impl Piece {
    /// What the piece becomes; it is shorter then if its records would take too much memory. Blocks on storage.
    ///
    /// # Errors
    /// When a batch is damaged or missing: nothing of the piece may change then.
    pub(crate) fn rewrite(&mut self, storage: &dyn Storage, partition: &Partition, rules: &Rules<'_>) -> Result<Rewrite, ReadError> {
        let mut segments = self.read(storage, partition)?;
        self.shorten(&mut segments);
        let last = Offset(partition.high_watermark().0.saturating_sub(1));
        let (mut gone, mut tombstones) = (0, 0);
        for segment in &mut segments {
            for batch in &segment.batches {
                for record in batch.records().map_err(|reason| ReadError::Damaged { base: batch.base_offset(), reason })? {
                    if rules.takes(&record, last) {
                        gone += 1;
                    } else {
                        tombstones += u64::from(is_tombstone(&record));
                        segment.left.push(record);
                    }
                }
            }
        }
        let bytes: u64 = segments.iter().flat_map(|segment| &segment.batches).map(|batch| batch.len() as u64).sum();
        let range = self.start()..self.end;
        let is_emptied = (1..segments.len()).any(|index| self.may_drop(index) && segments[index].left.is_empty());
        let mut rewrite = None;
        if gone > 0 || is_emptied {
            let written =
                self.write(segments, rules.shift, bytes).map_err(|error| ReadError::Storage(StorageError::Corrupt(error.to_string())))?;
            rewrite = written.map(|of| Rewrite { range: range.clone(), records: gone, tombstones, ..of });
        }
        Ok(rewrite.unwrap_or_else(|| {
            let entries = if rules.shift > 0 { self.entries.iter().map(|entry| shifted(entry, rules.shift)).collect() } else { Vec::new() };
            let (batches, dropped) = (Vec::new(), Vec::new());
            Rewrite { range, batches, entries, dropped, saved: 0, records: 0, bytes, tombstones, is_whole: gone == 0 }
        }))
    }

    /// Leaves the first entries to the piece before, as far as the records of all would take too much memory.
    fn shorten(&mut self, segments: &mut Vec<Segment>) {
        let mut unpacked = 0;
        let fits = |segment: &&Segment| {
            let is_first = unpacked == 0;
            unpacked += segment.batches.iter().map(|batch| unpacked_bytes_max(batch.bytes())).sum::<usize>();
            is_first || unpacked <= UNPACKED_BYTES_MAX
        };
        let beyond = segments.len() - segments.iter().rev().take_while(fits).count();
        segments.drain(..beyond);
        self.entries.drain(..beyond);
    }

    /// Whether the entry may go if nothing is left of its batches: not the first of the piece, and not one whose batches may go on behind it.
    fn may_drop(&self, index: usize) -> bool {
        index > 0 && !(self.is_last && index + 1 == self.entries.len())
    }

    /// Its batches, by entry. They take every offset of the piece.
    fn read(&self, storage: &dyn Storage, partition: &Partition) -> Result<Vec<Segment>, ReadError> {
        let ends = self.entries.iter().skip(1).map(|entry| entry.base).chain([self.end]);
        let mut segments: Vec<Segment> =
            self.entries.iter().zip(ends).map(|(&entry, end)| Segment { entry, end, batches: Vec::new(), left: Vec::new() }).collect();
        let (mut at, mut place, mut failed) = (self.start(), 0, None);
        let log = partition.key.log_range(self.start()..self.end);
        storage.scan(Family::Log, &log.start..&log.end, Direction::Forward, &mut |key, value| {
            let base = PartitionKey::log_base(key).unwrap_or(at);
            let batch = match Batch::parse(Bytes::copy_from_slice(value)) {
                Ok(batch) if base == at && batch.base_offset() == base => batch,
                Ok(_) => {
                    failed = Some(ReadError::Missing { offset: at });
                    return ControlFlow::Break(());
                }
                Err(reason) => {
                    failed = Some(ReadError::Damaged { base, reason });
                    return ControlFlow::Break(());
                }
            };
            at = batch.next_offset();
            while base >= segments[place].end {
                place += 1;
            }
            if at > segments[place].end {
                failed = Some(ReadError::Missing { offset: segments[place].end });
                return ControlFlow::Break(());
            }
            segments[place].batches.push(batch);
            ControlFlow::Continue(())
        })?;
        match failed {
            Some(error) => Err(error),
            None if at != self.end => Err(ReadError::Missing { offset: at }),
            None => Ok(segments),
        }
    }

    /// `None`: what is left would take more bytes than all did, as where that was compressed.
    fn write(&self, segments: Vec<Segment>, shift: u64, bytes_before: u64) -> Result<Option<Rewrite>, EncodeError> {
        let (mut kept, mut dropped) = (Vec::<Segment>::new(), Vec::new());
        for (index, segment) in segments.into_iter().enumerate() {
            match kept.last_mut() {
                Some(before) if segment.left.is_empty() && self.may_drop(index) => {
                    before.end = segment.end;
                    before.batches.extend(segment.batches);
                    dropped.push(segment.entry);
                }
                _ => kept.push(segment),
            }
        }
        // Together they take fewer bytes, unless there are so many small records that their places in a larger batch take more than its header.
        let merged = write_all(&kept, true)?;
        let is_smaller = merged.1.iter().sum::<u64>() <= bytes_before;
        let (batches, sizes) = if is_smaller { merged } else { write_all(&kept, false)? };
        let bytes: u64 = sizes.iter().sum();
        let Some(saved) = bytes_before.checked_sub(bytes) else { return Ok(None) };
        // What becomes less behind an entry is added to where it stands.
        let mut before = self.entries[0].bytes + shift + bytes_before;
        let mut entries: Vec<Entry> = kept.iter().map(|segment| segment.entry).collect();
        for (entry, size) in entries.iter_mut().zip(sizes).rev() {
            before -= size;
            entry.bytes = before;
        }
        let range = self.start()..self.end;
        Ok(Some(Rewrite { range, batches, entries, dropped, saved, records: 0, bytes, tombstones: 0, is_whole: true }))
    }
}

/// The batches of all segments, and how many bytes each segment has.
fn write_all(segments: &[Segment], is_merging: bool) -> Result<(Vec<Batch>, Vec<u64>), EncodeError> {
    let (mut batches, mut sizes) = (Vec::new(), Vec::with_capacity(segments.len()));
    for segment in segments {
        let before = batches.len();
        segment.write(is_merging, &mut batches)?;
        sizes.push(batches[before..].iter().map(|batch| batch.len() as u64).sum());
    }
    Ok((batches, sizes))
}

fn shifted(entry: &Entry, shift: u64) -> Entry {
    Entry { bytes: entry.bytes + shift, ..*entry }
}

impl Segment {
    /// Adds what is left of it: batches that take all its offsets.
    fn write(&self, is_merging: bool, batches: &mut Vec<Batch>) -> Result<(), EncodeError> {
        let times = self.batches.iter().map(|batch| batch.header());
        let (low, high) = times.fold((i64::MAX, i64::MIN), |(low, high), of| (low.min(of.base_timestamp), high.max(of.max_timestamp)));
        let times_ms = if high.checked_sub(low).is_some() { (low, high) } else { (high, high) };
        // As the first of them that is: whoever produces compresses all alike.
        let compression = self.batches.iter().find(|batch| batch.is_compressed()).and_then(|batch| batch.header().compression().ok());
        let compression = compression.unwrap_or(Compression::None);
        let groups = if is_merging { self.merged() } else { self.as_they_were() };
        let ends: Vec<Offset> = groups.iter().skip(1).map(|(start, _)| *start).chain([self.end]).collect();
        for ((mut start, records), end) in groups.into_iter().zip(ends) {
            let mut left = &self.left[records];
            // Where nothing is left there may be more offsets than a batch can take.
            while start < end {
                let next = Offset(end.0.min(start.0 + OFFSETS_MAX));
                let within = left.partition_point(|record| record.offset < next);
                batches.push(Batch::compacted(start..next, &left[..within], times_ms, compression)?);
                (start, left) = (next, &left[within..]);
            }
        }
        Ok(())
    }

    /// Where each batch begins, with its records: as few as there may be.
    fn merged(&self) -> Vec<(Offset, Range<usize>)> {
        let (mut groups, mut start, mut from, mut bytes) = (Vec::new(), self.entry.base, 0, 0);
        for (index, record) in self.left.iter().enumerate() {
            let size = record.payload.len();
            if index > from && (index - from >= BATCH_RECORDS_MAX || bytes + size > BATCH_BYTES_MAX) {
                groups.push((start, from..index));
                (start, from, bytes) = (record.offset, index, 0);
            }
            bytes += size;
        }
        groups.push((start, from..self.left.len()));
        groups
    }

    /// The same, each as it was. One without records is taken by the one before it.
    fn as_they_were(&self) -> Vec<(Offset, Range<usize>)> {
        let (mut groups, mut from) = (Vec::new(), 0);
        for batch in &self.batches {
            let to = from + self.left[from..].partition_point(|record| record.offset < batch.next_offset());
            if groups.is_empty() || to > from {
                groups.push((batch.base_offset(), from..to));
            }
            from = to;
        }
        groups
    }
}

impl Rules<'_> {
    /// Whether the record goes. The last one of the log never does: where the log ends there is something to read.
    fn takes(&self, record: &StoredRecord, last: Offset) -> bool {
        let Some(key) = record.payload.key.as_deref() else { return false };
        let is_over = is_tombstone(record) && record.offset < self.tombstones_below && record.offset != last;
        is_over || self.keys.has_newer(key, record.offset)
    }
}

/// Whether a record says that its key is gone.
fn is_tombstone(record: &StoredRecord) -> bool {
    record.payload.key.is_some() && record.payload.value.is_none()
}
