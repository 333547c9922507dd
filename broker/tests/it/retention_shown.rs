//! What is shown of retention: a log begins later for whoever looks when that is written, and not before.

use crate::common::{Says as _, TestBroker, group, topic, within};
use crate::retention::for_an_hour;
use bytes::Bytes;
use core::ops::Range;
use core::time::Duration;
use sagamq_api::queue::StartPosition;
use sagamq_api::topic::ReadQuery;
use sagamq_api::{Offset, PartitionId};
use sagamq_broker::env::{Clock as _, ManualClock};
use sagamq_broker::log::ReadError;
use sagamq_broker::storage::crash::{CrashStorage, FailedWrite};
use sagamq_broker::storage::memory::MemoryStorage;
use sagamq_broker::storage::{Direction, Durability, Family, Mutation, Storage, StorageError, Visitor};
use sagamq_broker::{ReadRequestError, Records};
use std::sync::{Arc, Condvar, Mutex};

/// Where a write stands still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Held {
    /// Nothing of it is there.
    Before,
    /// All of it is there, and nobody has been told.
    After,
}

/// Storage in memory whose writes are held where the test says.
#[derive(Clone, Default)]
struct HeldStorage {
    below: MemoryStorage,
    gate: Arc<(Mutex<Gate>, Condvar)>,
}

/// Where writes are held, and how many are.
#[derive(Default)]
struct Gate {
    at: Option<Held>,
    held: usize,
}

impl HeldStorage {
    fn hold(&self, at: Option<Held>) {
        self.gate.0.lock().expect("no panic").at = at;
        self.gate.1.notify_all();
    }

    async fn until_a_write_is_held(&self) {
        within("a write comes", async {
            while self.gate.0.lock().expect("no panic").held == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
    }

    fn pass(&self, at: Held) {
        let mut gate = self.gate.0.lock().expect("no panic");
        gate.held += 1;
        let mut gate = self.gate.1.wait_while(gate, |gate| gate.at == Some(at)).expect("no panic");
        gate.held -= 1;
    }
}

impl Storage for HeldStorage {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        self.below.get(family, key)
    }

    fn scan(&self, family: Family, range: Range<&[u8]>, direction: Direction, visit: Visitor<'_>) -> Result<(), StorageError> {
        self.below.scan(family, range, direction, visit)
    }

    fn write(&self, mutations: &[Mutation], durability: Durability) -> Result<(), StorageError> {
        self.pass(Held::Before);
        self.below.write(mutations, durability)?;
        self.pass(Held::After);
        Ok(())
    }
}

impl TestBroker {
    /// One old record and two young ones, of which retention takes the first.
    async fn with_old_and_young(storage: impl Storage) -> Self {
        let test = Self::with_topic(storage, "t", for_an_hour()).await;
        test.produce_texts("t", ["old"]).await;
        test.clock.advance(Duration::from_secs(3_000));
        test.produce_texts("t", ["young"]).await;
        test.produce_texts("t", ["youngest"]).await;
        test.clock.advance(Duration::from_secs(1_000));
        test
    }

    async fn read_from(&self, offset: Option<u64>) -> Result<Records, ReadRequestError> {
        let query = ReadQuery { offset: offset.map(Offset), ..ReadQuery::default() };
        within("a read is answered", self.broker.read(&topic("t"), PartitionId(0), &query)).await
    }
}

fn texts(read: Result<Records, ReadRequestError>) -> Vec<String> {
    read.expect("read").records.iter().map(|record| record.text().expect("text")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_shown_that_a_log_begins_later_before_it_is_written() {
    let storage = HeldStorage::default();
    let test = Arc::new(TestBroker::with_old_and_young(storage.clone()).await);
    storage.hold(Some(Held::Before));
    let taking = tokio::spawn({
        let test = Arc::clone(&test);
        async move { test.retain().await }
    });
    storage.until_a_write_is_held().await;
    assert_eq!(test.log_start("t"), 0, "a crash now leaves the log as it was");
    for offset in [None, Some(0)] {
        assert_eq!(texts(test.read_from(offset).await), ["old", "young", "youngest"], "{offset:?}");
    }
    storage.hold(None);
    assert_eq!((within("it is done", taking).await.expect("no panic"), test.log_start("t")), (1, 1));
    assert_eq!(texts(test.read_from(None).await), ["young", "youngest"]);
    let below = test.read_from(Some(0)).await;
    assert!(
        matches!(below, Err(ReadRequestError::Read(ReadError::OutOfRange { log_start: Offset(1), .. }))),
        "{:?}",
        below.map(|read| read.next_offset)
    );
    test.broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_reads_what_is_deleted_and_not_yet_told_of_is_told_where_the_log_begins() {
    let storage = HeldStorage::default();
    let before = TestBroker::with_old_and_young(storage.clone()).await;
    let now_ms = before.clock.now_ms();
    before.broker.shutdown().await;
    // Nothing of it lies in memory.
    let test = Arc::new(TestBroker::try_open(storage.clone(), ManualClock::at(now_ms)).expect("opens"));
    test.broker.ensure_group(&topic("t"), &group("g"), StartPosition::Earliest).await.expect("made");
    storage.hold(Some(Held::After));
    let taking = tokio::spawn({
        let test = Arc::clone(&test);
        async move { test.retain().await }
    });
    storage.until_a_write_is_held().await;
    let below = test.read_from(Some(0)).await;
    assert!(
        matches!(below, Err(ReadRequestError::Read(ReadError::OutOfRange { log_start: Offset(1), .. }))),
        "not that something is missing, and nothing behind it: {:?}",
        below.map(|read| read.next_offset)
    );
    assert_eq!(texts(test.read_from(None).await), ["young", "youngest"], "who names no offset gets what is left");
    storage.hold(None);
    assert_eq!(within("it is done", taking).await.expect("no panic"), 1);
    let received: Vec<u64> = test.receive("t", "g").await.iter().map(|delivery| delivery.record.offset.0).collect();
    assert_eq!(received, [1, 2]);
    test.broker.shutdown().await;
}

#[tokio::test]
async fn a_start_that_was_shown_does_not_go_back_in_a_crash() {
    for leaves in [None, Some(FailedWrite::NothingApplied), Some(FailedWrite::Applied), Some(FailedWrite::AppliedNotSynced)] {
        let storage = CrashStorage::new();
        let test = TestBroker::with_old_and_young(storage.clone()).await;
        if let Some(leaves) = leaves {
            storage.fail_write(1, leaves);
        }
        let taken = test.broker.apply_retention().await;
        assert_eq!(taken.is_ok(), leaves.is_none(), "{leaves:?}: {taken:?}");
        let (shown, now_ms) = (test.log_start("t"), test.clock.now_ms());
        assert_eq!(shown, u64::from(leaves.is_none()), "{leaves:?}");
        for image in [storage.after_kill(), storage.after_power_cut()] {
            let after = TestBroker::try_open(image, ManualClock::at(now_ms)).expect("opens");
            assert!(after.log_start("t") >= shown, "{leaves:?}: {} was shown, and is {}", shown, after.log_start("t"));
            after.broker.shutdown().await;
        }
        test.broker.shutdown().await;
    }
}
