//! The embedder's commits: all or nothing, in order, one shard, and synced unless they say otherwise.

use crate::common::{START_MS, TestBroker, group, topic};
use core::ops::ControlFlow;
use prometheus_client::registry::Registry;
use sagamq_api::Offset;
use sagamq_api::queue::StartPosition;
use sagamq_api::record::Payload;
use sagamq_api::topic::TopicConfig;
use sagamq_broker::env::{ManualClock, Random};
use sagamq_broker::storage::crash::{CrashStorage, FailedWrite};
use sagamq_broker::storage::memory::MemoryStorage;
use sagamq_broker::{Broker, BrokerConfig, EmbedError, HandOut, SubmitError, WriteError};

fn lane_topic() -> TopicConfig {
    TopicConfig { partitions: 4, ..TopicConfig::default() }
}

fn value(text: &str) -> Payload {
    Payload { value: Some(bytes::Bytes::copy_from_slice(text.as_bytes())), ..Payload::default() }
}

#[tokio::test]
async fn keys_records_and_settled_records_become_durable_together() {
    let storage = MemoryStorage::new();
    let test = TestBroker::with_topic(storage.clone(), "t", lane_topic()).await;
    test.broker.ensure_group(&topic("t"), &group("workers"), StartPosition::Earliest).await.expect("made");
    let lane = test.broker.embedder(3);
    let mut commit = lane.begin();
    commit.append(&topic("t"), value("first")).expect("a lane topic");
    let first = lane.submit(commit).await.expect("submitted");
    assert_eq!(first.offsets, [Some(Offset(0))]);
    let mut commit = lane.begin();
    commit.put(b"k1", b"v1".to_vec());
    commit.append(&topic("t"), value("second")).expect("a lane topic");
    commit.settle(&topic("t"), &group("workers"), Offset(0)).expect("there");
    let second = lane.submit(commit).await.expect("submitted");
    second.durable().await.expect("durable");
    assert_eq!(lane.get(b"k1").expect("reads").as_deref(), Some(&b"v1"[..]));
    assert_eq!(test.values("t", 3).await, ["first", "second"]);
    let delivered = test.receive("t", "workers").await;
    assert_eq!(delivered.iter().map(|d| d.record.offset.0).collect::<Vec<_>>(), [1], "the first is settled");
    let mut keys = Vec::new();
    lane.scan(b"k", None, &mut |key, _| {
        keys.push(key.to_vec());
        ControlFlow::Continue(())
    })
    .expect("scans");
    assert_eq!(keys, [b"k1"]);
    assert!(test.broker.embedder(2).get(b"k1").expect("reads").is_none(), "a shard sees its own keys only");
}

#[tokio::test]
async fn a_topic_that_is_no_lane_topic_cannot_be_named() {
    let test = TestBroker::with_topic(MemoryStorage::new(), "t", TopicConfig { partitions: 3, ..TopicConfig::default() }).await;
    let mut commit = test.broker.embedder(0).begin();
    assert!(matches!(commit.append(&topic("t"), value("x")), Err(EmbedError::NotALaneTopic { partitions: 3, shards: 4, .. })));
    assert!(matches!(commit.append(&topic("u"), value("x")), Err(EmbedError::TopicNotFound(_))));
}

#[tokio::test]
async fn a_failed_write_leaves_all_of_a_commit_or_nothing() {
    for leaves in [FailedWrite::NothingApplied, FailedWrite::Applied, FailedWrite::AppliedNotSynced] {
        let storage = CrashStorage::new();
        let test = TestBroker::with_topic(storage.clone(), "t", lane_topic()).await;
        let lane = test.broker.embedder(1);
        storage.fail_write(1, leaves);
        let mut commit = lane.begin();
        commit.put(b"k", b"v".to_vec());
        commit.append(&topic("t"), value("x")).expect("a lane topic");
        lane.submit(commit).await.expect("submitted").durable().await.expect_err("the write fails");
        let test = TestBroker::open(storage.after_power_cut());
        let key = test.broker.embedder(1).get(b"k").expect("reads").is_some();
        let record = !test.values("t", 1).await.is_empty();
        assert_eq!(key, record, "both or none");
        assert_eq!(key, leaves == FailedWrite::Applied);
    }
}

#[tokio::test]
async fn a_hand_out_is_synced_before_the_record_is_given_out_and_what_was_never_seen_can_be_settled() {
    let storage = CrashStorage::new();
    let test = TestBroker::with_topic(storage.clone(), "t", lane_topic()).await;
    test.broker.ensure_group(&topic("t"), &group("workers"), StartPosition::Earliest).await.expect("made");
    let lane = test.broker.embedder(2);
    lane.mark_hand_outs(&topic("t"), &group("workers")).expect("there");
    let mut commit = lane.begin();
    commit.append(&topic("t"), value("seen")).expect("a lane topic");
    lane.submit(commit).await.expect("submitted").durable().await.expect("durable");
    assert_eq!(test.receive("t", "workers").await.len(), 1);
    let mut commit = lane.begin();
    commit.append(&topic("t"), value("waits")).expect("a lane topic");
    lane.submit(commit).await.expect("submitted").durable().await.expect("durable");

    let test = TestBroker::open(storage.after_power_cut());
    let lane = test.broker.embedder(2);
    lane.mark_hand_outs(&topic("t"), &group("workers")).expect("there");
    let records = [Offset(0), Offset(1)].map(|offset| (topic("t"), offset));
    let known = lane.hand_outs(&group("workers"), &records).await.expect("answered");
    assert!(matches!(known[..], [HandOut::At(_), HandOut::Never]), "{known:?}");

    let mut both = lane.begin();
    both.put(b"k", b"v".to_vec());
    both.settle_unseen(&topic("t"), &group("workers"), Offset(0)).expect("there");
    both.settle_unseen(&topic("t"), &group("workers"), Offset(1)).expect("there");
    assert!(matches!(lane.submit(both).await, Err(SubmitError::HandedOut)));
    let mut one = lane.begin();
    one.settle_unseen(&topic("t"), &group("workers"), Offset(1)).expect("there");
    // A worker that works on asks to be called again later: no hand-out is forgotten by that.
    one.postpone(&topic("t"), &group("workers"), Offset(0), 1).expect("there");
    lane.submit(one).await.expect("submitted").durable().await.expect("durable");
    assert!(lane.get(b"k").expect("reads").is_none(), "nothing of a refused commit happened");
    let again = test.receive("t", "workers").await;
    assert_eq!(again.iter().map(|d| (d.record.offset.0, d.attempt)).collect::<Vec<_>>(), [(0, 2)]);
    assert!(again[0].handed_out_ago_ms.is_some(), "a worker learns how long ago its run began");
}

#[tokio::test]
async fn a_topic_that_is_deleted_costs_a_commit_its_record_and_nothing_else() {
    let test = TestBroker::with_topic(MemoryStorage::new(), "t", lane_topic()).await;
    test.broker.create_topic(&topic("u"), lane_topic()).await.expect("made");
    let lane = test.broker.embedder(1);
    let mut commit = lane.begin();
    commit.put(b"k", b"v".to_vec());
    commit.append(&topic("t"), value("x")).expect("a lane topic");
    commit.append(&topic("u"), value("y")).expect("a lane topic");
    test.broker.delete_topic(&topic("t")).await.expect("deleted");
    let submitted = lane.submit(commit).await.expect("its neighbours have no part in it");
    assert_eq!(submitted.offsets, [None, Some(Offset(0))]);
    submitted.durable().await.expect("durable");
    assert!(lane.get(b"k").expect("reads").is_some());
    let kept = lane.read(&topic("u"), Offset(0), 10).await.expect("there").expect("reads");
    assert_eq!(kept.len(), 1);
}

/// Which of the keys are there.
fn found(test: &TestBroker, keys: &[(u16, &str)]) -> Vec<bool> {
    let is_there = |&(shard, key): &(u16, &str)| test.broker.embedder(shard).get(key.as_bytes()).expect("reads").is_some();
    keys.iter().map(is_there).collect()
}

async fn put(test: &TestBroker, shard: u16, key: &str, is_forced: bool) -> Result<(), WriteError> {
    let lane = test.broker.embedder(shard);
    let mut commit = lane.begin();
    commit.put(key.as_bytes(), b"v".to_vec());
    if !is_forced {
        commit.unforced();
    }
    lane.submit(commit).await.expect("submitted").durable().await
}

#[tokio::test]
async fn an_unforced_commit_survives_a_kill_and_is_never_lost_from_under_a_later_synced_one() {
    let storage = CrashStorage::new();
    let test = TestBroker::open(storage.clone());
    put(&test, 1, "first", true).await.expect("durable");
    put(&test, 1, "second", false).await.expect("written");
    put(&test, 2, "other shard", false).await.expect("written");
    let keys = [(1, "first"), (1, "second"), (2, "other shard"), (1, "third")];
    assert_eq!(found(&test, &keys), [true, true, true, false], "it is told when it is written, and can be read");
    assert_eq!(found(&TestBroker::open(storage.after_kill()), &keys), [true, true, true, false]);
    assert_eq!(found(&TestBroker::open(storage.after_power_cut()), &keys), [true, false, false, false], "it asked for no sync");
    put(&test, 1, "third", true).await.expect("durable");
    assert_eq!(found(&TestBroker::open(storage.after_power_cut()), &keys), [true; 4], "a later sync covers it");
}

#[tokio::test]
async fn an_unforced_commit_whose_write_fails_is_told_and_stops_the_shard() {
    let storage = CrashStorage::new();
    let test = TestBroker::open(storage.clone());
    storage.fail_write(1, FailedWrite::Applied);
    let failed = put(&test, 1, "k", false).await;
    assert!(matches!(failed, Err(WriteError::Failed(_))), "{failed:?}");
    assert!(test.broker.writes_stopped().is_some());
    assert_eq!(found(&TestBroker::open(storage.after_power_cut()), &[(1, "k")]), [false], "applied, as durable as it was asked to be");
}

#[tokio::test]
async fn an_unforced_commit_with_a_record_is_synced_before_anybody_reads_the_record() {
    let storage = CrashStorage::new();
    let test = TestBroker::with_topic(storage.clone(), "t", lane_topic()).await;
    let lane = test.broker.embedder(1);
    let mut commit = lane.begin();
    commit.append(&topic("t"), value("x")).expect("a lane topic");
    commit.unforced();
    lane.submit(commit).await.expect("submitted").durable().await.expect("durable");
    assert_eq!(test.values("t", 1).await, ["x"]);
    assert_eq!(TestBroker::open(storage.after_power_cut()).values("t", 1).await, ["x"]);
}

#[tokio::test]
async fn a_data_directory_has_one_name_for_good_and_no_other_has_it() {
    let storage = CrashStorage::new();
    let test = TestBroker::open(storage.clone());
    let cluster = test.broker.cluster();
    assert_eq!((test.broker.cluster(), cluster.get_version_num()), (cluster, 8));
    test.broker.create_topic(&topic("t"), lane_topic()).await.expect("durable, and with it the format");
    assert_eq!(TestBroker::open(storage.after_power_cut()).broker.cluster(), cluster);
    let config = BrokerConfig { shards: 4, ..BrokerConfig::default() };
    let clock = std::sync::Arc::new(ManualClock::at(START_MS));
    let open = |seed| {
        Broker::open(
            std::sync::Arc::new(MemoryStorage::new()),
            config.clone(),
            clock.clone(),
            Random::from_seed(seed),
            &mut Registry::default(),
        )
    };
    let (same, other) = (open(7).expect("opens").cluster(), open(8).expect("opens").cluster());
    assert_eq!(same, cluster, "it follows from the secret alone");
    // Participants have it in what they prepared: another derivation would make strangers of all of them.
    assert_eq!(same.to_string(), "cf712782-d662-83c3-938c-4d26e88b5c50");
    assert_ne!(other, cluster);
}
