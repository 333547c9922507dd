//! What a topic promises of its records: `sync`, `interval` or `memory`, under kills and power cuts at every moment.

use crate::common::{START_MS, Says as _, TestBroker, one_partition, topic, within};
use crate::streams::Member;
use core::time::Duration;
use sagamq_api::queue::ReceiveRequest;
use sagamq_api::topic::{TopicConfig, TopicConfigChange, TopicDurability};
use sagamq_broker::env::ManualClock;
use sagamq_broker::storage::crash::{CrashStorage, FailedWrite};
use sagamq_broker::{BrokerConfig, NewRecord, StreamGroupError, TopicError};
use std::collections::BTreeSet;

/// So long that nothing is synced for it within a test.
const NEVER: Duration = Duration::from_secs(3_600);

fn of(durability: TopicDurability) -> TopicConfig {
    TopicConfig { durability, ..one_partition() }
}

fn open(storage: &CrashStorage, sync_interval: Duration) -> TestBroker {
    let config = BrokerConfig { shards: 4, sync_interval, ..BrokerConfig::default() };
    TestBroker::try_open_with(storage.clone(), ManualClock::at(START_MS), config).expect("opens")
}

/// The values of a topic of one partition, as a restart on this storage finds them.
async fn found(storage: CrashStorage, name: &str) -> Vec<String> {
    open(&storage, NEVER).values(name, 0).await
}

async fn produce(test: &TestBroker, name: &str, value: &str) -> u64 {
    test.produce(name, vec![NewRecord::of(value.to_owned())], Some(&format!("key-{value}"))).await[0].offset.expect("stored").0
}

#[tokio::test]
async fn a_power_cut_takes_what_is_not_synced_and_a_kill_takes_nothing() {
    let storage = CrashStorage::new();
    let test = open(&storage, NEVER);
    for durability in TopicDurability::ALL {
        test.broker.create_topic(&topic(durability.name()), of(durability)).await.expect("made");
    }
    for name in ["interval", "memory"] {
        assert_eq!(produce(&test, name, "a").await, 0);
        assert_eq!(test.values(name, 0).await, ["a"], "who is answered can read it");
        assert_eq!(found(storage.after_power_cut(), name).await, [""; 0], "{name}");
        assert_eq!(found(storage.after_kill(), name).await, ["a"], "{name}");
    }
    // One log: what is synced for one topic takes all that was written before along.
    produce(&test, "sync", "b").await;
    produce(&test, "memory", "c").await;
    for (name, values) in [("interval", vec!["a"]), ("memory", vec!["a"]), ("sync", vec!["b"])] {
        assert_eq!(found(storage.after_power_cut(), name).await, values, "{name}");
    }
    test.broker.shutdown().await;
    assert_eq!(found(storage.after_power_cut(), "memory").await, ["a", "c"], "a shutdown leaves nothing that is not synced");
}

#[tokio::test]
async fn an_interval_is_synced_by_itself_and_memory_is_not() {
    let storage = CrashStorage::new();
    let test = open(&storage, Duration::from_millis(10));
    test.broker.create_topic(&topic("memory"), of(TopicDurability::Memory)).await.expect("made");
    test.broker.create_topic(&topic("interval"), of(TopicDurability::Interval)).await.expect("made");
    produce(&test, "memory", "a").await;
    // Many intervals: if it were synced, it would be by now.
    tokio::time::sleep(Duration::from_millis(200)).await;
    let writes = storage.writes();
    assert_eq!(found(storage.after_power_cut(), "memory").await, [""; 0]);
    produce(&test, "interval", "b").await;
    let synced = async {
        while found(storage.after_power_cut(), "interval").await.is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    within("the interval", synced).await;
    assert_eq!(found(storage.after_power_cut(), "memory").await, ["a"]);
    assert_eq!(storage.writes() - writes, 2, "one write, and one sync of it");
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(storage.writes() - writes, 2, "and none while there is nothing to sync");
}

#[tokio::test]
async fn an_acknowledgement_never_outlives_its_record_and_every_power_cut_leaves_a_beginning() {
    let storage = CrashStorage::new();
    let test = open(&storage, NEVER);
    test.broker.create_topic(&topic("fast"), of(TopicDurability::Memory)).await.expect("made");
    test.broker.create_topic(&topic("safe"), of(TopicDurability::Sync)).await.expect("made");
    let (mut images, mut sent, mut safe, mut settled) = (Vec::new(), Vec::new(), Vec::new(), BTreeSet::new());
    for n in 0..30_u32 {
        produce(&test, "fast", &n.to_string()).await;
        sent.push(n.to_string());
        let leased = test.receive_with("fast", "g", &ReceiveRequest { max_records: Some(1), ..ReceiveRequest::default() }).await;
        images.push((storage.after_power_cut(), safe.clone(), sent.clone(), settled.clone()));
        test.ack("fast", "g", &leased).await;
        settled.extend(leased.iter().map(|delivery| delivery.record.text().expect("text")));
        if n % 7 == 3 {
            produce(&test, "safe", &n.to_string()).await;
            safe.push(n.to_string());
        }
        images.push((storage.after_power_cut(), safe.clone(), sent.clone(), settled.clone()));
    }
    assert_eq!(settled.len(), 30);
    for (image, safe, sent, settled) in images {
        let after = open(&image, NEVER);
        let log = after.values("fast", 0).await;
        assert_eq!(log, sent[..log.len()], "a beginning of what was sent");
        assert_eq!(after.values("safe", 0).await, safe, "what is synced is there");
        if let Some(last) = safe.last() {
            assert!(log.contains(last), "and all that was written before it");
        }
        let mut left = BTreeSet::new();
        // First leases run out, then their records wait for a while.
        for _ in 0..3 {
            after.clock.advance(NEVER);
            left.extend(after.receive("fast", "g").await.iter().map(|delivery| delivery.record.text().expect("text")));
        }
        assert!(left.iter().all(|value| log.contains(value)));
        let gone: Vec<&String> = log.iter().filter(|value| !left.contains(*value)).collect();
        assert!(gone.iter().all(|value| settled.contains(*value)), "only what was settled is not delivered: {gone:?}");
        // The next record of a producer that sends again what he is not sure of.
        for value in &sent {
            produce(&after, "fast", value).await;
        }
        assert_eq!(after.values("fast", 0).await, sent, "the retries store what is gone, once");
    }
}

#[tokio::test]
async fn after_a_kill_at_any_write_no_offset_is_given_to_another_record() {
    for durability in [TopicDurability::Interval, TopicDurability::Memory] {
        for at in 1..=8 {
            for leaves in [FailedWrite::NothingApplied, FailedWrite::Applied, FailedWrite::AppliedNotSynced] {
                let storage = CrashStorage::new();
                let test = open(&storage, NEVER);
                test.broker.create_topic(&topic("t"), of(durability)).await.expect("made");
                storage.fail_write(at, leaves);
                for n in 0..10 {
                    let _ = test.broker.produce(&topic("t"), vec![NewRecord::of(n.to_string())], None).await;
                }
                let seen = test.values("t", 0).await;
                let after = open(&storage.after_kill(), NEVER);
                produce(&after, "t", "new").await;
                let log = after.values("t", 0).await;
                assert_eq!(log[..seen.len()], seen, "{durability}, write {at} left {leaves:?}");
                assert_eq!(log.last().map(String::as_str), Some("new"));
            }
        }
    }
}

#[tokio::test]
async fn a_topic_that_promises_more_from_now_on_keeps_it_for_duplicates_too() {
    let storage = CrashStorage::new();
    let test = open(&storage, NEVER);
    test.broker.create_topic(&topic("t"), of(TopicDurability::Memory)).await.expect("made");
    produce(&test, "t", "a").await;
    let change = |durability| TopicConfigChange { durability: Some(durability), ..TopicConfigChange::default() };
    // The change itself is synced, and so is all before it.
    test.broker.update_topic(&topic("t"), change(TopicDurability::Interval)).await.expect("changed");
    produce(&test, "t", "b").await;
    let described = test.broker.update_topic(&topic("t"), change(TopicDurability::Sync)).await.expect("changed");
    assert_eq!(described.config.durability, TopicDurability::Sync);
    test.broker.create_topic(&topic("other"), of(TopicDurability::Memory)).await.expect("made");
    produce(&test, "other", "x").await;
    let writes = storage.writes();
    // Stored before; what it is told of is synced now, and not only since it was stored.
    let again = test.produce("t", vec![NewRecord::of("b")], Some("key-b")).await;
    assert_eq!((again[0].offset.expect("stored").0, again[0].duplicate, storage.writes() - writes), (1, true, 1));
    assert_eq!(found(storage.after_power_cut(), "t").await, ["a", "b"]);
    assert_eq!(found(storage.after_power_cut(), "other").await, ["x"]);
}

#[tokio::test]
async fn at_most_once_is_synced_whatever_the_topic_promises() {
    let storage = CrashStorage::new();
    let test = open(&storage, NEVER);
    test.broker.create_topic(&topic("t"), of(TopicDurability::Memory)).await.expect("made");
    produce(&test, "t", "a").await;
    let taken = test.receive_with("t", "g", &ReceiveRequest { auto_ack: true, ..ReceiveRequest::default() }).await;
    assert_eq!(taken.len(), 1);
    let after = open(&storage.after_power_cut(), NEVER);
    assert_eq!(after.values("t", 0).await, ["a"]);
    assert_eq!(after.receive("t", "g").await.len(), 0, "it does not come a second time");
}

#[tokio::test]
async fn a_topic_that_a_part_of_the_server_needs_is_synced() {
    let test = open(&CrashStorage::new(), NEVER);
    test.broker.create_topic(&topic("t"), of(TopicDurability::Memory)).await.expect("made");
    let refused = test.broker.own_topic(&topic("t")).await.expect_err("it is not synced");
    assert!(matches!(&refused, TopicError::NotSynced(_, TopicDurability::Memory)), "{refused:?}");
    let change = |durability| TopicConfigChange { durability: Some(durability), ..TopicConfigChange::default() };
    test.broker.update_topic(&topic("t"), change(TopicDurability::Sync)).await.expect("changed");
    test.broker.own_topic(&topic("t")).await.expect("owned");
    assert!(test.broker.update_topic(&topic("t"), change(TopicDurability::Memory)).await.is_err(), "and stays so");
}

/// Who has read more than it committed stands behind the end of what a power cut leaves, and other records come at those offsets.
#[tokio::test]
async fn a_member_that_has_read_what_a_power_cut_took_begins_where_its_group_stands() {
    let storage = CrashStorage::new();
    let test = open(&storage, NEVER);
    test.broker.create_topic(&topic("fast"), of(TopicDurability::Memory)).await.expect("made");
    test.broker.create_topic(&topic("safe"), of(TopicDurability::Sync)).await.expect("made");
    produce(&test, "safe", "s").await;
    produce(&test, "fast", "a").await;
    let mut member = Member::new("m", &["fast", "safe"]);
    member.beat(&test, "readers").await.expect("joined");
    member.commit(&test, "readers", &[("fast", 0, 1)]).await.expect("committed");
    produce(&test, "fast", "b").await;
    produce(&test, "fast", "c").await;
    assert_eq!(test.values("fast", 0).await, ["a", "b", "c"], "it reads them, and stands at 3");
    let test = open(&storage.after_power_cut(), NEVER);
    for value in ["d", "e", "f"] {
        produce(&test, "fast", value).await;
    }
    assert_eq!(test.values("fast", 0).await, ["a", "d", "e", "f"]);
    let late = member.commit(&test, "readers", &[("fast", 0, 3)]).await;
    assert!(matches!(late, Err(StreamGroupError::Fenced(_))), "it has read neither d nor e: {late:?}");
    member.commit(&test, "readers", &[("safe", 0, 1)]).await.expect("of a topic that is synced nothing is gone");
    let given = |member: &Member| member.given("fast", 0);
    let before = given(&member);
    member.beat(&test, "readers").await.expect("still a member");
    let after = given(&member);
    assert!(after.0 > before.0, "another holding: {before:?}, {after:?}");
    assert_eq!(after.1, 1, "which begins at what is committed");
    member.commit(&test, "readers", &[("fast", 0, 4)]).await.expect("its own");
}
