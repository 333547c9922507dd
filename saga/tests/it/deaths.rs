//! A part of the orchestrator dies: everybody hears of it at once. A decision that panics is no death: its saga is set aside, and all
//! others go on.

use crate::common::{LIMIT, Node, refused, reply_to, succeeded};
use bytes::Bytes;
use core::ops::Range;
use prometheus_client::registry::Registry;
use sagamq_api::saga::{CompleteCalls, REPLY_TOPIC, SagaState};
use sagamq_broker::env::{Random, SystemClock};
use sagamq_broker::storage::crash::CrashStorage;
use sagamq_broker::storage::memory::MemoryStorage;
use sagamq_broker::storage::{Direction, Durability, Family, Mutation, Storage, StorageError, Visitor};
use sagamq_broker::{Broker, BrokerConfig, Liveness, NewRecord, WriteError};
use sagamq_saga::store::keys::SagaKey;
use sagamq_saga::{CallError, InstanceError, Orchestrator, OrchestratorConfig, StartError};
use serde_json::{Value, json};
use std::sync::{Arc, OnceLock};

/// Two steps side by side, each with a service of its own.
const PAIR: &str = "
saga: pair
version: 1
key: ${ input.id }
services:
  left: { topic: left.commands }
  right: { topic: right.commands }
steps:
  - { id: one, call: left.do, after: [], compensate: left.undo }
  - { id: two, call: right.do, after: [], compensate: right.undo }
";

/// Storage in which reading a family panics from the moment the test asks for it: a panic of whoever reads.
#[derive(Clone, Default)]
struct PanickingStorage {
    below: MemoryStorage,
    panics_at: Arc<OnceLock<Family>>,
}

impl PanickingStorage {
    fn panic_at(&self, family: Family) {
        self.panics_at.set(family).expect("asked for once");
    }

    fn look(&self, family: Family) {
        assert!(self.panics_at.get() != Some(&family), "a panic of the reader, as the test asks");
    }
}

impl Storage for PanickingStorage {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        self.look(family);
        self.below.get(family, key)
    }

    fn scan(&self, family: Family, range: Range<&[u8]>, direction: Direction, visit: Visitor<'_>) -> Result<(), StorageError> {
        self.look(family);
        self.below.scan(family, range, direction, visit)
    }

    fn write(&self, mutations: &[Mutation], durability: Durability) -> Result<(), StorageError> {
        self.below.write(mutations, durability)
    }
}

/// Waits until a part has died; says which.
async fn death(liveness: &Liveness) -> &str {
    tokio::time::timeout(LIMIT, liveness.died()).await.expect("a death that is told");
    liveness.death().expect("it is known")
}

#[tokio::test]
async fn a_lane_that_panics_is_told_and_what_it_had_is_not_called_unstored() {
    let storage = PanickingStorage::default();
    let node = Node::open(Arc::new(storage.clone())).await.expect("fresh storage opens");
    node.sagas.publish(PAIR).await.expect("a legal definition");
    assert_eq!(node.broker.liveness().death(), None);
    storage.panic_at(Family::Saga);
    for what in ["the request that the lane had", "a later one is not told that the server shuts down"] {
        let started = node.start("pair", json!({"id": "1"})).await;
        assert!(matches!(started, Err(StartError::Instance(InstanceError::Write(WriteError::Lost(_))))), "{what}: {started:?}");
    }
    let died = death(node.broker.liveness()).await;
    assert!(died.starts_with("lane ") && died.ends_with(" panicked"), "{died}");
    node.close().await;
}

#[tokio::test]
async fn a_reader_of_replies_that_panics_is_told() {
    let storage = PanickingStorage::default();
    let open = || {
        let config = BrokerConfig { shards: 1, ..BrokerConfig::default() };
        let (clock, random) = (Arc::new(SystemClock), Random::from_seed(7));
        Broker::open(Arc::new(storage.clone()), config, clock, random, &mut Registry::default()).expect("it opens")
    };
    let serve = async |broker: &Broker| {
        Orchestrator::open(broker.clone(), OrchestratorConfig::default(), &mut Registry::default()).await.expect("it opens")
    };
    let broker = open();
    let sagas = serve(&broker).await;
    let replies = REPLY_TOPIC.parse().expect("legal");
    broker.produce(&replies, vec![NewRecord::of("no reply, but a record")], None).await.expect("stored");
    sagas.shutdown().await;
    broker.shutdown().await;

    // After a restart the record is on disk only.
    let broker = open();
    storage.panic_at(Family::Log);
    let sagas = serve(&broker).await;
    assert_eq!(death(broker.liveness()).await, "the reader of replies of lane 0 panicked");
    sagas.shutdown().await;
    broker.shutdown().await;
}

/// Makes a pivot of the second step: in a history with both steps in flight, the rules have no answer to a refusal of the first one.
fn tear(storage: &CrashStorage) {
    let mut key = vec![0, 0];
    key.extend_from_slice(&SagaKey::Definition(&"pair".parse().expect("legal"), 1).encode());
    let stored = storage.get(Family::Saga, &key).expect("it reads").expect("it is published");
    let (format, text) = stored.split_first().expect("a format byte");
    let mut value: Value = serde_json::from_slice(text).expect("JSON");
    value["executable"]["definition"]["steps"][1]["kind"] = json!("pivot");
    let value = [&[*format][..], value.to_string().as_bytes()].concat().into();
    storage.write(&[Mutation::Put { family: Family::Saga, key, value }], Durability::Synced).expect("it writes");
}

#[tokio::test]
async fn a_decision_that_panics_sets_its_saga_aside_and_nobody_else() {
    for is_one_by_one in [true, false] {
        panics_in_a_decision(is_one_by_one).await;
    }
}

/// The replies come one by one, or all in one request: then lanes decide them together.
async fn panics_in_a_decision(is_one_by_one: bool) {
    let storage = CrashStorage::new();
    let node = Node::open(Arc::new(storage.clone())).await.expect("fresh storage opens");
    node.sagas.publish(PAIR).await.expect("a legal definition");
    let mut ids = Vec::new();
    // Enough of them that each lane has some.
    for id in 0..6 {
        ids.push(node.start("pair", json!({"id": id.to_string()})).await.expect("started").id);
    }
    let left = storage.after_kill();
    node.close().await;
    tear(&left);

    let node = Node::open(Arc::new(left)).await.expect("it opens");
    let poison = ids[0];
    let is_set_aside = |error: &InstanceError| {
        matches!(error, InstanceError::Quarantined { id, .. } if *id == poison) && error.to_string().contains("panicked")
    };
    let mut replies = Vec::new();
    for _ in &ids {
        let (call, _) = node.next_command("left.commands").await;
        let outcome = if call.attempt.instance == poison { refused() } else { succeeded() };
        replies.push(reply_to(&call, outcome));
    }
    let mut completions = Vec::new();
    for replies in replies.chunks(if is_one_by_one { 1 } else { replies.len() }) {
        let request = CompleteCalls { calls: replies.to_vec(), next: None };
        completions.extend(node.sagas.complete_many(request, None).await.expect("a legal request").calls);
    }
    for (reply, completed) in replies.into_iter().zip(completions) {
        match reply.attempt.instance == poison {
            true => assert!(matches!(&completed, Err(CallError::Instance(error)) if is_set_aside(error)), "{completed:?}"),
            false => drop(completed.expect("applied")),
        }
    }
    let settled = async {
        while node.lag("right.commands").await > 5 {
            tokio::time::sleep(core::time::Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(LIMIT, settled).await.expect("its open command goes to nobody any more");
    for _ in 1..ids.len() {
        let (call, _) = node.next_command("right.commands").await;
        assert_ne!(call.attempt.instance, poison);
        node.sagas.complete(reply_to(&call, succeeded())).await.expect("applied");
    }
    for &id in &ids[1..] {
        assert_eq!(node.at_rest(id).await.summary.state, SagaState::Completed);
    }
    let got = node.sagas.get(poison).await;
    assert!(got.as_ref().is_err_and(is_set_aside), "{got:?}");
    let again = node.start("pair", json!({"id": "0"})).await.expect("it is there");
    assert_eq!((again.id, again.duplicate, again.state), (poison, true, SagaState::Quarantined), "and does not run");
    assert_eq!(node.broker.liveness().death(), None, "nothing died");
    node.close().await;
}
