//! What is not published, and what ends although it was.

use super::{ACTIVE, money, open, stock, with_pivot};
use crate::common::{Node, reply_to, succeeded};
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
    node.sagas.publish(&joint(1, "2pc")).await.expect("a legal definition");
    let found = refused(&starter("lone", 2, "joint", "")).await;
    assert!(found.len() == 1 && found[0].0 == "saga_not_possible" && found[0].1.contains("`joint` version 1"), "{found:?}");
    let given = |with: &str| starter("lone", 2, "{ name: payment, version: 1 }", "").replace("{ order: \"${ input.order }\" }", with);
    for (with, says) in
        [("{ sum: 1 }", "`order` is missing"), ("{ order: o, sum: much }", "`sum` is \"much\""), ("\"${ input.order }!\"", "text")]
    {
        let found = refused(&given(with)).await;
        assert!(found.len() == 1 && found[0].0 == "sub_saga_input" && found[0].1.contains(says), "{with}: {found:?}");
    }
    let lint = node.sagas.lint(given("{ sum: 1 }")).await;
    assert_eq!((lint.valid, lint.faults[0].line, lint.faults[0].code.as_str()), (false, 6, "sub_saga_input"));
    let (published, _) = node.sagas.publish(&given("{ order: o, more: 1 }")).await.expect("its schema forbids nothing else");
    assert_eq!(published.warnings.iter().map(|fault| fault.code.as_str()).collect::<Vec<_>>(), ["undeclared_input"]);
    node.close().await;
}

/// Two calls, which in two phases need no undo.
fn joint(version: u32, mode: &str) -> String {
    format!(
        "saga: joint\nversion: {version}\nkey: ${{ input.order }}\nmode: {mode}\nservices: {{ money: {{ http: \"http://127.0.0.1:1\" }} }}\n\
        steps:\n  - {{ id: one, call: money.one }}\n  - {{ id: two, call: money.two }}\n"
    )
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

/// What is published can start nothing all the same: each is refused for its own reason, and its parent goes back.
#[tokio::test]
async fn what_cannot_be_started_is_refused_with_its_reason() {
    let node = open(&CrashStorage::new()).await;
    node.sagas.publish(&joint(1, "saga")).await.expect("a legal definition");
    for (name, of, with, code) in [
        ("no-mode", "joint", "{ order: \"1\" }", "MODE_NOT_POSSIBLE"),
        ("no-object", "payment", "\"${ input.order }\"", "INVALID_SAGA_INPUT"),
        ("no-fit", "payment", "{ order: \"${ input.number }\" }", "SAGA_INPUT_MISFIT"),
    ] {
        let text = starter(name, 1, of, "").replace("{ order: \"${ input.order }\" }", with);
        node.sagas.publish(&text).await.unwrap_or_else(|error| panic!("{name}: {error:?}"));
        // Another version may be active by the time it runs.
        node.sagas.publish_with(&joint(2, "2pc"), ACTIVE).await.expect("it is activated");
        let id = node.start(name, json!({"order": "1", "number": 1})).await.expect("started").id;
        let ended = node.at_rest(id).await;
        let why = ended.summary.failure.expect("it says why");
        assert_eq!((ended.summary.state, why.code.as_str()), (SagaState::Failed, code), "{name}: {why:?}");
        assert_eq!(ended.steps[0].child.as_ref().and_then(|child| child.id), None, "{name}: nothing is stored");
    }
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
