//! The newest batches of the partitions in memory, so that consumers at the end of a log never touch the disk. One bound holds for all
//! partitions together: memory does not grow with their number.

use crate::log::batch::{Batch, BatchError, BatchHeader, StoredRecord, unpacked_bytes_max};
use bytes::Bytes;
use sagamq_api::Offset;
use sagamq_api::limits::DECOMPRESSED_BYTES_MAX;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// What a batch in memory takes beside its bytes.
const BATCH_OVERHEAD: usize = 256;

/// What each of its records takes once the batch is decoded.
const RECORD_OVERHEAD: usize = 384;

/// Headers a record, on average, up to which a decoded batch is kept: what many short headers take is more than the batch.
const KEPT_HEADERS_MAX: usize = 2;

/// Batches that are asked whether they have to be decompressed: those behind them are rarely part of the same read, or are like them.
const LOOKED_AT_MAX: usize = 64;

/// A batch in memory, decoded at most once if it is not too much of it.
#[derive(Clone, Debug)]
pub(crate) struct CachedBatch {
    batch: Batch,
    decoded: Arc<OnceLock<Arc<[StoredRecord]>>>,
}

impl CachedBatch {
    pub(crate) fn new(batch: Batch) -> Self {
        Self { batch, decoded: Arc::default() }
    }

    /// Whether its records are kept for the next who reads them. Those of a compressed batch only if it says how much they are: that is charged when
    /// it comes.
    pub(crate) fn is_kept(&self) -> bool {
        !self.batch.is_compressed() || self.batch.stated_bytes().is_some()
    }

    pub(crate) fn base(&self) -> Offset {
        self.batch.base_offset()
    }

    pub(crate) fn next(&self) -> Offset {
        self.batch.next_offset()
    }

    pub(crate) fn header(&self) -> &BatchHeader {
        self.batch.header()
    }

    /// The bytes, as they are stored.
    pub(crate) fn bytes(&self) -> &Bytes {
        self.batch.bytes()
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
        let headers: usize = records.iter().map(|record| record.payload.headers.len()).sum();
        if headers > KEPT_HEADERS_MAX * records.len() || !self.is_kept() {
            return Ok(records);
        }
        Ok(Arc::clone(self.decoded.get_or_init(|| records)))
    }
}

impl CachedBatch {
    /// Bytes that its records keep in memory and that nobody has charged: of those that were decompressed, and are not kept here.
    pub(crate) fn unpacked_bytes_beside(&self) -> usize {
        let is_beside = self.batch.is_compressed() && self.decoded.get().is_none();
        if is_beside { unpacked_bytes_max(self.batch.bytes()) } else { 0 }
    }
}

/// A batch in the tail: most are never read, so what readers share of one is made when the first comes.
#[derive(Debug)]
struct TailBatch {
    base: Offset,
    next: Offset,
    is_compressed: bool,
    bytes: Bytes,
    decoded: Option<Arc<OnceLock<Arc<[StoredRecord]>>>>,
}

impl TailBatch {
    fn new(batch: Batch) -> Self {
        Self {
            base: batch.base_offset(),
            next: batch.next_offset(),
            is_compressed: batch.is_compressed(),
            bytes: batch.into_bytes(),
            decoded: None,
        }
    }

    fn share(&mut self) -> CachedBatch {
        CachedBatch { batch: Batch::again(self.bytes.clone()), decoded: Arc::clone(self.decoded.get_or_insert_default()) }
    }
}

/// The newest batches of one partition, contiguous.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    batches: VecDeque<TailBatch>,
}

/// Memory for the newest batches of all partitions together: the oldest of them go first, whoever they belong to. Clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct TailMemory {
    bytes_max: usize,
    /// Locked before any tail. A plain mutex: it is held for the batches of a commit and never across an await.
    order: Arc<Mutex<Order>>,
}

/// That memory, locked.
#[derive(Debug)]
pub(crate) struct Tails<'a> {
    bytes_max: usize,
    order: MutexGuard<'a, Order>,
}

#[derive(Debug, Default)]
struct Order {
    bytes: usize,
    /// Every batch in memory by age: whose it is, and what it is charged with.
    batches: VecDeque<(Arc<Mutex<Tail>>, usize)>,
}

impl TailMemory {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, order: Arc::default() }
    }

    /// Bytes that it is charged with.
    pub(crate) fn bytes(&self) -> usize {
        self.lock().order.bytes
    }

    /// Locks it for the batches of a whole commit.
    pub(crate) fn lock(&self) -> Tails<'_> {
        Tails { bytes_max: self.bytes_max, order: self.order.lock().unwrap_or_else(PoisonError::into_inner) }
    }
}

impl Tails<'_> {
    /// Adds the next batches of a partition and lets the oldest of all go.
    pub(crate) fn push(&mut self, tail: &Arc<Mutex<Tail>>, batches: impl IntoIterator<Item = Batch>) {
        let order = &mut *self.order;
        let mut own = lock(tail);
        for batch in batches {
            // Its records, if they are to lie beside it.
            let unpacked =
                if batch.is_compressed() { batch.stated_bytes().unwrap_or(0).min(DECOMPRESSED_BYTES_MAX as u64) as usize } else { 0 };
            let charge = batch.len() + unpacked + BATCH_OVERHEAD + RECORD_OVERHEAD * batch.records_count() as usize;
            own.push(batch);
            order.bytes += charge;
            order.batches.push_back((Arc::clone(tail), charge));
        }
        drop(own);
        while order.bytes > self.bytes_max
            && let Some((oldest, charge)) = order.batches.pop_front()
        {
            order.bytes -= charge;
            let gone = lock(&oldest).batches.pop_front();
            assert!(gone.is_some(), "every batch of the order is in its tail");
        }
    }

    /// Lets all batches of a partition go: it is deleted.
    pub(crate) fn forget(&mut self, tail: &Arc<Mutex<Tail>>) {
        let Order { bytes, batches } = &mut *self.order;
        batches.retain(|(of, charge)| {
            let is_other = !Arc::ptr_eq(of, tail);
            if !is_other {
                *bytes -= charge;
            }
            is_other
        });
        lock(tail).batches.clear();
    }
}

fn lock(tail: &Mutex<Tail>) -> MutexGuard<'_, Tail> {
    tail.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Tail {
    fn push(&mut self, batch: Batch) {
        if let Some(last) = self.batches.back() {
            assert_eq!(last.next, batch.base_offset(), "batches become durable in the order of their offsets");
        }
        self.batches.push_back(TailBatch::new(batch));
    }

    /// Batches from the one that holds `from` on: so many at most, and until so many bytes are passed. `None` if `from` is older than the ring.
    pub(crate) fn read(&mut self, from: Offset, (batches_max, bytes_max): (usize, usize)) -> Option<Vec<CachedBatch>> {
        let first = self.first(from)?;
        let mut bytes = 0;
        let within = |batch: &&mut TailBatch| {
            let fits = bytes < bytes_max;
            bytes += batch.bytes.len();
            fits
        };
        Some(self.batches.iter_mut().skip(first).take(batches_max).take_while(within).map(TailBatch::share).collect())
    }

    /// Whether [`Tail::read`] from here on finds something.
    pub(crate) fn holds(&self, from: Offset) -> bool {
        self.first(from).is_some()
    }

    /// Whether [`Tail::read`] from here on finds something, and reading the records of it takes little time.
    pub(crate) fn holds_ready(&self, from: Offset) -> bool {
        let is_ready = |batch: &TailBatch| !batch.is_compressed || batch.decoded.as_ref().is_some_and(|decoded| decoded.get().is_some());
        self.first(from).is_some_and(|first| self.batches.iter().skip(first).take(LOOKED_AT_MAX).all(is_ready))
    }

    /// Place of the batch that holds `from`. `None`: it is older than what is in memory, or not there yet.
    fn first(&self, from: Offset) -> Option<usize> {
        let first = self.batches.partition_point(|batch| batch.next <= from);
        self.batches.get(first).filter(|batch| batch.base <= from).map(|_| first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::batch::{NewBatch, Record};
    use sagamq_api::record::Payload;

    fn batch(base: u64, bytes: usize) -> Batch {
        let payload = Payload { value: Some(vec![0; bytes].into()), ..Payload::default() };
        NewBatch::encode(&[Record { timestamp_ms: 0, payload }]).expect("encodes").at(Offset(base))
    }

    fn held(tail: &Arc<Mutex<Tail>>) -> Vec<u64> {
        lock(tail).batches.iter().map(|batch| batch.base.0).collect()
    }

    #[test]
    fn the_oldest_of_all_partitions_go_first_and_many_partitions_hold_no_more_than_one() {
        let memory = TailMemory::new(10_000);
        let tails: Vec<Arc<Mutex<Tail>>> = (0..1_000).map(|_| Arc::default()).collect();
        for tail in &tails {
            memory.lock().push(tail, vec![batch(0, 1_000)]);
        }
        let in_memory = tails.iter().filter(|tail| !held(tail).is_empty()).count();
        assert!((1..10).contains(&in_memory), "{in_memory}");
        assert_eq!((held(&tails[0]), held(&tails[999])), (vec![], vec![0]));
        memory.lock().push(&tails[0], vec![batch(1, 1_000), batch(2, 1_000)]);
        assert_eq!(held(&tails[0]), [1, 2]);
        assert!(lock(&tails[0]).read(Offset(0), (usize::MAX, 1)).is_none(), "older than what is in memory");
    }

    #[test]
    fn what_is_forgotten_is_not_charged_and_what_is_dropped_goes_in_its_turn() {
        let memory = TailMemory::new(100_000);
        let [kept, deleted, dropped]: [Arc<Mutex<Tail>>; 3] = Default::default();
        for tail in [&kept, &deleted, &dropped] {
            memory.lock().push(tail, vec![batch(0, 1_000), batch(1, 1_000)]);
        }
        memory.lock().forget(&deleted);
        assert_eq!((held(&kept), held(&deleted)), (vec![0, 1], vec![]));
        let dropped = Arc::downgrade(&{ dropped });
        memory.lock().push(&kept, vec![batch(2, 98_000)]);
        assert_eq!((held(&kept), dropped.strong_count()), (vec![2], 0));
        memory.lock().push(&kept, vec![batch(3, 200_000)]);
        assert_eq!((held(&kept), memory.order.lock().expect("free").bytes), (vec![], 0), "larger than the memory");
    }
}
