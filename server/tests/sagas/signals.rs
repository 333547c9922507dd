//! Signals over real HTTP: by id and by business key, early, twice, where nobody waits, and over power cuts.

use crate::verbs::World;
use sagamq_api::saga::SagaState;
use serde_json::{Value, json};
use uuid::Uuid;

const REVIEW: &str = r#"
saga: review
version: 1
key: ${ input.order }
services: { shop: { http: "AGENCY" } }
steps:
  - { id: hold, call: shop.hold, compensate: shop.release }
  - { id: word, wait_for: reviewed }
  - { id: slot, wait_for: { signal: slot, timeout: 1ms, on_timeout: continue } }
  - { id: sell, call: shop.sell, pivot: true, with: { by: "${ steps.word.output.by }", slot: "${ steps.slot.output }" } }
"#;

async fn waiting(world: &World, order: &str) -> Uuid {
    let id = world.node.start("review", json!({ "order": order })).await.expect("started").id;
    world.until(id, SagaState::Waiting).await;
    id
}

async fn by_key(world: &World, body: Value) -> (u16, Value) {
    world.api.post("/v1/sagas:signal", body.to_string()).await
}

fn code(answer: &(u16, Value)) -> (u16, &str) {
    (answer.0, answer.1["code"].as_str().unwrap_or_default())
}

#[tokio::test]
async fn a_signal_by_id_or_key_ends_the_wait_once_and_what_it_said_is_passed_on() {
    let world = World::open(REVIEW).await;
    let (one, two) = (waiting(&world, "1").await, waiting(&world, "2").await);
    let said = json!({"name": "reviewed", "payload": {"by": "ann"}, "signal_id": "s-1", "actor": "ann", "reason": "she looked"});
    let (status, sent) = world.verb(one, "signal", said.clone()).await;
    assert_eq!((status, &sent["duplicate"], &sent["id"]), (200, &json!(false), &json!(one)), "{sent}");
    let mut keyed = said.clone();
    (keyed["saga"], keyed["key"]) = (json!("review"), json!("2"));
    let (status, sent) = by_key(&world, keyed.clone()).await;
    assert_eq!((status, &sent["duplicate"], &sent["id"]), (200, &json!(false), &json!(two)), "an id is one of its instance: {sent}");
    for id in [one, two] {
        let saga = world.until(id, SagaState::Completed).await;
        assert_eq!((&saga["steps"][1]["output"], &saga["steps"][2]["output"]), (&json!({"by": "ann"}), &Value::Null));
    }
    assert_eq!(world.service.arguments("sell"), [json!({"by": "ann", "slot": null}), json!({"by": "ann", "slot": null})]);
    let (_, again) = world.verb(one, "signal", said).await;
    assert_eq!((&again["duplicate"], &again["state"]), (&json!(true), &json!("COMPLETED")), "also at its end: {again}");
    let (_, again) = by_key(&world, keyed).await;
    assert_eq!(again["duplicate"], json!(true));
    let (_, history) = world.api.get(&format!("/v1/sagas/{one}/history")).await;
    let events = history["events"].as_array().expect("events");
    let received = events.iter().find(|event| event["type"] == "signal_received").expect("it is in the history");
    assert_eq!(
        (&received["data"]["actor"], &received["data"]["reason"], &received["data"]["id"]),
        (&json!("ann"), &json!("she looked"), &json!("s-1"))
    );
    world.node.close().await;
}

#[tokio::test]
async fn what_cannot_be_taken_is_refused_with_its_code_and_what_to_do() {
    let world = World::open(REVIEW).await;
    let id = waiting(&world, "1").await;
    let unknown = world.verb(id, "signal", json!({"name": "stop"})).await;
    assert_eq!(code(&unknown), (400, "UNKNOWN_SIGNAL"));
    let detail = unknown.1["detail"].as_str().expect("a detail");
    assert!(detail.contains("`reviewed`, `slot`"), "it says which there are: {detail}");
    let nobody = world.verb(Uuid::from_u128(1), "signal", json!({"name": "reviewed"})).await;
    assert_eq!(code(&nobody), (404, "SAGA_NOT_FOUND"));
    let no_key = by_key(&world, json!({"saga": "review", "key": "9", "name": "reviewed"})).await;
    assert_eq!(code(&no_key), (404, "SAGA_NOT_FOUND"));
    let no_name = world.verb(id, "signal", json!({"name": "a b"})).await;
    assert_eq!(no_name.0, 400, "{}", no_name.1);
    let long = world.verb(id, "signal", json!({"name": "reviewed", "signal_id": "x".repeat(257)})).await;
    assert_eq!(code(&long), (400, "INVALID_REQUEST"));
    let large = world.verb(id, "signal", json!({"name": "reviewed", "payload": "x".repeat(2 * 1024 * 1024)})).await;
    assert_eq!(code(&large), (413, "PAYLOAD_TOO_LARGE"));
    let said = json!({"name": "reviewed", "payload": {"by": "ann"}, "signal_id": "s-1"});
    assert_eq!(world.verb(id, "signal", said).await.0, 200);
    let other = world.verb(id, "signal", json!({"name": "reviewed", "payload": {"by": "bob"}, "signal_id": "s-1"})).await;
    assert_eq!(code(&other), (422, "IDEMPOTENCY_KEY_REUSED"));
    world.until(id, SagaState::Completed).await;
    let late = world.verb(id, "signal", json!({"name": "reviewed"})).await;
    assert_eq!(code(&late), (409, "SAGA_STATE_CONFLICT"));
    // The time for it was over, and the saga went on to a service that does not answer.
    world.service.answers("sell", 500);
    let id = waiting(&world, "2").await;
    assert_eq!(world.verb(id, "signal", json!({"name": "reviewed", "payload": {"by": "ann"}})).await.0, 200);
    world.node.until(id, |saga| saga.steps[2].output.is_some()).await;
    let late = world.verb(id, "signal", json!({"name": "slot"})).await;
    assert_eq!(code(&late), (409, "SIGNAL_NOT_AWAITED"));
    assert!(late.1["detail"].as_str().is_some_and(|detail| detail.contains("the time for it was over at `slot`")), "{}", late.1);
    world.node.close().await;
}

#[tokio::test]
async fn an_early_signal_is_kept_over_a_power_cut_and_is_the_same_afterwards() {
    let world = World::open(REVIEW).await;
    world.service.answers("hold", 500);
    let id = world.node.start("review", json!({"order": "1"})).await.expect("started").id;
    let said = json!({"saga": "review", "key": "1", "name": "reviewed", "payload": {"by": "ann"}, "signal_id": "s-1"});
    let (status, sent) = by_key(&world, said.clone()).await;
    assert_eq!((status, &sent["duplicate"]), (200, &json!(false)), "{sent}");
    let left = world.storage.after_power_cut();
    let world = world.after(left).await;
    let (_, saga) = world.api.get(&format!("/v1/sagas/{id}")).await;
    assert_eq!((&saga["signals"][0]["name"], &saga["signals"][0]["signal_id"]), (&json!("reviewed"), &json!("s-1")), "{saga}");
    assert_eq!(by_key(&world, said).await.1["duplicate"], json!(true));
    let second = by_key(&world, json!({"saga": "review", "key": "1", "name": "reviewed"})).await;
    assert_eq!(code(&second), (409, "SIGNAL_NOT_AWAITED"));
    world.service.answers("hold", 200);
    let saga = world.until(id, SagaState::Completed).await;
    assert_eq!((&saga["steps"][1]["output"], &saga["signals"]), (&json!({"by": "ann"}), &Value::Null));
    world.node.close().await;
}

#[tokio::test]
async fn a_transaction_takes_no_signals_and_no_definition_of_one_waits() {
    let text =
        "saga: t\nversion: 1\nmode: 2pc\nkey: ${ input.order }\nservices: { shop: { http: 'AGENCY' } }\nsteps: [{ id: a, call: shop.a }]\n";
    let world = World::open(text).await;
    world.service.answers("a", 500);
    let id = world.node.start("t", json!({"order": "1"})).await.expect("started").id;
    let refused = world.verb(id, "signal", json!({"name": "reviewed"})).await;
    assert_eq!(code(&refused), (400, "UNKNOWN_SIGNAL"));
    let (status, refused) = world.api.post("/v1/saga-definitions", REVIEW.replace("version: 1", "version: 2\nmode: 2pc")).await;
    assert_eq!(status, 400, "{refused}");
    assert!(
        refused["faults"].as_array().is_some_and(|faults| faults.iter().any(|fault| fault["code"] == "sleeps_with_locks")),
        "{refused}"
    );
    world.node.close().await;
}
