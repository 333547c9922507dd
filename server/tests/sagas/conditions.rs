//! Steps with a condition and optional steps, over real HTTP: published, started, seen and mended there, with participants over HTTP.

use crate::api::Api;
use crate::common::{LIMIT, Node};
use crate::service::Service;
use sagamq_broker::storage::crash::CrashStorage;
use serde_json::{Value, json};
use std::sync::Arc;

const TRIP: &str = r#"
saga: trip
version: 1
key: ${ input.trip }
defaults:
  timeout: 5s
  retry: { initial: 1ms, max: 5ms, attempts: 2 }
  compensate_retry: { initial: 1ms, max: 5ms, attempts: 2 }
services: { svc: { http: "SERVICE" } }
steps:
  - { id: seat, call: svc.seat, compensate: svc.free, with: { trip: "${ input.trip }" } }
  - { id: meal, call: svc.meal, compensate: svc.no_meal, when: "${ input.meal }", with: { trip: "${ input.trip }" } }
  - { id: points, call: svc.points, compensate: { call: svc.no_points, with: { trip: "${ input.trip }", why: "${ failure.code }" } }, optional: true,
      with: { trip: "${ input.trip }" } }
  - { id: pay, call: svc.pay, pivot: true, with: { trip: "${ input.trip }", points: "${ has(steps.points.output) ? 1 : 0 }" } }
  - { id: tray, call: svc.tray, when: "${ has(steps.meal.output) }", with: { trip: "${ input.trip }", by: "${ steps.meal.output.by }" } }
  - { id: mail, call: svc.mail, optional: true, with: { trip: "${ input.trip }" } }
output: { meal: "${ steps.meal.?output.by.orValue('none') }", points: "${ has(steps.points.output) }" }
"#;

struct World {
    node: Node,
    api: Api,
    service: Service,
}

impl World {
    async fn new() -> Self {
        let service = Service::default();
        let node = Node::open(Arc::new(CrashStorage::new())).await.expect("it opens");
        let api = Api::of(&node).await;
        let (status, published) = api.post("/v1/saga-definitions", TRIP.replace("SERVICE", &service.serve().await)).await;
        assert!(status == 201 && published.get("warnings").is_none(), "{published}");
        Self { node, api, service }
    }

    /// Starts a trip; gives its id.
    async fn start(&self, input: Value) -> String {
        let (status, started) = self.api.post("/v1/sagas", json!({"saga": "trip", "input": input}).to_string()).await;
        assert_eq!(status, 201, "{started}");
        started["id"].as_str().expect("an id").to_owned()
    }

    /// The trip at its end, or blocked.
    async fn at_rest(&self, id: &str) -> Value {
        let look = async {
            loop {
                let (_, saga) = self.api.get(&format!("/v1/sagas/{id}?wait_ms=1000")).await;
                if matches!(saga["state"].as_str(), Some("COMPLETED" | "COMPENSATED" | "FAILED" | "BLOCKED" | "TERMINATED")) {
                    return saga;
                }
            }
        };
        tokio::time::timeout(LIMIT, look).await.expect("it comes to rest")
    }

    async fn events(&self, id: &str, kind: &str) -> Vec<Value> {
        let (_, history) = self.api.get(&format!("/v1/sagas/{id}/history")).await;
        let events = history["events"].as_array().expect("a list").iter().filter(|event| event["type"] == kind);
        events.map(|event| event["data"].clone()).collect()
    }
}

fn step<'a>(saga: &'a Value, id: &str) -> &'a Value {
    saga["steps"].as_array().expect("a list").iter().find(|step| step["id"] == id).expect("a step")
}

#[tokio::test]
async fn a_condition_decides_whether_a_step_is_done_and_that_is_seen_everywhere() {
    let world = World::new().await;
    let with = world.at_rest(&world.start(json!({"trip": "1", "meal": true})).await).await;
    assert_eq!((&with["state"], &with["output"]), (&json!("COMPLETED"), &json!({"meal": "meal", "points": true})), "{with}");
    assert_eq!((&step(&with, "meal")["condition"], &step(&with, "tray")["state"]), (&json!(true), &json!("SUCCEEDED")));
    assert_eq!(world.service.arguments("tray"), [json!({"trip": "1", "by": "meal"})]);
    let id = world.start(json!({"trip": "2", "meal": false})).await;
    let without = world.at_rest(&id).await;
    assert_eq!((&without["state"], &without["output"]), (&json!("COMPLETED"), &json!({"meal": "none", "points": true})), "{without}");
    for left_out in ["meal", "tray"] {
        let step = step(&without, left_out);
        assert_eq!((&step["state"], &step["condition"], &step["attempts"]), (&json!("SKIPPED"), &json!(false), &json!(0)), "{left_out}");
        assert!(step.get("output").is_none(), "it has returned nothing");
    }
    let asked = world.events(&id, "step_condition").await;
    assert_eq!(asked[0], json!({"step": "meal", "operation": "action", "epoch": 0, "holds": false}));
    assert_eq!((asked.len(), world.service.calls("meal").len()), (2, 1), "each once, and nobody was called");
    // What is neither true nor false fails the step, and what was done is undone.
    let id = world.start(json!({"trip": "3", "meal": "fish"})).await;
    let wrong = world.at_rest(&id).await;
    assert_eq!((&wrong["state"], &wrong["failure"]["code"]), (&json!("COMPENSATED"), &json!("CONDITION_FAILED")), "{wrong}");
    assert_eq!((world.service.calls("free").len(), world.service.calls("meal").len()), (1, 1));
    // In two phases there is no such step.
    let (status, refused) = world.api.post("/v1/sagas", json!({"saga": "trip", "mode": "2pc", "input": {"trip": "4"}}).to_string()).await;
    assert_eq!((status, &refused["code"]), (400, &json!("MODE_NOT_POSSIBLE")), "{refused}");
    assert!(refused["detail"].as_str().is_some_and(|detail| detail.contains("`when`")), "{refused}");
    world.node.close().await;
}

#[tokio::test]
async fn the_saga_goes_on_without_what_is_optional_and_leaves_nothing_of_it_in_doubt() {
    let world = World::new().await;
    // Refused.
    world.service.answers("points", 409);
    let saga = world.at_rest(&world.start(json!({"trip": "1", "meal": false})).await).await;
    assert_eq!((&saga["state"], &saga["output"]["points"]), (&json!("COMPLETED"), &json!(false)), "{saga}");
    assert_eq!((&step(&saga, "points")["state"], &step(&saga, "points")["optional"]), (&json!("FAILED"), &json!(true)));
    assert_eq!((world.service.calls("no_points").len(), &saga["failures"][0]["failure"]["code"]), (0, &json!("NOT_TODAY")));
    // Nobody knows: its effect is undone alone, with the reason, and before the pivot is called.
    world.service.answers("points", 500);
    let id = world.start(json!({"trip": "2", "meal": false})).await;
    let saga = world.at_rest(&id).await;
    assert_eq!((&saga["state"], &step(&saga, "points")["state"]), (&json!("COMPLETED"), &json!("COMPENSATED")), "{saga}");
    assert_eq!(world.service.arguments("no_points"), [json!({"trip": "2", "why": "NOT_TODAY"})]);
    assert!(world.service.arguments("pay").contains(&json!({"trip": "2", "points": 0})));
    assert!(saga.get("standing").is_none() && world.events(&id, "saga_compensating").await.is_empty());
    // It cannot be undone: the saga does not go on with the doubt.
    world.service.answers("no_points", 500);
    let id = world.start(json!({"trip": "3", "meal": false})).await;
    let stuck = world.at_rest(&id).await;
    assert_eq!((&stuck["state"], &step(&stuck, "points")["state"]), (&json!("BLOCKED"), &json!("COMPENSATION_FAILED")), "{stuck}");
    let doubt = json!({"step": "points", "in_doubt": true});
    assert!(stuck["standing"].as_array().is_some_and(|standing| standing.contains(&doubt)), "{stuck}");
    world.service.answers("no_points", 200);
    let (status, answer) = world.api.post(&format!("/v1/sagas/{id}:retry"), "{}").await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(world.at_rest(&id).await["state"], "COMPENSATED");
    // Behind the pivot its attempts end; without a compensation the doubt stays, and is listed.
    world.service.answers("points", 200);
    world.service.answers("mail", 500);
    let saga = world.at_rest(&world.start(json!({"trip": "4", "meal": false})).await).await;
    assert_eq!((&saga["state"], &step(&saga, "mail")["state"]), (&json!("COMPLETED"), &json!("UNKNOWN")), "{saga}");
    assert_eq!(saga["standing"], json!([{"step": "mail", "in_doubt": true}]));
    let calls = world.service.calls("mail");
    assert!(calls.iter().all(|call| call["must_succeed"] == false) && world.service.attempts("mail", "4") == 2, "{calls:?}");
    world.node.close().await;
}

#[tokio::test]
async fn a_preview_says_which_calls_depend_on_a_condition_that_is_not_known_yet() {
    let world = World::new().await;
    world.service.answers("seat", 425);
    let id = world.start(json!({"trip": "1", "meal": true})).await;
    let (status, preview) = world.api.post(&format!("/v1/sagas/{id}:preview"), r#"{"verb": "pause"}"#).await;
    assert_eq!((status, &preview["duplicate"]), (200, &json!(false)), "{preview}");
    let (_, preview) =
        world.api.post(&format!("/v1/sagas/{id}:preview"), r#"{"verb": "edit-input", "input": {"trip": "1", "meal": true, "x": 1}}"#).await;
    let calls: Vec<(&str, bool)> = preview["calls"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|call| (call["step"].as_str().expect("a step"), call["conditional"] == true))
        .collect();
    let expected = [("seat", false), ("meal", false), ("points", false), ("pay", false), ("tray", true), ("mail", false)];
    assert_eq!((calls.as_slice(), &preview["end"]), (&expected[..], &json!("COMPLETED")), "{preview}");
    world.node.close().await;
}
