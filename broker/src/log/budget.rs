//! How much one answer may read: its own bound in bytes and records, and its share of what all answers together may hold in memory.
//!
//! What is read is charged before it is copied out of storage. An answer that cannot get more memory is shorter; only for its first
//! record it waits, without holding anything, so that answers cannot wait for each other.

use core::time::Duration;
use sagamq_api::record::Payload;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Memory that an answer takes at a time.
const PIECE: usize = 256 * 1024;

/// Memory of a record beside its bytes: the structs, the receipt, the names of the fields.
const RECORD_OVERHEAD: usize = 512;

/// Memory of a header beside its bytes.
const HEADER_OVERHEAD: usize = 128;

/// Memory for all answers together, one permit a byte. Clones are the same one.
#[derive(Clone, Debug)]
pub(crate) struct ReadMemory {
    free: Arc<Semaphore>,
    total: usize,
    wait: Duration,
}

/// Nothing of the bound came free in time.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("answers with more than {0} bytes are being read or sent")]
pub struct ReadMemoryFull(pub usize);

/// What one answer may read, and what it has charged so far.
#[derive(Debug)]
pub(crate) struct Budget {
    /// `None`: only the answer's own bound counts.
    memory: Option<ReadMemory>,
    permit: Option<OwnedSemaphorePermit>,
    held: usize,
    /// For the records of the answer.
    charged: usize,
    /// For batches that lie in memory while records are taken out of them.
    raw: usize,
    records: usize,
    records_max: usize,
    payload_bytes: usize,
    payload_bytes_max: usize,
    /// What the first record needs and was not free.
    lacking: Option<usize>,
}

/// An answer's share of the memory; given back when it is dropped.
#[derive(Debug, Default)]
pub struct MemoryShare(#[expect(dead_code, reason = "held, and given back by its drop")] Option<OwnedSemaphorePermit>);

impl ReadMemory {
    /// `wait`: how long an answer waits for memory for its first record.
    pub(crate) fn new(total: usize, wait: Duration) -> Self {
        // A permit counts in 32 bits when many are asked for at once.
        let total = total.clamp(PIECE, u32::MAX as usize >> 1);
        Self { free: Arc::new(Semaphore::new(total)), total, wait }
    }

    /// A budget with a first piece of memory, which it waits for.
    pub(crate) async fn budget(&self, records_max: usize, payload_bytes_max: usize) -> Result<Budget, ReadMemoryFull> {
        let mut budget = Budget { memory: Some(self.clone()), ..Budget::unshared(records_max, payload_bytes_max) };
        budget.acquire(PIECE).await?;
        Ok(budget)
    }
}

impl Budget {
    /// A budget beside the common bound, for answers that never leave the process.
    pub(crate) fn unshared(records_max: usize, payload_bytes_max: usize) -> Self {
        Self {
            memory: None,
            permit: None,
            held: 0,
            charged: 0,
            raw: 0,
            records: 0,
            records_max,
            payload_bytes: 0,
            payload_bytes_max,
            lacking: None,
        }
    }

    /// Whether no more records fit.
    pub(crate) fn is_full(&self) -> bool {
        self.records >= self.records_max || (self.records > 0 && self.payload_bytes >= self.payload_bytes_max)
    }

    pub(crate) fn payload_bytes_left(&self) -> usize {
        self.payload_bytes_max.saturating_sub(self.payload_bytes)
    }

    /// Charges a batch that is about to be copied out of storage.
    pub(crate) fn admit_batch(&mut self, bytes: usize) -> bool {
        let is_admitted = self.make_room(bytes);
        if is_admitted {
            self.raw += bytes;
        }
        is_admitted
    }

    /// Takes the charge for a batch back that is not kept.
    pub(crate) fn drop_batch(&mut self, bytes: usize) {
        self.raw = self.raw.saturating_sub(bytes);
    }

    /// Charges a record that is to be part of the answer.
    pub(crate) fn admit_record(&mut self, payload: &Payload) -> bool {
        let cost = cost(payload);
        if self.is_full() || !self.make_room(cost) {
            return false;
        }
        self.charged += cost;
        self.records += 1;
        self.payload_bytes += payload.len();
        true
    }

    /// Charges a batch that is to be part of the answer as it is stored. `unpacked`: what it may be when its reader has decompressed it, which is what
    /// counts for the answer's own bound.
    pub(crate) fn admit_stored(&mut self, bytes: usize, unpacked: usize, records: usize) -> bool {
        let is_beyond = self.records > 0 && unpacked > self.payload_bytes_left();
        if is_beyond || self.is_full() || !self.make_room(bytes) {
            return false;
        }
        self.charged += bytes;
        self.records += records;
        self.payload_bytes += unpacked;
        true
    }

    /// Whether nothing was read because the memory for the first record was not free: wait for it and read again.
    pub(crate) fn is_lacking(&self) -> bool {
        self.lacking.is_some() && self.records == 0
    }

    /// Gives everything back and waits for what the first record needs.
    pub(crate) async fn wait(&mut self) -> Result<(), ReadMemoryFull> {
        let needed = self.lacking.take().unwrap_or(PIECE);
        (self.charged, self.raw, self.held, self.permit) = (0, 0, 0, None);
        self.acquire(needed).await
    }

    /// The reading is done: what is charged stays held until the share is dropped, the rest is given back.
    pub(crate) fn into_share(mut self) -> MemoryShare {
        let surplus = self.held.saturating_sub(self.charged);
        if let Some(permit) = &mut self.permit {
            drop(permit.split(surplus));
        }
        MemoryShare(self.permit)
    }

    async fn acquire(&mut self, bytes: usize) -> Result<(), ReadMemoryFull> {
        let Some(memory) = &self.memory else { return Ok(()) };
        // What is larger than the bound gets through when nothing else is there.
        let bytes = bytes.min(memory.total);
        let count = u32::try_from(bytes).expect("the bound is below 2^32");
        let acquired = tokio::time::timeout(memory.wait, Arc::clone(&memory.free).acquire_many_owned(count)).await;
        let Ok(Ok(permit)) = acquired else { return Err(ReadMemoryFull(memory.total)) };
        (self.held, self.permit) = (bytes, Some(permit));
        Ok(())
    }

    /// Whether there is memory for so many bytes more.
    fn make_room(&mut self, bytes: usize) -> bool {
        let needed = (self.charged + self.raw).saturating_add(bytes);
        let has_room = needed <= self.held || self.extend(needed);
        if !has_room && self.records == 0 {
            self.lacking = Some(needed);
        }
        has_room
    }

    /// Takes more memory if it is free. Half of what is free is left for others.
    fn extend(&mut self, needed: usize) -> bool {
        let Some(memory) = &self.memory else { return true };
        if self.held >= memory.total {
            // A first record that is larger than the bound gets through alone.
            return self.records == 0;
        }
        let more = (needed - self.held).next_multiple_of(PIECE).min(memory.total - self.held);
        if memory.free.available_permits() / 2 < more {
            return false;
        }
        let count = u32::try_from(more).expect("the bound is below 2^32");
        let Ok(permit) = Arc::clone(&memory.free).try_acquire_many_owned(count) else { return false };
        match &mut self.permit {
            Some(held) => held.merge(permit),
            held @ None => *held = Some(permit),
        }
        self.held += more;
        true
    }
}

/// Memory that a record takes until its answer is sent: its bytes, its JSON form, and the body while it grows.
fn cost(payload: &Payload) -> usize {
    let rendered: usize = [&payload.key, &payload.value].into_iter().flatten().map(|bytes| rendered_len(bytes)).sum();
    RECORD_OVERHEAD + 2 * payload.len() + 2 * rendered + HEADER_OVERHEAD * payload.headers.len()
}

/// Length in JSON: text with its escapes, or base64.
fn rendered_len(bytes: &[u8]) -> usize {
    if core::str::from_utf8(bytes).is_err() {
        return bytes.len().div_ceil(3) * 4;
    }
    // Counted apart, each of which the processor does for many bytes at a time.
    let controls = bytes.iter().filter(|&&byte| byte < 0x20).count();
    let quotes = bytes.iter().filter(|&&byte| byte == b'"' || byte == b'\\').count();
    bytes.len() + 5 * controls + quotes
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn payload(bytes: usize) -> Payload {
        Payload { value: Some(Bytes::from(vec![b'x'; bytes])), ..Payload::default() }
    }

    #[tokio::test]
    async fn answers_share_the_memory_and_the_last_one_waits_and_is_refused() {
        let memory = ReadMemory::new(8 * PIECE, Duration::ZERO);
        let mut first = memory.budget(1_000, usize::MAX).await.expect("free");
        let mut count = 0;
        while first.admit_record(&payload(1_000)) {
            count += 1;
        }
        assert!(count > 100, "{count}");
        assert!(!first.is_lacking(), "it has records: its answer is only shorter");
        let mut second = memory.budget(1_000, usize::MAX).await.expect("half was left for others");
        assert!(second.admit_record(&payload(1_000)));
        memory.budget(1_000, usize::MAX).await.expect_err("nothing is left");
        drop(second);
        let mut third = memory.budget(1_000, usize::MAX).await.expect("a piece is left");
        assert!(!third.admit_record(&payload(PIECE)));
        assert!(third.is_lacking());
        third.wait().await.expect_err("nobody gave anything back");
        drop(first);
        let mut fourth = memory.budget(1_000, usize::MAX).await.expect("free again");
        assert!(!fourth.admit_record(&payload(4 * PIECE)), "larger than what may be taken without waiting");
        fourth.wait().await.expect("nobody else is there");
        assert!(fourth.admit_record(&payload(4 * PIECE)), "larger than the bound and alone: it gets through");
        assert!(!fourth.admit_record(&payload(1)), "and nothing besides");
        let share = fourth.into_share();
        assert_eq!(memory.free.available_permits(), 0);
        drop(share);
        assert_eq!(memory.free.available_permits(), 8 * PIECE);
    }

    #[test]
    fn the_first_record_always_fits_and_then_the_bounds_count() {
        let mut budget = Budget::unshared(3, 10);
        assert!(budget.admit_record(&payload(100)));
        assert!(!budget.admit_record(&payload(1)), "the bytes are used up");
        let mut budget = Budget::unshared(3, 10);
        let admitted = (0..5).filter(|_| budget.admit_record(&payload(1))).count();
        assert_eq!(admitted, 3);
    }

    #[test]
    fn escapes_and_base64_are_charged() {
        assert_eq!([b"abc".as_slice(), b"\"\\", b"\x01", b"\xff\xff\xff\xff"].map(rendered_len), [3, 4, 6, 8]);
    }
}
