//! A partition as its readers see it: the high watermark, the tail in memory, and who waits for records.
//!
//! The shard's task owns the log's end; this is the shared half, advanced by the committer once a commit is durable.

use crate::ids::PartitionKey;
use crate::log::batch::Batch;
use crate::log::offsets::LogOffsets;
use crate::log::tail::{CachedBatch, Tail, TailMemory};
use crate::log::work::Readers;
use sagamq_api::Offset;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

/// The shared half of a partition.
#[derive(Debug)]
pub(crate) struct Partition {
    pub(crate) key: PartitionKey,
    /// A plain mutex: it is held for a few instructions and never across an await. Only the shard's task moves the end, only
    /// the committer moves the high watermark.
    offsets: Mutex<LogOffsets>,
    high_watermark: AtomicU64,
    /// Wakes who waits for records.
    moved: Notify,
    /// A plain mutex: it is held for the push or the clone of a few batch handles and never across an await.
    tail: Arc<Mutex<Tail>>,
    tail_memory: TailMemory,
    /// The groups that read the topic.
    readers: Arc<Readers>,
    /// Mean bytes of a record, so that a receive can bound its answer before it leases.
    record_bytes_mean: AtomicU64,
    deleted: AtomicBool,
}

impl Partition {
    pub(crate) fn new(key: PartitionKey, offsets: LogOffsets, tail_memory: &TailMemory, readers: &Arc<Readers>) -> Self {
        Self {
            key,
            high_watermark: AtomicU64::new(offsets.high_watermark.0),
            moved: Notify::new(),
            offsets: Mutex::new(offsets),
            tail: Arc::default(),
            tail_memory: tail_memory.clone(),
            readers: Arc::clone(readers),
            record_bytes_mean: AtomicU64::new(1024),
            deleted: AtomicBool::new(false),
        }
    }

    /// The positions at this moment.
    pub(crate) fn offsets(&self) -> LogOffsets {
        *self.locked()
    }

    fn locked(&self) -> MutexGuard<'_, LogOffsets> {
        self.offsets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn log_start(&self) -> Offset {
        self.offsets().log_start
    }

    /// Gives offsets to `count` records and returns the first. Only the shard's task calls it.
    pub(crate) fn append(&self, count: u64) -> Offset {
        self.locked().append(count)
    }

    pub(crate) fn high_watermark(&self) -> Offset {
        Offset(self.high_watermark.load(Ordering::SeqCst))
    }

    /// Ends with the next move of the high watermark, or with the partition. Make it before you look: it hears of everything from then on.
    pub(crate) fn moved(&self) -> Notified<'_> {
        self.moved.notified()
    }

    pub(crate) fn record_bytes_mean(&self) -> u64 {
        self.record_bytes_mean.load(Ordering::Relaxed).max(1)
    }

    /// The newest batch is the best guess there is after a restart.
    pub(crate) fn guess_record_bytes(&self, newest_mean: u64) {
        self.record_bytes_mean.store(newest_mean, Ordering::Relaxed);
    }

    pub(crate) fn is_deleted(&self) -> bool {
        self.deleted.load(Ordering::Acquire)
    }

    /// Marks the partition deleted and wakes everybody who waits for it.
    pub(crate) fn delete(&self) {
        self.deleted.store(true, Ordering::Release);
        self.tail_memory.forget(&self.tail);
        self.moved.notify_waiters();
        self.readers.wake(self.key.partition.0 as usize);
    }

    /// Shows durable batches to the readers: first the tail, then the watermark, so that nobody sees an offset he cannot read.
    pub(crate) fn publish(&self, batches: impl IntoIterator<Item = Batch>) {
        let (mut end, mut bytes, mut records) = (None, 0, 0);
        self.push_tail(batches.into_iter().inspect(|batch| {
            end = Some(batch.next_offset());
            bytes += batch.len() as u64;
            records += batch.offsets_count();
        }));
        if self.is_deleted() {
            // Deleted while the disk worked: nobody would ever take it out of the tail.
            self.tail_memory.forget(&self.tail);
        }
        let Some(end) = end else { return };
        let mean = (self.record_bytes_mean() * 7 + bytes / records.max(1)) / 8;
        self.record_bytes_mean.store(mean, Ordering::Relaxed);
        // Readers look at the watermark, groups at the positions: what a group gives out can be read.
        self.high_watermark.store(end.0, Ordering::SeqCst);
        self.moved.notify_waiters();
        self.locked().make_durable(end);
        self.readers.wake(self.key.partition.0 as usize);
    }

    /// The first half of [`Partition::publish`]: what the watermark does not cover yet.
    pub(super) fn push_tail(&self, batches: impl IntoIterator<Item = Batch>) {
        self.tail_memory.push(&self.tail, batches);
    }

    /// Batches of the tail from `from` on; `None` if they are not in memory any more.
    pub(crate) fn read_tail(&self, from: Offset, bytes_max: usize) -> Option<Vec<CachedBatch>> {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner).read(from, bytes_max)
    }

    /// Whether the tail begins at or before `from` and goes beyond it.
    pub(crate) fn is_in_tail(&self, from: Offset) -> bool {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner).holds(from)
    }
}
