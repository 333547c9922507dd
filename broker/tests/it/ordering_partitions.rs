//! Order by key over partitions that are added: a key's records go on in another partition only when what was before is settled.

use crate::common::{Says as _, TestBroker, group, topic};
use crate::ordering::{keyed, texts};
use crate::partitions::{add, moving_key};
use core::time::Duration;
use sagamq_api::partitioner::partition_of;
use sagamq_api::queue::{EmptyReason, GroupSeek, NackRequest, PurgeRequest, ReceiveRequest, RedriveRequest, TerminateRequest};
use sagamq_api::stream::SeekPosition;
use sagamq_api::topic::{Ordering, TopicConfig, TopicConfigChange};
use sagamq_broker::Delivered;
use sagamq_broker::storage::memory::MemoryStorage;
use std::collections::{BTreeMap, BTreeSet};

fn by_key(partitions: u32) -> TopicConfig {
    TopicConfig { partitions, ordering: Ordering::Key, backoff_initial_ms: 0, backoff_max_ms: 0, ..TopicConfig::default() }
}

async fn why(test: &TestBroker) -> EmptyReason {
    let empty = test.broker.receive(&topic("t"), &group("g"), &ReceiveRequest::default()).await.expect("received");
    assert!(empty.deliveries.is_empty(), "{:?}", texts(&empty.deliveries));
    empty.empty_reason.expect("a reason")
}

/// A topic of two partitions with records of a key, one of which is leased, and then of three, where a newer record of the key lies elsewhere.
async fn added(storage: &MemoryStorage) -> (TestBroker, String, Vec<Delivered>) {
    let test = TestBroker::with_topic(storage.clone(), "t", by_key(2)).await;
    let key = moving_key(2, 3);
    test.produce("t", vec![keyed(&key, "old 1")], None).await;
    let leased = test.receive("t", "g").await;
    assert_eq!(texts(&leased), ["old 1"]);
    add(&test, 3).await;
    test.produce("t", vec![keyed(&key, "new 1")], None).await;
    (test, key, leased)
}

#[tokio::test]
async fn the_newer_record_waits_for_the_older_one_in_the_other_partition_and_says_so() {
    let storage = MemoryStorage::new();
    let (mut test, key, leased) = added(&storage).await;
    test.produce("t", vec![keyed(&key, "new 2")], None).await;
    assert_eq!(why(&test).await, EmptyReason::PartitionsAdded);
    assert_eq!(test.broker.describe_group(&topic("t"), &group("g")).await.expect("there").waiting_for_key, 2);
    // A restart knows it too.
    test.broker.shutdown().await;
    test = TestBroker::try_open(storage.clone(), test.clock.clone()).expect("opens");
    assert_eq!(why(&test).await, EmptyReason::PartitionsAdded);
    test.ack("t", "g", &leased).await;
    // At once: whoever has settled it finds the next.
    let next = test.receive("t", "g").await;
    assert_eq!(texts(&next), ["new 1"]);
    assert_eq!(why(&test).await, EmptyReason::KeyOrder);
    test.ack("t", "g", &next).await;
    assert_eq!(texts(&test.receive("t", "g").await), ["new 2"]);
}

#[tokio::test]
async fn what_waits_is_delivered_to_a_poll_that_waits_when_the_older_one_is_settled() {
    let (test, _, leased) = added(&MemoryStorage::new()).await;
    let (name, of) = (topic("t"), group("g"));
    let request = ReceiveRequest { wait_ms: Some(20_000), ..ReceiveRequest::default() };
    let poll = test.broker.receive(&name, &of, &request);
    let (received, ()) = tokio::join!(poll, test.ack("t", "g", &leased));
    assert_eq!(texts(&received.expect("received").deliveries), ["new 1"]);
}

#[tokio::test]
async fn a_key_whose_partition_is_the_same_does_not_wait_for_others() {
    let (test, key, _leased) = added(&MemoryStorage::new()).await;
    let home = partition_of(key.as_bytes(), 2);
    let of = |key: &String| (partition_of(key.as_bytes(), 2), partition_of(key.as_bytes(), 3));
    let same = (0..).map(|n| format!("same-{n}")).find(|key| of(key) == (home, home)).expect("there is one");
    let other = (0..).map(|n| format!("other-{n}")).find(|key| of(key).0 != home && of(key).0 != of(key).1).expect("there is one");
    test.produce("t", vec![keyed(&same, "same"), keyed(&other, "other"), keyed("", "none")], None).await;
    let got: BTreeSet<String> = texts(&test.receive("t", "g").await).into_iter().collect();
    assert_eq!(got, ["none", "other", "same"].map(str::to_owned).into(), "the other partition of before was settled");
    assert_eq!(why(&test).await, EmptyReason::PartitionsAdded);
}

#[tokio::test]
async fn the_wait_ends_with_a_dead_letter_a_purge_a_seek_and_retention_and_begins_again_with_a_redrive_and_a_seek_back() {
    for way in ["terminate", "purge", "seek", "retention"] {
        let (test, key, leased) = added(&MemoryStorage::new()).await;
        let (name, of) = (topic("t"), group("g"));
        let home = leased[0].partition;
        match way {
            "terminate" => {
                let request = TerminateRequest { receipts: vec![leased[0].receipt.clone()], reason: "bad".to_owned() };
                test.broker.terminate(&name, &of, &request).await.expect("terminated");
            }
            "purge" => drop(test.broker.purge_group(&name, &of, &PurgeRequest { partition: Some(home) }).await.expect("purged")),
            "seek" => {
                let request = GroupSeek { partition: Some(home), position: Some(SeekPosition::End), ..GroupSeek::default() };
                test.broker.seek_group(&name, &of, &request).await.expect("moved");
            }
            _ => {
                let change = TopicConfigChange { retention_ms: Some(3_600_000), ..TopicConfigChange::default() };
                test.broker.update_topic(&name, change).await.expect("changed");
                test.clock.advance(Duration::from_secs(2 * 3600));
                test.produce("t", vec![keyed(&key, "new 1")], None).await;
                test.broker.apply_retention().await.expect("looked");
            }
        }
        let next = test.receive("t", "g").await;
        assert_eq!(texts(&next), ["new 1"], "{way}");
        test.ack("t", "g", &next).await;
        test.produce("t", vec![keyed(&key, "new 2")], None).await;
        match way {
            "terminate" => drop(test.broker.redrive(&name, &of, &RedriveRequest::default()).await.expect("redriven")),
            "seek" | "purge" => {
                let request = GroupSeek { partition: Some(home), position: Some(SeekPosition::Start), ..GroupSeek::default() };
                test.broker.seek_group(&name, &of, &request).await.expect("moved");
            }
            _ => continue,
        }
        let again = test.receive("t", "g").await;
        assert_eq!(texts(&again), ["old 1"], "{way}: the older one is there again, and comes first");
        assert_eq!(why(&test).await, EmptyReason::PartitionsAdded, "{way}");
        test.ack("t", "g", &again).await;
        assert_eq!(texts(&test.receive("t", "g").await), ["new 2"], "{way}");
    }
}

#[tokio::test]
async fn the_order_is_kept_from_before_also_if_it_is_switched_on_after_partitions_were_added() {
    let test = TestBroker::with_topic(MemoryStorage::new(), "t", TopicConfig { ordering: Ordering::None, ..by_key(2) }).await;
    let key = moving_key(2, 3);
    test.produce("t", vec![keyed(&key, "old 1")], None).await;
    let leased = test.receive("t", "g").await;
    add(&test, 3).await;
    test.produce("t", vec![keyed(&key, "new 1")], None).await;
    let change = TopicConfigChange { ordering: Some(Ordering::Key), ..TopicConfigChange::default() };
    test.broker.update_topic(&topic("t"), change).await.expect("changed");
    assert_eq!(why(&test).await, EmptyReason::PartitionsAdded);
    test.ack("t", "g", &leased).await;
    assert_eq!(texts(&test.receive("t", "g").await), ["new 1"]);
}

#[tokio::test]
async fn what_waits_in_a_partition_where_nothing_else_happens_is_delivered_when_the_order_is_switched_off() {
    for partitions in [None, Some(4)] {
        let (test, key, _leased) = added(&MemoryStorage::new()).await;
        // A younger one without a key is delivered before it, and is all that was left of its partition.
        let free = keyed("", "free").with_partition(partition_of(key.as_bytes(), 3));
        test.produce("t", vec![free], None).await;
        let got = test.receive("t", "g").await;
        assert_eq!(texts(&got), ["free"], "{partitions:?}");
        test.ack("t", "g", &got).await;
        assert_eq!(why(&test).await, EmptyReason::PartitionsAdded, "{partitions:?}");
        let change = TopicConfigChange { ordering: Some(Ordering::None), partitions, ..TopicConfigChange::default() };
        test.broker.update_topic(&topic("t"), change).await.expect("changed");
        assert_eq!(texts(&test.receive("t", "g").await), ["new 1"], "{partitions:?}");
    }
}

#[tokio::test]
async fn what_is_on_its_way_when_partitions_are_added_counts_as_before_also_if_its_client_has_gone() {
    for has_request_key in [false, true] {
        let test = TestBroker::with_topic(MemoryStorage::new(), "t", by_key(2)).await;
        let (name, key) = (topic("t"), moving_key(2, 3));
        // The claim of this one and its record are one commit.
        let request_key = has_request_key.then_some(&*key);
        {
            let produce = test.broker.produce(&name, vec![keyed(&key, "old")], request_key);
            tokio::pin!(produce);
            // The shard has it in front of it, and has not begun.
            assert!(futures_util::poll!(&mut produce).is_pending());
        }
        add(&test, 3).await;
        test.produce("t", vec![keyed(&key, "new")], None).await;
        let old = test.receive("t", "g").await;
        assert_eq!(texts(&old), ["old"], "{request_key:?}");
        assert_eq!(why(&test).await, EmptyReason::PartitionsAdded, "{request_key:?}");
        test.ack("t", "g", &old).await;
        assert_eq!(texts(&test.receive("t", "g").await), ["new"]);
    }
}

/// A small generator: the steps of a run follow from its seed.
struct Steps(u64);

impl Steps {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }
}

#[tokio::test]
async fn whatever_happens_a_key_is_delivered_in_order_and_one_at_a_time() {
    for seed in 0..12 {
        let (storage, mut steps) = (MemoryStorage::new(), Steps(seed));
        let mut test = TestBroker::with_topic(storage.clone(), "t", by_key(2)).await;
        let (mut partitions, mut produced) = (2, BTreeMap::<usize, usize>::new());
        let (mut settled, mut out) = (BTreeMap::<usize, usize>::new(), BTreeMap::<usize, Delivered>::new());
        let mut left = 150;
        loop {
            let total = |of: &BTreeMap<usize, usize>| of.values().sum::<usize>();
            if left == 0 && total(&settled) == total(&produced) {
                break;
            }
            match steps.below(12) {
                0..=2 if left > 0 => {
                    let records = (0..1 + steps.below(4)).map(|_| {
                        let key = steps.below(7);
                        let number = produced.entry(key).or_default();
                        *number += 1;
                        keyed(&format!("key {key}"), format!("{key} {number}"))
                    });
                    test.produce("t", records.collect(), None).await;
                    left -= 1;
                }
                3 if partitions < 9 && steps.below(4) == 0 => {
                    partitions += 1 + u32::try_from(steps.below(2)).expect("small");
                    add(&test, partitions).await;
                }
                4 if steps.below(6) == 0 => {
                    test.broker.shutdown().await;
                    test = TestBroker::try_open(storage.clone(), test.clock.clone()).expect("opens");
                }
                5 | 6 => {
                    let Some((&key, _)) = out.iter().nth(steps.below(out.len().max(1))) else { continue };
                    let delivered = out.remove(&key).expect("it is out");
                    test.ack("t", "g", &[delivered]).await;
                    *settled.entry(key).or_default() += 1;
                }
                7 => {
                    let Some((&key, _)) = out.iter().nth(steps.below(out.len().max(1))) else { continue };
                    let receipts = vec![out.remove(&key).expect("it is out").receipt];
                    let request = NackRequest { receipts, delay_ms: None, reason: None, not_begun: true };
                    test.broker.nack(&topic("t"), &group("g"), &request).await.expect("given back");
                }
                _ => {
                    let max = u32::try_from(1 + steps.below(5)).expect("small");
                    let request = ReceiveRequest { max_records: Some(max), ..ReceiveRequest::default() };
                    for delivered in test.receive_with("t", "g", &request).await {
                        let text = delivered.record.text().expect("text");
                        let mut numbers = text.split(' ').map(|number| number.parse::<usize>().expect("a number"));
                        let (key, number) = (numbers.next().expect("a key"), numbers.next().expect("its number"));
                        assert_eq!(number, settled.get(&key).copied().unwrap_or(0) + 1, "seed {seed}: key {key}, {partitions} partitions");
                        assert!(out.insert(key, delivered).is_none(), "seed {seed}: two of key {key} are out");
                    }
                }
            }
        }
        assert!(partitions > 3, "seed {seed}: partitions were added");
    }
}
