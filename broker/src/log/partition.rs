//! A partition as its readers see it: the high watermark, the tail in memory, and who waits for records.
//!
//! The shard's task owns the log's end; this is the shared half, advanced by the committer once a commit is durable.

use crate::ids::PartitionKey;
use crate::log::batch::Batch;
use crate::log::offsets::{LogOffsets, SharedOffsets};
use crate::log::rate::Rate;
use crate::log::tail::{CachedBatch, Tail, TailMemory, Tails};
use crate::log::work::Readers;
use sagamq_api::Offset;
use sagamq_api::limits::DECOMPRESSED_BYTES_MAX;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

/// The shared half of a partition.
#[derive(Debug)]
pub(crate) struct Partition {
    pub(crate) key: PartitionKey,
    offsets: SharedOffsets,
    /// Wakes who waits for records.
    moved: Notify,
    /// How many wait: most of the time nobody does.
    waiters: AtomicUsize,
    /// A plain mutex: it is held for the push or the clone of a few batch handles and never across an await.
    tail: Arc<Mutex<Tail>>,
    tail_memory: TailMemory,
    /// The groups that read the topic.
    readers: Arc<Readers>,
    /// Mean bytes of a record, so that a receive can bound its answer before it leases.
    record_bytes_mean: AtomicU64,
    /// How fast it grows; looked at in the background.
    rate: Mutex<Rate>,
    /// Bytes of its batches, with what is staged.
    bytes: AtomicU64,
    /// The embedder needs no record below this offset, if the topic is its own.
    released: AtomicU64,
    /// Below it every record lies that had waited for its time. Not stored: after an open it may be anything that is there.
    fired_below: AtomicU64,
    deleted: AtomicBool,
}

impl Partition {
    pub(crate) fn new(key: PartitionKey, offsets: LogOffsets, tail_memory: &TailMemory, readers: &Arc<Readers>) -> Self {
        Self {
            key,
            offsets: SharedOffsets::new(offsets),
            moved: Notify::new(),
            waiters: AtomicUsize::new(0),
            tail: Arc::default(),
            tail_memory: tail_memory.clone(),
            readers: Arc::clone(readers),
            record_bytes_mean: AtomicU64::new(1024),
            rate: Mutex::default(),
            bytes: AtomicU64::new(0),
            released: AtomicU64::new(0),
            fired_below: AtomicU64::new(offsets.log_end.0),
            deleted: AtomicBool::new(false),
        }
    }

    /// The positions at this moment.
    pub(crate) fn offsets(&self) -> LogOffsets {
        self.offsets.now()
    }

    pub(crate) fn log_start(&self) -> Offset {
        self.offsets().log_start
    }

    /// Gives offsets to `count` records and returns the first. Only the shard's task calls it.
    pub(crate) fn append(&self, count: u64) -> Offset {
        self.offsets.append(count)
    }

    /// Where the log begins when all that is staged is written: so it is for the shard's task, and for whoever misses what lies below.
    pub(crate) fn cut_at(&self) -> Offset {
        self.offsets.cut_at()
    }

    /// Notes that the log will begin later. Only the shard's task calls it, before what lies below is deleted: whoever reads there and meets
    /// less than there was sees why.
    pub(crate) fn cut(&self, log_start: Offset) {
        self.offsets.cut(log_start);
    }

    /// Shows everybody that the log begins later. Only the committer calls it, when that is durable: it never goes back.
    pub(crate) fn trim(&self, log_start: Offset) {
        self.offsets.trim(log_start);
    }

    /// Bytes of its batches, as they are stored.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Looks how fast it grows: records in a second, since the last look.
    pub(crate) fn look_at_rate(&self, now_ms: u64) -> f64 {
        let mut rate = self.rate.lock().unwrap_or_else(PoisonError::into_inner);
        rate.look(self.high_watermark().0, now_ms);
        rate.per_second()
    }

    /// Records and bytes in a second, as it was looked last.
    pub(crate) fn rate(&self) -> (f64, f64) {
        let records = self.rate.lock().unwrap_or_else(PoisonError::into_inner).per_second();
        (records, records * self.record_bytes_mean() as f64)
    }

    /// Only the shard's task calls it.
    pub(crate) fn count_bytes(&self, bytes: u64) {
        self.bytes.store(bytes, Ordering::Relaxed);
    }

    /// The embedder needs no record below this offset any more.
    pub(crate) fn release(&self, below: Offset) {
        self.released.fetch_max(below.0, Ordering::AcqRel);
    }

    /// Up to where the embedder has said that it needs nothing. Not stored: it says so again after each start.
    pub(crate) fn released(&self) -> Offset {
        Offset(self.released.load(Ordering::Acquire))
    }

    /// Records that had waited for their time are appended below this offset. Only the shard's task calls it.
    pub(crate) fn fire(&self, below: Offset) {
        self.fired_below.fetch_max(below.0, Ordering::AcqRel);
    }

    /// No record that had waited for its time was appended from this offset on.
    pub(crate) fn fired_below(&self) -> Offset {
        Offset(self.fired_below.load(Ordering::Acquire))
    }

    pub(crate) fn high_watermark(&self) -> Offset {
        self.offsets.high_watermark()
    }

    /// Waits for records from now on, until it is dropped.
    pub(crate) fn waiter(&self) -> Waiter<'_> {
        self.waiters.fetch_add(1, Ordering::SeqCst);
        Waiter(self)
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
        self.tail_memory.lock().forget(&self.tail);
        self.moved.notify_waiters();
        self.readers.wake(self.key.partition.0 as usize);
    }

    /// Shows the durable batches of a commit to the readers. Of the batches, which lie one part behind the other, each part says how many are
    /// its own. All of them are partitions of one broker.
    pub(crate) fn publish_all(parts: Vec<(Arc<Self>, usize)>, batches: Vec<Batch>) {
        let Some((first, _)) = parts.first() else { return };
        let memory = first.tail_memory.clone();
        let (mut tails, mut batches) = (memory.lock(), batches.into_iter());
        for (partition, count) in parts {
            partition.publish(&mut tails, batches.by_ref().take(count));
        }
    }

    /// Shows durable batches to the readers: first the tail, then the watermark, so that nobody sees an offset he cannot read.
    fn publish(&self, tails: &mut Tails<'_>, batches: impl IntoIterator<Item = Batch>) {
        // Of the records, and not of what they are compressed to: it says how many fit an answer.
        let (mut end, mut bytes, mut records) = (None, 0, 0);
        let batches = batches.into_iter().inspect(|batch| {
            end = Some(batch.next_offset());
            bytes += record_bytes(batch);
            records += batch.offsets_count();
        });
        tails.push(&self.tail, batches);
        if self.is_deleted() {
            // Deleted while the disk worked: nobody would ever take it out of the tail.
            tails.forget(&self.tail);
        }
        let Some(end) = end else { return };
        let mean = (self.record_bytes_mean() * 7 + bytes / records.max(1)) / 8;
        self.record_bytes_mean.store(mean, Ordering::Relaxed);
        self.offsets.make_durable(end);
        // Whoever waits is counted before he looks at the watermark: he has seen the new one, or is seen here.
        if self.waiters.load(Ordering::SeqCst) > 0 {
            self.moved.notify_waiters();
        }
        self.readers.wake(self.key.partition.0 as usize);
    }

    /// Batches of the tail from `from` on; `None` if they are not in memory any more.
    pub(crate) fn read_tail(&self, from: Offset, max: (usize, usize)) -> Option<Vec<CachedBatch>> {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner).read(from, max)
    }

    /// Whether the tail begins at or before `from` and goes beyond it, and nothing has to be decompressed to read there.
    pub(crate) fn is_ready_in_tail(&self, from: Offset) -> bool {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner).holds_ready(from)
    }

    /// Whether the tail begins at or before `from` and goes beyond it.
    pub(crate) fn is_in_tail(&self, from: Offset) -> bool {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner).holds(from)
    }
}

/// Bytes of a batch's records; of a compressed one that does not say it, those of the batch.
pub(crate) fn record_bytes(batch: &Batch) -> u64 {
    let bytes = batch.len() as u64;
    // What says more than any batch may have is not believed.
    if batch.is_compressed() { batch.stated_bytes().unwrap_or(bytes).min(DECOMPRESSED_BYTES_MAX as u64) } else { bytes }
}

/// Somebody who waits for the records of a partition.
#[derive(Debug)]
pub(crate) struct Waiter<'a>(&'a Partition);

impl Waiter<'_> {
    /// Ends with the next move of the high watermark, or with the partition. Make it before you look: it hears of everything from then on.
    pub(crate) fn moved(&self) -> Notified<'_> {
        self.0.moved.notified()
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.0.waiters.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
impl Partition {
    /// As [`Partition::publish_all`], of this one alone.
    pub(super) fn publish_own(&self, batches: Vec<Batch>) {
        self.publish(&mut self.tail_memory.lock(), batches);
    }

    /// The first half of it: what the watermark does not cover yet.
    pub(super) fn push_tail(&self, batches: Vec<Batch>) {
        self.tail_memory.lock().push(&self.tail, batches);
    }
}
