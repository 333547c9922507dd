//! Answers that are made to cost more than they say: without an end, and with headers that mean nothing here.

use crate::api::serve;
use crate::common::Node;
use axum::Router;
use axum::body::Body;
use axum::extract::Path;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use core::convert::Infallible;
use core::time::Duration;
use futures_util::{StreamExt as _, stream};
use sagamq_api::JsonText;
use sagamq_api::headers::saga::BRANCH_ADDRESS;
use sagamq_api::saga::SagaState;
use sagamq_broker::storage::crash::CrashStorage;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::time::Instant;

/// Says more and more, and never comes to an end: a success, or to `refuse` that it does not.
async fn without_end(Path(call): Path<String>) -> Response {
    let pieces = stream::repeat_with(|| vec![b'x'; 16 * 1024]).then(async |piece| {
        // So that whoever reads all of it has not read everything that memory holds.
        tokio::time::sleep(Duration::from_millis(1)).await;
        Ok::<_, Infallible>(piece)
    });
    let status = if call == "refuse" { StatusCode::CONFLICT } else { StatusCode::OK };
    (status, Body::from_stream(pieces)).into_response()
}

/// A saga of one call.
fn text(base: &str, call: &str) -> String {
    format!(
        "saga: web\nversion: 1\nkey: ${{ input.id }}\nservices: {{ svc: {{ http: \"{base}\" }} }}\n\
         steps: [{{ id: only, call: svc.{call}, timeout: 30s, retry: {{ attempts: 1 }}, compensate: none }}]\n"
    )
}

async fn node(text: &str) -> Node {
    let node = Node::open(Arc::new(CrashStorage::new())).await.expect("fresh storage opens");
    node.sagas.publish(text).await.expect("legal");
    node
}

#[tokio::test]
async fn of_an_answer_without_an_end_no_more_is_read_than_is_kept() {
    let base = serve(Router::new().route("/{call}", post(without_end))).await;
    let succeeds = node(&text(&base, "succeed")).await;
    let id = succeeds.start("web", json!({ "id": "1" })).await.expect("started").id;
    let saga = succeeds.at_rest(id).await;
    assert_eq!((saga.summary.state, saga.steps[0].output.as_ref().map(JsonText::as_str)), (SagaState::Completed, Some("null")), "{saga:?}");
    succeeds.close().await;
    let refused = node(&text(&base, "refuse")).await;
    let id = refused.start("web", json!({ "id": "1" })).await.expect("started").id;
    let saga = refused.at_rest(id).await;
    let failure = &saga.failures.first().expect("it was refused").failure;
    assert_eq!((saga.summary.state, failure.code.as_str()), (SagaState::Failed, "REFUSED"), "{saga:?}");
    refused.close().await;
}

/// `Retry-After: 0` says "at once", and over and over at once is a busy loop.
#[tokio::test]
async fn whoever_works_on_is_not_asked_in_a_busy_loop_whatever_it_says() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let answer = async move || match counted.fetch_add(1, Ordering::SeqCst) {
        0..4 => (StatusCode::ACCEPTED, [("retry-after", "0")], "").into_response(),
        _ => "1".into_response(),
    };
    let base = serve(Router::new().route("/{call}", post(answer))).await;
    let node = node(&text(&base, "do")).await;
    let begun = Instant::now();
    let id = node.start("web", json!({ "id": "1" })).await.expect("started").id;
    assert_eq!(node.at_rest(id).await.summary.state, SagaState::Completed);
    assert!(asked.load(Ordering::SeqCst) == 5 && begun.elapsed() >= Duration::from_millis(4 * 50), "{asked:?} {:?}", begun.elapsed());
    node.close().await;
}

#[tokio::test]
async fn to_a_saga_the_address_of_a_branch_is_a_header_like_any_other() {
    let answer = async || ([(BRANCH_ADDRESS, "no address at all")], "\"done\"").into_response();
    let base = serve(Router::new().route("/{call}", post(answer))).await;
    let node = node(&text(&base, "do")).await;
    let id = node.start("web", json!({ "id": "1" })).await.expect("started").id;
    let saga = node.at_rest(id).await;
    assert_eq!(
        (saga.summary.state, saga.steps[0].output.as_ref().map(JsonText::as_str)),
        (SagaState::Completed, Some("\"done\"")),
        "{saga:?}"
    );
    node.close().await;
}
