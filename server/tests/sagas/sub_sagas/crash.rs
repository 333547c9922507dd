//! A crash at every write of runs with sub-sagas: each message between the lanes of parent and sub-saga takes effect once, whatever is left
//! behind, and the participants' books fit the outcome of both.

use crate::common::stage::{MOST_LEFT, Play, at_every_write};
use crate::common::{Books, Node, run_all};
use sagamq_api::saga::SagaState;
use serde_json::{Value, json};
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

/// The orders, with what the services did.
#[derive(Clone, Debug, Default)]
struct Orders(Books);

impl Play for Orders {
    async fn run(&self, node: &Node, stop: &CancellationToken) -> Option<()> {
        node.sagas.publish(PAYMENT).await.ok()?;
        node.sagas.publish(ORDER).await.ok()?;
        run_all(node, &self.0, stop, "order", ORDERS.map(|(order, behave, ..)| input(order, behave))).await
    }

    async fn check(&self, node: &Node, case: &str) {
        for (order, behave, expected, paying) in ORDERS {
            let again = node.start("order", input(order, behave)).await.expect("the key is known");
            assert!(again.duplicate, "{case}: {order} was started once");
            let saga = node.sagas.get(again.id).await.expect("it is there");
            assert_eq!(saga.summary.state, expected, "{case}: {order}: {saga:?}");
            assert_eq!(saga.steps[1].attempts, 1, "{case}: {order}: its payment was started once");
            let payment = saga.steps[1].child.as_ref().and_then(|child| child.state);
            assert_eq!(payment, Some(paying), "{case}: the payment of {order}");
            let effects = if expected == SagaState::Completed { 4 } else { 0 };
            assert_eq!(self.0.effects(order), effects, "{case}: the books of {order}");
        }
        assert_eq!(self.0.runs_max(), 1, "{case}: no action took effect twice");
        for topic in ["stock.commands", "money.commands"] {
            assert_eq!(node.lag(topic).await, 0, "{case}: every command of {topic} is settled");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_crash_at_any_write_neither_loses_nor_repeats_a_start_an_end_or_an_undoing() {
    at_every_write(async || Orders::default(), 31, |_| MOST_LEFT).await;
}
