//! A crash at every write of sagas that want one lock: it is neither given twice nor lost, and no token goes back.

mod common;

use common::{LIMIT, Node, call_of, refused, reply_to, succeeded};
use core::time::Duration;
use sagamq_api::queue::ReceiveRequest;
use sagamq_api::saga::{Call, LockQuery, SagaState};
use sagamq_broker::storage::crash::{CrashStorage, FailedWrite};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Takes from a shelf and puts back, both under the shelf's lock, and sells in between.
const SHELF: &str = r#"
saga: shelf
version: 1
key: ${ input.order }
timeout: 1h
defaults:
  timeout: 30s
  retry: { initial: 5ms, factor: 2, max: 40ms, attempts: 10 }
  compensate_retry: { initial: 5ms, factor: 2, max: 40ms, attempts: 50 }
services: { stock: { topic: stock.commands } }
steps:
  - { id: take, call: stock.take, compensate: stock.back, lock: "sku/${ input.sku }", with: { sku: "${ input.sku }" } }
  - { id: sell, call: stock.sell, pivot: true, lock: "sku/${ input.sku }", with: { sku: "${ input.sku }" } }
"#;

fn token(call: &Call) -> u64 {
    call.lock.as_ref().expect("it is called under a lock").token
}

/// What the participant knows of a shelf.
#[derive(Clone, Copy, Debug)]
struct Shelf {
    /// Who worked on it last.
    id: Uuid,
    token: u64,
    /// Whether that one is to come again: it has taken, and neither sold nor put back.
    is_open: bool,
}

/// The shelves, and what was wrong with the calls: two at a time, or a token that went back.
#[derive(Clone, Debug, Default)]
struct Shelves(Arc<Mutex<Seen>>);

/// What was seen last of each shelf, and what was wrong.
type Seen = (BTreeMap<String, Shelf>, Vec<String>);

impl Shelves {
    /// Gives whether the call is refused: the third order's is when it sells.
    fn see(&self, call: &Call) -> bool {
        let sku = call.arguments.to_value()["sku"].as_str().expect("text").to_owned();
        let (id, token) = (call.attempt.instance, token(call));
        let is_refused = call.call == "sell" && call.key == "2";
        let mut books = self.0.lock().expect("no panic while it is held");
        if let Some(before) = books.0.get(&sku).copied() {
            let is_right = if before.id == id { before.token == token } else { !before.is_open && before.token < token };
            if !is_right {
                books.1.push(format!("{sku}: {} of {id} comes with the token {token} behind {before:?}", call.call));
            }
        }
        let is_open = call.call == "take" || is_refused;
        books.0.insert(sku, Shelf { id, token, is_open });
        is_refused
    }

    fn wrong(&self) -> Vec<String> {
        self.0.lock().expect("no panic while it is held").1.clone()
    }
}

const ORDERS: usize = 3;

/// Runs as far as the storage allows. True if everything is at its end.
async fn run(storage: CrashStorage, shelves: &Shelves) -> bool {
    let Ok(node) = Node::open(Arc::new(storage)).await else { return false };
    let stop = CancellationToken::new();
    let is_done = async {
        node.sagas.publish(SHELF).await.ok()?;
        let worker = tokio::spawn({
            let (node, shelves, stop) = (node.clone(), shelves.clone(), stop.clone());
            async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = work(&node, &shelves) => {}
                }
            }
        });
        let mut started = Vec::new();
        for order in 0..ORDERS {
            started.push(node.start("shelf", json!({"order": order, "sku": "s"})).await.ok()?.id);
        }
        for id in started {
            node.until_or_failed(id, |saga| saga.summary.state.is_final()).await?;
        }
        while node.broker.writes_stopped().is_none() && !node.sagas.locks(LockQuery::default()).await.ok()?.locks.is_empty() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        stop.cancel();
        worker.await.ok()?;
        node.broker.writes_stopped().is_none().then_some(())
    };
    let is_done = tokio::time::timeout(LIMIT, is_done).await.expect("every saga ends, or a write fails").is_some();
    stop.cancel();
    node.close().await;
    is_done
}

async fn work(node: &Node, shelves: &Shelves) {
    let request = ReceiveRequest { max_records: Some(16), wait_ms: Some(100), ..ReceiveRequest::default() };
    let (topic, group) = ("stock.commands".parse().expect("legal"), "workers".parse().expect("legal"));
    loop {
        let Ok(received) = node.broker.receive(&topic, &group, &request).await else {
            tokio::time::sleep(Duration::from_millis(5)).await;
            continue;
        };
        for delivery in received.deliveries {
            let call = call_of(&delivery);
            let outcome = if shelves.see(&call) { refused() } else { succeeded() };
            // One that is fenced was settled when its attempt ended.
            drop(node.sagas.complete(reply_to(&call, outcome)).await);
        }
    }
}

async fn crash_at(write: u64, leaves: FailedWrite, is_power_cut: bool) {
    let case = format!("write {write} leaves {leaves:?}, power cut: {is_power_cut}");
    let (storage, shelves) = (CrashStorage::new(), Shelves::default());
    storage.fail_write(write, leaves);
    let is_done = run(storage.clone(), &shelves).await;
    let left = if is_power_cut { storage.after_power_cut() } else { storage.after_kill() };
    if !is_done {
        assert!(run(left.clone(), &shelves).await, "{case}: after the restart everything comes to its end");
    }
    let node = Node::open(Arc::new(left)).await.expect("what a run left can be opened");
    let left = node.sagas.locks(LockQuery::default()).await.expect("a page");
    assert_eq!(left.locks, [], "{case}: everything is let go");
    for order in 0..ORDERS {
        let again = node.start("shelf", json!({"order": order, "sku": "s"})).await.expect("the key is known");
        let expected = if order == 2 { SagaState::Compensated } else { SagaState::Completed };
        assert_eq!((again.duplicate, again.state), (true, expected), "{case}: {order}");
    }
    assert_eq!(shelves.wrong(), Vec::<String>::new(), "{case}");
    node.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_crash_at_any_write_neither_gives_a_lock_twice_nor_loses_one() {
    let (storage, shelves) = (CrashStorage::new(), Shelves::default());
    assert!(run(storage.clone(), &shelves).await, "without a crash everything comes to its end");
    assert_eq!(shelves.wrong(), Vec::<String>::new());
    let writes = storage.writes();
    assert!(writes > 20, "there are writes to crash at: {writes}");
    // What is left behind, and whether by a power cut: in turn, so that each comes with every other write.
    let left_behind = [
        [(FailedWrite::NothingApplied, true), (FailedWrite::AppliedNotSynced, false)],
        [(FailedWrite::Applied, false), (FailedWrite::AppliedNotSynced, true)],
    ];
    let mut running = tokio::task::JoinSet::new();
    for write in 1..=writes {
        for (leaves, is_power_cut) in left_behind[usize::from(write % 2 == 0)] {
            if running.len() >= 8 {
                running.join_next().await.expect("one runs").expect("no case fails");
            }
            running.spawn(crash_at(write, leaves, is_power_cut));
        }
    }
    while let Some(case) = running.join_next().await {
        case.expect("no case fails");
    }
}
