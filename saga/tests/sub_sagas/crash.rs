//! A crash at every write of runs with sub-sagas: each message between the lanes of parent and sub-saga takes effect once, whatever is left
//! behind, and the participants' books fit the outcome of both.

use crate::common::{Books, LIMIT, Node, spawn_workers};
use sagamq_api::saga::SagaState;
use sagamq_broker::storage::crash::{CrashStorage, FailedWrite};
use serde_json::{Value, json};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

const PAYMENT: &str = r#"
saga: payment
version: 1
key: ${ input.order }
defaults:
  timeout: 2s
  retry: { initial: 5ms, factor: 2, max: 40ms, attempts: 10 }
  compensate_retry: { initial: 5ms, factor: 2, max: 40ms, attempts: 50 }
services:
  money: { topic: money.commands }
steps:
  - { id: authorize, call: money.authorize, with: "${ input }", compensate: money.void }
  - { id: book, call: money.book, with: "${ input }", compensate: money.unbook }
"#;

const ORDER: &str = r#"
saga: order
version: 1
key: ${ input.order }
timeout: 1m
defaults:
  timeout: 2s
  retry: { initial: 5ms, factor: 2, max: 40ms, attempts: 10 }
  compensate_retry: { initial: 5ms, factor: 2, max: 40ms, attempts: 50 }
services:
  stock: { topic: stock.commands }
steps:
  - { id: reserve, call: stock.reserve, with: "${ input }", compensate: stock.release }
  - { id: pay, saga: payment, with: "${ input }" }
  - { id: ship, call: stock.ship, with: "${ input }", compensate: stock.recall }
"#;

/// Orders, and what becomes of each and of its payment.
const ORDERS: [(&str, &str, SagaState, SagaState); 3] = [
    ("o-good", "lose book", SagaState::Completed, SagaState::Completed),
    ("o-poor", "refuse book", SagaState::Compensated, SagaState::Compensated),
    ("o-late", "refuse ship", SagaState::Compensated, SagaState::Compensated),
];

fn input(order: &str, behave: &str) -> Value {
    json!({"order": order, "behave": behave})
}

/// Runs as far as the storage allows. True if everything was accepted and is at its end.
async fn run(storage: CrashStorage, books: &Books) -> bool {
    let Ok(node) = Node::open(Arc::new(storage)).await else { return false };
    let stop = CancellationToken::new();
    let is_done = async {
        node.sagas.publish(PAYMENT).await.ok()?;
        node.sagas.publish(ORDER).await.ok()?;
        let workers = spawn_workers(&node, books, &stop);
        let mut started = Vec::new();
        for (order, behave, ..) in ORDERS {
            started.push(node.start("order", input(order, behave)).await.ok()?.id);
        }
        for id in started {
            node.until_or_failed(id, |saga| saga.summary.state.is_final()).await?;
        }
        stop.cancel();
        for worker in workers {
            worker.await.ok()?;
        }
        node.broker.writes_stopped().is_none().then_some(())
    };
    let is_done = tokio::time::timeout(LIMIT, is_done).await.expect("every saga ends, or a write fails").is_some();
    stop.cancel();
    node.close().await;
    is_done
}

async fn check(storage: CrashStorage, books: &Books, case: &str) {
    let node = Node::open(Arc::new(storage)).await.expect("what a run left can be opened");
    for (order, behave, expected, paying) in ORDERS {
        let again = node.start("order", input(order, behave)).await.expect("the key is known");
        assert!(again.duplicate, "{case}: {order} was started once");
        let saga = node.sagas.get(again.id).await.expect("it is there");
        assert_eq!(saga.summary.state, expected, "{case}: {order}: {saga:?}");
        assert_eq!(saga.steps[1].attempts, 1, "{case}: {order}: its payment was started once");
        let payment = saga.steps[1].child.as_ref().and_then(|child| child.state);
        assert_eq!(payment, Some(paying), "{case}: the payment of {order}");
        let effects = if expected == SagaState::Completed { 4 } else { 0 };
        assert_eq!(books.effects(order), effects, "{case}: the books of {order}");
    }
    assert_eq!(books.runs_max(), 1, "{case}: no action took effect twice");
    for topic in ["stock.commands", "money.commands"] {
        assert_eq!(node.lag(topic).await, 0, "{case}: every command of {topic} is settled");
    }
    node.close().await;
}

async fn crash_at(write: u64, leaves: FailedWrite, is_power_cut: bool) {
    let case = format!("write {write} leaves {leaves:?}, power cut: {is_power_cut}");
    let (storage, books) = (CrashStorage::new(), Books::default());
    storage.fail_write(write, leaves);
    let is_done = run(storage.clone(), &books).await;
    let left = if is_power_cut { storage.after_power_cut() } else { storage.after_kill() };
    if !is_done {
        assert!(run(left.clone(), &books).await, "{case}: after the restart everything comes to its end");
    }
    check(left, &books, &case).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_crash_at_any_write_neither_loses_nor_repeats_a_start_an_end_or_an_undoing() {
    let (storage, books) = (CrashStorage::new(), Books::default());
    assert!(run(storage.clone(), &books).await, "without a crash everything comes to its end");
    let writes = storage.writes();
    check(storage.after_power_cut(), &books, "no crash").await;
    assert!(writes > 30, "there are writes to crash at: {writes}");
    let left_behind = [(FailedWrite::NothingApplied, true), (FailedWrite::Applied, false), (FailedWrite::AppliedNotSynced, true)];
    let mut running = tokio::task::JoinSet::new();
    for write in 1..=writes {
        for (leaves, is_power_cut) in left_behind {
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
