//! A producer whose name is taken over while a batch of it is on its way to the disk: when that is answered, nothing more of it appears.

use crate::common::{TestBroker, one_partition, topic, within};
use crate::producers::{send, stamp};
use bytes::Bytes;
use core::ops::Range;
use core::pin::pin;
use futures_util::poll;
use sagamq_api::ProducerName;
use sagamq_broker::storage::memory::MemoryStorage;
use sagamq_broker::storage::{Direction, Durability, Family, Mutation, Storage, StorageError, Visitor};
use std::sync::{Arc, Condvar, Mutex};

/// A storage whose writes wait until they are let go, once it is told to hold them.
#[derive(Clone, Default)]
struct HeldStorage {
    inner: MemoryStorage,
    gate: Arc<(Mutex<Gate>, Condvar)>,
}

#[derive(Default)]
struct Gate {
    holds: bool,
    /// How many may pass all the same.
    may_pass: usize,
    /// How many wait.
    waiting: usize,
    passed: usize,
}

impl HeldStorage {
    fn set(&self, change: impl FnOnce(&mut Gate)) {
        change(&mut self.gate.0.lock().expect("no panic"));
        self.gate.1.notify_all();
    }

    fn seen(&self) -> (usize, usize) {
        let gate = self.gate.0.lock().expect("no panic");
        (gate.passed, gate.waiting)
    }
}

impl Storage for HeldStorage {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        self.inner.get(family, key)
    }

    fn scan(&self, family: Family, range: Range<&[u8]>, direction: Direction, visit: Visitor<'_>) -> Result<(), StorageError> {
        self.inner.scan(family, range, direction, visit)
    }

    fn write(&self, mutations: &[Mutation], durability: Durability) -> Result<(), StorageError> {
        let mut gate = self.gate.0.lock().expect("no panic");
        gate.waiting += 1;
        gate = self.gate.1.wait_while(gate, |gate| gate.holds && gate.may_pass == 0).expect("no panic");
        gate.waiting -= 1;
        gate.may_pass = gate.may_pass.saturating_sub(1);
        gate.passed += 1;
        drop(gate);
        self.inner.write(mutations, durability)
    }
}

/// Lets all tasks run that can.
async fn settle() {
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_registration_is_answered_when_what_the_former_had_on_its_way_is_stored() {
    let storage = HeldStorage::default();
    let test = TestBroker::with_topic(storage.clone(), "t", one_partition()).await;
    let name: ProducerName = "billing".parse().expect("legal");
    for forgets in [false, true] {
        let former = test.broker.register_producer(&name).await.expect("registered").producer_id.0;
        send(&test, "t", stamp(former, 0, 0)).await.expect("stored");
        storage.set(|gate| (gate.holds, gate.passed) = (true, 0));
        let mut change = pin!(async {
            match forgets {
                true => test.broker.forget_producer(&name).await.expect("forgotten"),
                false => drop(test.broker.register_producer(&name).await.expect("taken over")),
            }
        });
        assert!(poll!(&mut change).is_pending());
        within("it is about to be written", async {
            while storage.seen() != (0, 1) {
                tokio::task::yield_now().await;
            }
        })
        .await;
        let mut batch = pin!(send(&test, "t", stamp(former, 0, 2)));
        assert!(poll!(&mut batch).is_pending());
        settle().await;
        storage.set(|gate| gate.may_pass = 1);
        within("the batch is about to be written", async {
            while storage.seen() != (1, 1) {
                tokio::task::yield_now().await;
            }
        })
        .await;
        settle().await;
        assert!(poll!(&mut change).is_pending(), "forgets {forgets}: whoever is told now could read a log that still grows");
        storage.set(|gate| gate.holds = false);
        within("it is answered", &mut change).await;
        let stored = test.broker.describe_topic(&topic("t")).expect("there").partitions[0].high_watermark.0;
        within("the batch is answered", &mut batch).await.expect("it was first");
        settle().await;
        assert_eq!(test.broker.describe_topic(&topic("t")).expect("there").partitions[0].high_watermark.0, stored);
        send(&test, "t", stamp(former, 0, 4)).await.expect_err("it is superseded");
    }
}
