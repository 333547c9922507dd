//! The half of a partition that its shard's task owns: it gives offsets, and says what is stored for a batch.

use crate::ids::PartitionKey;
use crate::log::batch::Batch;
use crate::log::partition::Partition;
use crate::log::positions::Positions;
use crate::storage::{Family, Mutation};
use std::sync::Arc;

/// Distance between two entries of the time index, in milliseconds of record time.
const TIME_INDEX_STEP_MS: i64 = 1_000;

/// The task's half of a partition.
#[derive(Debug)]
pub(crate) struct OwnedLog {
    partition: Arc<Partition>,
    /// Where it stands, with what is staged.
    positions: Positions,
    /// Where it stands has changed in the commit that is being made.
    is_moved: bool,
}

impl OwnedLog {
    /// A log that stands where its partition does.
    pub(crate) fn new(partition: Arc<Partition>, positions: Positions) -> Self {
        let offsets = partition.offsets();
        assert!(
            (offsets.log_start, offsets.log_end) == (positions.log_start, positions.log_end),
            "both halves of a partition begin at the same positions: {offsets:?}, {positions:?}"
        );
        Self { partition, positions, is_moved: false }
    }

    pub(crate) fn key(&self) -> PartitionKey {
        self.partition.key
    }

    /// The half that everybody sees.
    pub(crate) fn partition(&self) -> &Arc<Partition> {
        &self.partition
    }

    /// Gives a batch its offset and says what is to be stored for it. Whether this is the log's first move in the commit: its positions
    /// are then to be stored at the commit's end.
    pub(crate) fn append(&mut self, batch: Batch, store: &mut dyn FnMut(Mutation)) -> (Batch, bool) {
        let base = self.partition.append(batch.offsets_count());
        assert!(base == self.positions.log_end, "offsets are given one after the other: {base} after {:?}", self.positions);
        let batch = batch.with_base_offset(base);
        self.positions.log_end = batch.next_offset();
        self.index_time(&batch, store);
        store(Mutation::Put { family: Family::Log, key: self.key().log(base), value: batch.bytes().clone() });
        (batch, !std::mem::replace(&mut self.is_moved, true))
    }

    /// Where the log stands at the end of this commit of its shard.
    pub(crate) fn store_positions(&mut self, commit: u64) -> Mutation {
        self.is_moved = false;
        Mutation::Put { family: Family::Meta, key: self.key().positions(), value: self.positions.encode(commit).into() }
    }

    fn index_time(&mut self, batch: &Batch, store: &mut dyn FnMut(Mutation)) {
        let positions = &mut self.positions;
        positions.timestamp_ms_max = positions.timestamp_ms_max.max(batch.max_timestamp());
        if positions.timestamp_ms_max >= positions.timestamp_ms_indexed.saturating_add(TIME_INDEX_STEP_MS) {
            positions.timestamp_ms_indexed = positions.timestamp_ms_max;
            let key = self.partition.key.time_index(positions.timestamp_ms_max, batch.base_offset());
            store(Mutation::Put { family: Family::TimeIndex, key, value: bytes::Bytes::new() });
        }
    }
}
