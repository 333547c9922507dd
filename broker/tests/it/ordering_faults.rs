//! Queue groups, with the order of keys and without it, on storage that is damaged, that fails, or that is slow.

use crate::common::{TestBroker, group, topic, within};
use crate::ordering::{by_key, keyed, texts};
use bytes::Bytes;
use core::ops::{ControlFlow, Range};
use core::time::Duration;
use sagamq_api::PartitionId;
use sagamq_api::queue::{DeadLetterQuery, ReceiveRequest, RedriveRequest, TerminateRequest};
use sagamq_api::topic::{CleanupPolicy, Ordering, TopicConfig, TopicConfigChange};
use sagamq_broker::ReceiveError;
use sagamq_broker::storage::memory::MemoryStorage;
use sagamq_broker::storage::{Direction, Durability, Family, Mutation, Storage, StorageError, Visitor};
use std::sync::{Arc, Condvar, Mutex};

/// A batch with this in it cannot be read while there is a fault.
const BAD: &str = "bad";

/// Storage in memory with faults.
#[derive(Clone, Default)]
struct FaultyStorage {
    below: MemoryStorage,
    /// What a look at a bad batch says.
    fault: Arc<Mutex<Option<StorageError>>>,
    gate: Arc<(Mutex<Gate>, Condvar)>,
}

/// Whether reads of records wait, and how many do.
#[derive(Default)]
struct Gate {
    is_closed: bool,
    waiting: usize,
}

impl FaultyStorage {
    fn set_fault(&self, fault: Option<StorageError>) {
        *self.fault.lock().expect("no panic") = fault;
    }

    fn set_closed(&self, is_closed: bool) {
        self.gate.0.lock().expect("no panic").is_closed = is_closed;
        self.gate.1.notify_all();
    }

    async fn until_a_read_waits(&self) {
        while self.gate.0.lock().expect("no panic").waiting == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    fn pass_gate(&self) {
        let mut gate = self.gate.0.lock().expect("no panic");
        gate.waiting += 1;
        let mut gate = self.gate.1.wait_while(gate, |gate| gate.is_closed).expect("no panic");
        gate.waiting -= 1;
    }
}

impl Storage for FaultyStorage {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        self.below.get(family, key)
    }

    fn scan(&self, family: Family, range: Range<&[u8]>, direction: Direction, visit: Visitor<'_>) -> Result<(), StorageError> {
        if family != Family::Log {
            return self.below.scan(family, range, direction, visit);
        }
        self.pass_gate();
        let fault = self.fault.lock().expect("no panic").clone();
        let mut met = false;
        self.below.scan(family, range, direction, &mut |key, value| {
            met = fault.is_some() && value.windows(BAD.len()).any(|part| part == BAD.as_bytes());
            if met { ControlFlow::Break(()) } else { visit(key, value) }
        })?;
        fault.filter(|_| met).map_or(Ok(()), Err)
    }

    fn write(&self, mutations: &[Mutation], durability: Durability) -> Result<(), StorageError> {
        self.below.write(mutations, durability)
    }
}

/// A broker that has these records in storage alone, each in a batch of its own.
async fn stored(storage: &FaultyStorage, config: TopicConfig, records: &[(&str, &str)]) -> TestBroker {
    let test = TestBroker::with_topic(storage.clone(), "t", config).await;
    for (key, value) in records {
        test.produce("t", vec![keyed(key, *value)], None).await;
    }
    drop(test);
    TestBroker::open(storage.clone())
}

#[tokio::test]
async fn a_damaged_block_keeps_nothing_behind_it_back() {
    for ordering in [Ordering::None, Ordering::Key] {
        let storage = FaultyStorage::default();
        let records = [("a", "a1"), ("b", "bad 1"), ("b", "bad 2"), ("c", "c1"), ("a", "a2")];
        let test = stored(&storage, TopicConfig { ordering, ..by_key() }, &records).await;
        storage.set_fault(Some(StorageError::Corrupt("a checksum of a block does not match".to_owned())));
        let first = test.receive("t", "g").await;
        match ordering {
            Ordering::None => assert_eq!(texts(&first), ["a1", "c1", "a2"]),
            Ordering::Key => {
                assert_eq!(texts(&first), ["a1", "c1"]);
                test.ack("t", "g", &first).await;
                assert_eq!(texts(&test.receive("t", "g").await), ["a2"]);
            }
        }
    }
}

#[tokio::test]
async fn a_partition_whose_keys_cannot_be_read_now_keeps_no_other_back_and_nothing_of_its_own_passes() {
    let storage = FaultyStorage::default();
    let test = TestBroker::with_topic(storage.clone(), "t", TopicConfig { partitions: 2, ..by_key() }).await;
    for (partition, key, value) in [(0, "a", "bad a1"), (0, "a", "a2"), (1, "b", "b1")] {
        test.produce("t", vec![keyed(key, value).with_partition(PartitionId(partition))], None).await;
    }
    drop(test);
    let test = TestBroker::open(storage.clone());
    storage.set_fault(Some(StorageError::Io("the device is away".to_owned())));
    let receive = async || test.broker.receive(&topic("t"), &group("g"), &ReceiveRequest::default()).await;
    let first = within("the other partition", receive()).await.expect("received");
    assert_eq!(texts(&first.deliveries), ["b1"]);
    let error = within("the fault", receive()).await.expect_err("there is nothing else");
    assert!(matches!(error, ReceiveError::Read(_)), "{error:?}");
    storage.set_fault(None);
    assert_eq!(texts(&test.receive("t", "g").await), ["bad a1"]);
}

#[tokio::test]
async fn what_is_being_read_when_the_order_is_switched_on_is_kept_in_order() {
    let storage = FaultyStorage::default();
    let unordered = TopicConfig { ordering: Ordering::None, ..by_key() };
    let test = stored(&storage, unordered, &[("a", "a1"), ("a", "a2"), ("b", "b1")]).await;
    storage.set_closed(true);
    let broker = test.broker.clone();
    let reading = tokio::spawn(async move { broker.receive(&topic("t"), &group("g"), &ReceiveRequest::default()).await });
    within("the read", storage.until_a_read_waits()).await;
    let change = TopicConfigChange { ordering: Some(Ordering::Key), ..TopicConfigChange::default() };
    test.broker.update_topic(&topic("t"), change).await.expect("changed");
    storage.set_closed(false);
    let received = within("the receive", reading).await.expect("no panic").expect("received");
    assert_eq!(texts(&received.deliveries), ["a1", "b1"], "from the answer on, no two of a key are given");
}

#[tokio::test]
async fn what_could_not_be_read_when_it_was_given_up_is_redriven_as_it_is_in_the_log() {
    let storage = FaultyStorage::default();
    // What is redriven of a compacted topic is what the dead letter has: the log may have it no more.
    let config = TopicConfig { cleanup_policy: CleanupPolicy::Compact, ordering: Ordering::None, ..by_key() };
    let test = stored(&storage, config, &[("a", "bad luck"), ("b", "b1")]).await;
    let first = test.receive("t", "g").await;
    assert_eq!(texts(&first), ["bad luck", "b1"]);
    storage.set_fault(Some(StorageError::Io("the device is away".to_owned())));
    let receipts = first.iter().map(|delivery| delivery.receipt.clone()).collect();
    let given_up = TerminateRequest { receipts, reason: "no use".to_owned() };
    test.broker.terminate(&topic("t"), &group("g"), &given_up).await.expect("given up");
    storage.set_fault(None);
    let letters = test.broker.dead_letters(&topic("t"), &group("g"), &DeadLetterQuery::default()).await.expect("listed").dead_letters;
    let reasons: Vec<_> = letters.iter().filter_map(|letter| letter.reason.as_deref()).collect();
    assert!(reasons[0].contains("could not be read") && reasons[1] == "no use", "{reasons:?}");
    test.broker.redrive(&topic("t"), &group("g"), &RedriveRequest::default()).await.expect("redriven");
    let again = test.receive("t", "g").await;
    assert_eq!(texts(&again), ["bad luck", "b1"], "and nothing that nobody has sent");
    assert_eq!(again[0].record.payload.key.as_deref(), Some(&b"a"[..]));
    // Now the dead letter has it: then the log is not needed.
    let receipts = again.iter().map(|delivery| delivery.receipt.clone()).collect();
    test.broker.terminate(&topic("t"), &group("g"), &TerminateRequest { receipts, reason: String::new() }).await.expect("given up");
    test.broker.redrive(&topic("t"), &group("g"), &RedriveRequest::default()).await.expect("redriven");
    storage.set_fault(Some(StorageError::Io("the device is away".to_owned())));
    assert_eq!(texts(&test.receive("t", "g").await), ["bad luck", "b1"]);
}
