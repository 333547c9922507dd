//! Where a log may be cut, by the times and by the bytes of its batches. Only its index is looked at, never a batch.

use crate::log::compaction::Compacted;
use crate::log::index::{Entry, STEP_MS};
use crate::log::partition::Partition;
use crate::storage::{Direction, Family, Storage, StorageError};
use core::ops::ControlFlow;
use sagamq_api::Offset;

/// What may be kept of a log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Batches whose records are all older may go, up to the first of which that is not so.
    pub(crate) older_than_ms: Option<i64>,
    /// Bytes above which the oldest batches go.
    pub(crate) bytes_max: Option<u64>,
    /// Nothing from here on may go.
    pub(crate) below: Option<Offset>,
}

/// Where a log may be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    /// Where it begins then.
    pub(crate) log_start: Offset,
    pub(crate) place: Place,
}

/// Where a cut lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// At the batch of this entry of the index, with so many bytes before it.
    Entry { timestamp_ms: i64, bytes: u64 },
    /// Behind all batches that were there.
    End,
}

/// Entries that one look steps over at the most: what is left goes with the next look.
const ENTRIES_MAX: usize = 100_000;

/// Where the log may be cut now; `None` if nothing may go. Blocks on storage.
pub(crate) fn find_cut(storage: &dyn Storage, partition: &Partition, limits: &Limits) -> Result<Option<Cut>, StorageError> {
    let offsets = partition.offsets();
    // What is staged behind the durable end counts: it will be there.
    let bytes = partition.bytes();
    let end = limits.below.map_or(offsets.high_watermark, |below| below.min(offsets.high_watermark));
    if offsets.log_start >= end {
        return Ok(None);
    }
    let compacted = Compacted::read(storage, partition.key)?;
    let (mut first_bytes, mut last, mut found, mut is_all) = (None, None, None, true);
    let mut looked_at = 0;
    let range = partition.key.all();
    storage.scan(Family::TimeIndex, &range.start..&range.end, Direction::Forward, &mut |key, value| {
        let Some(entry) = Entry::of(key, value) else { return ControlFlow::Continue(()) };
        let entry = Entry { bytes: compacted.shifted(entry.base, entry.bytes), ..entry };
        let first = *first_bytes.get_or_insert(entry.bytes);
        looked_at += 1;
        if entry.base > end || looked_at > ENTRIES_MAX {
            is_all = false;
            return ControlFlow::Break(());
        }
        let is_old = last.is_none_or(|last| limits.is_old(&last));
        let is_much = limits.bytes_max.is_some_and(|max| last.is_some_and(|last: Entry| bytes - (last.bytes - first).min(bytes) > max));
        // All before this entry may go if the one before it is old, or if there were still too many bytes with it.
        if last.is_some() && !(is_old || is_much) {
            is_all = false;
            return ControlFlow::Break(());
        }
        found = Some(entry);
        last = Some(entry);
        ControlFlow::Continue(())
    })?;
    let may_end = is_all && end == offsets.high_watermark && last.is_some_and(|last| limits.is_old(&last));
    let cut = if may_end {
        Some(Cut { log_start: end, place: Place::End })
    } else {
        found.map(|Entry { timestamp_ms, base, bytes }| Cut { log_start: base, place: Place::Entry { timestamp_ms, bytes } })
    };
    Ok(cut.filter(|cut| cut.log_start > offsets.log_start))
}

impl Limits {
    /// Whether the entry and all batches up to the next one are old.
    fn is_old(&self, entry: &Entry) -> bool {
        self.older_than_ms.is_some_and(|end_ms| entry.timestamp_ms.saturating_add(STEP_MS) <= end_ms)
    }
}
