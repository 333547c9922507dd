//! What a receive reads, leases and says: bounded in bytes, not stopped by what is damaged or blocked, truthful when it is empty.

use crate::common::{START_MS, TestBroker, group, one_partition, topic, within};
use bytes::Bytes;
use core::ops::{ControlFlow, Range};
use core::time::Duration;
use sagamq_api::queue::{EmptyReason, NackRequest, ReceiveRequest, StartPosition};
use sagamq_api::topic::{ReadQuery, TopicConfig};
use sagamq_api::{Offset, PartitionId};
use sagamq_broker::env::ManualClock;
use sagamq_broker::log::ReadError;
use sagamq_broker::storage::crash::{CrashStorage, FailedWrite};
use sagamq_broker::storage::memory::MemoryStorage;
use sagamq_broker::storage::{Direction, Durability, Family, Mutation, Storage, StorageError, Visitor};
use sagamq_broker::{BrokerConfig, Delivered, DescribeGroupError, NewRecord, ReadRequestError, ReceiveError, Received};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;

const MIB: usize = 1024 * 1024;

/// Storage that counts the bytes of records that were visited.
#[derive(Clone, Default)]
struct CountingStorage {
    below: MemoryStorage,
    visited: Arc<AtomicUsize>,
}

impl Storage for CountingStorage {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        self.below.get(family, key)
    }

    fn scan(&self, family: Family, range: Range<&[u8]>, direction: Direction, visit: Visitor<'_>) -> Result<(), StorageError> {
        self.below.scan(family, range, direction, &mut |key, value| {
            // Backward scans look for keys only.
            if family == Family::Log && direction == Direction::Forward {
                self.visited.fetch_add(value.len(), Ordering::SeqCst);
            }
            visit(key, value)
        })
    }

    fn write(&self, mutations: &[Mutation], durability: Durability) -> Result<(), StorageError> {
        self.below.write(mutations, durability)
    }
}

fn of(partition: u32, text: impl Into<String>) -> NewRecord {
    NewRecord::of(text.into()).with_partition(PartitionId(partition))
}

fn at(deliveries: &[Delivered]) -> Vec<(u32, u64)> {
    deliveries.iter().map(|delivery| (delivery.partition.0, delivery.record.offset.0)).collect()
}

fn two_partitions() -> TopicConfig {
    TopicConfig { partitions: 2, ..TopicConfig::default() }
}

async fn large_backlog(storage: CountingStorage) -> TestBroker {
    let test = TestBroker::with_topic(storage.clone(), "t", one_partition()).await;
    for _ in 0..60 {
        test.produce_texts("t", ["x".repeat(MIB - 100)]).await;
    }
    test.broker.shutdown().await;
    let test = TestBroker::try_open(storage.clone(), test.clock).expect("opens");
    storage.visited.store(0, Ordering::SeqCst);
    test
}

#[tokio::test]
async fn a_receive_after_a_restart_reads_and_leases_what_it_returns_and_no_more() {
    for auto_ack in [false, true] {
        let storage = CountingStorage::default();
        let test = large_backlog(storage.clone()).await;
        let request = ReceiveRequest { max_records: Some(1_000), auto_ack, ..ReceiveRequest::default() };
        let deliveries = test.receive_with("t", "g", &request).await;
        assert!((1..=17).contains(&deliveries.len()), "16 MiB are the bound: {}", deliveries.len());
        let visited = storage.visited.load(Ordering::SeqCst);
        assert!(visited <= (deliveries.len() + 2) * MIB, "{visited} bytes were read for {} records", deliveries.len());
        let description = test.broker.describe_group(&topic("t"), &group("g")).await.expect("there");
        let count = deliveries.len() as u64;
        let expected = if auto_ack { (0, 60 - count) } else { (count, 60) };
        assert_eq!((description.in_flight, description.lag_records, description.delayed), (expected.0, expected.1, 0));
        let next = test.receive_with("t", "g", &request).await;
        assert_eq!((next[0].record.offset.0, next[0].attempt), (count, 1));
    }
}

#[tokio::test]
async fn an_answer_that_was_made_before_it_was_known_what_is_settled_is_made_again_if_that_is_other_than_expected() {
    let test = TestBroker::with_topic(MemoryStorage::new(), "t", one_partition()).await;
    test.produce_texts("t", ["first"]).await;
    assert_eq!(test.receive_with("t", "g", &ReceiveRequest::default()).await[0].attempt, 1);
    // Its lease runs out, so the next delivery is not the first.
    test.clock.advance(Duration::from_secs(31));
    test.produce_texts("t", ["second"]).await;
    let made = AtomicUsize::new(0);
    let make = |received: &Received| {
        made.fetch_add(1, Ordering::SeqCst);
        received.deliveries.iter().map(|delivery| (delivery.record.offset.0, delivery.attempt, delivery.receipt.len())).collect::<Vec<_>>()
    };
    let request = ReceiveRequest { auto_ack: true, ..ReceiveRequest::default() };
    let (mut got, mut receives) = (Vec::new(), 0);
    while got.len() < 2 {
        receives += 1;
        assert!(receives < 1_000, "both come: {got:?}");
        got.extend(test.broker.receive_as(&topic("t"), &group("g"), &request, make).await.expect("receives").into_value());
        // Who let a lease run out waits a little for the record.
        test.clock.advance(Duration::from_secs(1));
        tokio::task::yield_now().await;
    }
    got.sort_unstable();
    assert_eq!(got, [(0, 2, 0), (1, 1, 0)], "the answer says what is true, and not what was expected");
    assert!(made.load(Ordering::SeqCst) > receives, "an answer that was made first was thrown away: {receives} receives");
}

#[tokio::test]
async fn answers_together_are_bounded_and_the_one_that_finds_no_memory_is_refused_and_leases_nothing() {
    let storage = MemoryStorage::new();
    let config = BrokerConfig { shards: 4, read_bytes_max: 2 * MIB, read_wait: Duration::ZERO, ..BrokerConfig::default() };
    let test = TestBroker::try_open_with(storage, ManualClock::at(START_MS), config).expect("opens");
    test.broker.create_topic(&topic("t"), one_partition()).await.expect("created");
    for _ in 0..4 {
        test.produce_texts("t", ["x".repeat(MIB - 100)]).await;
    }
    let request = ReceiveRequest { max_records: Some(10), ..ReceiveRequest::default() };
    let held = test.broker.receive_as(&topic("t"), &group("g"), &request, Received::clone).await.expect("larger than the bound, and alone");
    let (answer, share) = held.into_parts();
    assert_eq!(answer.deliveries.len(), 1, "one record is always returned, a second one has no memory");
    let refused = test.broker.receive(&topic("t"), &group("g"), &request).await;
    assert!(matches!(refused, Err(ReceiveError::Overloaded(_))), "{refused:?}");
    let refused = test.broker.read(&topic("t"), PartitionId(0), &ReadQuery::default()).await;
    assert!(matches!(refused, Err(ReadRequestError::Overloaded(_))), "{refused:?}");
    drop(share);
    // What the refused receive had reserved comes back when the shard looks next.
    let next = test.receive_with("t", "g", &ReceiveRequest { wait_ms: Some(20_000), ..request }).await;
    assert_eq!((next[0].record.offset.0, next[0].attempt), (1, 1), "the refused receive has leased nothing");
}

/// A topic of two partitions after a restart; the first batch of partition 0 (two records) is damaged.
async fn damaged(storage: &MemoryStorage) -> (TestBroker, Mutation) {
    let test = TestBroker::with_topic(storage.clone(), "t", two_partitions()).await;
    test.produce("t", vec![of(0, "a"), of(0, "b")], None).await;
    test.produce("t", vec![of(0, "c")], None).await;
    test.produce("t", vec![of(1, "d")], None).await;
    test.broker.shutdown().await;
    let mut sound = None;
    let range = [0_u8; 2]..[0_u8, 1];
    let mut visit = |key: &[u8], value: &[u8]| {
        sound = Some((key.to_vec(), Bytes::copy_from_slice(value)));
        ControlFlow::Break(())
    };
    storage.scan(Family::Log, &range.start[..]..&range.end[..], Direction::Forward, &mut visit).expect("scans");
    let (key, value) = sound.expect("the first batch");
    let mut bytes = value.to_vec();
    *bytes.last_mut().expect("not empty") ^= 1;
    let put = |value| Mutation::Put { family: Family::Log, key: key.clone(), value };
    storage.write(&[put(bytes.into())], Durability::Synced).expect("written");
    (TestBroker::try_open(storage.clone(), test.clock).expect("opens"), put(value))
}

#[tokio::test]
async fn a_damaged_batch_keeps_nobody_else_from_being_delivered_and_costs_no_delivery() {
    for auto_ack in [false, true] {
        let storage = MemoryStorage::new();
        let (test, sound) = damaged(&storage).await;
        let request = ReceiveRequest { auto_ack, ..ReceiveRequest::default() };
        let mut healthy = at(&test.receive_with("t", "g", &request).await);
        healthy.sort_unstable();
        assert_eq!(healthy, [(0, 2), (1, 0)]);
        let description = test.broker.describe_group(&topic("t"), &group("g")).await;
        let in_flight = if auto_ack { 0 } else { 2 };
        // The age of the oldest record cannot be told.
        assert!(matches!(description, Err(DescribeGroupError::Read(ReadError::Damaged { .. }))), "{description:?}");
        test.clock.advance(Duration::from_secs(11));
        let told = test.broker.receive(&topic("t"), &group("g"), &request).await;
        assert!(matches!(told, Err(ReceiveError::Read(ReadError::Damaged { base: Offset(0), .. }))), "{told:?}");
        storage.write(&[sound], Durability::Synced).expect("mended");
        let description = test.broker.describe_group(&topic("t"), &group("g")).await.expect("readable again");
        assert_eq!((description.in_flight, description.delayed, description.lag_records), (in_flight, 2, 2 + in_flight));
        test.clock.advance(Duration::from_secs(11));
        let mended = test.receive_with("t", "g", &request).await;
        assert_eq!(mended.iter().map(|d| (d.record.offset.0, d.attempt)).collect::<Vec<_>>(), [(0, 1), (1, 1)]);
    }
}

#[tokio::test]
async fn partitions_at_their_bounds_do_not_take_the_quota_of_others() {
    // More of them than times that a receive asks somebody else before it gives up.
    const FULL: u32 = 12;
    let config = TopicConfig { partitions: FULL + 1, ..TopicConfig::default() };
    let test = TestBroker::with_topic(MemoryStorage::new(), "t", config).await;
    let full = ReceiveRequest { max_records: Some(1_000), ..ReceiveRequest::default() };
    for partition in 0..FULL {
        test.produce("t", (0..1_200).map(|n| of(partition, n.to_string())).collect(), None).await;
    }
    for _ in 0..FULL {
        assert_eq!(test.receive_with("t", "g", &full).await.len(), 1_000);
    }
    test.produce("t", (0..20).map(|n| of(FULL, n.to_string())).collect(), None).await;
    let some = ReceiveRequest { max_records: Some(2), ..ReceiveRequest::default() };
    for round in 0..10 {
        let got = test.receive_with("t", "g", &some).await;
        assert_eq!(at(&got), [(FULL, 2 * round), (FULL, 2 * round + 1)], "wherever the turn begins");
    }
    let empty = test.broker.receive(&topic("t"), &group("g"), &some).await.expect("received");
    assert_eq!(empty.empty_reason, Some(EmptyReason::InFlightLimit));
}

#[tokio::test]
async fn what_a_partition_cannot_give_is_asked_of_the_others() {
    let test = TestBroker::with_topic(MemoryStorage::new(), "t", two_partitions()).await;
    test.broker.ensure_group(&topic("t"), &group("g"), StartPosition::Earliest).await.expect("made");
    test.produce("t", (0..3).map(|n| of(0, n.to_string())).collect(), None).await;
    test.produce("t", (0..5).map(|n| of(1, n.to_string())).collect(), None).await;
    let two = ReceiveRequest { max_records: Some(2), ..ReceiveRequest::default() };
    // At once: the third one comes to the first partition when one record is left there.
    let receive = || test.receive_with("t", "g", &two);
    let (a, b, c) = tokio::join!(receive(), receive(), receive());
    assert_eq!([a.len(), b.len(), c.len()], [2, 2, 2]);
}

#[tokio::test]
async fn fresh_records_behind_ten_thousand_waiting_ones_are_told_of() {
    let test = TestBroker::with_topic(MemoryStorage::new(), "t", one_partition()).await;
    test.produce_texts("t", (0..10_000).map(|n| n.to_string())).await;
    test.produce_texts("t", ["fresh"]).await;
    let request = ReceiveRequest { max_records: Some(1_000), ..ReceiveRequest::default() };
    for _ in 0..10 {
        let deliveries = test.receive_with("t", "g", &request).await;
        assert_eq!(deliveries.len(), 1_000);
        let receipts = deliveries.into_iter().map(|delivery| delivery.receipt).collect();
        let later = NackRequest { receipts, delay_ms: Some(60_000), reason: None, not_begun: false };
        test.broker.nack(&topic("t"), &group("g"), &later).await.expect("given back");
    }
    let empty = test.broker.receive(&topic("t"), &group("g"), &request).await.expect("received");
    assert_eq!((empty.deliveries.len(), empty.empty_reason), (0, Some(EmptyReason::PendingLimit)));
}

#[tokio::test]
async fn the_bound_on_settled_ranges_is_told() {
    let test = TestBroker::with_topic(MemoryStorage::new(), "t", TopicConfig { partitions: 4, ..TopicConfig::default() }).await;
    test.broker.ensure_group(&topic("t"), &group("g"), StartPosition::Earliest).await.expect("made");
    test.produce("t", vec![of(0, "old")], None).await;
    let lane = test.broker.embedder(0);
    let mut commit = lane.begin();
    for n in 0..10_000 {
        commit.settle(&topic("t"), &group("g"), Offset(2 * n + 1)).expect("there");
    }
    lane.submit(commit).await.expect("submitted").durable().await.expect("durable");
    let empty = test.broker.receive(&topic("t"), &group("g"), &ReceiveRequest::default()).await.expect("received");
    assert_eq!((empty.deliveries.len(), empty.empty_reason), (0, Some(EmptyReason::SettledRangesLimit)));
}

/// Comes when what this task polled before wants to be polled again.
async fn woken() {
    let mut is_woken = false;
    std::future::poll_fn(|_| if std::mem::replace(&mut is_woken, true) { Poll::Ready(()) } else { Poll::Pending }).await;
}

#[tokio::test]
async fn a_receive_that_goes_away_gives_back_what_it_reads() {
    // Cut off behind the lease, an attempt is used up: as often as this is tried, it would be a dead letter.
    let config = TopicConfig { delivery_limit: 0, ..one_partition() };
    let test = TestBroker::with_topic(MemoryStorage::new(), "t", config).await;
    test.broker.ensure_group(&topic("t"), &group("g"), StartPosition::Earliest).await.expect("made");
    test.produce_texts("t", ["a"]).await;
    let (name, of_group) = (topic("t"), group("g"));
    for polls in 0..20 {
        let request = ReceiveRequest::default();
        let mut receive = Box::pin(test.broker.receive(&name, &of_group, &request));
        for poll in 0..polls {
            if futures_util::poll!(receive.as_mut()).is_ready() {
                return assert!(polls > 1, "the receive was cut off in between");
            }
            // At last it waits for the committer's thread, which a busy machine may let wait: until it is woken.
            if poll < 10 {
                tokio::task::yield_now().await;
            } else {
                within("something wakes the receive", woken()).await;
            }
        }
        drop(receive);
        // What was on its way to the shard has arrived.
        test.broker.describe_group(&name, &of_group).await.expect("there");
        // Whatever had been reserved or leased comes back: a lease runs out first, and then its backoff.
        let mut again = Vec::new();
        for _ in 0..3 {
            test.clock.advance(Duration::from_secs(3_600));
            again = test.receive("t", "g").await;
            if !again.is_empty() {
                break;
            }
        }
        assert_eq!(again.len(), 1, "cut off after {polls} polls");
        let receipts = again.into_iter().map(|delivery| delivery.receipt).collect();
        let back = NackRequest { receipts, delay_ms: None, reason: None, not_begun: true };
        test.broker.nack(&name, &of_group, &back).await.expect("given back");
    }
    panic!("the receive never came to its end");
}

#[tokio::test]
async fn taking_turns_with_a_producer_meets_every_partition() {
    let test = TestBroker::with_topic(MemoryStorage::new(), "t", two_partitions()).await;
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..8 {
        seen.extend(test.produce_texts("t", ["a"]).await.into_iter().map(|record| record.partition.0));
        test.receive("t", "g").await;
    }
    assert_eq!(seen.len(), 2);
}

#[tokio::test]
async fn what_is_told_of_a_group_is_durable() {
    let storage = CrashStorage::new();
    let test = TestBroker::with_topic(storage.clone(), "t", one_partition()).await;
    test.produce_texts("t", ["a"]).await;
    let leased = test.receive("t", "g").await;
    storage.fail_write(1, FailedWrite::NothingApplied);
    let request = sagamq_api::queue::AckRequest { receipts: leased.into_iter().map(|delivery| delivery.receipt).collect() };
    let (name, of_group) = (topic("t"), group("g"));
    let (acknowledged, described) = tokio::join!(test.broker.ack(&name, &of_group, &request), test.broker.describe_group(&name, &of_group));
    acknowledged.expect_err("the write fails");
    assert!(!described.is_ok_and(|group| group.lag_records == 0), "told of an acknowledgement that is not stored");
}

#[tokio::test]
async fn a_broker_that_has_ended_is_not_caught_up() {
    let test = TestBroker::with_topic(MemoryStorage::new(), "t", two_partitions()).await;
    let request = ReceiveRequest { wait_ms: Some(0), ..ReceiveRequest::default() };
    let (name, of_group) = (topic("t"), group("g"));
    for _ in 0..2 {
        let received = test.broker.receive(&name, &of_group, &request).await.expect("there is nothing");
        assert_eq!(received.empty_reason, Some(EmptyReason::CaughtUp), "and after the first look nobody is asked but one");
    }
    test.broker.shutdown().await;
    test.broker.receive(&name, &of_group, &request).await.expect_err("a consumer that is told of nothing would ask without an end");
}
