//! What operators do, over real HTTP, to sagas whose services answer for themselves: what is blocked goes on, and nobody is called who must
//! not be.

mod common;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use common::api::{Api, serve};
use common::{LIMIT, Node};
use core::time::Duration;
use sagamq_broker::storage::crash::CrashStorage;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use uuid::Uuid;

/// A service that does what it is told of each operation, and counts.
#[derive(Clone, Debug, Default)]
struct Service(Arc<Mutex<Calls>>);

#[derive(Debug, Default)]
struct Calls {
    refused: Vec<&'static str>,
    seen: BTreeMap<String, Vec<Value>>,
}

impl Service {
    async fn serve(&self) -> String {
        let router = Router::new().route("/{operation}", post(answer)).with_state(self.clone());
        serve(router).await
    }

    /// From now on these are refused, and all others succeed.
    fn refuse(&self, operations: &[&'static str]) {
        self.0.lock().expect("no panic while it is held").refused = operations.to_vec();
    }

    /// What an operation was called with.
    fn calls(&self, operation: &str) -> Vec<Value> {
        self.0.lock().expect("no panic while it is held").seen.get(operation).cloned().unwrap_or_default()
    }

    fn count(&self) -> usize {
        self.0.lock().expect("no panic while it is held").seen.values().map(Vec::len).sum()
    }
}

async fn answer(
    State(service): State<Service>,
    axum::extract::Path(operation): axum::extract::Path<String>,
    body: axum::Json<Value>,
) -> (StatusCode, axum::Json<Value>) {
    let mut calls = service.0.lock().expect("no panic while it is held");
    let is_refused = calls.refused.iter().any(|refused| *refused == operation);
    calls.seen.entry(operation.clone()).or_default().push(body.0);
    if is_refused {
        (StatusCode::CONFLICT, axum::Json(json!({"code": "NOT_TODAY", "message": "it cannot be"})))
    } else {
        (StatusCode::OK, axum::Json(json!({"by": operation})))
    }
}

struct World {
    node: Node,
    api: Api,
    service: Service,
}

impl World {
    async fn open() -> Self {
        let node = Node::open(Arc::new(CrashStorage::new())).await.expect("it opens");
        let (api, service) = (Api::of(&node).await, Service::default());
        let text = format!(
            r#"
saga: trip
version: 1
key: ${{ input.trip }}
services: {{ agency: {{ http: "{}" }} }}
defaults:
  retry: {{ initial: 1h, max: 1h, attempts: 5 }}
  compensate_retry: {{ initial: 1ms, max: 2ms, attempts: 2 }}
steps:
  - id: flight
    call: agency.fly
    with: {{ to: "${{ input.to }}" }}
    compensate: {{ call: agency.unfly, with: {{ to: "${{ input.to }}" }} }}
  - id: hotel
    call: agency.stay
    compensate: agency.leave
  - id: pay
    call: agency.pay
    compensate: none
output: {{ hotel: "${{ steps.hotel.output }}" }}
"#,
            service.serve().await
        );
        assert_eq!(api.post("/v1/saga-definitions", text).await.0, 201);
        Self { node, api, service }
    }

    async fn start(&self, trip: &str) -> Uuid {
        self.node.start("trip", json!({"trip": trip, "to": "Rome"})).await.expect("started").id
    }

    /// Waits until it is in this state.
    async fn until(&self, id: Uuid, state: &str) -> Value {
        let waited = tokio::time::timeout(LIMIT, async {
            loop {
                let (_, saga) = self.api.get(&format!("/v1/sagas/{id}")).await;
                if saga["state"] == state {
                    return saga;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        });
        waited.await.unwrap_or_else(|_| panic!("{id} is not {state} in time"))
    }

    /// A trip whose payment was refused, and whose flight cannot be undone.
    async fn blocked(&self, trip: &str) -> Uuid {
        self.service.refuse(&["pay", "unfly"]);
        let id = self.start(trip).await;
        let saga = self.until(id, "BLOCKED").await;
        assert_eq!(saga["standing"], json!([{"step": "flight", "in_doubt": true}]));
        id
    }

    async fn verb(&self, id: Uuid, verb: &str, body: Value) -> (u16, Value) {
        self.api.post(&format!("/v1/sagas/{id}:{verb}"), body.to_string()).await
    }

    async fn done(&self, id: Uuid, verb: &str, body: Value) -> Value {
        let (status, answer) = self.verb(id, verb, body).await;
        assert_eq!((status, &answer["duplicate"]), (200, &json!(false)), "{answer}");
        answer["saga"].clone()
    }
}

#[tokio::test]
async fn a_blocked_saga_is_repaired_by_retry() {
    let world = World::open().await;
    let id = world.blocked("1").await;
    let before = world.service.calls("unfly");
    world.service.refuse(&[]);
    world.done(id, "retry", json!({"reason": "the agency is back", "actor": "ann"})).await;
    let saga = world.until(id, "COMPENSATED").await;
    let calls = world.service.calls("unfly");
    assert_eq!(calls.len(), before.len() + 1);
    assert!(calls.iter().all(|call| call["idempotency_key"] == calls[0]["idempotency_key"]), "one key over all attempts");
    assert_eq!(saga.get("standing"), None);
    let (_, history) = world.api.get(&format!("/v1/sagas/{id}/history")).await;
    let events = history["events"].as_array().expect("events");
    let retried = events.iter().find(|event| event["type"] == "step_retried").expect("it is written down");
    assert_eq!((&retried["data"]["actor"], &retried["data"]["reason"]), (&json!("ann"), &json!("the agency is back")));
    world.node.close().await;
}

#[tokio::test]
async fn a_blocked_saga_is_repaired_by_skip_and_says_what_stands() {
    let world = World::open().await;
    let id = world.blocked("1").await;
    let called = world.service.count();
    let saga = world.done(id, "skip", json!({"step": "flight"})).await;
    assert_eq!((&saga["state"], &saga["standing"]), (&json!("TERMINATED"), &json!([{"step": "flight", "in_doubt": true}])));
    assert_eq!((&saga["steps"][0]["state"], &saga["steps"][0]["skipped"]), (&json!("COMPENSATION_FAILED"), &json!(true)));
    assert_eq!(world.service.count(), called, "nobody is called");
    let again = world.verb(id, "skip", json!({"step": "flight"})).await;
    assert_eq!((again.0, &again.1["code"]), (409, &json!("SAGA_STATE_CONFLICT")));
    world.node.close().await;
}

#[tokio::test]
async fn a_blocked_saga_is_repaired_by_resolve() {
    let world = World::open().await;
    let id = world.blocked("1").await;
    let called = world.service.count();
    let saga = world.done(id, "resolve", json!({"step": "flight", "outcome": "compensated", "reason": "by phone"})).await;
    assert_eq!((&saga["state"], &saga["steps"][0]["state"]), (&json!("COMPENSATED"), &json!("COMPENSATED")));
    assert_eq!(world.service.count(), called, "nobody is called");
    world.node.close().await;
}

#[tokio::test]
async fn a_blocked_saga_is_repaired_by_another_input_and_retry() {
    let world = World::open().await;
    let id = world.blocked("1").await;
    let wrong = world.verb(id, "edit-input", json!({"input": {"trip": "2", "to": "Oslo"}})).await;
    assert_eq!((wrong.0, &wrong.1["code"]), (400, &json!("INVALID_SAGA_INPUT")), "another key");
    world.done(id, "edit-input", json!({"input": {"trip": "1", "to": "Oslo"}})).await;
    let (status, again) = world.verb(id, "edit-input", json!({"input": {"trip": "1", "to": "Oslo"}})).await;
    assert_eq!((status, &again["duplicate"]), (200, &json!(true)));
    world.service.refuse(&[]);
    world.done(id, "retry", json!({"step": "flight"})).await;
    world.until(id, "COMPENSATED").await;
    assert_eq!(world.service.calls("unfly").last().expect("called")["arguments"], json!({"to": "Oslo"}));
    assert!(world.service.calls("fly").iter().all(|call| call["arguments"] == json!({"to": "Rome"})));
    let (status, same) = world.api.post("/v1/sagas", json!({"saga": "trip", "input": {"trip": "1", "to": "Rome"}}).to_string()).await;
    assert_eq!((status, &same["duplicate"], &same["id"]), (200, &json!(true), &json!(id)), "a start is the same by its own input");
    world.node.close().await;
}

#[tokio::test]
async fn a_paused_saga_calls_nobody_over_a_restart_and_goes_on() {
    let storage = Arc::new(CrashStorage::new());
    let node = Node::open(Arc::clone(&storage) as _).await.expect("it opens");
    node.sagas.publish(common::ORDER).await.expect("legal");
    let id = node.start("order", json!({"order": "1", "behave": ""})).await.expect("started").id;
    let (call, _) = node.next_command("stock.commands").await;
    let api = Api::of(&node).await;
    let (_, paused) = api.post(&format!("/v1/sagas/{id}:pause"), r#"{"reason": "wait"}"#).await;
    assert_eq!(paused["saga"]["state"], "PAUSED");
    node.sagas.complete(common::reply_to(&call, common::succeeded())).await.expect("what is said counts");
    assert_eq!(node.lag("money.commands").await, 0, "and nobody is called");
    node.close().await;
    let node = Node::open(storage).await.expect("it opens");
    let saga = node.sagas.get(id).await.expect("it is there");
    assert_eq!(saga.summary.state.to_string(), "PAUSED");
    assert_eq!(node.lag("money.commands").await, 0);
    let api = Api::of(&node).await;
    let (_, resumed) = api.post(&format!("/v1/sagas/{id}:resume"), "").await;
    assert_eq!((&resumed["duplicate"], &resumed["saga"]["state"]), (&json!(false), &json!("RUNNING")));
    assert_eq!(node.next_command("money.commands").await.0.call, "authorize");
    let (_, again) = api.post(&format!("/v1/sagas/{id}:resume"), "").await;
    assert_eq!(again["duplicate"], json!(true));
    node.close().await;
}

#[tokio::test]
async fn a_terminated_saga_takes_its_commands_back() {
    let node = Node::open(Arc::new(CrashStorage::new())).await.expect("it opens");
    node.sagas.publish(common::ORDER).await.expect("legal");
    let id = node.start("order", json!({"order": "1", "behave": ""})).await.expect("started").id;
    assert_eq!(node.lag("stock.commands").await, 1);
    let api = Api::of(&node).await;
    let (status, ended) = api.post(&format!("/v1/sagas/{id}:terminate"), "").await;
    assert_eq!((status, &ended["saga"]["state"]), (200, &json!("TERMINATED")));
    assert_eq!(ended["saga"]["standing"], json!([{"step": "reserve", "in_doubt": true}]));
    assert_eq!(node.lag("stock.commands").await, 0);
    let (_, again) = api.post(&format!("/v1/sagas/{id}:terminate"), "").await;
    assert_eq!(again["duplicate"], json!(true));
    node.close().await;
}

#[tokio::test]
async fn what_makes_no_verb_is_refused_by_name() {
    let world = World::open().await;
    let id = world.blocked("1").await;
    for (verb, body, said) in [
        ("skip", json!({}), "`skip` needs `step`"),
        ("skip", json!({"step": "train"}), "no step `train`"),
        ("pause", json!({"step": "flight"}), "`pause` takes no `step`"),
        ("retry", json!({"verb": "skip"}), "the path says `retry`"),
        ("retry", json!({"actor": "x".repeat(257)}), "`actor` has 257 bytes"),
        ("resolve", json!({"step": "flight", "outcome": "perhaps"}), "perhaps"),
    ] {
        let (status, problem) = world.verb(id, verb, body).await;
        assert_eq!((status, &problem["code"]), (400, &json!("INVALID_REQUEST")), "{verb}: {problem}");
        assert!(problem["detail"].as_str().expect("a detail").contains(said), "{problem}");
    }
    let (status, problem) = world.verb(Uuid::nil(), "pause", json!({})).await;
    assert_eq!((status, &problem["code"]), (404, &json!("SAGA_NOT_FOUND")));
    world.node.close().await;
}

#[tokio::test]
async fn a_preview_calls_nobody_and_writes_nothing_and_is_what_then_happens() {
    let world = World::open().await;
    let id = world.blocked("1").await;
    let (calls, before) = (world.service.count(), world.api.get(&format!("/v1/sagas/{id}/history")).await);
    let preview = async |body: Value| world.verb(id, "preview", body).await;
    let (status, foreseen) = preview(json!({"verb": "retry"})).await;
    assert_eq!((status, &foreseen["state"], &foreseen["end"]), (200, &json!("COMPENSATING"), &json!("COMPENSATED")), "{foreseen}");
    let call = &foreseen["calls"][0];
    assert_eq!((&call["step"], &call["operation"], &call["call"]), (&json!("flight"), &json!("compensation"), &json!("unfly")));
    assert_eq!((&call["arguments"], foreseen["calls"].as_array().map(Vec::len)), (&json!({"to": "Rome"}), Some(1)));
    let (_, skipped) = preview(json!({"verb": "skip", "step": "flight"})).await;
    assert_eq!((&skipped["end"], &skipped["standing"]), (&json!("TERMINATED"), &json!([{"step": "flight", "in_doubt": true}])));
    let (_, ended) = preview(json!({"verb": "terminate"})).await;
    assert_eq!((&ended["state"], &ended["calls"]), (&json!("TERMINATED"), &json!([])));
    let (status, refused) = preview(json!({"verb": "cancel"})).await;
    assert_eq!((status, &refused["code"]), (409, &json!("SAGA_STATE_CONFLICT")), "as the verb itself");
    assert_eq!(preview(json!({})).await.0, 400, "no verb");
    assert_eq!(world.service.count(), calls, "nobody was called");
    assert_eq!(world.api.get(&format!("/v1/sagas/{id}/history")).await, before, "and nothing was written");
    world.service.refuse(&[]);
    world.done(id, "retry", json!({})).await;
    world.until(id, "COMPENSATED").await;
    assert_eq!(world.service.calls("unfly").last().expect("called")["idempotency_key"], call["idempotency_key"], "and so it was");
    world.node.close().await;
}

#[tokio::test]
async fn a_preview_of_cancelling_shows_what_is_undone_in_reverse_order() {
    let world = World::open().await;
    world.service.refuse(&[]);
    let definition = r#"
saga: wait
version: 1
key: ${ input.trip }
services: { agency: { topic: agency.commands } }
steps:
  - { id: a, call: agency.a, compensate: agency.unda }
  - { id: b, call: agency.b, compensate: { call: agency.undb, with: { of: "${ steps.b.?output.orValue(0) }" } } }
  - { id: c, call: agency.c, with: { of: "${ steps.b.output.n }" }, compensate: none }
"#;
    assert_eq!(world.api.post("/v1/saga-definitions", definition).await.0, 201);
    let id = world.node.start("wait", json!({"trip": "9"})).await.expect("started").id;
    let (call, _) = world.node.next_command("agency.commands").await;
    world.node.sagas.complete(common::reply_to(&call, common::succeeded())).await.expect("it waits for it");
    let (_, foreseen) = world.verb(id, "preview", json!({"verb": "cancel"})).await;
    let calls: Vec<(&Value, &Value)> =
        foreseen["calls"].as_array().expect("calls").iter().map(|call| (&call["call"], &call["in_flight"])).collect();
    let (none, yes) = (&Value::Null, &json!(true));
    assert_eq!(calls, [(&json!("b"), yes), (&json!("undb"), none), (&json!("unda"), none)], "{foreseen}");
    assert_eq!(foreseen["calls"][1].get("arguments"), None, "they depend on what `b` has yet to return");
    assert_eq!((&foreseen["state"], &foreseen["end"]), (&json!("COMPENSATING"), &json!("COMPENSATED")));
    let (_, paused) = world.verb(id, "preview", json!({"verb": "pause"})).await;
    assert_eq!((&paused["end"], paused["calls"].as_array().map(Vec::len)), (&json!("PAUSED"), Some(1)));
    let (_, goes_on) = world.verb(id, "preview", json!({"verb": "resume"})).await;
    assert_eq!((&goes_on["duplicate"], &goes_on["end"]), (&json!(true), &json!("COMPLETED")), "{goes_on}");
    world.node.close().await;
}
