//! A crash at every write of sagas that want one lock: it is neither given twice nor lost, and no token goes back.

use crate::common::stage::{ALL_LEFT, Left, Play, at_every_write};
use crate::common::{LIMIT, Node, SHELF, call_of, refused, reply_to, succeeded};
use core::time::Duration;
use sagamq_api::queue::ReceiveRequest;
use sagamq_api::saga::{Call, LockQuery, SagaState};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

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

impl Play for Shelves {
    async fn run(&self, node: &Node, stop: &CancellationToken) -> Option<()> {
        node.sagas.publish(SHELF).await.ok()?;
        let worker = tokio::spawn({
            let (node, shelves, stop) = (node.clone(), self.clone(), stop.clone());
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
        worker.await.ok()
    }

    async fn check(&self, node: &Node, case: &str) {
        // What a power cut took of its being let go is told again.
        let left = || async { node.sagas.locks(LockQuery::default()).await.expect("a page").locks };
        let let_go = tokio::time::timeout(LIMIT, async {
            while !left().await.is_empty() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        });
        assert!(let_go.await.is_ok(), "{case}: everything is let go: {:?}", left().await);
        for order in 0..ORDERS {
            let again = node.start("shelf", json!({"order": order, "sku": "s"})).await.expect("the key is known");
            let expected = if order == 2 { SagaState::Compensated } else { SagaState::Completed };
            assert_eq!((again.duplicate, again.state), (true, expected), "{case}: {order}");
        }
        assert_eq!(self.wrong(), Vec::<String>::new(), "{case}");
    }
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

/// What is left behind, and whether by a power cut: in turn, so that each comes with every other write.
fn left(write: u64) -> &'static [Left] {
    if write.is_multiple_of(2) { &ALL_LEFT[1..3] } else { const { &[ALL_LEFT[0], ALL_LEFT[3]] } }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_crash_at_any_write_neither_gives_a_lock_twice_nor_loses_one() {
    at_every_write(async || Shelves::default(), 21, left).await;
}
