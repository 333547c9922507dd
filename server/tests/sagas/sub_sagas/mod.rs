//! Sagas that start sagas: what they return, what is refused, what is undone, what operators see, and what is kept.

mod crash;
mod deep;
mod kept;
mod locks;
mod operated;
mod published;
mod room;

use crate::common::{Node, refused, reply_to, succeeded};
use crate::verbs::World;
use core::time::Duration;
use sagamq_api::saga::{CallOutcome, HistoryQuery, PublishQuery, SagaDescription, SagaQuery, SagaState, SagaVerb, StepState, WaitCode};
use sagamq_broker::env::SystemClock;
use sagamq_broker::storage::crash::CrashStorage;
use sagamq_saga::OrchestratorConfig;
use serde_json::json;
use std::sync::Arc;
use uuid::Uuid;

/// A payment, which can be undone as a whole.
const PAYMENT: &str = "
saga: payment
version: 1
key: ${ input.order }
input: { schema: { type: object, required: [order], properties: { order: { type: string }, sum: { type: integer } } } }
defaults: { timeout: 30s, compensate_retry: { initial: 5ms, max: 10ms, attempts: 2 } }
services: { money: { topic: money.commands } }
steps:
  - { id: authorize, call: money.authorize, compensate: money.void }
  - { id: book, call: money.book, compensate: money.unbook }
output: { receipt: \"r-${ input.order }\" }
";

/// An order that pays by another saga, between two steps of its own.
const ORDER: &str = "
saga: order
version: 1
key: ${ input.order }
defaults: { timeout: 30s }
services: { stock: { topic: stock.commands } }
steps:
  - { id: reserve, call: stock.reserve, compensate: stock.release }
  - id: pay
    saga: payment
    with: { order: \"${ input.order }\", sum: \"${ has(input.sum) ? input.sum : 1 }\" }
  - { id: ship, call: stock.ship, with: { receipt: \"${ steps.pay.output.receipt }\" }, compensate: stock.recall }
output: \"${ steps.pay.output }\"
";

/// A version that is published is the one that new sagas take.
const ACTIVE: PublishQuery = PublishQuery { activate: true, verify: false };

async fn open(storage: &CrashStorage) -> Node {
    open_with(storage, OrchestratorConfig::default()).await
}

async fn open_with(storage: &CrashStorage, config: OrchestratorConfig) -> Node {
    let config = OrchestratorConfig { restart_grace: Duration::from_millis(20), ..config };
    let node = Node::open_with(Arc::new(storage.clone()), Arc::new(SystemClock), config).await.expect("it opens");
    node.sagas.publish(PAYMENT).await.expect("a legal definition");
    node.sagas.publish(ORDER).await.expect("a legal definition");
    node
}

/// Answers the next command of a topic, which is this one.
async fn answer(node: &Node, topic: &str, call: &str, outcome: CallOutcome) {
    let (command, _) = node.next_command(topic).await;
    assert_eq!(command.call, call);
    node.sagas.complete(reply_to(&command, outcome)).await.expect("the current attempt");
}

async fn stock(node: &Node, call: &str, outcome: CallOutcome) {
    answer(node, "stock.commands", call, outcome).await;
}

async fn money(node: &Node, call: &str, outcome: CallOutcome) {
    answer(node, "money.commands", call, outcome).await;
}

/// The sub-saga of a step, once it is there.
async fn child(node: &Node, parent: Uuid, step: &str) -> Uuid {
    let of = |saga: &SagaDescription| saga.steps.iter().find(|found| found.id.as_str() == step).and_then(|step| step.child.clone()?.id);
    of(&node.until(parent, |saga| of(saga).is_some()).await).expect("it was waited for")
}

/// An order whose payment was done.
async fn paid(node: &Node, order: &str) -> (Uuid, Uuid) {
    let id = node.start("order", json!({ "order": order })).await.expect("started").id;
    stock(node, "reserve", succeeded()).await;
    let paying = child(node, id, "pay").await;
    money(node, "authorize", succeeded()).await;
    money(node, "book", succeeded()).await;
    node.until(id, |saga| saga.steps[1].state == StepState::Succeeded).await;
    (id, paying)
}

async fn kinds(node: &Node, id: Uuid) -> Vec<String> {
    let history = node.sagas.history(id, HistoryQuery::default()).await.expect("it has one");
    history.events.into_iter().map(|event| event.r#type).collect()
}

#[tokio::test]
async fn what_a_sub_saga_returns_is_the_output_of_its_step() {
    let node = open(&CrashStorage::new()).await;
    let (id, paying) = paid(&node, "1").await;
    let (ship, _) = node.next_command("stock.commands").await;
    assert_eq!((ship.call.as_str(), ship.arguments.to_value()), ("ship", json!({"receipt": "r-1"})));
    node.sagas.complete(reply_to(&ship, succeeded())).await.expect("the current attempt");
    let order = node.at_rest(id).await;
    assert_eq!(
        (order.summary.state, order.output.map(|output| output.to_value())),
        (SagaState::Completed, Some(json!({"receipt": "r-1"})))
    );
    assert_eq!(order.steps[1].attempts, 1);
    let shown = order.steps[1].child.clone().expect("it is shown");
    assert_eq!((shown.saga.as_str(), shown.id, shown.state), ("payment", Some(paying), Some(SagaState::Completed)));
    let payment = node.sagas.get(paying).await.expect("it is there");
    let parent = payment.summary.parent.expect("it says who started it");
    assert_eq!((parent.id, parent.saga.as_str(), parent.step.as_str(), parent.attempt), (id, "order", "pay", 1));
    assert_eq!(payment.input.to_value(), json!({"order": "1", "sum": 1}));
    assert_eq!(payment.summary.key, shown.key);
    let listed =
        node.sagas.list(SagaQuery { saga: Some("payment".parse().expect("legal")), ..SagaQuery::default() }).await.expect("a page");
    assert_eq!(listed.sagas[0].parent.as_ref().map(|parent| parent.id), Some(id), "lists tell it as well");
    assert_eq!(kinds(&node, id).await.iter().filter(|kind| *kind == "step_called").count(), 3);
    node.close().await;
}

#[tokio::test]
async fn why_a_parent_does_not_move_names_the_saga_that_it_waits_for_and_it_leaves_memory_meanwhile() {
    let storage = CrashStorage::new();
    let node = open(&storage).await;
    let id = node.start("order", json!({"order": "1"})).await.expect("started").id;
    stock(&node, "reserve", succeeded()).await;
    let paying = child(&node, id, "pay").await;
    let waiting = node.until(id, |saga| saga.summary.waits.is_some()).await;
    let waits = waiting.summary.waits.expect("it says why it does not move");
    assert_eq!((waiting.summary.state, waits.code, waits.next_at_ms), (SagaState::Waiting, WaitCode::SubSaga, None));
    assert!(waits.message.contains("waits at `pay`") && waits.message.contains("the saga `payment`"), "{}", waits.message);
    assert_eq!(waiting.steps[1].due_at_ms, None, "it has no deadline");
    let left = storage.after_power_cut();
    node.close().await;
    let node = open(&left).await;
    let listed = node.sagas.list(SagaQuery { state: Some(SagaState::Waiting), ..SagaQuery::default() }).await.expect("a page").sagas;
    assert_eq!(listed[0].waits.as_ref().map(|waits| waits.code), Some(WaitCode::SubSaga), "one that was not read tells it, too");
    money(&node, "authorize", succeeded()).await;
    money(&node, "book", succeeded()).await;
    stock(&node, "ship", succeeded()).await;
    assert_eq!(node.at_rest(id).await.summary.state, SagaState::Completed);
    assert_eq!(node.sagas.get(paying).await.expect("it is there").summary.state, SagaState::Completed);
    node.close().await;
}

#[tokio::test]
async fn a_refusal_deep_in_a_sub_saga_undoes_what_the_parent_did_before() {
    let node = open(&CrashStorage::new()).await;
    let id = node.start("order", json!({"order": "1"})).await.expect("started").id;
    stock(&node, "reserve", succeeded()).await;
    money(&node, "authorize", succeeded()).await;
    money(&node, "book", refused()).await;
    money(&node, "void", succeeded()).await;
    stock(&node, "release", succeeded()).await;
    let order = node.at_rest(id).await;
    assert_eq!((order.summary.state, order.steps[1].state), (SagaState::Compensated, StepState::Failed));
    assert_eq!(order.summary.failure.expect("it says why").code, "NO", "the failure is that of the sub-saga");
    assert_eq!(order.steps[1].child.as_ref().and_then(|child| child.state), Some(SagaState::Compensated));
    node.close().await;
}

#[tokio::test]
async fn a_refusal_behind_a_sub_saga_undoes_it_from_its_end() {
    let storage = CrashStorage::new();
    let node = open(&storage).await;
    let (id, paying) = paid(&node, "1").await;
    assert_eq!(node.sagas.get(paying).await.expect("it is there").summary.state, SagaState::Completed);
    stock(&node, "ship", refused()).await;
    money(&node, "unbook", succeeded()).await;
    let undoing = node.until(paying, |saga| saga.summary.state == SagaState::Compensating).await;
    assert_eq!(undoing.summary.failure.expect("it says why").code, "PARENT_UNDONE");
    let of = |state| SagaQuery { state: Some(state), saga: Some("payment".parse().expect("legal")), ..SagaQuery::default() };
    assert!(node.sagas.list(of(SagaState::Completed)).await.expect("a page").sagas.is_empty(), "it is in that list no more");
    assert_eq!(node.sagas.list(of(SagaState::Compensating)).await.expect("a page").sagas.len(), 1);
    // It is undone after a restart as well: it is one of the open ones again.
    let left = storage.after_kill();
    node.close().await;
    let node = open(&left).await;
    assert_eq!(node.sagas.get(id).await.expect("it is there").steps[1].state, StepState::Compensating);
    money(&node, "void", succeeded()).await;
    stock(&node, "release", succeeded()).await;
    assert_eq!(node.at_rest(id).await.summary.state, SagaState::Compensated);
    assert_eq!(node.sagas.get(paying).await.expect("it is there").summary.state, SagaState::Compensated);
    let told = kinds(&node, paying).await;
    let at = |kind: &str| told.iter().position(|found| found == kind).unwrap_or_else(|| panic!("{kind} of {told:?}"));
    assert!(at("saga_completed") < at("saga_undo_requested") && at("saga_undo_requested") < at("saga_compensated"), "{told:?}");
    node.close().await;
}

#[tokio::test]
async fn a_parent_that_is_cancelled_cancels_the_saga_that_it_waits_for() {
    let node = open(&CrashStorage::new()).await;
    let id = node.start("order", json!({"order": "1"})).await.expect("started").id;
    stock(&node, "reserve", succeeded()).await;
    let paying = child(&node, id, "pay").await;
    money(&node, "authorize", succeeded()).await;
    let (book, _) = node.next_command("money.commands").await;
    node.operate(id, SagaVerb::Cancel).await.expect("it can be cancelled");
    node.until(paying, |saga| saga.summary.state == SagaState::Compensating).await;
    let order = node.sagas.get(id).await.expect("it is there");
    assert_eq!((order.summary.state, order.steps[0].state), (SagaState::Compensating, StepState::Succeeded), "it waits for the sub-saga");
    node.sagas.complete(reply_to(&book, succeeded())).await.expect("the current attempt");
    money(&node, "unbook", succeeded()).await;
    money(&node, "void", succeeded()).await;
    stock(&node, "release", succeeded()).await;
    let order = node.at_rest(id).await;
    assert_eq!((order.summary.state, order.steps[1].state), (SagaState::Compensated, StepState::Failed), "nothing of it is left to undo");
    assert_eq!(order.steps[1].compensation_attempts, 0);
    node.close().await;
}

#[tokio::test]
async fn a_start_that_does_not_fit_is_refused_and_stores_nothing() {
    let node = open(&CrashStorage::new()).await;
    let id = node.start("order", json!({"order": "1", "sum": "much"})).await.expect("started").id;
    stock(&node, "reserve", succeeded()).await;
    stock(&node, "release", succeeded()).await;
    let order = node.at_rest(id).await;
    assert_eq!(order.summary.state, SagaState::Compensated);
    let failure = order.summary.failure.expect("it says why");
    assert!(failure.code == "SAGA_INPUT_MISFIT" && failure.message.contains("payment"), "{failure:?}");
    assert_eq!(order.steps[1].child.as_ref().map(|child| child.id), Some(None), "it was not started");
    node.close().await;
}

/// The payment in a version that has a point of no return.
fn with_pivot() -> String {
    PAYMENT.replace("version: 1", "version: 2").replace("call: money.book, compensate: money.unbook", "call: money.book, pivot: true")
}

/// A payment by a service that is called over HTTP.
const DIRECT: &str = "
saga: payment
version: 1
key: ${ input.order }
services: { money: { http: \"AGENCY\" } }
steps:
  - { id: authorize, call: money.authorize, compensate: money.void }
  - { id: book, call: money.book, compensate: money.unbook }
output: { receipt: \"r-${ input.order }\" }
";

#[tokio::test]
async fn over_http_a_parent_shows_its_child_and_a_preview_what_would_be_undone() {
    let world = World::open(DIRECT).await;
    let (status, published) = world.api.post("/v1/saga-definitions", ORDER.to_owned()).await;
    assert_eq!(status, 201, "{published}");
    let body = json!({"saga": "order", "input": {"order": "1"}});
    let (status, started) = world.api.post("/v1/sagas", body.to_string()).await;
    assert!(status < 300, "{started}");
    let id: Uuid = started["id"].as_str().expect("an id").parse().expect("an id");
    stock(&world.node, "reserve", succeeded()).await;
    let (ship, _) = world.node.next_command("stock.commands").await;
    let (_, order) = world.api.get(&format!("/v1/sagas/{id}")).await;
    let paid = &order["steps"][1];
    assert_eq!(
        (&paid["state"], &paid["child"]["saga"], &paid["child"]["state"]),
        (&json!("SUCCEEDED"), &json!("payment"), &json!("COMPLETED"))
    );
    let child = paid["child"]["id"].as_str().expect("an id").to_owned();
    let (_, payment) = world.api.get(&format!("/v1/sagas/{child}")).await;
    assert_eq!(payment["parent"], json!({"id": id, "saga": "order", "step": "pay", "attempt": 1}));
    let (status, foreseen) = world.verb(id, "preview", json!({"verb": "cancel"})).await;
    assert_eq!(status, 200, "{foreseen}");
    let calls: Vec<_> = foreseen["calls"].as_array().expect("a list").iter().map(|call| (&call["participant"], &call["call"])).collect();
    assert!(calls.contains(&(&json!("saga payment"), &json!("undo"))), "{foreseen}");
    assert_eq!(foreseen["end"], "COMPENSATED");
    world.node.sagas.complete(reply_to(&ship, refused())).await.expect("the current attempt");
    stock(&world.node, "release", succeeded()).await;
    let order = world.until(id, SagaState::Compensated).await;
    assert_eq!((&order["failure"]["code"], &order["steps"][1]["state"]), (&json!("NO"), &json!("COMPENSATED")));
    let attempts = |operation: &str| world.service.keys(operation).len();
    assert_eq!([attempts("authorize"), attempts("book"), attempts("unbook"), attempts("void")], [1, 1, 1, 1]);
    world.node.close().await;
}
