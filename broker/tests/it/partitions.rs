//! Partitions added to a topic that is in use: what it is then, over crashes, and what becomes of idempotency keys.

use crate::common::{START_MS, Says as _, TestBroker, group, topic, within};
use crate::ordering::keyed;
use crate::streams::Member;
use core::time::Duration;
use sagamq_api::partitioner::partition_of;
use sagamq_api::queue::{ReceiveRequest, RedriveRequest, StartPosition, TerminateRequest};
use sagamq_api::topic::{Ordering, TopicConfig, TopicConfigChange, TopicDescription};
use sagamq_api::{Offset, PartitionId};
use sagamq_broker::env::ManualClock;
use sagamq_broker::storage::crash::{CrashStorage, FailedWrite};
use sagamq_broker::storage::memory::MemoryStorage;
use sagamq_broker::{AddPartitionsError, AppendError, Due, NewRecord, ProduceError, Produced, UpdateTopicError};
use std::collections::BTreeSet;

const MINUTE: Duration = Duration::from_secs(60);

pub(crate) fn partitions(count: u32) -> TopicConfig {
    TopicConfig { partitions: count, ..TopicConfig::default() }
}

pub(crate) async fn try_add(test: &TestBroker, count: u32) -> Result<TopicDescription, UpdateTopicError> {
    test.broker.update_topic(&topic("t"), TopicConfigChange { partitions: Some(count), ..TopicConfigChange::default() }).await
}

pub(crate) async fn add(test: &TestBroker, count: u32) {
    let topic = try_add(test, count).await.expect("added");
    assert_eq!((topic.config.partitions, topic.partitions.len()), (count, count as usize));
}

/// A key whose home is another one among so many partitions than among so many before.
pub(crate) fn moving_key(before: u32, after: u32) -> String {
    let moves = |key: &String| partition_of(key.as_bytes(), before) != partition_of(key.as_bytes(), after);
    (0..).map(|n| format!("key-{n}")).find(moves).expect("most do")
}

async fn every_value(test: &TestBroker, count: u32) -> Vec<String> {
    let mut values = Vec::new();
    for partition in 0..count {
        values.extend(test.values("t", partition).await);
    }
    values.sort();
    values
}

fn place(produced: &[Produced]) -> (PartitionId, Option<Offset>, bool) {
    (produced[0].partition, produced[0].offset, produced[0].duplicate)
}

fn for_partition(value: impl Into<String>, partition: u32) -> NewRecord {
    NewRecord::of(value.into()).with_partition(PartitionId(partition))
}

#[tokio::test]
async fn partitions_are_added_while_groups_read_and_stay_over_a_restart() {
    let storage = MemoryStorage::new();
    let mut test = TestBroker::with_topic(storage.clone(), "t", partitions(2)).await;
    test.produce("t", vec![for_partition("a", 0), for_partition("b", 1)], None).await;
    let first = test.receive("t", "g").await;
    // A group that begins with what comes has not missed what comes in partitions that it did not know.
    test.broker.ensure_group(&topic("t"), &group("late"), StartPosition::Latest).await.expect("made");
    // Four shards: two of them have had nothing of the topic.
    add(&test, 7).await;
    let values: Vec<NewRecord> = (0..7).map(|n| for_partition(format!("new {n}"), n)).collect();
    test.produce("t", values, None).await;
    test.ack("t", "g", &first).await;
    for (of, count) in [("g", 7), ("late", 7)] {
        let got = test.receive_with("t", of, &ReceiveRequest { max_records: Some(100), ..ReceiveRequest::default() }).await;
        let texts: BTreeSet<String> = got.iter().map(|delivered| delivered.record.text().expect("text")).collect();
        assert_eq!(texts, (0..count).map(|n| format!("new {n}")).collect(), "{of}");
        if of == "late" {
            test.ack("t", of, &got).await;
            continue;
        }
        // Dead letters have their partitions too.
        let receipts = got.iter().map(|delivered| delivered.receipt.clone()).collect();
        let request = TerminateRequest { receipts, reason: "bad".to_owned() };
        test.broker.terminate(&topic("t"), &group(of), &request).await.expect("terminated");
    }
    for restart in [false, true] {
        if restart {
            test.broker.shutdown().await;
            test = TestBroker::open(storage.clone());
        }
        let letters = test.broker.describe_topic(&topic("t.g.dlq")).expect("there");
        assert_eq!((letters.config.partitions, letters.partitions.len()), (7, 7), "restart: {restart}");
        assert_eq!(test.broker.describe_topic(&topic("t")).expect("there").partitions.len(), 7);
        let described = test.broker.describe_group(&topic("t"), &group("g")).await.expect("there");
        assert_eq!((described.partitions.len(), described.dead_letters, described.lag_records), (7, 7, 0));
        assert_eq!(test.broker.describe_group(&topic("t"), &group("late")).await.expect("there").lag_records, 0);
    }
    let redriven = test.broker.redrive(&topic("t"), &group("g"), &RedriveRequest::default()).await.expect("redriven");
    assert_eq!(redriven.redriven, 7);
    assert_eq!(test.receive_with("t", "g", &ReceiveRequest { max_records: Some(100), ..ReceiveRequest::default() }).await.len(), 7);
    test.broker.delete_topic(&topic("t")).await.expect("deleted");
    assert!(test.broker.topics().is_empty());
}

#[tokio::test]
async fn fewer_are_refused_as_many_change_nothing_and_dead_letters_follow_their_group() {
    let storage = CrashStorage::new();
    let test = TestBroker::with_topic(storage.clone(), "t", partitions(4)).await;
    test.broker.ensure_group(&topic("t"), &group("g"), StartPosition::Earliest).await.expect("made");
    let before = storage.writes();
    let fewer = try_add(&test, 3).await;
    assert!(matches!(fewer, Err(UpdateTopicError::FewerPartitions { partitions: 4, asked: 3, .. })), "{fewer:?}");
    for out_of_range in [0, 1_025] {
        assert!(matches!(try_add(&test, out_of_range).await, Err(UpdateTopicError::Config(_))), "{out_of_range}");
    }
    let letters = TopicConfigChange { partitions: Some(5), ..TopicConfigChange::default() };
    let refused = test.broker.update_topic(&topic("t.g.dlq"), letters).await;
    assert!(matches!(refused, Err(UpdateTopicError::Config(_))), "{refused:?}");
    add(&test, 4).await;
    assert_eq!(storage.writes(), before, "nothing has changed");
    test.broker.own_topic(&topic("t")).await.expect("owned");
    assert!(matches!(try_add(&test, 5).await, Err(UpdateTopicError::Owned(_))), "the embedder knows how many there are");
}

#[tokio::test]
async fn partitions_are_added_as_often_as_the_topic_remembers() {
    let test = TestBroker::with_topic(MemoryStorage::new(), "t", TopicConfig { retention_ms: 1_000, ..partitions(1) }).await;
    test.produce("t", vec![for_partition("old", 0)], None).await;
    for count in 2..=17 {
        add(&test, count).await;
    }
    let refused = try_add(&test, 18).await;
    assert!(matches!(refused, Err(UpdateTopicError::AddPartitions(AddPartitionsError::TooOften(_)))), "{refused:?}");
    // Its records and its keys have gone.
    test.clock.advance(Duration::from_secs(25 * 3600));
    test.broker.apply_retention().await.expect("looked");
    add(&test, 18).await;
}

/// Makes the topic and a group, adds partitions and uses them, until a write fails.
async fn run(storage: CrashStorage) -> (bool, bool) {
    let Ok(test) = TestBroker::try_open(storage, ManualClock::at(START_MS)) else { return (false, false) };
    let _ = test.broker.create_topic(&topic("t"), partitions(2)).await;
    let _ = test.broker.ensure_group(&topic("t"), &group("g"), StartPosition::Earliest).await;
    let _ = test.broker.produce(&topic("t"), vec![keyed("k", "1")], Some("one")).await;
    let added = try_add(&test, 7).await.is_ok();
    let stored = test.broker.produce(&topic("t"), (0..7).map(|n| for_partition("2", n)).collect(), Some("two")).await.is_ok();
    test.broker.shutdown().await;
    (added, stored)
}

#[tokio::test]
async fn a_crash_at_any_write_leaves_the_topic_with_all_partitions_or_with_none_of_the_new_ones() {
    let whole = CrashStorage::new();
    assert_eq!(run(whole.clone()).await, (true, true));
    let (writes, mut seen) = (whole.writes() + 2, BTreeSet::new());
    for at in 1..=writes {
        for leaves in [FailedWrite::NothingApplied, FailedWrite::Applied, FailedWrite::AppliedNotSynced] {
            let storage = CrashStorage::new();
            storage.fail_write(at, leaves);
            let (added, stored) = run(storage.clone()).await;
            for image in [storage.after_power_cut(), storage.after_kill()] {
                let case = format!("write {at} left {leaves:?}");
                let test = TestBroker::open(image);
                let Ok(found) = test.broker.describe_topic(&topic("t")) else {
                    assert!(!added, "{case}");
                    continue;
                };
                seen.insert(found.partitions.len());
                assert!(found.partitions.len() == 7 || (found.partitions.len() == 2 && !added), "{case}: {}", found.partitions.len());
                assert_eq!(found.config.partitions as usize, found.partitions.len(), "{case}");
                if let Ok(letters) = test.broker.describe_topic(&topic("t.g.dlq")) {
                    assert_eq!(letters.partitions.len(), found.partitions.len(), "{case}: both or none");
                }
                add(&test, 7).await;
                test.produce("t", vec![keyed("k", "1")], Some("one")).await;
                test.produce("t", (0..7).map(|n| for_partition("2", n)).collect(), Some("two")).await;
                let values = every_value(&test, 7).await;
                assert_eq!(values, ["1", "2", "2", "2", "2", "2", "2", "2"], "{case}: stored once, acknowledged: {stored}");
            }
        }
    }
    assert_eq!(seen, BTreeSet::from([2, 7]));
}

#[tokio::test]
async fn a_members_next_heartbeat_gives_it_the_new_partitions_from_their_beginning() {
    let test = TestBroker::with_topic(MemoryStorage::new(), "t", partitions(2)).await;
    test.produce("t", vec![for_partition("old", 0)], None).await;
    let mut member = Member::new("m", &["t"]);
    member.beat(&test, "s").await.expect("joined");
    assert_eq!(member.partitions(), [0, 1]);
    let epochs = [0, 1].map(|partition| member.given("t", partition));
    add(&test, 4).await;
    test.produce("t", vec![for_partition("new", 3)], None).await;
    member.beat(&test, "s").await.expect("stays");
    assert_eq!(member.partitions(), [0, 1, 2, 3]);
    assert_eq!([0, 1].map(|partition| member.given("t", partition)), epochs, "what it has it keeps");
    assert_eq!(member.given("t", 3).1, 0, "also what came before it heard of the partition");
    member.commit(&test, "s", &[("t", 3, 1)]).await.expect("its own");
}

#[tokio::test]
async fn a_records_key_is_found_where_its_record_was_until_the_window_is_over() {
    let storage = MemoryStorage::new();
    let mut test = TestBroker::with_topic(storage.clone(), "t", partitions(2)).await;
    let key = moving_key(2, 5);
    let record = || keyed(&key, "once").with_idempotency_key("i");
    let first = test.produce("t", vec![record()], None).await;
    add(&test, 5).await;
    // Another record of the key lies elsewhere, or the test shows nothing.
    assert_ne!(test.produce("t", vec![keyed(&key, "other")], None).await[0].partition, first[0].partition);
    for restart in [false, true] {
        if restart {
            test.broker.shutdown().await;
            test = TestBroker::try_open(storage.clone(), test.clock.clone()).expect("opens");
        }
        // Beside one that is new, both in the order of the request.
        let fresh = keyed(&key, format!("fresh {restart}")).with_idempotency_key(format!("fresh {restart}"));
        let again = test.produce("t", vec![fresh, record()], None).await;
        assert_eq!((again[0].duplicate, again[0].partition), (false, partition_of(key.as_bytes(), 5)));
        assert_eq!(place(&again[1..]), (first[0].partition, first[0].offset, true), "restart: {restart}");
        assert_eq!(again[1].timestamp_ms, first[0].timestamp_ms);
    }
    let alone = test.produce("t", vec![record()], None).await;
    assert_eq!(place(&alone), (first[0].partition, first[0].offset, true));
    let other = vec![keyed(&key, "before it"), keyed(&key, "changed").with_idempotency_key("i")];
    let reused = test.broker.produce(&topic("t"), other, None).await;
    assert!(matches!(&reused, Err(ProduceError::KeyReused { index: 1, reason: AppendError::KeyReused { .. } })), "{reused:?}");
    assert_eq!(every_value(&test, 5).await, ["fresh false", "fresh true", "once", "other"]);
    test.clock.advance(Duration::from_secs(24 * 3600 + 1));
    assert!(!test.produce("t", vec![record()], None).await[0].duplicate, "the window is over");
}

#[tokio::test]
async fn a_record_without_a_key_of_its_own_is_found_by_its_idempotency_key_and_over_two_changes() {
    let test = TestBroker::with_topic(MemoryStorage::new(), "t", partitions(1)).await;
    let mut first = Vec::new();
    let record = |n: usize| NewRecord::of(format!("{n}")).with_idempotency_key(format!("key {n}"));
    for (from, count) in [(0, 3), (20, 4), (40, 7)] {
        let produced = test.produce("t", (from..from + 20).map(record).collect(), None).await;
        assert!(produced.iter().all(|record| !record.duplicate));
        first.extend(produced.iter().map(|record| (record.partition, record.offset, true)));
        add(&test, count).await;
    }
    let again = test.produce("t", (0..60).map(record).collect(), None).await;
    assert_eq!(again.iter().map(|record| (record.partition, record.offset, record.duplicate)).collect::<Vec<_>>(), first);
    assert_eq!(every_value(&test, 7).await.len(), 60);
}

#[tokio::test]
async fn of_two_retries_at_once_after_the_change_neither_stores_again_and_two_first_ones_store_one() {
    let test = TestBroker::with_topic(MemoryStorage::new(), "t", partitions(2)).await;
    let key = moving_key(2, 5);
    let record = |of: &str| vec![keyed(&key, "x").with_idempotency_key(of.to_owned())];
    let old = test.produce("t", record("old"), None).await;
    let name = topic("t");
    let produce = |of: &'static str| test.broker.produce(&name, record(of), None);
    // The change comes between requests that are on their way.
    let (a, b, added, c, d) = tokio::join!(produce("old"), produce("new"), try_add(&test, 5), produce("old"), produce("new"));
    added.expect("added");
    for retry in [a, c] {
        assert_eq!(place(&retry.expect("stored")), (old[0].partition, old[0].offset, true));
    }
    let (b, d) = (b.expect("stored"), d.expect("stored"));
    assert_eq!((b[0].partition, b[0].offset), (d[0].partition, d[0].offset));
    assert_eq!(every_value(&test, 5).await, ["x", "x"]);
}

#[tokio::test]
async fn a_requests_key_is_found_whatever_home_it_has_now() {
    let test = TestBroker::with_topic(MemoryStorage::new(), "t", partitions(2)).await;
    // Over all partitions, and all in the home of its key.
    let spread = || (0..8).map(|n| keyed(&format!("key-{n}"), format!("s{n}"))).collect::<Vec<_>>();
    let at_home = || vec![NewRecord::of("h0"), NewRecord::of("h1")];
    let keys: Vec<String> = (0..6).map(|n| format!("request {n}")).collect();
    let mut first = Vec::new();
    for key in &keys {
        first.push((test.produce("t", spread(), Some(&format!("{key} s"))).await, test.produce("t", at_home(), Some(key)).await));
    }
    let stored = every_value(&test, 2).await;
    add(&test, 5).await;
    add(&test, 11).await;
    let places = |records: &[Produced]| records.iter().map(|record| (record.partition, record.offset)).collect::<Vec<_>>();
    for (key, (over_all, home)) in keys.iter().zip(&first) {
        let again = test.produce("t", spread(), Some(&format!("{key} s"))).await;
        assert!(again.iter().all(|record| record.duplicate));
        assert_eq!(places(&again), places(over_all), "{key}");
        let again = test.produce("t", at_home(), Some(key)).await;
        assert!(again.iter().all(|record| record.duplicate));
        assert_eq!(places(&again), places(home), "{key}");
        let other = test.broker.produce(&topic("t"), vec![NewRecord::of("other")], Some(key)).await;
        assert!(matches!(&other, Err(ProduceError::Append(AppendError::RequestKeyReused { .. }))), "{key}: {other:?}");
    }
    assert_eq!(every_value(&test, 11).await, stored);
    test.clock.advance(Duration::from_secs(24 * 3600 + 1));
    assert!(!test.produce("t", at_home(), Some(&keys[0])).await[0].duplicate, "the window is over");
}

#[tokio::test]
async fn keys_of_a_longer_window_and_of_records_that_wait_are_found_too() {
    let test = TestBroker::with_topic(MemoryStorage::new(), "t", partitions(2)).await;
    let key = moving_key(2, 5);
    let record = |of: &str| keyed(&key, "x").with_idempotency_key(of.to_owned());
    let waits = || vec![record("waits").with_due(Due::After(48 * 3600 * 1_000))];
    let old = test.produce("t", vec![record("old")], None).await;
    let waiting = test.produce("t", waits(), None).await;
    let shorter = TopicConfigChange { dedup_window_ms: Some(60_000), ..TopicConfigChange::default() };
    test.broker.update_topic(&topic("t"), shorter).await.expect("changed");
    add(&test, 5).await;
    test.clock.advance(23 * 60 * MINUTE);
    let again = test.produce("t", vec![record("old")], None).await;
    assert_eq!(place(&again), (old[0].partition, old[0].offset, true), "it was stored for a day");
    let again = test.produce("t", waits(), None).await;
    assert_eq!((again[0].schedule, again[0].duplicate), (waiting[0].schedule, true));
    test.clock.advance(23 * 60 * MINUTE);
    let again = test.produce("t", waits(), None).await;
    assert_eq!(
        (again[0].schedule, again[0].duplicate, again[0].partition),
        (waiting[0].schedule, true, waiting[0].partition),
        "it waits still"
    );
}

#[tokio::test]
async fn the_key_of_a_record_that_waited_is_found_for_its_whole_window_also_if_that_became_longer() {
    const HOUR: Duration = Duration::from_secs(3_600);
    let window = |ms| TopicConfigChange { dedup_window_ms: Some(ms), ..TopicConfigChange::default() };
    let day = || window(24 * 3_600_000);
    for way in ["with the partitions", "afterwards", "before"] {
        let test = TestBroker::with_topic(MemoryStorage::new(), "t", TopicConfig { dedup_window_ms: 3_600_000, ..partitions(2) }).await;
        let key = moving_key(2, 5);
        let waits = || vec![keyed(&key, "x").with_idempotency_key(key.clone()).with_due(Due::After(2 * 3_600_000))];
        let first = test.produce("t", waits(), None).await;
        match way {
            "with the partitions" => {
                drop(test.broker.update_topic(&topic("t"), TopicConfigChange { partitions: Some(5), ..day() }).await.expect("changed"));
            }
            "afterwards" => {
                add(&test, 5).await;
                test.broker.update_topic(&topic("t"), day()).await.expect("changed");
            }
            _ => {
                test.broker.update_topic(&topic("t"), day()).await.expect("changed");
                add(&test, 5).await;
            }
        }
        test.clock.advance(2 * HOUR);
        within("it is appended", async {
            while test.values("t", first[0].partition.0).await.is_empty() {
                tokio::task::yield_now().await;
            }
        })
        .await;
        test.clock.advance(23 * HOUR);
        let again = test.produce("t", waits(), None).await;
        assert_eq!(place(&again), (first[0].partition, Some(Offset(0)), true), "{way}");
        test.clock.advance(2 * HOUR);
        assert!(!test.produce("t", waits(), None).await[0].duplicate, "{way}: the window is over");
    }
}

#[tokio::test]
async fn the_order_of_keys_is_not_kept_where_a_record_lies_that_waited_while_partitions_were_added() {
    let storage = MemoryStorage::new();
    let mut test = TestBroker::with_topic(storage.clone(), "t", TopicConfig { retention_ms: 1_000, ..partitions(2) }).await;
    let key = moving_key(2, 3);
    let first = test.produce("t", vec![keyed(&key, "later").with_due(Due::After(1_000))], None).await;
    add(&test, 3).await;
    test.clock.advance(Duration::from_secs(1));
    within("it is appended", async {
        while test.values("t", first[0].partition.0).await.is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let with_partitions = |partitions| TopicConfigChange { ordering: Some(Ordering::Key), partitions, ..TopicConfigChange::default() };
    for restart in [false, true] {
        if restart {
            test.broker.shutdown().await;
            test = TestBroker::try_open(storage.clone(), test.clock.clone()).expect("opens");
        }
        for change in [with_partitions(None), with_partitions(Some(4))] {
            let refused = test.broker.update_topic(&topic("t"), change).await;
            let is_refused = matches!(refused, Err(UpdateTopicError::AddPartitions(AddPartitionsError::RecordsWaited(_))));
            assert!(is_refused, "restart {restart}: its key may have a newer record elsewhere: {refused:?}");
        }
    }
    test.clock.advance(MINUTE);
    // The newest batch stays, whatever its age.
    test.produce("t", (0..3).map(|n| for_partition("new", n)).collect(), None).await;
    test.broker.apply_retention().await.expect("looked");
    test.broker.update_topic(&topic("t"), with_partitions(None)).await.expect("it is gone");
}

#[tokio::test]
async fn the_order_of_keys_and_records_that_wait_do_not_go_with_added_partitions() {
    let test = TestBroker::with_topic(MemoryStorage::new(), "t", TopicConfig { ordering: Ordering::Key, ..partitions(2) }).await;
    let waiting = test.produce("t", vec![keyed("k", "later").with_due(Due::After(1_000_000))], None).await;
    let refused = try_add(&test, 3).await;
    assert!(matches!(refused, Err(UpdateTopicError::AddPartitions(AddPartitionsError::RecordsWait(_)))), "{refused:?}");
    let order = |ordering| TopicConfigChange { ordering: Some(ordering), ..TopicConfigChange::default() };
    test.broker.update_topic(&topic("t"), order(Ordering::None)).await.expect("changed");
    add(&test, 3).await;
    let refused = test.broker.update_topic(&topic("t"), order(Ordering::Key)).await;
    assert!(matches!(refused, Err(UpdateTopicError::AddPartitions(AddPartitionsError::RecordsWait(_)))), "{refused:?}");
    test.broker.cancel_schedule(&topic("t"), waiting[0].schedule.expect("it waits")).await.expect("cancelled");
    test.broker.update_topic(&topic("t"), order(Ordering::Key)).await.expect("nothing waits any more");
    add(&test, 4).await;
}

#[tokio::test]
async fn a_request_for_another_number_of_partitions_stores_nothing_unless_it_was_stored_before() {
    let test = TestBroker::with_topic(MemoryStorage::new(), "t", partitions(2)).await;
    let (name, record) = (topic("t"), || vec![for_partition("x", 1)]);
    let first = test.broker.produce_for(Some(2), &name, record(), Some("k")).await.expect("stored");
    add(&test, 3).await;
    let refused = test.broker.produce_for(Some(2), &name, record(), Some("other")).await;
    assert!(matches!(refused, Err(ProduceError::PartitionsChanged { asked: 2, partitions: 3, .. })), "{refused:?}");
    let retried = test.broker.produce_for(Some(2), &name, record(), Some("k")).await.expect("it was stored");
    assert_eq!(place(&retried), (first[0].partition, first[0].offset, true));
    test.broker.produce_for(Some(3), &name, record(), Some("other")).await.expect("stored");
    assert_eq!(every_value(&test, 3).await, ["x", "x"]);
}
