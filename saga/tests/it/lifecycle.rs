//! The turns of sagas as CloudEvents in a topic, in the commits of the sagas themselves.

use crate::common::{Books, Node, ORDER, spawn_workers};
use core::time::Duration;
use sagamq_api::saga::{EVENT_TOPIC, SagaState, SagaSummary};
use sagamq_api::{Offset, PartitionId, TopicName};
use sagamq_broker::env::SystemClock;
use sagamq_broker::storage::crash::CrashStorage;
use sagamq_saga::OrchestratorConfig;
use sagamq_saga::protocol::lane_of;
use serde_json::json;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

async fn open(storage: &CrashStorage, lifecycle_events: bool) -> Node {
    let config = OrchestratorConfig { restart_grace: Duration::ZERO, lifecycle_events, ..OrchestratorConfig::default() };
    let node = Node::open_with(Arc::new(storage.clone()), Arc::new(SystemClock), config).await.expect("it opens");
    node.sagas.publish(ORDER).await.expect("a legal definition");
    node
}

fn topic() -> TopicName {
    EVENT_TOPIC.parse().expect("legal")
}

/// The events of an instance: type, and what they say of it.
async fn told(node: &Node, id: Uuid) -> Vec<(String, SagaSummary)> {
    let embedder = node.broker.embedder(lane_of(id));
    let records = embedder.read(&topic(), Offset(0), 1_000).await.expect("the topic is there").expect("it reads");
    let mut told = Vec::new();
    for record in records {
        let header = |name: &str| record.payload.headers.get(name).unwrap_or_else(|| panic!("{name} is missing")).to_owned();
        if header("ce_subject") != id.to_string() {
            continue;
        }
        assert_eq!((header("ce_specversion").as_str(), header("content-type").as_str()), ("1.0", "application/json"));
        assert_eq!(header("ce_source"), format!("urn:uuid:{}", node.broker.cluster()));
        assert!(header("ce_time").starts_with("20") && header("ce_time").ends_with('Z'), "{}", header("ce_time"));
        assert!(header("ce_id").starts_with(&format!("{id}/")), "{}", header("ce_id"));
        let summary: SagaSummary = serde_json::from_slice(record.payload.value.as_deref().expect("it has a value")).expect("a summary");
        told.push((header("ce_type"), summary));
    }
    told
}

#[tokio::test]
async fn each_turn_is_told_with_the_commit_that_makes_it_and_survives_the_death_of_the_process() {
    let storage = CrashStorage::new();
    let node = open(&storage, true).await;
    let (books, stop) = (Books::default(), CancellationToken::new());
    let workers = spawn_workers(&node, &books, &stop);
    let good = node.start("order", json!({"order": "1", "behave": ""})).await.expect("started").id;
    let bad = node.start("order", json!({"order": "2", "behave": "refuse capture"})).await.expect("started").id;
    assert_eq!(node.at_rest(good).await.summary.state, SagaState::Completed);
    assert_eq!(node.at_rest(bad).await.summary.state, SagaState::Compensated);
    stop.cancel();
    for worker in workers {
        worker.await.expect("no panic");
    }
    let left = storage.after_kill();
    node.close().await;
    let node = open(&left, true).await;
    for (id, turns) in [(good, ["sagamq.saga.started", "sagamq.saga.completed"]), (bad, ["sagamq.saga.started", "sagamq.saga.compensated"])]
    {
        let told = told(&node, id).await;
        assert_eq!(told.iter().map(|(turn, _)| turn.as_str()).collect::<Vec<_>>(), turns);
        let last = &told[1].1;
        assert_eq!((last.id, last.state), (id, node.sagas.get(id).await.expect("it is there").summary.state));
    }
    let described = node.broker.describe_topic(&topic()).expect("it is there");
    assert_eq!(described.config.partitions, u32::from(node.broker.shards()), "one partition a shard");
    assert!(node.broker.delete_topic(&topic()).await.is_err(), "it cannot be deleted while sagas write to it");
    node.close().await;
}

#[tokio::test]
async fn nothing_is_told_unless_it_is_wanted() {
    let storage = CrashStorage::new();
    let node = open(&storage, false).await;
    let id = node.start("order", json!({"order": "1", "behave": ""})).await.expect("started").id;
    assert!(node.broker.describe_topic(&topic()).is_err(), "there is no such topic");
    node.close().await;
    // From the next start on it is.
    let node = open(&storage, true).await;
    assert!(told(&node, id).await.is_empty(), "what was before is not told afterwards");
    let partition = PartitionId(u32::from(lane_of(id)));
    assert_eq!(node.broker.describe_topic(&topic()).expect("there").partitions[partition.0 as usize].high_watermark, Offset(0));
    node.close().await;
}
