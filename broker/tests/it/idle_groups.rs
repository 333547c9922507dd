//! A group costs what it does, not what its topic has: no rows and no queues for partitions in which it has done nothing.

use crate::common::{Says as _, TestBroker, group, one_partition, topic};
use core::ops::ControlFlow;
use core::time::Duration;
use sagamq_api::PartitionId;
use sagamq_api::queue::{EmptyReason, ReceiveRequest, RedriveRequest, StartPosition, TerminateRequest};
use sagamq_api::topic::TopicConfig;
use sagamq_broker::NewRecord;
use sagamq_broker::storage::memory::MemoryStorage;
use sagamq_broker::storage::{Direction, Family, Storage};

const PARTITIONS: u32 = 1_000;

fn wide() -> TopicConfig {
    TopicConfig { partitions: PARTITIONS, backoff_initial_ms: 0, backoff_max_ms: 0, ..TopicConfig::default() }
}

fn rows(storage: &MemoryStorage, family: Family) -> usize {
    let mut rows = 0;
    storage
        .scan(family, &[0][..]..&[0xff; 40][..], Direction::Forward, &mut |_, _| {
            rows += 1;
            ControlFlow::Continue(())
        })
        .expect("memory");
    rows
}

/// Rows of groups, of records, and of the catalogue.
fn all_rows(storage: &MemoryStorage) -> [usize; 3] {
    [Family::Group, Family::Log, Family::Meta].map(|family| rows(storage, family))
}

fn at(partition: u32, text: &str) -> NewRecord {
    NewRecord { partition: Some(PartitionId(partition)), ..NewRecord::of(text.to_owned()) }
}

#[tokio::test]
async fn a_group_on_a_thousand_partitions_is_an_entry_in_the_catalogue_until_it_is_used() {
    let storage = MemoryStorage::new();
    let mut test = TestBroker::with_topic(storage.clone(), "t", wide()).await;
    let before = all_rows(&storage);
    for of in ["a", "b"] {
        test.broker.ensure_group(&topic("t"), &group(of), StartPosition::Earliest).await.expect("made");
    }
    test.broker.ensure_group(&topic("t"), &group("late"), StartPosition::Latest).await.expect("made");
    let [groups, records, meta] = all_rows(&storage);
    assert_eq!((groups, records), (before[0], before[1]), "nothing a partition");
    assert!((meta - before[2]) <= 3 * 2 + 4, "an entry for each group and for its dead letters: {meta} after {}", before[2]);
    // Looking at it changes nothing.
    let description = test.broker.describe_group(&topic("t"), &group("a")).await.expect("there");
    assert_eq!((description.partitions.len(), description.lag_records, description.dead_letters), (PARTITIONS as usize, 0, 0));
    let answer = test.broker.receive(&topic("t"), &group("a"), &ReceiveRequest::default()).await.expect("received");
    assert_eq!(answer.empty_reason, Some(EmptyReason::CaughtUp));
    assert!(test.broker.dead_letters(&topic("t"), &group("a"), &Default::default()).await.expect("there").dead_letters.is_empty());
    assert_eq!(rows(&storage, Family::Group), before[0]);
    // It is used where its records are.
    for restart in [false, true] {
        if restart {
            test.broker.shutdown().await;
            test = TestBroker::open(storage.clone());
        }
        let name = format!("r-{restart}");
        test.produce("t", vec![at(7, &name), at(900, &name)], None).await;
        for of in ["a", "b", "late"] {
            let deliveries = test.receive("t", of).await;
            let mut partitions: Vec<u32> = deliveries.iter().map(|delivery| delivery.partition.0).collect();
            partitions.sort_unstable();
            assert_eq!(partitions, [7, 900], "{of}, restart: {restart}");
            assert!(deliveries.iter().all(|delivery| delivery.record.text().as_deref() == Some(&*name)));
            test.ack("t", of, &deliveries).await;
        }
        assert!(rows(&storage, Family::Group) <= 3 * 2, "a row for each of two queues of three groups");
    }
    test.broker.shutdown().await;
}

#[tokio::test]
async fn a_group_that_begins_with_the_latest_begins_there_in_every_partition_also_after_a_restart() {
    let storage = MemoryStorage::new();
    let test = TestBroker::with_topic(storage.clone(), "t", wide()).await;
    test.produce("t", vec![at(3, "old"), at(4, "old")], None).await;
    test.broker.ensure_group(&topic("t"), &group("late"), StartPosition::Latest).await.expect("made");
    test.broker.shutdown().await;
    let test = TestBroker::open(storage);
    let request = ReceiveRequest { start: StartPosition::Latest, ..ReceiveRequest::default() };
    assert!(test.receive_with("t", "late", &request).await.is_empty());
    test.produce("t", vec![at(4, "new"), at(5, "new")], None).await;
    let mut got: Vec<_> = test.receive("t", "late").await.iter().map(|d| (d.partition.0, d.record.offset.0)).collect();
    got.sort_unstable();
    assert_eq!(got, [(4, 1), (5, 0)]);
}

#[tokio::test]
async fn dead_letters_of_a_queue_that_was_never_used_before_are_redriven_and_deleted_with_the_group() {
    let storage = MemoryStorage::new();
    let mut test = TestBroker::with_topic(storage.clone(), "t", wide()).await;
    let before = all_rows(&storage);
    test.produce("t", vec![at(500, "x"), at(501, "y")], None).await;
    let log = rows(&storage, Family::Log);
    let deliveries = test.receive("t", "g").await;
    let receipts = deliveries.iter().map(|delivery| delivery.receipt.clone()).collect();
    let request = TerminateRequest { receipts, reason: "no".to_owned() };
    test.broker.terminate(&topic("t"), &group("g"), &request).await.expect("settled");
    assert_eq!(rows(&storage, Family::Log), log + 2);
    test.broker.shutdown().await;
    test = TestBroker::open(storage.clone());
    let listed = test.broker.dead_letters(&topic("t"), &group("g"), &Default::default()).await.expect("there").dead_letters;
    assert_eq!(listed.iter().map(|letter| letter.partition.0).collect::<Vec<_>>(), [500, 501]);
    let only = RedriveRequest { partition: Some(PartitionId(501)), ..RedriveRequest::default() };
    let redriven = test.broker.redrive(&topic("t"), &group("g"), &only).await.expect("redriven");
    assert_eq!((redriven.redriven, redriven.remaining), (1, 1));
    test.broker.shutdown().await;
    test = TestBroker::open(storage.clone());
    let again = test.receive("t", "g").await;
    assert_eq!(again.iter().map(|d| (d.partition.0, d.attempt)).collect::<Vec<_>>(), [(501, 1)]);
    test.ack("t", "g", &again).await;
    test.broker.delete_group(&topic("t"), &group("g")).await.expect("deleted");
    let [groups, records, _] = all_rows(&storage);
    assert_eq!((groups, records), (before[0], log), "its state and its dead letters are gone");
    // A new group of that name begins anew.
    let mut fresh: Vec<u32> = test.receive("t", "g").await.iter().map(|delivery| delivery.partition.0).collect();
    fresh.sort_unstable();
    assert_eq!(fresh, [500, 501]);
}

#[tokio::test]
async fn leases_of_a_few_queues_of_a_wide_group_run_out_by_themselves_after_a_restart() {
    let storage = MemoryStorage::new();
    let test = TestBroker::with_topic(storage.clone(), "t", wide()).await;
    test.broker.create_topic(&topic("other"), one_partition()).await.expect("made");
    test.produce("t", vec![at(11, "x")], None).await;
    assert_eq!(test.receive("t", "g").await.len(), 1);
    test.broker.shutdown().await;
    let test = TestBroker::open(storage);
    let kept = test.broker.delete_group(&topic("t"), &group("g")).await;
    assert!(kept.is_err(), "a record is leased: {kept:?}");
    assert!(test.receive("t", "g").await.is_empty());
    test.clock.advance(Duration::from_secs(31));
    let again = test.receive("t", "g").await;
    assert_eq!(again.iter().map(|d| (d.partition.0, d.attempt)).collect::<Vec<_>>(), [(11, 2)]);
}
