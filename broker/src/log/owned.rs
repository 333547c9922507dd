//! The half of a partition that its shard's task owns: it gives offsets, and says what is stored for a batch.

use crate::ids::PartitionKey;
use crate::log::batch::{Batch, NewBatch, unpacked_bytes_max};
use crate::log::compaction::{Compacted, Rewrite};
use crate::log::expiry::{Cut, Place};
use crate::log::index::{Entry, STEP_BYTES, STEP_MS};
use crate::log::partition::Partition;
use crate::log::positions::Positions;
use crate::storage::{Family, Mutation};
use sagamq_api::Offset;
use std::sync::Arc;

/// The task's half of a partition.
#[derive(Debug)]
pub(crate) struct OwnedLog {
    partition: Arc<Partition>,
    /// Where it stands, with what is staged.
    positions: Positions,
    /// No batch has a later time.
    timestamp_ms_max: i64,
    /// Bytes of all batches that were ever before the last entry of the index.
    bytes_indexed: u64,
    /// Bytes that the records of the batches since then become beyond those of the batches, when they are decompressed. Not stored: after a start it
    /// is counted anew.
    unpacked_since: u64,
    /// A row of its positions is stored or due.
    has_row: bool,
    /// Its row is due with the commit that is being made: it has changed by more than its batches say.
    is_row_due: bool,
}

impl OwnedLog {
    /// A log that was never written.
    pub(crate) fn new(partition: Arc<Partition>) -> Self {
        Self { has_row: false, ..Self::stored(partition, Positions::EMPTY) }
    }

    /// A log that stands where its partition does, and is stored so.
    pub(crate) fn stored(partition: Arc<Partition>, positions: Positions) -> Self {
        let offsets = partition.offsets();
        assert!(
            (offsets.log_start, offsets.log_end) == (positions.log_start, positions.log_end),
            "both halves of a partition begin at the same positions: {offsets:?}, {positions:?}"
        );
        partition.count_bytes(positions.bytes());
        Self {
            partition,
            // Else there were an entry.
            timestamp_ms_max: positions.timestamp_ms_indexed.saturating_add(STEP_MS - 1),
            bytes_indexed: positions.bytes_end,
            unpacked_since: 0,
            positions,
            has_row: true,
            is_row_due: false,
        }
    }

    pub(crate) fn key(&self) -> PartitionKey {
        self.partition.key
    }

    /// The half that everybody sees.
    pub(crate) fn partition(&self) -> &Arc<Partition> {
        &self.partition
    }

    /// Where it ends, with what is staged.
    pub(crate) fn log_end(&self) -> Offset {
        self.positions.log_end
    }

    /// Gives a batch its offset and says what is to be stored for it. Whether this made the log's row due: its positions are then to be
    /// stored at the commit's end.
    pub(crate) fn append(&mut self, batch: NewBatch, store: &mut dyn FnMut(Mutation)) -> (Batch, bool) {
        let base = self.partition.append(batch.offsets_count());
        assert!(base == self.positions.log_end, "offsets are given one after the other: {base} after {:?}", self.positions);
        let batch = batch.at(base);
        self.positions.log_end = batch.next_offset();
        let is_indexed = self.index(&batch, store);
        self.positions.bytes_end += batch.len() as u64;
        self.partition.count_bytes(self.positions.bytes());
        store(Mutation::Put { family: Family::Log, key: self.key().log(base), value: batch.bytes().clone() });
        let says_more = is_indexed || !self.has_row;
        (batch, says_more && !std::mem::replace(&mut self.is_row_due, true))
    }

    /// Where the log stands at the end of this commit of its shard.
    pub(crate) fn store_positions(&mut self, commit: u64) -> Mutation {
        (self.has_row, self.is_row_due) = (true, false);
        Mutation::Put { family: Family::Meta, key: self.key().positions(), value: self.positions.encode(commit).into() }
    }

    /// Whether the batch gets an entry: it is the first whose time is by so much above that of the last one that did, or that has so many
    /// bytes, decompressed, between it and that one: who compacts the log has all of them in memory.
    fn index(&mut self, batch: &Batch, store: &mut dyn FnMut(Mutation)) -> bool {
        let Positions { timestamp_ms_indexed, bytes_end, .. } = self.positions;
        self.timestamp_ms_max = self.timestamp_ms_max.max(batch.max_timestamp());
        let is_due = batch.max_timestamp() >= timestamp_ms_indexed.saturating_add(STEP_MS)
            || bytes_end - self.bytes_indexed + self.unpacked_since >= STEP_BYTES;
        if is_due {
            (self.positions.timestamp_ms_indexed, self.bytes_indexed) = (self.timestamp_ms_max, bytes_end);
            self.unpacked_since = 0;
            let entry = Entry { timestamp_ms: self.timestamp_ms_max, base: batch.base_offset(), bytes: bytes_end };
            store(entry.put(self.key()));
        }
        if batch.is_compressed() {
            self.unpacked_since += unpacked_bytes_max(batch.bytes()).saturating_sub(batch.len()) as u64;
        }
        is_due
    }

    /// Takes the oldest batches away, as it was found that they may go: the start of the log rises, and nothing of them is there when that
    /// is written. How many records they held; `None` if the log has changed so that they may not go now. Its positions are due then.
    pub(crate) fn trim(&mut self, cut: &Cut, store: &mut dyn FnMut(Mutation)) -> Option<u64> {
        let key = self.key();
        let Positions { log_start, log_end, .. } = self.positions;
        let bytes_start = match cut.place {
            // What came meanwhile is not old.
            Place::End if cut.log_start != log_end => return None,
            Place::End => self.positions.bytes_end,
            Place::Entry { bytes, .. } => bytes,
        };
        if cut.log_start <= log_start {
            return None;
        }
        self.partition.cut(cut.log_start);
        (self.positions.log_start, self.positions.bytes_start) = (cut.log_start, bytes_start);
        self.partition.count_bytes(self.positions.bytes());
        store(Mutation::DeleteRange { family: Family::Log, range: key.log_range(log_start..cut.log_start) });
        let entries = key.all().start;
        let entries = match cut.place {
            Place::Entry { timestamp_ms, .. } => entries..key.time_index(timestamp_ms, cut.log_start),
            Place::End => entries..key.all().end,
        };
        store(Mutation::DeleteRange { family: Family::TimeIndex, range: entries });
        if cut.place == Place::End {
            // The next batch gets an entry, whatever its time: a log that is not empty begins with one.
            (self.positions.timestamp_ms_indexed, self.timestamp_ms_max) = (i64::MIN, i64::MIN);
        }
        Some(cut.log_start.0 - log_start.0)
    }

    /// Rewrites a piece without the records that newer ones of their keys have made superfluous. Everything before that it takes is still there in the
    /// log, or nothing happens: `false`. Its positions are due then.
    pub(crate) fn rewrite(&mut self, rewrite: &Rewrite, compacted: &Compacted, store: &mut dyn FnMut(Mutation)) -> bool {
        let key = self.key();
        let Positions { log_start, log_end, .. } = self.positions;
        if rewrite.range.start < log_start || rewrite.range.end > log_end {
            return false;
        }
        // Where the log ends in bytes stays, as what comes next is counted from there: it begins later.
        self.positions.bytes_start += rewrite.saved;
        self.partition.count_bytes(self.positions.bytes());
        if !rewrite.batches.is_empty() {
            store(Mutation::DeleteRange { family: Family::Log, range: key.log_range(rewrite.range.clone()) });
        }
        for batch in &rewrite.batches {
            store(Mutation::Put { family: Family::Log, key: key.log(batch.base_offset()), value: batch.bytes().clone() });
        }
        rewrite.index(key).for_each(&mut *store);
        store(compacted.put(key));
        true
    }

    /// Notes that its positions are due; `false` if they were already.
    pub(crate) fn make_row_due(&mut self) -> bool {
        !std::mem::replace(&mut self.is_row_due, true)
    }
}
