//! Ids that follow from the business key: the same after a backup is restored, another one after the instance was removed.

use crate::common::{Books, Node, ORDER, spawn_workers};
use sagamq_api::saga::{HistoryQuery, SagaState, SagaSummary};
use sagamq_broker::env::SystemClock;
use sagamq_broker::storage::crash::CrashStorage;
use sagamq_broker::storage::{Durability, Family, Mutation, Storage};
use sagamq_saga::protocol::{Protocol, lane_of};
use sagamq_saga::store::keys::SagaKey;
use sagamq_saga::store::listing::Listing;
use sagamq_saga::{OrchestratorConfig, StartError};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

async fn open(storage: &CrashStorage) -> Node {
    let node = Node::open(Arc::new(storage.clone())).await.expect("it opens");
    node.sagas.publish(ORDER).await.expect("a legal definition");
    node
}

/// Removes an instance and its history, though it is not at its end. The row of its key stays.
fn remove(storage: &CrashStorage, saga: &SagaSummary) {
    let SagaSummary { id, events, started_at_ms, saga, version, state, .. } = saga;
    let (id, listing) = (
        *id,
        Listing {
            id: *id,
            started_at_ms: *started_at_ms,
            protocol: Protocol::Saga,
            saga,
            version: *version,
            state: *state,
            failure: None,
            ended_at_ms: None,
        },
    );
    let rows =
        (0..*events).map(|sequence| SagaKey::Event(id, sequence)).chain([SagaKey::Summary(id)]).chain(listing.rows().map(|(key, _)| key));
    let deletions =
        rows.map(|row| Mutation::Delete { family: Family::Saga, key: [&lane_of(id).to_be_bytes(), &row.encode()[..]].concat() });
    storage.write(&deletions.collect::<Vec<_>>(), Durability::Synced).expect("healthy storage");
}

#[tokio::test]
async fn a_restored_backup_starts_the_same_order_under_the_same_id() {
    let (before, restored) = (CrashStorage::new(), CrashStorage::new());
    let (node, again) = (open(&before).await, open(&restored).await);
    let input = json!({"order": "1", "behave": ""});
    let first = node.start("order", input.clone()).await.expect("started");
    let second = again.start("order", input).await.expect("started");
    assert_eq!((first.id, first.duplicate, second.duplicate), (second.id, false, false));
    let other = again.start("order", json!({"order": "2", "behave": ""})).await.expect("started");
    assert_ne!(other.id, first.id);
    node.close().await;
    again.close().await;
}

#[tokio::test]
async fn a_key_whose_instance_was_removed_starts_the_next_generation() {
    let storage = CrashStorage::new();
    let input = || json!({"order": "1", "behave": ""});
    let mut ids = Vec::new();
    for generation in 1..=3_u64 {
        let node = open(&storage).await;
        let started = node.start("order", input()).await.expect("started");
        assert!(!started.duplicate, "generation {generation} is a new instance");
        assert!(node.start("order", input()).await.expect("the same").duplicate);
        let other = node.start("order", json!({"order": "1", "behave": "else"})).await;
        assert!(matches!(other, Err(StartError::KeyConflict { id, .. }) if id == started.id), "{other:?}");
        let history = node.sagas.history(started.id, HistoryQuery::default()).await.expect("it has one");
        assert_eq!(history.events[0].data.to_value()["generation"], generation);
        let summary = node.sagas.get(started.id).await.expect("it is there").summary;
        node.close().await;
        let node = open(&storage).await;
        assert!(node.start("order", input()).await.expect("known after a restart").duplicate);
        node.close().await;
        remove(&storage, &summary);
        ids.push(started.id);
    }
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 3, "no id is used twice");
}

#[tokio::test]
async fn the_same_input_in_another_order_is_the_same_start() {
    let storage = CrashStorage::new();
    let node = open(&storage).await;
    let first = node.start("order", json!({"order": "1", "behave": ""})).await.expect("started");
    let again = node.start("order", json!({"behave": "", "order": "1"})).await.expect("the same");
    assert_eq!((again.id, again.duplicate), (first.id, true));
    node.close().await;
}

#[tokio::test]
async fn starts_are_refused_while_as_many_sagas_as_may_be_are_open_and_over_a_restart() {
    let storage = CrashStorage::new();
    // Two lanes: one for each.
    let config = || OrchestratorConfig { open_max: 2, restart_grace: Duration::from_millis(20), ..OrchestratorConfig::default() };
    let open = async || Node::open_with(Arc::new(storage.clone()), Arc::new(SystemClock), config()).await.expect("it opens");
    let input = |order: usize| json!({"order": order.to_string(), "behave": ""});
    let mut node = open().await;
    node.sagas.publish(ORDER).await.expect("a legal definition");
    let (mut started, mut refused) = (Vec::new(), Vec::new());
    for order in 0..12 {
        match node.start("order", input(order)).await {
            Ok(saga) => started.push((order, saga.id)),
            Err(StartError::OpenLimit { open: 1, most: 1, .. }) => refused.push(order),
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!((started.len(), refused.len()), (2, 10));
    node.close().await;
    node = open().await;
    assert!(matches!(node.start("order", input(refused[0])).await, Err(StartError::OpenLimit { .. })), "what was resumed counts");
    assert!(node.start("order", input(started[0].0)).await.expect("it is known").duplicate, "who asks again is answered");
    let (books, stop) = (Books::default(), CancellationToken::new());
    let workers = spawn_workers(&node, &books, &stop);
    for order in refused {
        // Each as soon as the one before it has ended.
        for (_, id) in &started {
            node.at_rest(*id).await;
        }
        let saga = node.start("order", input(order)).await.expect("there is room again");
        started.push((order, saga.id));
    }
    for (_, id) in &started {
        assert_eq!(node.at_rest(*id).await.summary.state, SagaState::Completed);
    }
    stop.cancel();
    for worker in workers {
        worker.await.expect("no panic");
    }
    node.close().await;
}
