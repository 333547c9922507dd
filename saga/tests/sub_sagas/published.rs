//! What is not published, and what ends although it was.

use crate::common::{Node, reply_to, succeeded};
use crate::{ACTIVE, money, open, stock, with_pivot};
use sagamq_api::saga::{CallOutcome, SagaQuery, SagaState};
use sagamq_broker::storage::crash::CrashStorage;
use sagamq_saga::PublishError;
use serde_json::json;
use std::sync::Arc;

fn faults(error: PublishError) -> Vec<(String, String)> {
    let PublishError::InvalidDefinition(faults) = error else { panic!("{error}") };
    faults.into_iter().map(|fault| (fault.code, fault.message)).collect()
}

fn starter(name: &str, version: u32, of: &str, more: &str) -> String {
    format!(
        "saga: {name}\nversion: {version}\nkey: ${{ input.order }}\nservices: {{}}\nsteps:\n  - {{ id: go, saga: {of}, with: {{ order: \"${{ input.order }}\" }}{more} }}\n"
    )
}

#[tokio::test]
async fn what_cannot_end_or_cannot_be_undone_is_not_published() {
    let node = open(&CrashStorage::new()).await;
    let refused = async |text: &str| faults(node.sagas.publish(text).await.expect_err("it is refused"));
    let found = refused(&starter("lone", 1, "nothing", "")).await;
    assert!(found.len() == 1 && found[0].0 == "unknown_saga" && found[0].1.contains("`nothing`"), "{found:?}");
    let found = refused(&starter("lone", 1, "{ name: payment, version: 7 }", "")).await;
    assert!(found.len() == 1 && found[0].0 == "unknown_saga" && found[0].1.contains("version 7"), "{found:?}");
    node.sagas.publish(&with_pivot()).await.expect("a legal definition");
    node.sagas.publish(&starter("lone", 1, "payment", "")).await.expect("the active version has no pivot");
    let found = refused(&starter("lone", 2, "{ name: payment, version: 2 }", "")).await;
    assert!(found.len() == 1 && found[0].0 == "saga_with_pivot" && found[0].1.contains("version 2"), "{found:?}");
    node.sagas.publish_with(&with_pivot(), ACTIVE).await.expect("it is activated");
    assert_eq!(refused(&starter("lone", 2, "payment", "")).await[0].0, "saga_with_pivot");
    for allowed in [", compensate: none", ", pivot: true"] {
        let text = starter("lone", 2, "payment", allowed).replace("lone", &format!("lone{}", allowed.len()));
        node.sagas.publish(&text).await.unwrap_or_else(|error| panic!("{allowed}: {error:?}"));
    }
    assert_eq!(refused(&starter("self", 1, "self", "")).await[0].0, "starts_itself");
    node.sagas.publish(&starter("one", 1, "{ name: payment, version: 1 }", "")).await.expect("a legal definition");
    node.sagas.publish(&starter("two", 1, "one", "")).await.expect("a legal definition");
    let found = refused(&starter("one", 2, "two", "")).await;
    assert!(found.len() == 1 && found[0].0 == "starts_itself" && found[0].1.contains("one -> two -> one"), "{found:?}");
    node.close().await;
}

#[tokio::test]
async fn sagas_that_start_each_other_by_way_of_activations_end_at_the_bound_of_depth() {
    let node = open(&CrashStorage::new()).await;
    let plain = "saga: b\nversion: 1\nkey: ${ input.order }\nservices: {}\nsteps:\n  - { id: nap, sleep: 1ms }\n";
    node.sagas.publish(plain).await.expect("a legal definition");
    node.sagas.publish(&starter("a", 1, "{ name: b, version: 1 }", "")).await.expect("a legal definition");
    node.sagas.publish(&starter("b", 2, "a", "")).await.expect("what is active does not come back");
    node.sagas.publish(&starter("a", 2, "b", "")).await.expect("what is active does not come back");
    for text in [starter("b", 2, "a", ""), starter("a", 2, "b", "")] {
        node.sagas.publish_with(&text, ACTIVE).await.expect("it is activated");
    }
    let id = node.start("a", json!({"order": "1"})).await.expect("started").id;
    let ended = node.at_rest(id).await;
    assert_eq!(
        (ended.summary.state, ended.summary.failure.map(|failure| failure.code)),
        (SagaState::Failed, Some("SAGA_TOO_DEEP".to_owned()))
    );
    let all = node.sagas.list(SagaQuery::default()).await.expect("a page").sagas;
    assert_eq!(all.len(), 9, "the first, and eight below it");
    assert!(all.iter().all(|saga| saga.state == SagaState::Failed));
    node.close().await;
}

/// The definition of this name in the guide.
fn of_guide(name: &str) -> String {
    let guide = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/sagas.md")).expect("the guide");
    let (_, rest) = guide.split_once(&format!("```yaml\nsaga: {name}\n")).expect("it has the example");
    format!("saga: {name}\n{}", rest.split_once("```").expect("the block ends").0)
}

#[tokio::test]
async fn the_example_of_the_guide_runs() {
    let node = Node::open(Arc::new(CrashStorage::new())).await.expect("it opens");
    for name in ["payment", "order-with-payment"] {
        node.sagas.publish(&of_guide(name)).await.unwrap_or_else(|error| panic!("{name}: {error:?}"));
    }
    let id = node.start("order-with-payment", json!({"order_id": "1", "total": 4200})).await.expect("started").id;
    stock(&node, "reserve", succeeded()).await;
    let receipt = || CallOutcome::Succeeded { output: json!({"receipt": "r-1"}).into() };
    money(&node, "authorize", succeeded()).await;
    money(&node, "book", receipt()).await;
    let (ship, _) = node.next_command("stock.commands").await;
    assert_eq!(ship.arguments.to_value(), json!({"receipt": "r-1"}));
    node.sagas.complete(reply_to(&ship, succeeded())).await.expect("the current attempt");
    assert_eq!(node.at_rest(id).await.summary.state, SagaState::Completed);
    node.close().await;
}
