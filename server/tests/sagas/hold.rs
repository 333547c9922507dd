//! A node that is opened with its sagas held: it takes everything, and calls nobody until they are released.

use crate::api::{Api, serve};
use crate::common::{LIMIT, Node};
use axum::Router;
use axum::routing::post;
use core::time::Duration;
use sagamq_api::queue::{EmptyReason, ReceiveRequest};
use sagamq_api::saga::{SagaState, SagaVerb};
use sagamq_broker::env::SystemClock;
use sagamq_broker::storage::crash::CrashStorage;
use sagamq_saga::OrchestratorConfig;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// One step over a topic, one over HTTP.
fn definition(base: &str) -> String {
    format!(
        r#"
saga: both
version: 1
key: ${{ input.k }}
timeout: 1h
services: {{ queue: {{ topic: q.commands }}, web: {{ http: "{base}" }} }}
steps:
  - {{ id: a, call: queue.a, after: [], compensate: queue.una, timeout: 50ms }}
  - {{ id: b, call: web.b, after: [], compensate: web.unb, timeout: 30s }}
"#
    )
}

async fn open(storage: &Arc<CrashStorage>, hold: bool) -> Node {
    let config = OrchestratorConfig { restart_grace: Duration::from_millis(20), hold, ..OrchestratorConfig::default() };
    Node::open_with(Arc::clone(storage) as _, Arc::new(SystemClock), config).await.expect("it opens")
}

#[tokio::test]
async fn nobody_is_called_before_the_release_and_everything_goes_on_then() {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let router = Router::new().route(
        "/{operation}",
        post(move || {
            let counted = Arc::clone(&counted);
            async move {
                counted.fetch_add(1, Ordering::SeqCst);
                axum::Json(json!({"ok": true}))
            }
        }),
    );
    let base = serve(router).await;
    let storage = Arc::new(CrashStorage::new());
    let node = open(&storage, true).await;
    let api = Api::of(&node).await;
    // The topic is made while everything is held: that holds for it too.
    assert_eq!(api.post("/v1/saga-definitions", definition(&base)).await.0, 201);
    let (first, second) =
        (node.start("both", json!({"k": "1"})).await.expect("taken").id, node.start("both", json!({"k": "2"})).await.expect("taken").id);
    let (topic, group) = ("q.commands".parse().expect("legal"), "workers".parse().expect("legal"));
    let none = ReceiveRequest { wait_ms: Some(300), ..ReceiveRequest::default() };
    let received = node.broker.receive(&topic, &group, &none).await.expect("the topic is there");
    assert_eq!((received.deliveries.len(), received.empty_reason), (0, Some(EmptyReason::Held)));
    node.operate(second, SagaVerb::Cancel).await.expect("verbs are taken");
    assert_eq!(node.sagas.get(second).await.expect("there").summary.state, SagaState::Compensating);
    let open_call = node.sagas.get(first).await.expect("there");
    assert!(open_call.steps.iter().all(|step| step.attempts == 1), "and no deadline has passed: {open_call:?}");
    node.close().await;

    // It is held again, over a restart with calls in progress.
    let node = open(&storage, true).await;
    let api = Api::of(&node).await;
    let received = node.broker.receive(&topic, &group, &none).await.expect("the topic is there");
    assert_eq!((received.deliveries.len(), received.empty_reason), (0, Some(EmptyReason::Held)));
    assert_eq!((calls.load(Ordering::SeqCst), node.sagas.is_held()), (0, true));
    let waiting = tokio::spawn({
        let node = node.clone();
        async move { node.next_command("q.commands").await }
    });
    assert_eq!(api.post("/v1/sagas:release", "").await, (200, json!({"duplicate": false})));
    assert_eq!(api.post("/v1/sagas:release", "").await, (200, json!({"duplicate": true})));
    let (call, _) = tokio::time::timeout(LIMIT, waiting).await.expect("a worker that waits is woken").expect("no panic");
    assert_eq!(call.call, "a");
    let done = node.until(first, |saga| saga.steps[1].output.is_some()).await;
    assert_eq!(done.steps[1].output, Some(json!({"ok": true}).into()));
    node.close().await;
}
