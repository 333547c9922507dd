//! A part of the broker dies: everybody hears of it at once, and nobody is told that nothing was stored.

use crate::common::{START_MS, TestBroker, one_partition, topic, within};
use bytes::Bytes;
use core::ops::Range;
use sagamq_broker::env::ManualClock;
use sagamq_broker::storage::memory::MemoryStorage;
use sagamq_broker::storage::{Direction, Durability, Family, Mutation, Storage, StorageError, Visitor};
use sagamq_broker::{AppendError, NewRecord, ProduceError, WriteError};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Storage that panics where the test asks: a panic of whoever calls it.
#[derive(Clone, Default)]
struct PanickingStorage {
    below: MemoryStorage,
    on_write: Arc<AtomicBool>,
    on_dedup: Arc<AtomicBool>,
}

impl Storage for PanickingStorage {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        assert!(family != Family::Dedup || !self.on_dedup.load(Ordering::SeqCst), "a panic of the shard's task, as the test asks");
        self.below.get(family, key)
    }

    fn scan(&self, family: Family, range: Range<&[u8]>, direction: Direction, visit: Visitor<'_>) -> Result<(), StorageError> {
        self.below.scan(family, range, direction, visit)
    }

    fn write(&self, mutations: &[Mutation], durability: Durability) -> Result<(), StorageError> {
        let written = self.below.write(mutations, durability);
        assert!(!self.on_write.load(Ordering::SeqCst), "a panic of the committer behind a write, as the test asks");
        written
    }
}

async fn is_lost(test: &TestBroker) -> bool {
    let produced = test.broker.produce(&topic("t"), vec![NewRecord::of("a")], Some("key")).await;
    matches!(produced, Err(ProduceError::Append(AppendError::Write(WriteError::Lost(_)))))
}

#[tokio::test]
async fn a_committer_that_panics_is_told_and_what_it_wrote_is_not_called_unstored() {
    let storage = PanickingStorage::default();
    let test = TestBroker::with_topic(storage.clone(), "t", one_partition()).await;
    assert_eq!(test.broker.liveness().death(), None);
    storage.on_write.store(true, Ordering::SeqCst);
    assert!(is_lost(&test).await, "the record is stored: its outcome is unknown");
    within("the death is told", test.broker.liveness().died()).await;
    assert_eq!(test.broker.liveness().death(), Some("the committer panicked"));
    assert!(is_lost(&test).await, "a later request is not told that the broker shuts down");
    test.broker.shutdown().await;
    let restarted = TestBroker::try_open(storage.below, ManualClock::at(START_MS)).expect("opens");
    assert_eq!(restarted.values("t", 0).await, ["a"], "it was stored");
}

#[tokio::test]
async fn a_shard_that_panics_is_told() {
    let storage = PanickingStorage::default();
    let test = TestBroker::with_topic(storage.clone(), "t", one_partition()).await;
    // There has to be something to look up.
    test.produce("t", vec![NewRecord::of("before")], Some("before")).await;
    storage.on_dedup.store(true, Ordering::SeqCst);
    assert!(is_lost(&test).await);
    within("the death is told", test.broker.liveness().died()).await;
    assert_eq!(test.broker.liveness().death(), Some("shard 0 panicked"));
    assert!(is_lost(&test).await);
    test.broker.shutdown().await;
}

#[tokio::test]
async fn an_end_that_was_asked_for_is_no_death() {
    let test = TestBroker::with_topic(MemoryStorage::new(), "t", one_partition()).await;
    test.broker.shutdown().await;
    assert_eq!(test.broker.liveness().death(), None);
    let refused = test.broker.produce(&topic("t"), vec![NewRecord::of("a")], None).await;
    assert!(matches!(refused, Err(ProduceError::Append(AppendError::Write(WriteError::ShuttingDown)))), "{refused:?}");
}
