//! Sub-sagas of sub-sagas: what is undone, cancelled and let go at the top is so at the bottom.

use super::{ORDER, child, kinds, money, open, stock};
use crate::common::{Node, refused, reply_to, succeeded};

use sagamq_api::saga::{SagaState, SagaVerb, StepState};
use sagamq_broker::storage::crash::CrashStorage;
use serde_json::json;
use uuid::Uuid;

/// Between the order and its payment.
const INVOICE: &str = "
saga: invoice
version: 1
key: ${ input.order }
services: {}
steps:
  - { id: collect, saga: payment, with: { order: \"${ input.order }\" } }
output: ${ steps.collect.output }
";

async fn open_deep(storage: &CrashStorage) -> Node {
    let node = open(storage).await;
    node.sagas.publish(INVOICE).await.expect("a legal definition");
    let order = ORDER.replace("saga: order", "saga: deep").replace("saga: payment", "saga: invoice");
    node.sagas.publish(&order).await.expect("a legal definition");
    node
}

/// An order, its invoice, and the payment of that.
async fn started(node: &Node) -> [Uuid; 3] {
    let id = node.start("deep", json!({"order": "1"})).await.expect("started").id;
    stock(node, "reserve", succeeded()).await;
    let invoice = child(node, id, "pay").await;
    [id, invoice, child(node, invoice, "collect").await]
}

async fn they_are(node: &Node, ids: [Uuid; 3], states: [SagaState; 3]) {
    for (id, state) in ids.into_iter().zip(states) {
        assert_eq!(node.at_rest(id).await.summary.state, state, "{id}");
    }
}

/// Each was told that its parent is at its end: nothing is kept for an undoing that does not come.
async fn all_are_let_go(node: &Node, ids: [Uuid; 3]) {
    for id in &ids[1..] {
        let told = async {
            while !kinds(node, *id).await.contains(&"saga_parent_ended".to_owned()) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(crate::common::LIMIT, told).await.expect("it is told");
    }
}

#[tokio::test]
async fn what_has_completed_at_the_bottom_is_undone_with_the_top_over_a_restart() {
    let storage = CrashStorage::new();
    let node = open_deep(&storage).await;
    let ids = started(&node).await;
    money(&node, "authorize", succeeded()).await;
    money(&node, "book", succeeded()).await;
    node.until(ids[0], |saga| saga.steps[1].state == StepState::Succeeded).await;
    assert!(!kinds(&node, ids[2]).await.contains(&"saga_parent_ended".to_owned()), "it may be undone still");
    stock(&node, "ship", refused()).await;
    money(&node, "unbook", succeeded()).await;
    let left = storage.after_kill();
    node.close().await;
    let node = open_deep(&left).await;
    money(&node, "void", succeeded()).await;
    stock(&node, "release", succeeded()).await;
    they_are(&node, ids, [SagaState::Compensated; 3]).await;
    all_are_let_go(&node, ids).await;
    node.close().await;
}

#[tokio::test]
async fn a_cancel_at_the_top_reaches_what_runs_at_the_bottom() {
    let node = open_deep(&CrashStorage::new()).await;
    let ids = started(&node).await;
    money(&node, "authorize", succeeded()).await;
    let (book, _) = node.next_command("money.commands").await;
    node.operate(ids[0], SagaVerb::Cancel).await.expect("it can be cancelled");
    node.until(ids[2], |saga| saga.summary.state == SagaState::Compensating).await;
    node.sagas.complete(reply_to(&book, succeeded())).await.expect("the current attempt");
    money(&node, "unbook", succeeded()).await;
    money(&node, "void", succeeded()).await;
    stock(&node, "release", succeeded()).await;
    // The one in between has nothing of its own: what it started was refused to it.
    they_are(&node, ids, [SagaState::Compensated, SagaState::Failed, SagaState::Compensated]).await;
    all_are_let_go(&node, ids).await;
    node.close().await;
}

#[tokio::test]
async fn what_has_completed_at_the_bottom_is_let_go_when_the_top_has() {
    let node = open_deep(&CrashStorage::new()).await;
    let ids = started(&node).await;
    money(&node, "authorize", succeeded()).await;
    money(&node, "book", succeeded()).await;
    stock(&node, "ship", succeeded()).await;
    they_are(&node, ids, [SagaState::Completed; 3]).await;
    all_are_let_go(&node, ids).await;
    let order = node.sagas.get(ids[0]).await.expect("it is there");
    assert_eq!(order.output.map(|output| output.to_value()), Some(json!({"receipt": "r-1"})), "what it returned came up");
    node.close().await;
}
