//! The batches of a partition, one after the other: from the tail in memory, else from storage.

use super::error::ReadError;
use crate::ids::PartitionKey;
use crate::log::batch::{BatchHeader, Unpacked, unpacked_bytes_max};
use crate::log::budget::Budget;
use crate::log::partition::Partition;
use crate::log::tail::CachedBatch;
use crate::storage::{Direction, Family, Storage, StorageError};
use core::ops::ControlFlow;
use sagamq_api::Offset;

/// A batch that a read meets: one in memory whose records are kept there, or the bytes of another one, which nobody has looked at.
#[derive(Clone, Copy)]
pub(super) enum Met<'a> {
    Cached(&'a CachedBatch),
    Stored { base: Offset, value: &'a [u8] },
}

impl Met<'_> {
    /// Where it begins.
    pub(super) fn base(&self) -> Offset {
        match self {
            Met::Cached(batch) => batch.base(),
            Met::Stored { base, .. } => *base,
        }
    }
}

/// Visits the batches from the one that holds `from` on: those of the tail up to so many batches and about so many bytes, else those of storage,
/// with one look for all of them. Where no batch holds `from`, the one before it or the one behind it is the first. Whether the visitor broke.
pub(super) fn visit(
    storage: &dyn Storage,
    partition: &Partition,
    from: Offset,
    tail_max: (usize, usize),
    visitor: &mut dyn FnMut(Met<'_>) -> ControlFlow<()>,
) -> Result<bool, StorageError> {
    if let Some(batches) = partition.read_tail(from, tail_max) {
        return Ok(batches.iter().any(|batch| {
            // What is decompressed each time is charged as if it came out of storage.
            let met = if batch.is_kept() { Met::Cached(batch) } else { Met::Stored { base: batch.base(), value: batch.bytes() } };
            visitor(met).is_break()
        }));
    }
    let high_watermark = partition.high_watermark();
    // The batch that holds `from` begins at or before it.
    let range = partition.key.log_range(Offset(0)..high_watermark);
    let at = partition.key.log_range(from..high_watermark).start;
    let mut is_broken = false;
    storage.scan_from(Family::Log, &range.start..&range.end, &at, &mut |key, value| {
        let base = PartitionKey::log_base(key).unwrap_or(from);
        let flow = visitor(Met::Stored { base, value });
        is_broken = flow.is_break();
        flow
    })?;
    Ok(is_broken)
}

/// A batch of storage, copied or decompressed once there is memory for it: what its records keep is charged. `None`: there is none. The records
/// are read one by one, each charged before the next, because many short headers take much more than their bytes.
pub(super) fn unpack(base: Offset, value: &[u8], budget: &mut Budget) -> Option<Result<Unpacked, ReadError>> {
    let most = unpacked_bytes_max(value);
    if !budget.admit_batch(most) {
        return None;
    }
    let unpacked = Unpacked::read(value);
    budget.drop_batch(most - unpacked.as_ref().map_or(0, Unpacked::bytes).min(most));
    Some(unpacked.map_err(|reason| ReadError::Damaged { base, reason }))
}

/// The offset behind a batch, as its header says. `None`: it cannot be read.
pub(super) fn next_offset(value: &[u8]) -> Option<Offset> {
    BatchHeader::parse(value).ok().map(|header| header.next_offset())
}

/// Where the next batch behind `offset` begins; the high watermark if there is none or it cannot be told.
pub(super) fn next_base(storage: &dyn Storage, partition: &Partition, offset: Offset) -> Offset {
    let mut next = partition.high_watermark();
    let range = partition.key.log_range(offset.next()..next);
    let _ = storage.scan(Family::Log, &range.start..&range.end, Direction::Forward, &mut |key, _| {
        next = PartitionKey::log_base(key).unwrap_or(next);
        ControlFlow::Break(())
    });
    next.max(offset.next())
}
