//! What operators do, over real HTTP, to sagas whose services answer for themselves: what is blocked goes on, and nobody is called who must
//! not be.

use crate::api::Api;
use crate::common::Node;
use crate::verbs::World;
use sagamq_api::saga::SagaState;
use sagamq_broker::storage::crash::CrashStorage;
use serde_json::{Value, json};
use std::sync::Arc;
use uuid::Uuid;

const TRIP: &str = r#"
saga: trip
version: 1
key: ${ input.trip }
services: { agency: { http: "AGENCY" } }
defaults:
  retry: { initial: 1h, max: 1h, attempts: 5 }
  compensate_retry: { initial: 1ms, max: 2ms, attempts: 2 }
steps:
  - id: flight
    call: agency.fly
    with: { to: "${ input.to }" }
    compensate: { call: agency.unfly, with: { to: "${ input.to }" } }
  - id: hotel
    call: agency.stay
    compensate: agency.leave
  - id: pay
    call: agency.pay
    compensate: none
output: { hotel: "${ steps.hotel.output }" }
"#;

impl World {
    async fn start_trip(&self, trip: &str) -> Uuid {
        self.node.start("trip", json!({"trip": trip, "to": "Rome"})).await.expect("started").id
    }

    /// A trip whose payment was refused, and whose flight cannot be undone.
    async fn blocked_trip(&self, trip: &str) -> Uuid {
        self.service.refuse(&["pay", "unfly"]);
        let id = self.start_trip(trip).await;
        let saga = self.until(id, SagaState::Blocked).await;
        assert_eq!(saga["standing"], json!([{"step": "flight", "in_doubt": true}]));
        id
    }
}

#[tokio::test]
async fn a_blocked_saga_is_repaired_by_retry() {
    let world = World::open(TRIP).await;
    let id = world.blocked_trip("1").await;
    let before = world.service.calls("unfly");
    world.service.refuse(&[]);
    world.done(id, "retry", json!({"reason": "the agency is back", "actor": "ann"})).await;
    let saga = world.until(id, SagaState::Compensated).await;
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
    let world = World::open(TRIP).await;
    let id = world.blocked_trip("1").await;
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
    let world = World::open(TRIP).await;
    let id = world.blocked_trip("1").await;
    let called = world.service.count();
    let saga = world.done(id, "resolve", json!({"step": "flight", "outcome": "compensated", "reason": "by phone"})).await;
    assert_eq!((&saga["state"], &saga["steps"][0]["state"]), (&json!("COMPENSATED"), &json!("COMPENSATED")));
    assert_eq!(world.service.count(), called, "nobody is called");
    world.node.close().await;
}

#[tokio::test]
async fn another_input_is_not_what_is_undone_with() {
    let world = World::open(TRIP).await;
    let id = world.blocked_trip("1").await;
    let wrong = world.verb(id, "edit-input", json!({"input": {"trip": "2", "to": "Oslo"}})).await;
    assert_eq!((wrong.0, &wrong.1["code"]), (400, &json!("INVALID_SAGA_INPUT")), "another key");
    world.done(id, "edit-input", json!({"input": {"trip": "1", "to": "Oslo"}})).await;
    let other_text = r#"{"input": { "to" : "Oslo",  "trip": "1" }}"#;
    let (status, again) = world.api.post(&format!("/v1/sagas/{id}:edit-input"), other_text).await;
    assert_eq!((status, &again["duplicate"]), (200, &json!(true)), "the same in other words");
    world.service.refuse(&[]);
    world.done(id, "retry", json!({"step": "flight"})).await;
    world.until(id, SagaState::Compensated).await;
    assert!(world.service.arguments("fly").iter().all(|arguments| *arguments == json!({"to": "Rome"})));
    assert!(world.service.arguments("unfly").iter().all(|arguments| *arguments == json!({"to": "Rome"})), "the flight to Rome is undone");
    let (status, same) = world.api.post("/v1/sagas", json!({"saga": "trip", "input": {"trip": "1", "to": "Rome"}}).to_string()).await;
    assert_eq!((status, &same["duplicate"], &same["id"]), (200, &json!(true), &json!(id)), "a start is the same by its own input");
    world.node.close().await;
}

#[tokio::test]
async fn a_paused_saga_calls_nobody_over_a_restart_and_goes_on() {
    let storage = Arc::new(CrashStorage::new());
    let node = Node::open(Arc::clone(&storage) as _).await.expect("it opens");
    node.sagas.publish(crate::common::ORDER).await.expect("legal");
    let id = node.start("order", json!({"order": "1", "behave": ""})).await.expect("started").id;
    let (call, _) = node.next_command("stock.commands").await;
    let api = Api::of(&node).await;
    let (_, paused) = api.post(&format!("/v1/sagas/{id}:pause"), r#"{"reason": "wait"}"#).await;
    assert_eq!(paused["saga"]["state"], "PAUSED");
    node.sagas.complete(crate::common::reply_to(&call, crate::common::succeeded())).await.expect("what is said counts");
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
    node.sagas.publish(crate::common::ORDER).await.expect("legal");
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
    let world = World::open(TRIP).await;
    let id = world.blocked_trip("1").await;
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
    let world = World::open(TRIP).await;
    let id = world.blocked_trip("1").await;
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
    world.until(id, SagaState::Compensated).await;
    assert_eq!(world.service.calls("unfly").last().expect("called")["idempotency_key"], call["idempotency_key"], "and so it was");
    world.node.close().await;
}

#[tokio::test]
async fn a_preview_of_cancelling_shows_what_is_undone_in_reverse_order() {
    let world = World::open(TRIP).await;
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
    world.node.sagas.complete(crate::common::reply_to(&call, crate::common::succeeded())).await.expect("it waits for it");
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

#[tokio::test]
async fn what_was_charged_is_refunded_whatever_the_amount_is_edited_to() {
    let definition = r#"
saga: order
version: 1
key: ${ input.order }
services: { agency: { http: "AGENCY" } }
defaults:
  retry: { initial: 1h, max: 1h, attempts: 5 }
steps:
  - id: charge
    call: agency.charge
    with: { amount: "${ input.amount }" }
    compensate: { call: agency.refund, with: { amount: "${ input.amount }" } }
  - id: ship
    call: agency.ship
    with: { amount: "${ input.amount }" }
    compensate: { call: agency.unship, with: { amount: "${ input.amount }" } }
  - { id: tell, call: agency.tell, compensate: none }
"#;
    let world = World::open(definition).await;
    for (operation, status) in [("ship", 503), ("tell", 503)] {
        world.service.answers(operation, status);
    }
    let id = world.node.start("order", json!({"order": "1", "amount": 100})).await.expect("started").id;
    world.until(id, SagaState::Waiting).await;
    world.done(id, "edit-input", json!({"input": {"order": "1", "amount": 7}})).await;
    // Over a restart, too: what it was done with is in the events.
    let left = world.storage.after_kill();
    let world = world.after(left).await;
    world.done(id, "edit-input", json!({"input": {"order": "1", "amount": 8}})).await;
    world.done(id, "cancel", json!({"reason": "the customer called"})).await;
    world.until(id, SagaState::Compensated).await;
    assert_eq!(world.service.arguments("charge"), [json!({"amount": 100})]);
    assert_eq!(world.service.arguments("unship"), [json!({"amount": 100})], "the attempt in doubt was with that amount as well");
    assert_eq!(world.service.arguments("refund"), [json!({"amount": 100})]);
    world.node.close().await;
}

#[tokio::test]
async fn what_is_found_out_of_a_saga_at_its_end_is_written_down_and_lets_it_be_rerun() {
    let world = World::open(TRIP).await;
    world.service.answers("pay", 503);
    let id = world.start_trip("1").await;
    world.until(id, SagaState::Waiting).await;
    let ended = world.done(id, "terminate", json!({"reason": "the bank is down for days"})).await;
    let (flight, hotel) = (json!({"step": "flight", "in_doubt": false}), json!({"step": "hotel", "in_doubt": false}));
    assert_eq!(ended["standing"], json!([flight, hotel, {"step": "pay", "in_doubt": true}]));
    // Others come to their end, a restart takes it out of memory, and it is remembered by the disk only.
    let left = world.storage.after_kill();
    let world = world.after(left).await;
    let called = world.service.count();
    let (status, foreseen) = world.verb(id, "preview", json!({"verb": "resolve", "step": "pay", "outcome": "failed"})).await;
    assert_eq!((status, &foreseen["end"], &foreseen["standing"]), (200, &json!("TERMINATED"), &json!([flight, hotel])), "{foreseen}");
    let said = json!({"step": "pay", "outcome": "failed", "reason": "the bank knows nothing of it", "actor": "ann"});
    let saga = world.done(id, "resolve", said.clone()).await;
    assert_eq!((&saga["state"], &saga["steps"][2]["state"]), (&json!("TERMINATED"), &json!("FAILED")));
    assert_eq!(saga["standing"], json!([flight, hotel]));
    let (status, again) = world.verb(id, "resolve", said).await;
    assert_eq!((status, &again["duplicate"]), (200, &json!(true)));
    let (status, refused) = world.verb(id, "resolve", json!({"step": "pay", "outcome": "compensated"})).await;
    assert_eq!((status, &refused["code"]), (409, &json!("SAGA_STATE_CONFLICT")), "{refused}");
    assert_eq!(world.service.count(), called, "nobody is called");
    let (_, history) = world.api.get(&format!("/v1/sagas/{id}/history")).await;
    let resolved = history["events"].as_array().and_then(|events| events.last()).expect("events");
    assert_eq!((&resolved["type"], &resolved["data"]["actor"]), (&json!("step_resolved"), &json!("ann")));
    // The hotel was given back by telephone, so that the rerun books another one.
    let saga = world.done(id, "resolve", json!({"step": "hotel", "outcome": "compensated", "reason": "by telephone"})).await;
    assert_eq!(saga["standing"], json!([flight]));
    world.service.answers("pay", 200);
    let saga = world.done(id, "rerun", json!({"from": "hotel"})).await;
    let rerun: Uuid = saga["rerun_as"].as_str().expect("its rerun").parse().expect("an id");
    world.until(rerun, SagaState::Completed).await;
    assert_eq!((world.service.calls("fly").len(), world.service.calls("stay").len()), (1, 2));
    let (status, refused) = world.verb(id, "resolve", json!({"step": "pay", "outcome": "succeeded"})).await;
    assert_eq!((status, &refused["code"]), (409, &json!("SAGA_HANDED_OVER")), "{refused}");
    // And all of it is there after another restart.
    let left = world.storage.after_kill();
    let world = world.after(left).await;
    let origin = world.node.sagas.get(id).await.expect("it is there");
    assert_eq!((origin.summary.rerun_as, origin.summary.state), (Some(rerun), SagaState::Terminated));
    world.node.close().await;
}
