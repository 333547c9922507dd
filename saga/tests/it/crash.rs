//! A crash at every write of a run: whatever is left behind, every saga ends and the participants' books fit its outcome.

use crate::common::stage::{ALL_LEFT, Play, at_every_write};
use crate::common::{Books, Node, ORDER, run_all};
use sagamq_api::Offset;
use sagamq_api::headers::saga as headers;
use sagamq_api::saga::SagaState;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

/// Orders, what becomes of each, and what its steps tell others, in order.
const ORDERS: [(&str, &str, SagaState, &[&str]); 4] = [
    ("o-good", "", SagaState::Completed, &["reserve action", "capture action"]),
    ("o-refused", "refuse capture", SagaState::Compensated, &["reserve action", "reserve compensation"]),
    ("o-lost", "lose authorize", SagaState::Completed, &["reserve action", "capture action"]),
    ("o-poor", "refuse reserve", SagaState::Failed, &[]),
];

/// The order, whose first step tells others what it did and that it was undone, and whose pivot tells that it succeeded.
fn telling() -> String {
    let told = "emit: { topic: order.events, value: { order: \"${ input.order }\" } }";
    let undone = "emit: { topic: order.events, value: { order: \"${ input.order }\", why: \"${ failure.code }\" } }";
    ORDER
        .replace("compensate: stock.release", &format!("compensate: {{ call: stock.release, {undone} }}\n    {told}"))
        .replace("pivot: true", &format!("pivot: true\n    {told}"))
}

/// What was told of each order, by business key, as a reader of the topic finds it.
async fn told(node: &Node) -> std::collections::BTreeMap<String, Vec<String>> {
    let mut told = std::collections::BTreeMap::<String, Vec<String>>::new();
    for lane in 0..node.broker.shards() {
        let read = node.broker.embedder(lane).read(&"order.events".parse().expect("legal"), Offset(0), 1_000).await;
        for record in read.expect("the topic is there").expect("it reads") {
            let header = |name: &str| record.payload.headers.get(name).unwrap_or_else(|| panic!("{name} is missing")).to_owned();
            assert_eq!(record.payload.key.as_deref(), Some(header(headers::KEY).as_bytes()), "the key of the record is the order's");
            let value: Value = serde_json::from_slice(record.payload.value.as_deref().expect("it has a value")).expect("JSON");
            assert_eq!(value["order"], header(headers::KEY).as_str());
            told.entry(header(headers::KEY)).or_default().push(format!("{} {}", header(headers::STEP), header(headers::OPERATION)));
        }
    }
    told
}

fn input(order: &str, behave: &str) -> Value {
    json!({"order": order, "behave": behave})
}

/// The orders, with what the services did.
#[derive(Clone, Debug, Default)]
struct Orders(Books);

impl Play for Orders {
    async fn run(&self, node: &Node, stop: &CancellationToken) -> Option<()> {
        node.sagas.publish(&telling()).await.ok()?;
        run_all(node, &self.0, stop, "order", ORDERS.map(|(order, behave, ..)| input(order, behave))).await
    }

    async fn check(&self, node: &Node, case: &str) {
        let told = told(node).await;
        for (order, behave, expected, tells) in ORDERS {
            assert_eq!(told.get(order).map_or(&[][..], Vec::as_slice), tells, "{case}: what {order} tells, once each and in order");
            let again = node.start("order", input(order, behave)).await.expect("the key is known");
            assert!(again.duplicate, "{case}: {order} was started once");
            let saga = node.sagas.get(again.id).await.expect("it is there");
            assert_eq!(saga.summary.state, expected, "{case}: {order}: {saga:?}");
            let effects = if expected == SagaState::Completed { 3 } else { 0 };
            assert_eq!(self.0.effects(order), effects, "{case}: the books of {order}");
        }
        assert_eq!(self.0.runs_max(), 1, "{case}: no action took effect twice");
        for topic in ["stock.commands", "money.commands"] {
            assert_eq!(node.lag(topic).await, 0, "{case}: every command of {topic} is settled");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_crash_at_any_write_loses_nothing_and_does_nothing_twice() {
    at_every_write(async || Orders::default(), 21, |_| ALL_LEFT).await;
}
