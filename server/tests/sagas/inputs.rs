//! The schema of a saga's input: what does not fit is refused before anything is stored, with the place, and the schema is kept with its version.

use crate::api::Api;
use crate::common::Node;
use sagamq_api::saga::{SagaState, SagaVerb};
use sagamq_broker::storage::crash::CrashStorage;
use sagamq_saga::protocol::Rejection;
use sagamq_saga::{OperateError, StartError};
use serde_json::{Value, json};
use std::sync::Arc;

const SCHEMA: &str = "input: { schema: { required: [order, total], properties: { order: { type: string }, total: { type: integer, minimum: 1 }, \
    lines: { items: { required: [sku] } } }, additionalProperties: false } }\n";

fn definition(version: u32, schema: &str) -> String {
    format!(
        "saga: shop\nversion: {version}\n{schema}key: ${{ input.order }}\nservices: {{ stock: {{ topic: stock.commands }} }}\n\
         steps:\n  - {{ id: reserve, call: stock.reserve, compensate: none }}\n"
    )
}

async fn open(storage: &CrashStorage) -> Node {
    Node::open(Arc::new(storage.clone())).await.expect("it opens")
}

fn misfit(refused: &StartError) -> (&str, &str) {
    match refused {
        StartError::Misfit { misfit, .. } => (&misfit.pointer, &misfit.reason),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_input_that_does_not_fit_is_refused_with_its_place_and_stores_nothing() {
    let storage = CrashStorage::new();
    let node = open(&storage).await;
    node.sagas.publish(&definition(1, SCHEMA)).await.expect("legal");
    for (input, place, reason) in [
        (json!({"order": "1"}), "", "total"),
        (json!({"order": "1", "total": "4200"}), "/total", "integer"),
        (json!({"order": "1", "total": 0}), "/total", "minimum"),
        (json!({"order": "1", "total": 1, "lines": [{"sku": "a"}, {}]}), "/lines/1", "sku"),
        (json!({"order": "1", "total": 1, "more": true}), "", "more"),
        // Without a key there is no instance to ask for, and the schema says why.
        (json!({"total": 1}), "", "order"),
    ] {
        let refused = node.start("shop", input.clone()).await.expect_err("it does not fit");
        let (pointer, said) = misfit(&refused);
        assert_eq!(pointer, place, "{input}: {refused}");
        assert!(said.contains(reason), "{input}: {refused}");
    }
    let api = Api::of(&node).await;
    let wrong = json!({"saga": "shop", "input": {"order": "1", "total": "x"}}).to_string();
    let (status, problem) = api.post("/v1/sagas", wrong).await;
    assert_eq!((status, &problem["code"], &problem["pointer"]), (422, &json!("SAGA_INPUT_MISFIT"), &json!("/total")), "{problem}");
    assert_eq!(api.get("/v1/sagas").await.1["sagas"], json!([]), "nothing was started");
    let (status, started) = api.post("/v1/sagas", r#"{"saga": "shop", "input": {"order": "1", "total": 7}}"#).await;
    assert_eq!((status, &started["duplicate"]), (201, &json!(false)), "{started}");
    node.close().await;
}

#[tokio::test]
async fn a_start_that_comes_again_is_answered_though_a_newer_schema_refuses_it() {
    let storage = CrashStorage::new();
    let node = open(&storage).await;
    node.sagas.publish(&definition(1, "")).await.expect("legal");
    let first = node.start("shop", json!({"order": "1"})).await.expect("any object");
    node.sagas.publish_active(&definition(2, SCHEMA)).await.expect("legal");
    let again = node.start("shop", json!({"order": "1"})).await.expect("it was started");
    assert_eq!((again.id, again.duplicate), (first.id, true));
    assert_eq!(misfit(&node.start("shop", json!({"order": "2"})).await.expect_err("a new one must fit")).0, "");
    node.close().await;
}

#[tokio::test]
async fn the_schema_is_stored_with_its_version_and_an_operators_input_must_fit_it() {
    let storage = CrashStorage::new();
    let node = open(&storage).await;
    node.sagas.publish(&definition(1, SCHEMA)).await.expect("legal");
    let id = node.start("shop", json!({"order": "1", "total": 5})).await.expect("it fits").id;
    let left = storage.after_kill();
    node.close().await;
    let node = open(&left).await;
    assert_eq!(misfit(&node.start("shop", json!({"order": "2", "total": 0})).await.expect_err("as before")).0, "/total");
    let edit = |input: Value| SagaVerb::EditInput { input: input.into() };
    let refused = node.operate(id, edit(json!({"order": "1", "total": 0}))).await.expect_err("it does not fit");
    assert!(matches!(&refused, OperateError::Rejected(Rejection::Misfit(misfit)) if misfit.pointer == "/total"), "{refused:?}");
    let edited = node.operate(id, edit(json!({"order": "1", "total": 6}))).await.expect("it fits");
    assert!(!edited.duplicate && edited.state == SagaState::Running, "{edited:?}");
    node.close().await;
}

#[tokio::test]
async fn a_large_input_is_judged_beside_the_tasks_that_must_not_wait() {
    let storage = CrashStorage::new();
    let node = open(&storage).await;
    node.sagas.publish(&definition(1, SCHEMA)).await.expect("legal");
    let lines: Vec<Value> = (0..20_000).map(|sku| json!({"sku": sku.to_string()})).collect();
    node.start("shop", json!({"order": "1", "total": 1, "lines": lines})).await.expect("it fits");
    let mut lines = vec![json!({"sku": "a"}); 20_000];
    lines.push(json!({}));
    let refused = node.start("shop", json!({"order": "2", "total": 1, "lines": lines})).await.expect_err("the last line");
    assert_eq!(misfit(&refused).0, "/lines/20000");
    node.close().await;
}
