//! A sub-saga that cannot be read: what it did nobody knows, so it is no refusal.

use crate::common::{LIMIT, Node, reply_to, succeeded};
use core::time::Duration;
use sagamq_api::saga::{SagaState, SagaVerb, StepState};
use sagamq_broker::storage::crash::CrashStorage;
use sagamq_broker::storage::{Durability, Family, Mutation, Storage};
use sagamq_saga::InstanceError;
use sagamq_saga::store::keys::SagaKey;
use serde_json::json;
use std::sync::Arc;
use uuid::Uuid;

const PAYMENT: &str = "
saga: payment
version: 1
key: ${ input.trip }
services: { bank: { topic: bank.commands } }
steps:
  - { id: charge, call: bank.charge, compensate: bank.refund }
";

const TRIP: &str = "
saga: trip
version: 1
key: ${ input.trip }
services: { hotel: { topic: hotel.commands } }
steps:
  - { id: book, call: hotel.book, compensate: hotel.cancel }
  - { id: pay, saga: payment, with: { trip: '${ input.trip }' } }
";

/// Where the first event of an instance lies. Its id says which lane has it.
fn first_event(id: Uuid) -> Vec<u8> {
    [&id.as_bytes()[..2], &SagaKey::Event(id, 0).encode()].concat()
}

/// Waits until the lanes have taken what they have told each other.
async fn all_is_taken(node: &Node) {
    let is_taken = || (0..node.broker.shards()).all(|lane| node.broker.embedder(lane).inbox().waiting().next().is_none());
    let waited = tokio::time::timeout(LIMIT, async {
        while !is_taken() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    waited.await.expect("lanes take their messages");
}

#[tokio::test]
async fn a_sub_saga_that_is_asked_for_again_while_it_is_set_aside_is_not_taken_for_refused() {
    let storage = CrashStorage::new();
    let node = Node::open(Arc::new(storage.clone())).await.expect("fresh storage opens");
    node.sagas.publish(PAYMENT).await.expect("a legal definition");
    node.sagas.publish(TRIP).await.expect("a legal definition");
    let trip = node.start("trip", json!({ "trip": "1" })).await.expect("started").id;
    let (book, _) = node.next_command("hotel.commands").await;
    node.sagas.complete(reply_to(&book, succeeded())).await.expect("applied");
    let (charge, _) = node.next_command("bank.commands").await;
    let payment = charge.attempt.instance;
    all_is_taken(&node).await;
    node.close().await;
    let disk = storage.after_kill();
    let key = first_event(payment);
    let value = disk.get(Family::Saga, &key).expect("it reads").expect("it has begun");
    disk.write(&[Mutation::Delete { family: Family::Saga, key: key.clone() }], Durability::Synced).expect("it writes");

    let node = Node::open(Arc::new(disk.clone())).await.expect("it opens");
    let lost = node.sagas.get(payment).await;
    assert!(matches!(lost, Err(InstanceError::Quarantined { .. })), "{lost:?}");
    node.operate(trip, SagaVerb::Retry { step: Some("pay".parse().expect("legal")), item: None }).await.expect("it is asked for again");
    all_is_taken(&node).await;
    let waits = node.sagas.get(trip).await.expect("it is sound");
    let pay = &waits.steps[1];
    assert_eq!((pay.state, pay.attempts, waits.failures.len()), (StepState::InProgress, 1, 0), "the bank may have been paid: {waits:?}");
    node.close().await;

    // Somebody mends the disk.
    let disk = disk.after_kill();
    disk.write(&[Mutation::Put { family: Family::Saga, key, value }], Durability::Synced).expect("it writes");
    let node = Node::open(Arc::new(disk)).await.expect("it opens");
    node.sagas.complete(reply_to(&charge, succeeded())).await.expect("what the bank says late counts");
    assert_eq!(node.at_rest(trip).await.summary.state, SagaState::Completed);
    node.close().await;
}
