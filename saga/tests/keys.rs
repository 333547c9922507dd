//! Ids that follow from the business key: the same after a backup is restored, another one after the instance was removed.

mod common;

use common::{Node, ORDER};
use sagamq_api::saga::{HistoryQuery, SagaSummary};
use sagamq_broker::storage::crash::CrashStorage;
use sagamq_broker::storage::{Durability, Family, Mutation, Storage};
use sagamq_saga::StartError;
use sagamq_saga::protocol::{Protocol, lane_of};
use sagamq_saga::store::keys::SagaKey;
use sagamq_saga::store::listing::Listing;
use serde_json::json;
use std::sync::Arc;

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
