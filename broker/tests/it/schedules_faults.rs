//! Records that are to be appended later, on storage that fails or is damaged: none is forgotten for it, and none keeps the broker from opening.

use crate::common::{START_MS, TestBroker, one_partition, topic, within};
use bytes::Bytes;
use core::ops::{ControlFlow, Range};
use core::time::Duration;
use sagamq_broker::env::{Clock as _, ManualClock};
use sagamq_broker::storage::memory::MemoryStorage;
use sagamq_broker::storage::{Direction, Durability, Family, Mutation, Storage, StorageError, Visitor};
use sagamq_broker::{Due, NewRecord};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Storage in memory of which the records that wait cannot be read while the test says so.
#[derive(Clone, Default)]
struct FailingStorage {
    below: MemoryStorage,
    fails: Arc<AtomicBool>,
    failed: Arc<AtomicUsize>,
}

impl Storage for FailingStorage {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        self.below.get(family, key)
    }

    fn scan(&self, family: Family, range: Range<&[u8]>, direction: Direction, visit: Visitor<'_>) -> Result<(), StorageError> {
        if family == Family::Schedule && self.fails.load(Ordering::SeqCst) {
            self.failed.fetch_add(1, Ordering::SeqCst);
            return Err(StorageError::Io("as the test asks".to_owned()));
        }
        self.below.scan(family, range, direction, visit)
    }

    fn write(&self, mutations: &[Mutation], durability: Durability) -> Result<(), StorageError> {
        self.below.write(mutations, durability)
    }
}

fn later(text: &str, ms: u64) -> NewRecord {
    NewRecord::of(text.to_owned()).with_due(Due::After(ms))
}

async fn until(what: &str, is_so: impl AsyncFn() -> bool) {
    within(what, async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// The record that waits, as it is stored: its key and its row.
fn waiting_row(storage: &MemoryStorage) -> (Vec<u8>, Vec<u8>) {
    let mut longest = (Vec::new(), Vec::new());
    let visit = &mut |key: &[u8], row: &[u8]| {
        if row.len() > longest.1.len() {
            longest = (key.to_vec(), row.to_vec());
        }
        ControlFlow::Continue(())
    };
    storage.scan(Family::Schedule, &[][..]..&[u8::MAX; 64][..], Direction::Forward, visit).expect("scans");
    longest
}

#[tokio::test]
async fn what_was_due_while_storage_could_not_be_read_is_appended_after_a_restart() {
    let storage = FailingStorage::default();
    let test = TestBroker::with_topic(storage.clone(), "t", one_partition()).await;
    test.produce("t", vec![later("due", 1_000)], None).await;
    storage.fails.store(true, Ordering::SeqCst);
    test.clock.advance(Duration::from_secs(1));
    until("it is tried", async || storage.failed.load(Ordering::SeqCst) > 0).await;
    // While nothing is tried again, others come.
    test.produce("t", vec![later("in an hour", 3_600_000)], None).await;
    let now_ms = test.clock.now_ms();
    test.broker.shutdown().await;
    let test = TestBroker::try_open(storage.below, ManualClock::at(now_ms)).expect("opens");
    until("it is appended", async || test.values("t", 0).await == ["due"]).await;
    test.clock.advance(Duration::from_secs(3_600));
    until("so is the other", async || test.values("t", 0).await == ["due", "in an hour"]).await;
    test.broker.shutdown().await;
}

#[tokio::test]
async fn a_record_that_waits_and_cannot_be_read_keeps_no_broker_from_opening() {
    // Of the row what comes of it when its last byte, or nothing but its first bytes, are as they were.
    for keep in [usize::MAX, 3] {
        let storage = MemoryStorage::new();
        let test = TestBroker::with_topic(storage.clone(), "t", one_partition()).await;
        let bad = test.produce("t", vec![later("bad", 1_000).with_idempotency_key("key")], None).await[0].schedule.expect("it waits");
        test.broker.shutdown().await;
        let (key, mut row) = waiting_row(&storage);
        *row.last_mut().expect("it has some") ^= 1;
        row.truncate(keep);
        storage.write(&[Mutation::Put { family: Family::Schedule, key, value: row.into() }], Durability::Synced).expect("written");

        let test = TestBroker::try_open(storage.clone(), ManualClock::at(START_MS)).unwrap_or_else(|error| panic!("{keep}: {error}"));
        test.produce("t", vec![later("good", 2_000)], None).await;
        test.clock.advance(Duration::from_millis(1_500));
        // The one behind it is not kept back, whether the bad one was looked at before or not.
        let id = test.produce("t", vec![later("taken back", 100_000)], None).await[0].schedule.expect("it waits");
        test.clock.advance(Duration::from_millis(500));
        until("the good one is appended", async || test.values("t", 0).await == ["good"]).await;
        assert!(test.broker.cancel_schedule(&topic("t"), id).await.is_ok());
        test.broker.shutdown().await;

        let test =
            TestBroker::try_open(storage.clone(), ManualClock::at(START_MS + 2_000)).unwrap_or_else(|error| panic!("{keep}: {error}"));
        test.broker.cancel_schedule(&topic("t"), bad).await.expect("who knows its id takes it away");
        test.broker.shutdown().await;
        let test = TestBroker::try_open(storage, ManualClock::at(START_MS + 2_000)).unwrap_or_else(|error| panic!("{keep}: {error}"));
        assert_eq!(test.values("t", 0).await, ["good"], "{keep}");
        test.broker.shutdown().await;
    }
}
