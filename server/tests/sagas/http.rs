//! HTTP participants against a server in the test, and the orchestrator's own interface over real HTTP.

use crate::api::{Api, serve};
use crate::common::{LIMIT, Node, ORDER};
use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use core::convert::Infallible;
use core::time::Duration;
use futures_util::{StreamExt as _, stream};
use prometheus_client::registry::Registry;
use sagamq_api::headers::saga as headers;
use sagamq_api::saga::{Call, SagaDescription, SagaState, StepState};
use sagamq_api::service::{BreakerState, PutService};
use sagamq_api::{JsonText, ServiceName};
use sagamq_broker::env::ManualClock;
use sagamq_broker::storage::crash::CrashStorage;
use sagamq_saga::OrchestratorConfig;
use sagamq_server::{HttpConfig, HttpMetrics, application};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use tokio::sync::Notify;

/// What the participant says, by call, one entry an attempt; the last one stays.
type Script = BTreeMap<&'static str, Vec<(u16, &'static str, &'static str)>>;

#[derive(Clone)]
struct Participant {
    script: Arc<Script>,
    calls: Arc<Mutex<Vec<Call>>>,
}

async fn answer(
    State(participant): State<Participant>,
    Path(call): Path<String>,
    headers_in: HeaderMap,
    body: axum::Json<Call>,
) -> Response {
    assert_eq!(headers_in[headers::IDEMPOTENCY_KEY].to_str().expect("text"), body.idempotency_key);
    assert_eq!(headers_in[headers::EPOCH].to_str().expect("text"), body.attempt.epoch.to_string());
    let seen = {
        let mut calls = participant.calls.lock().expect("no panic while it is held");
        calls.push(body.0);
        calls.iter().filter(|seen| seen.call == call).count() - 1
    };
    let script = &participant.script[call.as_str()];
    let (status, retry_after, text) = script[seen.min(script.len() - 1)];
    let mut response = (StatusCode::from_u16(status).expect("a status"), text).into_response();
    if !retry_after.is_empty() {
        response.headers_mut().insert("retry-after", retry_after.parse().expect("a header"));
    }
    response
}

async fn participant(script: Script) -> (Participant, String) {
    let participant = Participant { script: Arc::new(script), calls: Arc::default() };
    let base = serve(Router::new().route("/{call}", post(answer)).with_state(participant.clone())).await;
    (participant, base)
}

fn definition(base: &str) -> String {
    format!(
        r#"
saga: web
version: 1
key: ${{ input.id }}
defaults:
  timeout: 5s
  retry: {{ initial: 5ms, factor: 2, max: 20ms, attempts: 4 }}
  compensate_retry: {{ initial: 5ms, factor: 2, max: 20ms, attempts: 4 }}
services:
  svc: {{ http: "{base}" }}
steps:
  - id: first
    call: svc.first
    compensate: svc.undo_first
  - id: second
    call: svc.second
    compensate: svc.undo_second
"#
    )
}

async fn node() -> Node {
    Node::open(Arc::new(CrashStorage::new())).await.expect("fresh storage opens")
}

#[tokio::test]
async fn every_answer_of_a_participant_has_its_meaning() {
    let script = Script::from([
        ("first", vec![(500, "", "oops"), (202, "0", ""), (425, "0", ""), (200, "", r#"{"id": 5}"#)]),
        ("second", vec![(410, "", ""), (200, "", "")]),
    ]);
    let (participant, base) = participant(script).await;
    let node = node().await;
    node.sagas.publish(&definition(&base)).await.expect("legal");
    let id = node.start("web", json!({"id": "1"})).await.expect("started").id;
    let saga = node.at_rest(id).await;
    assert_eq!((saga.summary.state, saga.steps[0].output.as_ref().map(JsonText::as_str)), (SagaState::Completed, Some(r#"{"id": 5}"#)));
    let failures: Vec<&str> = saga.failures.iter().map(|failure| failure.failure.code.as_str()).collect();
    assert_eq!(failures, ["HTTP_500", "HTTP_410"], "an action that is gone has not succeeded");
    let calls: Vec<(String, u32)> =
        participant.calls.lock().expect("no panic").iter().map(|call| (call.idempotency_key.clone(), call.attempt.epoch)).collect();
    let key = format!("{id}/first/action");
    assert_eq!(calls[..4], [(key.clone(), 1), (key.clone(), 2), (key.clone(), 2), (key, 2)], "asked again under the same key and epoch");
    node.close().await;
}

/// Bodies of the orchestrator's routes with a list in the place of an object, at every depth.
#[tokio::test]
async fn lists_are_not_taken_for_objects_in_any_body_of_the_orchestrator() {
    let node = node().await;
    let mut registry = Registry::default();
    let metrics = HttpMetrics::register(&mut registry);
    let routes = sagamq_server::saga::router(node.sagas.clone());
    let app = application(routes, sagamq_server::saga::openapi(), Arc::new(registry), metrics, &HttpConfig::default());
    let base = serve(Router::new().fallback_service(app)).await;
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let id = uuid::Uuid::from_u128(1);
    let complete = |reply: &str| format!(r#"{{"instance":"{id}","step":"a","operation":"action","epoch":1,"reply":{reply}}}"#);
    let cases = [
        ("/v1/sagas".to_owned(), r#"["web",1,{}]"#.to_owned()),
        (format!("/v1/sagas/{id}:cancel"), r#"["why"]"#.to_owned()),
        ("/v1/saga-calls:complete".to_owned(), format!(r#"["{id}","a","action",1,{{"outcome":"succeeded"}}]"#)),
        ("/v1/saga-calls:complete".to_owned(), complete(r#"["succeeded",null,null,null]"#)),
        ("/v1/saga-calls:complete".to_owned(), complete(r#"["refused",null,{"code":"NO","message":""},null]"#)),
        ("/v1/saga-calls:complete".to_owned(), complete(r#"{"outcome":"refused","failure":["NO","no"]}"#)),
        ("/v1/saga-calls:complete".to_owned(), complete(r#"{"outcome":"unknown","failure":["NO","no"],"retry_after_ms":1}"#)),
    ];
    for (path, body) in cases {
        let answer = client.post(format!("{base}{path}")).header("content-type", "application/json").body(body.clone()).send().await;
        let answer = answer.expect("an answer");
        let (status, problem) = (answer.status().as_u16(), answer.json::<Value>().await.expect("a problem"));
        assert_eq!((status, &problem["code"]), (400, &json!("INVALID_REQUEST")), "{path} {body}: {problem}");
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("expected an object")), "{path} {body}: {problem}");
    }
    // The same as objects gets further: there is no such saga.
    let good = complete(r#"{"outcome":"refused","failure":{"code":"NO","message":"no"}}"#);
    let answer = client.post(format!("{base}/v1/saga-calls:complete")).header("content-type", "application/json").body(good).send().await;
    assert_eq!(answer.expect("an answer").json::<Value>().await.expect("a problem")["code"], json!("SAGA_NOT_FOUND"));
    node.close().await;
}

#[tokio::test]
async fn a_refusal_over_http_undoes_and_a_compensation_that_never_works_blocks() {
    let script = Script::from([
        ("first", vec![(200, "", "")]),
        ("second", vec![(409, "", r#"{"code": "NO_STOCK", "message": "none left"}"#)]),
        ("undo_first", vec![(503, "", "")]),
    ]);
    let (participant, base) = participant(script).await;
    let node = node().await;
    node.sagas.publish(&definition(&base)).await.expect("legal");
    let id = node.start("web", json!({"id": "1"})).await.expect("started").id;
    let saga = node.at_rest(id).await;
    assert_eq!((saga.summary.state, saga.steps[0].state), (SagaState::Blocked, StepState::CompensationFailed));
    assert_eq!(saga.summary.failure.map(|failure| failure.code), Some("NO_STOCK".to_owned()));
    assert_eq!(participant.calls.lock().expect("no panic").iter().filter(|call| call.call == "undo_first").count(), 4);
    node.close().await;
}

#[tokio::test]
async fn what_is_gone_needs_no_compensation() {
    let script = Script::from([("first", vec![(200, "", "")]), ("second", vec![(409, "", "")]), ("undo_first", vec![(410, "", "")])]);
    let (_, base) = participant(script).await;
    let node = node().await;
    node.sagas.publish(&definition(&base)).await.expect("legal");
    let id = node.start("web", json!({"id": "1"})).await.expect("started").id;
    assert_eq!(node.at_rest(id).await.summary.state, SagaState::Compensated);
    node.close().await;
}

#[tokio::test]
async fn a_call_in_progress_is_made_again_after_a_crash_with_the_same_key_and_epoch() {
    let script = Script::from([("first", vec![(202, "1", ""), (200, "", "{}")]), ("second", vec![(200, "", "{}")])]);
    let (participant, base) = participant(script).await;
    let storage = CrashStorage::new();
    let node = Node::open(Arc::new(storage.clone())).await.expect("it opens");
    node.sagas.publish(&definition(&base)).await.expect("legal");
    let id = node.start("web", json!({"id": "1"})).await.expect("started").id;
    node.until(id, |saga| saga.summary.state == SagaState::Waiting).await;
    let left = storage.after_power_cut();
    node.close().await;
    let node = Node::open(Arc::new(left)).await.expect("it opens");
    assert_eq!(node.at_rest(id).await.summary.state, SagaState::Completed);
    let calls = participant.calls.lock().expect("no panic").clone();
    let first: Vec<_> =
        calls.iter().filter(|call| call.call == "first").map(|call| (call.idempotency_key.as_str(), call.attempt.epoch)).collect();
    let key = format!("{id}/first/action");
    assert!(first.len() >= 2 && first.iter().all(|call| *call == (key.as_str(), 1)), "{calls:?}");
    node.close().await;
}

#[tokio::test]
async fn nobody_there_is_not_sent_and_fails_with_the_saga_s_time_without_being_undone() {
    let node = node().await;
    let text = definition("http://127.0.0.1:9").replace("defaults:\n  timeout: 5s", "timeout: 3s\ndefaults:\n  timeout: 2s");
    // It tries once a second: an attempt of which it is looked how it stands while its connection is being refused is in doubt, and fails otherwise.
    let text = text.replacen("initial: 5ms, factor: 2, max: 20ms", "initial: 1s, factor: 2, max: 1s", 1);
    node.sagas.publish(&text).await.expect("legal");
    let is_caught = |saga: &SagaDescription| saga.failures.iter().any(|failure| failure.failure.code == "TIMEOUT");
    let mut saga = None;
    for number in 0..5 {
        let id = node.start("web", json!({"id": number.to_string()})).await.expect("started").id;
        let found = node.until(id, |saga| saga.summary.state.is_final() || is_caught(saga)).await;
        if !is_caught(&found) {
            saga = Some(found);
            break;
        }
    }
    let saga = saga.expect("not each of them is caught while it tries");
    assert_eq!((saga.summary.state, saga.steps[0].state), (SagaState::Failed, StepState::Failed), "{saga:?}");
    node.close().await;
}

#[tokio::test]
async fn the_interface_starts_watches_and_cancels() {
    let node = node().await;
    let api = Api::of(&node).await;
    let (status, published) = api.post("/v1/saga-definitions", ORDER).await;
    assert_eq!((status, &published["steps"]), (201, &json!(["reserve", "authorize", "capture"])), "{published}");
    assert_eq!(api.post("/v1/saga-definitions", ORDER).await.0, 200);
    assert_eq!(api.get("/v1/saga-definitions/order?version=1").await.1["source"], json!(ORDER));
    assert_eq!(api.get("/v1/saga-definitions").await.1["definitions"][0]["name"], json!("order"));
    let start = json!({"saga": "order", "input": {"order": "1", "behave": ""}}).to_string();
    let (status, started) = api.post("/v1/sagas", start.clone()).await;
    assert_eq!((status, &started["state"], &started["duplicate"]), (201, &json!("RUNNING"), &json!(false)));
    let (status, again) = api.post("/v1/sagas", start).await;
    assert_eq!((status, &again["id"], &again["duplicate"]), (200, &started["id"], &json!(true)));
    let id = started["id"].as_str().expect("an id");
    let (call, _) = node.next_command("stock.commands").await;
    let body =
        json!({"instance": id, "step": "reserve", "operation": "action", "epoch": call.attempt.epoch, "reply": {"outcome": "succeeded"}});
    assert_eq!(api.post("/v1/saga-calls:complete", body.to_string()).await, (200, json!({"duplicate": false, "state": "RUNNING"})));
    assert_eq!(api.get(&format!("/v1/sagas/{id}")).await.1["steps"][0]["state"], json!("SUCCEEDED"));
    let (_, history) = api.get(&format!("/v1/sagas/{id}/history")).await;
    assert_eq!(history["events"][2]["type"], json!("step_succeeded"));
    let (status, cancelled) = api.post(&format!("/v1/sagas/{id}:cancel"), "").await;
    assert_eq!(
        (status, &cancelled["saga"]["state"], &cancelled["saga"]["failure"]["code"]),
        (200, &json!("COMPENSATING"), &json!("CANCELLED"))
    );
    assert_eq!(api.get("/v1/sagas?state=COMPENSATING").await.1["sagas"][0]["id"], json!(id));
    let (_, description) = api.get("/openapi.json").await;
    assert!(description["paths"]["/v1/sagas/{id}:cancel"].is_object());
    node.close().await;
}

#[tokio::test]
async fn bad_requests_are_problems_with_a_code() {
    let node = node().await;
    let api = Api::of(&node).await;
    api.post("/v1/saga-definitions", ORDER).await;
    let nobody = uuid::Uuid::nil();
    let code = |answer: (u16, Value)| (answer.0, answer.1["code"].as_str().unwrap_or_default().to_owned());
    let expect = |status: u16, expected: &str| (status, expected.to_owned());
    let (status, faults) = api.post("/v1/saga-definitions", "saga: x\nversion: none\nsteps: []\n").await;
    assert_eq!((status, &faults["code"]), (400, &json!("INVALID_DEFINITION")));
    assert!(faults["faults"].as_array().is_some_and(|faults| faults.len() > 1), "{faults}");
    let changed = ORDER.replace("attempts: 10", "attempts: 11");
    assert_eq!(code(api.post("/v1/saga-definitions", changed).await), expect(409, "DEFINITION_VERSION_EXISTS"));
    assert_eq!(code(api.post("/v1/saga-definitions", vec![0xff_u8]).await), expect(400, "MALFORMED_REQUEST"));
    assert_eq!(api.post("/v1/saga-definitions:lint", "saga: x").await.1["valid"], json!(false));
    assert_eq!(code(api.get("/v1/saga-definitions/none").await), expect(404, "DEFINITION_NOT_FOUND"));
    assert_eq!(code(api.get(&format!("/v1/sagas/{nobody}")).await), expect(404, "SAGA_NOT_FOUND"));
    assert_eq!(code(api.get(&format!("/v1/sagas/{nobody}/history")).await), expect(404, "SAGA_NOT_FOUND"));
    assert_eq!(code(api.post(&format!("/v1/sagas/{nobody}:cancel"), "{}").await), expect(404, "SAGA_NOT_FOUND"));
    assert_eq!(code(api.get("/v1/sagas/not-an-id").await).0, 400);
    assert_eq!(code(api.post("/v1/sagas", "{").await), expect(400, "MALFORMED_REQUEST"));
    assert_eq!(code(api.post("/v1/sagas", r#"{"saga":"order","input":{},"more":1}"#).await), expect(400, "INVALID_REQUEST"));
    assert_eq!(code(api.post("/v1/sagas", r#"{"saga":"order","input":{}}"#).await), expect(400, "INVALID_SAGA_INPUT"));
    assert_eq!(code(api.post("/v1/sagas", r#"{"saga":"a/b","input":{}}"#).await), expect(400, "INVALID_NAME"));
    let large = json!({"saga": "order", "input": {"order": "x".repeat(2 * 1024 * 1024), "behave": ""}}).to_string();
    assert_eq!(code(api.post("/v1/sagas", large).await), expect(413, "PAYLOAD_TOO_LARGE"));
    api.post("/v1/sagas", r#"{"saga":"order","input":{"order":"1"}}"#).await;
    assert_eq!(code(api.post("/v1/sagas", r#"{"saga":"order","input":{"order":"1","x":2}}"#).await), expect(409, "SAGA_KEY_CONFLICT"));
    assert_eq!(code(api.get("/v1/sagas?limit=5000").await), expect(400, "INVALID_REQUEST"));
    assert_eq!(code(api.get("/v1/sagas?stat=RUNNING").await), expect(400, "INVALID_REQUEST"));
    node.close().await;
}

#[tokio::test]
async fn an_answer_waits_until_the_saga_is_at_rest_or_its_time_is_over() {
    let script = Script::from([("first", vec![(200, "", "{}")]), ("second", vec![(202, "1", ""), (200, "", "{}")])]);
    let (_, base) = participant(script).await;
    let node = node().await;
    let api = Api::of(&node).await;
    api.post("/v1/saga-definitions", definition(&base)).await;
    let (status, started) = api.post("/v1/sagas?wait_ms=60000", json!({"saga": "web", "input": {"id": "1"}}).to_string()).await;
    assert_eq!((status, &started["state"]), (201, &json!("COMPLETED")), "{started}");
    let id = started["id"].as_str().expect("an id");
    assert_eq!(api.get(&format!("/v1/sagas/{id}?wait_ms=60000")).await.1["state"], json!("COMPLETED"), "it is at rest already");
    api.post("/v1/saga-definitions", ORDER).await;
    let waits = node.start("order", json!({"order": "1", "behave": ""})).await.expect("started").id;
    let (status, saga) = api.get(&format!("/v1/sagas/{waits}?wait_ms=50")).await;
    assert_eq!((status, &saga["state"]), (200, &json!("RUNNING")), "nobody works, and the time is over: {saga}");
    for path in [format!("/v1/sagas/{waits}?wait_ms=60001"), format!("/v1/sagas/{waits}?wait_ms=-1")] {
        assert_eq!(api.get(&path).await.0, 400, "{path}");
    }
    let nobody = uuid::Uuid::nil();
    assert_eq!(api.get(&format!("/v1/sagas/{nobody}?wait_ms=60000")).await.0, 404, "who is not there is not waited for");
    let (path, stopping) = (format!("/v1/sagas/{waits}?wait_ms=60000"), node.broker.clone());
    let (waited, ()) = tokio::join!(api.get(&path), async { stopping.begin_shutdown() });
    assert_eq!(waited.1["state"], json!("RUNNING"), "a shutdown ends the wait: {}", waited.1);
    node.close().await;
}

/// Begins its answer and does not end it.
async fn stops_half_way(State(asked): State<Arc<Notify>>) -> Body {
    let begun = stream::once(async { Ok::<_, Infallible>("{") });
    let rest = stream::once(async move {
        // What was begun is on its way when more is asked for.
        asked.notify_one();
        core::future::pending().await
    });
    Body::from_stream(begun.chain(rest))
}

/// The lane gives the attempt up before the connection does: nobody hears how the answer would have gone on.
#[tokio::test]
async fn an_answer_that_stops_half_way_is_none_and_counts_against_the_service() {
    let (clock, asked) = (ManualClock::at(1_800_000_000_000), Arc::new(Notify::new()));
    let base = serve(Router::new().route("/{call}", post(stops_half_way)).with_state(Arc::clone(&asked))).await;
    let node = Node::open_with(Arc::new(CrashStorage::new()), Arc::new(clock.clone()), OrchestratorConfig::default()).await;
    let node = node.expect("it opens");
    let text = "saga: web\nversion: 1\nkey: ${ input.id }\nservices: { svc: {} }\n\
                steps: [{ id: only, call: svc.only, timeout: 30s, retry: { attempts: 1 }, compensate: none }]\n";
    node.sagas.publish(text).await.expect("legal");
    let service: ServiceName = "svc".parse().expect("legal");
    let put = PutService { endpoints: vec![base], break_after: Some(1), break_ms: Some(3_600_000), ..PutService::default() };
    node.sagas.put_service(service.clone(), put).await.expect("legal");
    let id = node.start("web", json!({"id": "1"})).await.expect("started").id;
    tokio::time::timeout(LIMIT, asked.notified()).await.expect("it is called");
    let breaker = || node.sagas.service(&service).expect("put").breaker;
    assert_eq!(breaker(), BreakerState::Closed, "the answer may end yet");
    clock.advance(Duration::from_secs(30));
    node.until(id, |saga| saga.failures.iter().any(|failure| failure.failure.code == "TIMEOUT")).await;
    let opens = async {
        while breaker() != BreakerState::Open {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(LIMIT, opens).await.expect("it counts");
    node.close().await;
}
