//! The embedder's commits: all or nothing, in order, one shard.

use crate::common::{TestBroker, group, topic};
use core::ops::ControlFlow;
use sagamq_api::Offset;
use sagamq_api::group::StartPosition;
use sagamq_api::record::Payload;
use sagamq_api::topic::TopicConfig;
use sagamq_broker::EmbedError;
use sagamq_broker::storage::crash::{CrashStorage, FailedWrite};
use sagamq_broker::storage::memory::MemoryStorage;

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
    assert_eq!(first.offsets, [Offset(0)]);
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
