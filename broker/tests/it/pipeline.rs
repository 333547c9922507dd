//! Acknowledge-with-records: both, or neither; once; and what belongs to other shards comes there once.

use crate::common::{START_MS, Says as _, TestBroker, group, topic, within};
use core::time::Duration;
use sagamq_api::queue::{AckRequest, ReceiveRequest};
use sagamq_api::topic::TopicConfig;
use sagamq_broker::env::ManualClock;
use sagamq_broker::storage::crash::{CrashStorage, FailedWrite};
use sagamq_broker::storage::memory::MemoryStorage;
use sagamq_broker::{AckRecordsError, AckRecordsRefused, AckedWithRecords, Delivered, Due, NewRecord};
use std::collections::{BTreeMap, BTreeSet};

/// Records with the topics that they are for.
type Outputs = Vec<(sagamq_api::TopicName, Vec<NewRecord>)>;

fn partitions(partitions: u32) -> TopicConfig {
    TopicConfig { partitions, ..TopicConfig::default() }
}

async fn with_topics(storage: impl sagamq_broker::storage::Storage) -> TestBroker {
    let test = TestBroker::with_topic(storage, "in", partitions(6)).await;
    test.broker.create_topic(&topic("out"), partitions(6)).await.expect("made");
    test.broker.create_topic(&topic("narrow"), partitions(1)).await.expect("made");
    test
}

/// What is made of a record: one of its partition, and one of each of some keys, for all shards.
fn made_of(text: &str) -> Outputs {
    let keyed = (0..5).map(|n| NewRecord::of(format!("{text} {n}")).with_key(format!("key {n}")));
    let out = [NewRecord::of(format!("{text} beside"))].into_iter().chain(keyed).collect();
    vec![(topic("out"), out), (topic("narrow"), vec![NewRecord::of(format!("{text} narrow"))])]
}

const MADE: usize = 7;

async fn process(test: &TestBroker, delivery: &Delivered) -> Result<AckedWithRecords, AckRecordsError> {
    let text = delivery.record.text().expect("text");
    test.broker.ack_with_records(&topic("in"), &group("g"), core::slice::from_ref(&delivery.receipt), made_of(&text)).await
}

/// How often each value is in a topic.
async fn counts(test: &TestBroker, names: &[&str]) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    for name in names {
        for partition in test.broker.describe_topic(&topic(name)).expect("there").partitions {
            for value in test.values(name, partition.partition.0).await {
                *found.entry(value).or_insert(0) += 1;
            }
        }
    }
    found
}

async fn until_made(test: &TestBroker, count: usize) -> BTreeMap<String, usize> {
    within("what was made is there", async {
        loop {
            let found = counts(test, &["out", "narrow"]).await;
            if found.len() >= count {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
}

#[tokio::test]
async fn what_was_made_of_a_record_is_there_once_and_the_record_is_done() {
    let test = with_topics(MemoryStorage::new()).await;
    test.produce("in", (0..12).map(|n| NewRecord::of(n.to_string()).with_key(n.to_string())).collect(), None).await;
    let deliveries = test.receive("in", "g").await;
    assert_eq!(deliveries.len(), 12);
    for delivery in &deliveries {
        let acked = process(&test, delivery).await.expect("acknowledged");
        assert!(!acked.duplicate && acked.produced.iter().map(Vec::len).sum::<usize>() == MADE);
        let beside = acked.produced[0][0];
        assert_eq!((beside.partition, beside.offset.is_some()), (delivery.partition, true), "what has no key stays beside its record");
        let own = acked.produced.iter().flatten().filter(|record| record.offset.is_some());
        assert!(own.clone().count() < MADE, "some are for other shards");
        assert!(own.into_iter().all(|record| record.partition.0 % 4 == delivery.partition.0 % 4));
        // The answer was lost: the same request says what happened and stores nothing.
        let again = process(&test, delivery).await.expect("answered");
        let partitions = |of: &AckedWithRecords| of.produced.iter().flatten().map(|record| record.partition).collect::<Vec<_>>();
        assert!(again.duplicate && partitions(&again) == partitions(&acked));
    }
    let found = until_made(&test, 12 * MADE).await;
    assert!(found.values().all(|times| *times == 1) && found.len() == 12 * MADE, "{found:?}");
    test.clock.advance(Duration::from_secs(3600));
    assert!(test.receive("in", "g").await.is_empty(), "all are done");
}

#[tokio::test]
async fn records_of_a_partition_keep_their_order_also_on_other_shards() {
    let test = with_topics(MemoryStorage::new()).await;
    test.produce("in", vec![NewRecord::of("a")], None).await;
    let delivery = test.receive("in", "g").await.remove(0);
    let many = (0..2_000).map(|n| NewRecord::of(format!("{n:04}")).with_key(format!("key {}", n % 7))).collect();
    test.broker.ack_with_records(&topic("in"), &group("g"), &[delivery.receipt], vec![(topic("out"), many)]).await.expect("acknowledged");
    assert_eq!(until_made(&test, 2_000).await.len(), 2_000);
    for partition in 0..6 {
        assert!(test.values("out", partition).await.is_sorted(), "partition {partition}");
    }
}

#[tokio::test]
async fn what_cannot_be_is_refused_as_a_whole() {
    let test = with_topics(MemoryStorage::new()).await;
    test.broker
        .update_topic(&topic("out"), sagamq_api::topic::TopicConfigChange { record_bytes_max: Some(100), ..Default::default() })
        .await
        .expect("changed");
    test.produce("in", (0..12).map(|n| NewRecord::of(n.to_string()).with_key(n.to_string())).collect(), None).await;
    let deliveries = test.receive("in", "g").await;
    let of_others = deliveries.iter().find(|other| other.partition != deliveries[0].partition).expect("several partitions");
    let (first, other) = (deliveries[0].receipt.clone(), of_others.receipt.clone());
    let good = || vec![(topic("out"), vec![NewRecord::of("good")])];
    let with = |record| vec![(topic("out"), vec![NewRecord::of("good"), record])];
    let refused: Vec<(Vec<String>, Outputs, &str)> = vec![
        (vec![first.clone()], [good(), vec![(topic("nowhere"), vec![NewRecord::of("v")])]].concat(), "nowhere"),
        (vec![first.clone()], with(NewRecord::of("x".repeat(101))), "101 bytes"),
        (vec![first.clone()], with(NewRecord::of("v").with_partition(sagamq_api::PartitionId(6))), "partition 6"),
        (vec![first.clone()], with(NewRecord::of("v").with_idempotency_key("k")), "receipts"),
        (vec![first.clone()], with(NewRecord::of("v").with_due(Due::After(5))), "receipts"),
        (vec![first.clone()], vec![(topic("in.g.dlq"), vec![NewRecord::of("v")])], "dead letters"),
        (vec![first.clone()], Vec::new(), "number of records"),
        (Vec::new(), good(), "number of receipts"),
        (vec![first.clone(), first.clone()], good(), "already"),
        (vec![first.clone(), other], good(), "partition"),
        (vec!["x".repeat(60)], good(), "receipt 0"),
    ];
    for (receipts, produce, what) in refused {
        let error = test.broker.ack_with_records(&topic("in"), &group("g"), &receipts, produce).await.expect_err(what).to_string();
        assert!(error.contains(what), "{what}: {error}");
    }
    // One of two receipts is stale: its record was settled by somebody else.
    let same: Vec<_> = deliveries.iter().filter(|other| other.partition == deliveries[0].partition).take(2).collect();
    let [settled, held] = same[..] else { panic!("two of one partition: {deliveries:?}") };
    test.ack("in", "g", core::slice::from_ref(settled)).await;
    let receipts = [settled.receipt.clone(), held.receipt.clone()];
    let stale = test.broker.ack_with_records(&topic("in"), &group("g"), &receipts, good()).await;
    assert!(matches!(stale, Err(AckRecordsError::Refused(AckRecordsRefused::Stale(0)))), "{stale:?}");
    assert_eq!(counts(&test, &["out", "narrow"]).await.len(), 0, "nothing was stored");
    let held_still = AckRequest { receipts: vec![held.receipt.clone()] };
    let settled = test.broker.ack(&topic("in"), &group("g"), &held_still).await.expect("it is held still");
    assert_eq!(settled.results[0].status, sagamq_api::queue::SettleStatus::Done);
}

#[tokio::test]
async fn a_lease_that_somebody_else_has_now_produces_nothing() {
    let test = with_topics(MemoryStorage::new()).await;
    test.produce("in", vec![NewRecord::of("a")], None).await;
    let first = test.receive("in", "g").await.remove(0);
    test.clock.advance(Duration::from_secs(31));
    test.receive("in", "g").await;
    test.clock.advance(Duration::from_secs(5));
    let second = test.receive("in", "g").await.remove(0);
    let late = process(&test, &first).await;
    assert!(matches!(late, Err(AckRecordsError::Refused(AckRecordsRefused::Stale(0)))), "{late:?}");
    process(&test, &second).await.expect("acknowledged");
    let late = process(&test, &first).await;
    assert!(matches!(late, Err(AckRecordsError::Refused(AckRecordsRefused::Stale(0)))), "{late:?}");
    let found = until_made(&test, MADE).await;
    assert!(found.len() == MADE && found.values().all(|times| *times == 1), "{found:?}");
    // The same receipts with other records are another request.
    let other = vec![(topic("out"), vec![NewRecord::of("other")])];
    let other = test.broker.ack_with_records(&topic("in"), &group("g"), &[second.receipt], other).await;
    assert!(matches!(other, Err(AckRecordsError::Refused(AckRecordsRefused::OtherRecords))), "{other:?}");
}

#[tokio::test]
async fn records_on_their_way_to_a_topic_that_is_deleted_hold_up_nobody() {
    let test = with_topics(MemoryStorage::new()).await;
    for round in 0..3 {
        test.produce("in", vec![NewRecord::of(format!("{round}"))], None).await;
        let delivery = test.receive("in", "g").await.remove(0);
        process(&test, &delivery).await.expect("acknowledged");
        if round == 0 {
            test.broker.delete_topic(&topic("out")).await.expect("deleted");
            test.broker.create_topic(&topic("out"), partitions(6)).await.expect("another of its name");
        }
    }
    within("what was made later is there", async {
        while counts(&test, &["narrow"]).await.len() < 3 || counts(&test, &["out"]).await.len() < 2 * (MADE - 1) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert!(counts(&test, &["out"]).await.keys().all(|value| !value.starts_with('0')), "what was for the deleted one is gone with it");
}

const RECORDS: usize = 4;

/// Processes records until a write fails. What was acknowledged.
async fn run(storage: CrashStorage) -> BTreeSet<String> {
    let mut acked = BTreeSet::new();
    let Ok(test) = TestBroker::try_open(storage, ManualClock::at(START_MS)) else { return acked };
    for (name, count) in [("in", 6), ("out", 6), ("narrow", 1)] {
        let _ = test.broker.create_topic(&topic(name), partitions(count)).await;
    }
    for n in 0..RECORDS {
        let _ = test.broker.produce(&topic("in"), vec![NewRecord::of(n.to_string())], Some(&format!("key-{n}"))).await;
    }
    let Ok(received) = test.broker.receive(&topic("in"), &group("g"), &ReceiveRequest::default()).await else { return acked };
    for delivery in received.deliveries {
        if process(&test, &delivery).await.is_ok() {
            acked.insert(delivery.record.text().expect("text"));
        }
    }
    within("what was made is there, or a write failed", async {
        while test.broker.writes_stopped().is_none() && counts(&test, &["out", "narrow"]).await.len() < acked.len() * MADE {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
    test.broker.shutdown().await;
    acked
}

#[tokio::test]
async fn a_crash_at_any_write_leaves_no_acknowledgement_without_its_records_and_none_twice() {
    let whole = CrashStorage::new();
    assert_eq!(run(whole.clone()).await.len(), RECORDS);
    let writes = whole.writes();
    assert!(writes > 10, "the run writes often enough to be worth crashing: {writes}");
    for at in 1..=writes {
        for leaves in [FailedWrite::NothingApplied, FailedWrite::Applied, FailedWrite::AppliedNotSynced] {
            let storage = CrashStorage::new();
            storage.fail_write(at, leaves);
            let acked = run(storage.clone()).await;
            for image in [storage.after_power_cut(), storage.after_kill()] {
                let case = format!("write {at} of {writes} left {leaves:?}");
                let test = TestBroker::open(image);
                for (name, count) in [("in", 6), ("out", 6), ("narrow", 1)] {
                    test.broker.create_topic(&topic(name), partitions(count)).await.expect("made, or there");
                }
                for n in 0..RECORDS {
                    test.produce("in", vec![NewRecord::of(n.to_string())], Some(&format!("key-{n}"))).await;
                }
                // Whatever is not done is delivered again, and processed.
                for _ in 0..3 {
                    test.clock.advance(Duration::from_secs(3600));
                    for delivery in test.receive("in", "g").await {
                        let text = delivery.record.text().expect("text");
                        assert!(!acked.contains(&text), "{case}: {text} was acknowledged and comes again");
                        process(&test, &delivery).await.expect("acknowledged");
                    }
                }
                let found = until_made(&test, RECORDS * MADE).await;
                let twice: Vec<_> = found.iter().filter(|(_, times)| **times != 1).collect();
                assert!(twice.is_empty() && found.len() == RECORDS * MADE, "{case}: {twice:?} of {}", found.len());
            }
        }
    }
}
