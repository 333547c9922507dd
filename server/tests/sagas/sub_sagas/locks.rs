//! Locks of sub-sagas: one owner each, kept until the parent is at its end, and circles that go through a family.

use super::{answer, child};
use crate::common::{LIMIT, Node, refused, reply_to, succeeded};
use core::time::Duration;
use sagamq_api::saga::{LockQuery, SagaDescription, SagaState, WaitCode};
use sagamq_broker::storage::crash::CrashStorage;
use serde_json::json;
use std::sync::Arc;
use uuid::Uuid;

/// Books on an account, under its lock.
const BOOKING: &str = r#"
saga: booking
version: 1
key: ${ input.order }
timeout: 1h
defaults: { timeout: 30s }
services: { money: { topic: money.commands } }
steps:
  - { id: book, call: money.book, compensate: money.unbook, lock: "${ input.account }" }
"#;

/// Takes from a shelf under its lock, and lets another saga book.
const ORDER: &str = r#"
saga: order
version: 1
key: ${ input.order }
timeout: 1h
defaults: { timeout: 30s }
services: { stock: { topic: stock.commands } }
steps:
  - { id: take, call: stock.take, compensate: stock.back, lock: "${ input.shelf }" }
  - { id: pay, saga: booking, with: { order: "${ input.order }", account: "${ input.account }" } }
  - { id: ship, call: stock.ship, compensate: stock.recall }
"#;

/// Takes two locks, one after the other.
const MOVE: &str = r#"
saga: move
version: 1
key: ${ input.order }
timeout: 1h
defaults: { timeout: 30s }
services: { moves: { topic: moves.commands } }
steps:
  - { id: from, call: moves.from, compensate: moves.from_back, lock: "${ input.from }" }
  - { id: to, call: moves.to, compensate: moves.to_back, lock: "${ input.to }" }
"#;

async fn open(storage: &CrashStorage) -> Node {
    let node = Node::open(Arc::new(storage.clone())).await.expect("it opens");
    for definition in [BOOKING, ORDER, MOVE] {
        node.sagas.publish(definition).await.expect("a legal definition");
    }
    node
}

async fn order(node: &Node, order: &str, shelf: &str, account: &str) -> Uuid {
    node.start("order", json!({"order": order, "shelf": shelf, "account": account})).await.expect("started").id
}

async fn succeed(node: &Node, topic: &str, call: &str) {
    answer(node, topic, call, succeeded()).await;
}

async fn awaits_lock(node: &Node, id: Uuid) {
    node.until(id, |saga: &SagaDescription| saga.summary.waits.as_ref().is_some_and(|waits| waits.code == WaitCode::AwaitsLock)).await;
}

/// Waits until these keys are held, each by this saga, and nobody waits.
async fn until_held(node: &Node, expected: &[(&str, Uuid)]) {
    let found = || async {
        let locks = node.sagas.locks(LockQuery::default()).await.expect("a page").locks;
        let waiting: u64 = locks.iter().map(|lock| lock.waiting).sum();
        (locks.into_iter().map(|lock| (lock.key, lock.held_by)).collect::<Vec<_>>(), waiting)
    };
    let expected = (expected.iter().map(|(key, id)| ((*key).to_owned(), *id)).collect::<Vec<_>>(), 0);
    let waited = tokio::time::timeout(LIMIT, async {
        while found().await != expected {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    assert!(waited.await.is_ok(), "expected {expected:?}: {:?}", found().await);
}

async fn failure(node: &Node, id: Uuid) -> (SagaState, String) {
    let saga = node.at_rest(id).await;
    (saga.summary.state, saga.summary.failure.expect("it says why").code)
}

#[tokio::test]
async fn a_sub_saga_that_wants_its_parents_lock_is_in_a_circle_with_it_and_gives_way() {
    let node = open(&CrashStorage::new()).await;
    let id = order(&node, "1", "same", "same").await;
    succeed(&node, "stock.commands", "take").await;
    // The parent waits for its sub-saga, which waits for the parent's lock: nobody else could end that.
    let booking = child(&node, id, "pay").await;
    assert_eq!(failure(&node, booking).await, (SagaState::Failed, "LOCK_DEADLOCK".to_owned()));
    until_held(&node, &[("same", id)]).await;
    succeed(&node, "stock.commands", "back").await;
    assert_eq!(node.at_rest(id).await.summary.state, SagaState::Compensated);
    until_held(&node, &[]).await;
    node.close().await;
}

#[tokio::test]
async fn a_completed_sub_saga_keeps_its_lock_until_its_parent_is_at_its_end() {
    for is_undone in [false, true] {
        let storage = CrashStorage::new();
        let node = open(&storage).await;
        let id = order(&node, "1", "shelf", "account").await;
        succeed(&node, "stock.commands", "take").await;
        let booking = child(&node, id, "pay").await;
        succeed(&node, "money.commands", "book").await;
        let (ship, _) = node.next_command("stock.commands").await;
        assert_eq!(node.sagas.get(booking).await.expect("it is there").summary.state, SagaState::Completed);
        until_held(&node, &[("account", booking), ("shelf", id)]).await;
        // Somebody else wants the account, also over a crash.
        let other = node.start("move", json!({"order": "2", "from": "account", "to": "other"})).await.expect("started").id;
        awaits_lock(&node, other).await;
        let left = storage.after_power_cut();
        node.close().await;
        let node = open(&left).await;
        awaits_lock(&node, other).await;
        let outcome = if is_undone { refused() } else { succeeded() };
        node.sagas.complete(reply_to(&ship, outcome)).await.expect("the current attempt");
        if is_undone {
            let (unbook, _) = node.next_command("money.commands").await;
            assert_eq!((unbook.call.as_str(), unbook.lock.as_ref().map(|lock| lock.key.as_str())), ("unbook", Some("account")));
            awaits_lock(&node, other).await;
            node.sagas.complete(reply_to(&unbook, succeeded())).await.expect("the current attempt");
            succeed(&node, "stock.commands", "back").await;
        }
        let expected = if is_undone { SagaState::Compensated } else { SagaState::Completed };
        assert_eq!(node.at_rest(id).await.summary.state, expected);
        succeed(&node, "moves.commands", "from").await;
        succeed(&node, "moves.commands", "to").await;
        assert_eq!(node.at_rest(other).await.summary.state, SagaState::Completed);
        until_held(&node, &[]).await;
        node.close().await;
    }
}

#[tokio::test]
async fn a_circle_through_a_family_is_found_and_the_youngest_gives_way() {
    let node = open(&CrashStorage::new()).await;
    let id = order(&node, "1", "shelf", "account").await;
    let (take, _) = node.next_command("stock.commands").await;
    tokio::time::sleep(Duration::from_millis(2)).await;
    let other = node.start("move", json!({"order": "2", "from": "account", "to": "shelf"})).await.expect("started").id;
    let (from, _) = node.next_command("moves.commands").await;
    until_held(&node, &[("account", other), ("shelf", id)]).await;
    tokio::time::sleep(Duration::from_millis(2)).await;
    // The sub-saga waits for the account, and whoever has that for the shelf, which the parent has, which waits for the sub-saga.
    node.sagas.complete(reply_to(&take, succeeded())).await.expect("the current attempt");
    let booking = child(&node, id, "pay").await;
    awaits_lock(&node, booking).await;
    node.sagas.complete(reply_to(&from, succeeded())).await.expect("the current attempt");
    assert_eq!(failure(&node, booking).await, (SagaState::Failed, "LOCK_DEADLOCK".to_owned()));
    succeed(&node, "stock.commands", "back").await;
    assert_eq!(node.at_rest(id).await.summary.state, SagaState::Compensated);
    succeed(&node, "moves.commands", "to").await;
    assert_eq!(node.at_rest(other).await.summary.state, SagaState::Completed);
    until_held(&node, &[]).await;
    node.close().await;
}
