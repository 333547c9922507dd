//! The newest batches of a partition in memory, so that consumers at the end of a log never touch the disk.

use crate::log::batch::{Batch, BatchError, StoredRecord};
use sagamq_api::Offset;
use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};

/// A batch in memory, decoded at most once.
#[derive(Clone, Debug)]
pub(crate) struct CachedBatch {
    batch: Batch,
    decoded: Arc<OnceLock<Arc<[StoredRecord]>>>,
}

impl CachedBatch {
    pub(crate) fn new(batch: Batch) -> Self {
        Self { batch, decoded: Arc::default() }
    }

    pub(crate) fn base(&self) -> Offset {
        self.batch.base_offset()
    }

    pub(crate) fn next(&self) -> Offset {
        self.batch.next_offset()
    }

    pub(crate) fn len(&self) -> usize {
        self.batch.len()
    }

    pub(crate) fn max_timestamp(&self) -> i64 {
        self.batch.max_timestamp()
    }

    /// The records; a second call is free.
    pub(crate) fn records(&self) -> Result<Arc<[StoredRecord]>, BatchError> {
        if let Some(records) = self.decoded.get() {
            return Ok(Arc::clone(records));
        }
        let records: Arc<[StoredRecord]> = self.batch.records()?.into();
        Ok(Arc::clone(self.decoded.get_or_init(|| records)))
    }
}

/// A ring of contiguous batches, bounded in bytes.
#[derive(Debug)]
pub(crate) struct Tail {
    batches: VecDeque<CachedBatch>,
    bytes: usize,
    bytes_max: usize,
}

impl Tail {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { batches: VecDeque::new(), bytes: 0, bytes_max }
    }

    /// Adds the next batch and lets the oldest ones go.
    pub(crate) fn push(&mut self, batch: Batch) {
        if let Some(last) = self.batches.back() {
            assert_eq!(last.next(), batch.base_offset(), "batches become durable in the order of their offsets");
        }
        self.bytes += batch.len();
        self.batches.push_back(CachedBatch::new(batch));
        while self.bytes > self.bytes_max
            && let Some(oldest) = self.batches.pop_front()
        {
            self.bytes -= oldest.len();
        }
    }

    /// Batches from the one that holds `from` on, until `bytes_max` is passed. `None` if `from` is older than the ring.
    pub(crate) fn read(&self, from: Offset, bytes_max: usize) -> Option<Vec<CachedBatch>> {
        let first = self.batches.partition_point(|batch| batch.next() <= from);
        if self.batches.get(first)?.base() > from {
            return None;
        }
        let mut bytes = 0;
        let within = |batch: &&CachedBatch| {
            let fits = bytes < bytes_max;
            bytes += batch.len();
            fits
        };
        Some(self.batches.iter().skip(first).take_while(within).cloned().collect())
    }
}
