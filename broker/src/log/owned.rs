//! The half of a partition that its shard's task owns: it gives offsets, and says what is stored for a batch.

use crate::ids::PartitionKey;
use crate::log::batch::Batch;
use crate::log::partition::Partition;
use crate::storage::{Family, Mutation};
use std::sync::Arc;

/// Distance between two entries of the time index, in milliseconds of record time.
const TIME_INDEX_STEP_MS: i64 = 1_000;

/// The task's half of a partition.
#[derive(Debug)]
pub(crate) struct OwnedLog {
    partition: Arc<Partition>,
    /// Highest record time so far.
    timestamp_ms_max: i64,
    /// Highest time that stands in the time index.
    timestamp_ms_indexed: i64,
}

impl OwnedLog {
    pub(super) fn new(partition: Arc<Partition>, timestamp_ms_max: i64, timestamp_ms_indexed: i64) -> Self {
        Self { partition, timestamp_ms_max, timestamp_ms_indexed }
    }

    pub(crate) fn key(&self) -> PartitionKey {
        self.partition.key
    }

    /// The half that everybody sees.
    pub(crate) fn partition(&self) -> &Arc<Partition> {
        &self.partition
    }

    /// Gives a batch its offset and says what is to be stored for it.
    pub(crate) fn append(&mut self, batch: Batch, store: &mut dyn FnMut(Mutation)) -> Batch {
        let base = self.partition.append(batch.offsets_count());
        let batch = batch.with_base_offset(base);
        self.index_time(&batch, store);
        store(Mutation::Put { family: Family::Log, key: self.key().log(base), value: batch.bytes().clone() });
        batch
    }

    fn index_time(&mut self, batch: &Batch, store: &mut dyn FnMut(Mutation)) {
        self.timestamp_ms_max = self.timestamp_ms_max.max(batch.max_timestamp());
        if self.timestamp_ms_max >= self.timestamp_ms_indexed.saturating_add(TIME_INDEX_STEP_MS) {
            self.timestamp_ms_indexed = self.timestamp_ms_max;
            let key = self.key().time_index(self.timestamp_ms_max, batch.base_offset());
            store(Mutation::Put { family: Family::TimeIndex, key, value: bytes::Bytes::new() });
        }
    }
}
