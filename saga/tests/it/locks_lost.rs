//! Locks of sagas that cannot be read, for which nobody else waits longer than for what they hold, and circles that come about in silence.

use crate::common::{LIMIT, Node, reply_to, succeeded};
use core::time::Duration;
use sagamq_api::saga::{BreakLock, Call, LockDescription, LockQuery, SagaState, WaitCode};
use sagamq_broker::env::ManualClock;
use sagamq_broker::storage::crash::CrashStorage;
use sagamq_broker::storage::{Durability, Family, Mutation, Storage};
use sagamq_saga::OrchestratorConfig;
use sagamq_saga::protocol::lock::lane_of_lock;
use sagamq_saga::protocol::{EVENT_FORMAT, instance_id, lane_of};
use sagamq_saga::store::keys::SagaKey;
use serde_json::json;
use std::sync::Arc;
use uuid::Uuid;

/// Takes from a shelf, under its lock.
const SHELF: &str = r#"
saga: shelf
version: 1
key: ${ input.order }
timeout: 1h
services: { stock: { topic: stock.commands } }
steps:
  - { id: take, call: stock.take, compensate: stock.back, lock: "sku/${ input.sku }" }
"#;

const LANES: u16 = 2;

async fn start(node: &Node, order: &str, sku: &str) -> Uuid {
    node.start("shelf", json!({"order": order, "sku": sku})).await.expect("started").id
}

/// The next call, which is of this saga.
async fn call(node: &Node, id: Uuid) -> Call {
    let (call, _) = node.next_command("stock.commands").await;
    assert_eq!(call.attempt.instance, id);
    call
}

async fn lock(node: &Node, sku: &str) -> Option<LockDescription> {
    let query = LockQuery { key: Some(format!("sku/{sku}")), ..LockQuery::default() };
    node.sagas.locks(query).await.expect("a page").locks.into_iter().next()
}

/// Waits until the shelf's lock is as wanted.
async fn until(node: &Node, sku: &str, wanted: impl Fn(&LockDescription) -> bool) {
    let waited = tokio::time::timeout(LIMIT, async {
        while !lock(node, sku).await.is_some_and(|lock| wanted(&lock)) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    assert!(waited.await.is_ok(), "{:?}", lock(node, sku).await);
}

fn put(lane: u16, key: &SagaKey<'_>, value: &[u8]) -> Mutation {
    let key = [&lane.to_be_bytes()[..], &key.encode()].concat();
    Mutation::Put { family: Family::Saga, key, value: value.to_vec().into() }
}

/// The row of a lock that this instance holds.
fn held(sku: &str, by: Uuid, token: u64) -> Mutation {
    let key = format!("sku/{sku}");
    let row = format!("{{\"by\":{{\"instance\":\"{by}\",\"number\":1}},\"token\":{token},\"since_ms\":5}}");
    put(lane_of_lock(&key, LANES), &SagaKey::Lock(&key), &[&[EVENT_FORMAT][..], row.as_bytes()].concat())
}

/// Keys of shelves that have this home.
fn skus(home: u16) -> impl Iterator<Item = String> {
    (0..).map(|number: u32| number.to_string()).filter(move |sku| lane_of_lock(&format!("sku/{sku}"), LANES) == home)
}

#[tokio::test]
async fn a_holder_that_cannot_be_read_keeps_its_lock_and_no_message_from_others() {
    let (storage, clock) = (CrashStorage::new(), ManualClock::at(1_000_000));
    let config = OrchestratorConfig { restart_grace: Duration::ZERO, ..OrchestratorConfig::default() };
    // Keys in their order: the damaged holder's is asked about before the one of which nobody knows.
    let mut skus: Vec<String> = skus(0).take(3).collect();
    skus.sort();
    let [damaged_sku, gone_sku, free_sku] = <[String; 3]>::try_from(skus).expect("three");
    let damaged = instance_id(1, &"shelf".parse().expect("legal"), "damaged", 1);
    let gone = instance_id(0, &"shelf".parse().expect("legal"), "gone", 1);
    let rows = [
        held(&damaged_sku, damaged, 41),
        held(&gone_sku, gone, 42),
        put(0, &SagaKey::LockNumber, &42_u64.to_be_bytes()),
        put(1, &SagaKey::Event(damaged, 0), b"\x01{}"),
    ];
    {
        let node = Node::open(Arc::new(storage.clone())).await.expect("it opens");
        node.sagas.publish(SHELF).await.expect("a legal definition");
        node.close().await;
    }
    storage.write(&rows, Durability::Synced).expect("it writes");
    let node = Node::open_with(Arc::new(storage), Arc::new(clock.clone()), config).await.expect("it opens");
    let waits = start(&node, "waits", &damaged_sku).await;
    until(&node, &damaged_sku, |lock| lock.waiting == 1).await;
    let heir = start(&node, "heir", &gone_sku).await;
    until(&node, &gone_sku, |lock| lock.waiting == 1).await;
    clock.advance(Duration::from_millis(61_000));
    until(&node, &gone_sku, |lock| lock.held_by == heir).await;
    node.sagas.complete(reply_to(&call(&node, heir).await, succeeded())).await.expect("the current attempt");
    // What the home says to sagas of that lane comes behind what it said to the damaged one.
    let mut order = 0;
    let beside = loop {
        let id = start(&node, &format!("beside {order}"), &free_sku).await;
        if lane_of(id) == 1 {
            break id;
        }
        let other = call(&node, id).await;
        node.sagas.complete(reply_to(&other, succeeded())).await.expect("the current attempt");
        node.at_rest(id).await;
        order += 1;
    };
    node.sagas.complete(reply_to(&call(&node, beside).await, succeeded())).await.expect("the current attempt");
    assert_eq!(node.at_rest(beside).await.summary.state, SagaState::Completed);
    assert_eq!(
        lock(&node, &damaged_sku).await.map(|lock| (lock.held_by, lock.token)),
        Some((damaged, 41)),
        "what it guards may be half done"
    );
    let taken = BreakLock { key: format!("sku/{damaged_sku}"), token: Some(41), actor: None, reason: "it is lost".to_owned() };
    node.sagas.break_lock(taken).await.expect("it is held so");
    call(&node, waits).await;
    node.close().await;
}

#[tokio::test]
async fn a_saga_that_is_set_aside_while_it_waits_does_not_get_the_lock_and_keeps_nobody_waiting() {
    let storage = CrashStorage::new();
    let node = Node::open(Arc::new(storage.clone())).await.expect("it opens");
    node.sagas.publish(SHELF).await.expect("a legal definition");
    let mut queue = Vec::new();
    for order in ["1", "2", "3"] {
        queue.push(start(&node, order, "a").await);
        until(&node, "a", |lock| lock.waiting + 1 == queue.len() as u64).await;
    }
    let taken = call(&node, queue[0]).await;
    let left = storage.after_kill();
    node.close().await;
    left.write(&[put(lane_of(queue[1]), &SagaKey::Event(queue[1], 1), b"\x01{}")], Durability::Synced).expect("it writes");
    let node = Node::open(Arc::new(left)).await.expect("one damaged saga does not stop the others");
    node.until(queue[2], |saga| saga.summary.waits.as_ref().is_some_and(|waits| waits.code == WaitCode::AwaitsLock)).await;
    node.sagas.complete(reply_to(&taken, succeeded())).await.expect("the current attempt");
    let next = call(&node, queue[2]).await;
    until(&node, "a", |lock| lock.held_by == queue[2] && lock.waiting == 0).await;
    node.sagas.complete(reply_to(&next, succeeded())).await.expect("the current attempt");
    assert_eq!(node.at_rest(queue[2]).await.summary.state, SagaState::Completed);
    node.close().await;
}

/// A saga of two sub-sagas side by side, each of which works under a lock, one that takes both locks, and one whose first sub-saga has that
/// sub-saga in it.
const FAMILY: [&str; 5] = [
    r#"
saga: kid
version: 1
key: ${ input.order }
timeout: 1h
services: { stock: { topic: stock.commands } }
steps:
  - { id: work, call: stock.work, compensate: none, lock: "${ input.lock }" }
"#,
    r#"
saga: family
version: 1
key: ${ input.order }
timeout: 1h
services: { stock: { topic: stock.commands } }
steps:
  - { id: one, saga: kid, after: [], with: { order: "${ input.order }/1", lock: k } }
  - { id: two, saga: kid, after: [], with: { order: "${ input.order }/2", lock: l } }
"#,
    r#"
saga: both
version: 1
key: ${ input.order }
timeout: 1h
services: { stock: { topic: stock.commands } }
steps:
  - { id: first, call: stock.first, compensate: none, lock: "${ input.first }" }
  - { id: second, call: stock.second, compensate: none, lock: "${ input.second }" }
"#,
    r#"
saga: middle
version: 1
key: ${ input.order }
timeout: 1h
services: { stock: { topic: stock.commands } }
steps:
  - { id: deep, saga: kid, with: { order: "${ input.order }/3", lock: k } }
  - { id: more, call: stock.more, compensate: none }
"#,
    r#"
saga: deep-family
version: 1
key: ${ input.order }
timeout: 1h
services: { stock: { topic: stock.commands } }
steps:
  - { id: one, saga: middle, after: [], with: { order: "${ input.order }/1" } }
  - { id: two, saga: kid, after: [], with: { order: "${ input.order }/2", lock: l } }
"#,
];

async fn open(storage: CrashStorage, clock: &ManualClock) -> Node {
    let config = OrchestratorConfig { restart_grace: Duration::ZERO, ..OrchestratorConfig::default() };
    Node::open_with(Arc::new(storage), Arc::new(clock.clone()), config).await.expect("it opens")
}

/// Waits until so many locks are held and so many sagas wait for one.
async fn waiting(node: &Node, held: usize, wanted: u64) {
    let waited = tokio::time::timeout(LIMIT, async {
        loop {
            let locks = node.sagas.locks(LockQuery::default()).await.expect("a page").locks;
            if (locks.len(), locks.iter().map(|lock| lock.waiting).sum::<u64>()) == (held, wanted) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    assert!(waited.await.is_ok(), "{:?}", node.sagas.locks(LockQuery::default()).await);
}

/// Starts a saga that takes two locks in this order, which has the first one; gives its first call.
async fn takes_both(node: &Node, order: &str, first: &str, second: &str) -> (Uuid, Call) {
    let id = node.start("both", json!({"order": order, "first": first, "second": second})).await.expect("started").id;
    (id, call(node, id).await)
}

/// It keeps its lock until its parent is at its end, which waits for the other one, which waits for who waits for this lock. Nobody waits for the
/// clock: it stands still.
#[tokio::test]
async fn a_circle_that_a_sub_saga_closes_by_completing_is_found_at_once() {
    for (family, is_deep) in [("family", false), ("deep-family", true)] {
        let clock = ManualClock::at(1_000_000);
        let node = open(CrashStorage::new(), &clock).await;
        for definition in FAMILY {
            node.sagas.publish(definition).await.expect("a legal definition");
        }
        let (both, first) = takes_both(&node, "1", "l", "k").await;
        clock.advance(Duration::from_millis(10));
        let family = node.start(family, json!({"order": "2"})).await.expect("started").id;
        let (work, _) = node.next_command("stock.commands").await;
        assert_eq!(work.call, "work");
        waiting(&node, 2, 1).await;
        node.sagas.complete(reply_to(&first, succeeded())).await.expect("the current attempt");
        waiting(&node, 2, 2).await;
        node.sagas.complete(reply_to(&work, succeeded())).await.expect("the current attempt");
        if is_deep {
            // Its own completion closes nothing: the one between has a step of its own.
            let (more, _) = node.next_command("stock.commands").await;
            assert_eq!(more.call, "more");
            waiting(&node, 2, 2).await;
            node.sagas.complete(reply_to(&more, succeeded())).await.expect("the current attempt");
        }
        let second = call(&node, both).await;
        assert_eq!(second.call, "second", "the younger one has given way");
        node.sagas.complete(reply_to(&second, succeeded())).await.expect("the current attempt");
        assert_eq!(node.at_rest(both).await.summary.state, SagaState::Completed);
        let failure = node.at_rest(family).await.summary.failure.expect("it says why");
        assert_eq!(failure.code, "LOCK_DEADLOCK");
        waiting(&node, 0, 0).await;
        node.close().await;
    }
}

/// The probe comes to one that cannot be read, and knows of no wait there. When that one is back, nobody begins to wait.
#[tokio::test]
async fn a_circle_that_no_probe_saw_is_found_when_somebody_has_waited_for_long() {
    let (storage, clock) = (CrashStorage::new(), ManualClock::at(1_000_000));
    let node = open(storage.clone(), &clock).await;
    node.sagas.publish(FAMILY[2]).await.expect("a legal definition");
    let (old, first_of_old) = takes_both(&node, "old", "k", "l").await;
    clock.advance(Duration::from_millis(10));
    let (young, first_of_young) = takes_both(&node, "young", "l", "k").await;
    node.sagas.complete(reply_to(&first_of_young, succeeded())).await.expect("the current attempt");
    waiting(&node, 2, 1).await;
    let left = storage.after_kill();
    node.close().await;
    let row = [&lane_of(young).to_be_bytes()[..], &SagaKey::Event(young, 1).encode()].concat();
    let event = left.get(Family::Saga, &row).expect("it reads").expect("it is there");
    left.write(&[put(lane_of(young), &SagaKey::Event(young, 1), b"\x01{}")], Durability::Synced).expect("it writes");
    let node = open(left.clone(), &clock).await;
    node.sagas.complete(reply_to(&first_of_old, succeeded())).await.expect("the current attempt");
    waiting(&node, 2, 2).await;
    let left = left.after_kill();
    node.close().await;
    left.write(&[Mutation::Put { family: Family::Saga, key: row, value: event }], Durability::Synced).expect("it writes");
    let node = open(left, &clock).await;
    clock.advance(Duration::from_millis(61_000));
    let second = call(&node, old).await;
    assert_eq!(second.call, "second", "the younger one has given way");
    node.sagas.complete(reply_to(&second, succeeded())).await.expect("the current attempt");
    assert_eq!(node.at_rest(young).await.summary.failure.expect("it says why").code, "LOCK_DEADLOCK");
    assert_eq!(node.at_rest(old).await.summary.state, SagaState::Completed);
    waiting(&node, 0, 0).await;
    node.close().await;
}
