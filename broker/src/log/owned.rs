//! The half of a partition that its shard's task owns: it gives offsets, and says what is stored for a batch.

use crate::ids::PartitionKey;
use crate::log::batch::{Batch, NewBatch};
use crate::log::partition::Partition;
use crate::log::positions::Positions;
use crate::storage::{Family, Mutation};
use sagamq_api::Offset;
use std::sync::Arc;

/// Distance between two entries of the time index, in milliseconds of record time.
const TIME_INDEX_STEP_MS: i64 = 1_000;

/// The task's half of a partition.
#[derive(Debug)]
pub(crate) struct OwnedLog {
    partition: Arc<Partition>,
    /// Where it stands, with what is staged.
    positions: Positions,
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
        Self { partition, positions, has_row: true, is_row_due: false }
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
        let is_indexed = self.index_time(&batch, store);
        store(Mutation::Put { family: Family::Log, key: self.key().log(base), value: batch.bytes().clone() });
        let says_more = is_indexed || !self.has_row;
        (batch, says_more && !std::mem::replace(&mut self.is_row_due, true))
    }

    /// Where the log stands at the end of this commit of its shard.
    pub(crate) fn store_positions(&mut self, commit: u64) -> Mutation {
        (self.has_row, self.is_row_due) = (true, false);
        Mutation::Put { family: Family::Meta, key: self.key().positions(), value: self.positions.encode(commit).into() }
    }

    /// Whether the batch gets an entry: it is the first whose time is by so much above the last one that did.
    fn index_time(&mut self, batch: &Batch, store: &mut dyn FnMut(Mutation)) -> bool {
        let is_due = batch.max_timestamp() >= self.positions.timestamp_ms_indexed.saturating_add(TIME_INDEX_STEP_MS);
        if is_due {
            self.positions.timestamp_ms_indexed = batch.max_timestamp();
            let key = self.partition.key.time_index(batch.max_timestamp(), batch.base_offset());
            store(Mutation::Put { family: Family::TimeIndex, key, value: bytes::Bytes::new() });
        }
        is_due
    }
}
