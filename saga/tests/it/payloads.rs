//! Payloads of sagas: they come back as they were sent, as deep as is allowed, and what cannot be held is refused at the door.

use crate::common::{Node, reply_to};
use sagamq_api::JsonText;
use sagamq_api::limits::SAGA_JSON_DEPTH_MAX;
use sagamq_api::saga::{CallOutcome, HistoryQuery, SagaState, StartSaga, StartedSaga};
use sagamq_broker::storage::crash::CrashStorage;
use sagamq_saga::{OutOfBounds, StartError};
use std::sync::Arc;

fn definition(with: &str) -> String {
    format!(
        r#"
saga: pay
version: 1
key: ${{ input.id }}
services:
  svc: {{ topic: svc.commands }}
steps:
  - id: one
    call: svc.one
    with: {{ v: "{with}" }}
    compensate: svc.undo
  - id: two
    call: svc.two
    with: {{ got: "${{ steps.one.output }}" }}
    compensate: svc.undo
output: {{ deep: "${{ steps.one.output.v }}" }}
"#
    )
}

async fn open(with: &str) -> (CrashStorage, Node) {
    let storage = CrashStorage::new();
    let node = Node::open(Arc::new(storage.clone())).await.expect("fresh storage opens");
    node.sagas.publish(&definition(with)).await.expect("a legal definition");
    (storage, node)
}

fn json(text: &str) -> JsonText {
    JsonText::parse(text.as_bytes()).expect("JSON")
}

async fn start(node: &Node, input: &str) -> Result<StartedSaga, StartError> {
    node.sagas.start(StartSaga { saga: "pay".parse().expect("legal"), version: None, mode: None, input: json(input) }).await
}

/// `levels` lists in each other.
fn nested(levels: usize) -> String {
    format!("{}{}", "[".repeat(levels), "]".repeat(levels))
}

#[tokio::test]
async fn the_deepest_payloads_survive_a_restart_and_one_level_more_is_refused() {
    let (storage, node) = open("${ input.v }").await;
    // The input and the output are objects: one level is theirs.
    let deepest = nested(SAGA_JSON_DEPTH_MAX - 1);
    let id = start(&node, &format!(r#"{{"id":"1","v":{deepest}}}"#)).await.expect("as deep as is allowed").id;
    let (call, _) = node.next_command("svc.commands").await;
    assert_eq!(call.arguments, json(&format!(r#"{{"v":{deepest}}}"#)));
    let output = |levels| CallOutcome::Succeeded { output: json(&format!(r#"{{"v":{}}}"#, nested(levels))) };
    let deeper = start(&node, &format!(r#"{{"id":"2","v":[{deepest}]}}"#)).await;
    assert!(matches!(deeper, Err(StartError::OutOfBounds(OutOfBounds::TooDeep { .. }))), "{deeper:?}");
    node.sagas.complete(reply_to(&call, output(SAGA_JSON_DEPTH_MAX - 2))).await.expect("as deep as its next use allows");
    let left = storage.after_kill();
    node.close().await;
    let node = Node::open(Arc::new(left)).await.expect("it opens");
    let (call, _) = node.next_command("svc.commands").await;
    node.sagas.complete(reply_to(&call, output(1))).await.expect("it is not set aside");
    let saga = node.at_rest(id).await;
    assert_eq!(saga.summary.state, SagaState::Completed);
    assert_eq!(saga.output, Some(json(&format!(r#"{{"deep":{}}}"#, nested(SAGA_JSON_DEPTH_MAX - 2)))));
    let history = serde_json::to_string(&node.sagas.history(id, HistoryQuery::default()).await.expect("readable")).expect("JSON");
    assert!(history.contains(&deepest), "{history}");
    node.close().await;
}

#[tokio::test]
async fn an_output_that_nests_too_deep_is_a_success_with_null_and_a_note() {
    let (_, node) = open("${ input.v }").await;
    let id = start(&node, r#"{"id":"1","v":1}"#).await.expect("started").id;
    let (call, _) = node.next_command("svc.commands").await;
    let too_deep = json(&format!(r#"{{"v":{}}}"#, nested(SAGA_JSON_DEPTH_MAX)));
    node.sagas.complete(reply_to(&call, CallOutcome::Succeeded { output: too_deep })).await.expect("what succeeded has succeeded");
    let (call, _) = node.next_command("svc.commands").await;
    assert_eq!(call.arguments, json(r#"{"got":null}"#));
    node.sagas.complete(reply_to(&call, CallOutcome::Succeeded { output: json("{}") })).await.expect("applied");
    let saga = node.at_rest(id).await;
    assert_eq!((saga.summary.state, saga.steps[0].output.as_ref().map(JsonText::as_str)), (SagaState::Completed, Some("null")));
    assert!(saga.failures.iter().any(|note| note.failure.message.contains("levels")), "{:?}", saga.failures);
    node.close().await;
}

#[tokio::test]
async fn arguments_that_nest_too_deep_fail_the_saga_before_anything_is_called() {
    let (_, node) = open("${ [[[input.v]]] }").await;
    let id = start(&node, &format!(r#"{{"id":"1","v":{}}}"#, nested(SAGA_JSON_DEPTH_MAX - 1))).await.expect("started").id;
    let saga = node.at_rest(id).await;
    let failure = saga.summary.failure.expect("why");
    assert_eq!((saga.summary.state, failure.code.as_str()), (SagaState::Failed, "EXPRESSION_FAILED"));
    assert!(failure.message.contains("levels"), "{}", failure.message);
    node.close().await;
}

#[tokio::test]
async fn payloads_come_back_as_they_were_sent() {
    let (storage, node) = open("${ input.v }").await;
    let odd = r#"{"big":100000000000000000001, "exact":12345678901234567890.50,"a":1,"a":2 , "e":1E400,"s":"\u0041\/"}"#;
    let id = start(&node, &format!(r#"{{"id":"1","v":{odd}}}"#)).await.expect("started").id;
    let (call, _) = node.next_command("svc.commands").await;
    assert_eq!(call.arguments.as_str(), format!(r#"{{"v":{odd}}}"#));
    let output = json(&format!(r#"{{"v" : {odd}}}"#));
    node.sagas.complete(reply_to(&call, CallOutcome::Succeeded { output: output.clone() })).await.expect("applied");
    let left = storage.after_kill();
    node.close().await;
    let node = Node::open(Arc::new(left)).await.expect("it opens");
    let (call, _) = node.next_command("svc.commands").await;
    assert_eq!(call.arguments.as_str(), format!(r#"{{"got":{output}}}"#));
    node.sagas.complete(reply_to(&call, CallOutcome::Succeeded { output: json("0.10") })).await.expect("applied");
    let saga = node.at_rest(id).await;
    assert_eq!((saga.steps[0].output.clone(), saga.steps[1].output.clone()), (Some(output), Some(json("0.10"))));
    assert_eq!(saga.output.expect("it completed").as_str(), format!(r#"{{"deep":{odd}}}"#));
    node.close().await;
}

#[tokio::test]
async fn a_business_key_is_the_text_of_its_number() {
    let (_, node) = open("${ input.id }").await;
    let mut ids = Vec::new();
    for key in ["100000000000000000001", "100000000000000000002", "1e20", "0.30", "-7"] {
        let started = start(&node, &format!(r#"{{"id":{key}}}"#)).await.expect("started");
        assert_eq!((started.key.as_str(), started.duplicate), (key, false));
        ids.push(started.id);
        assert!(start(&node, &format!(r#"{{"id":{key}}}"#)).await.expect("the same").duplicate);
    }
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 5, "each number is a saga of its own");
    let twice = start(&node, r#"{"id":1,"id":2}"#).await;
    assert!(matches!(twice, Err(StartError::InvalidInput(_))), "{twice:?}");
    node.close().await;
}

/// Two loops over thousands of numbers: in time (the square of them), and in memory (as many lists as long).
#[tokio::test]
async fn a_poison_definition_fails_its_saga_and_nobody_else() {
    let (storage, node) = open("${ input.v }").await;
    let poison = |name: &str, with: &str| {
        format!(
            "saga: {name}\nversion: 1\nkey: ${{ input.id }}\nservices:\n  svc: {{ topic: svc.commands }}\nsteps:\n  \
             - {{ id: one, call: svc.one, compensate: svc.undo }}\n  - {{ id: two, call: svc.two, with: {{ a: \"${{ {with} }}\" }}, compensate: svc.undo }}\n"
        )
    };
    node.sagas.publish(&poison("time", "input.l.all(x, input.l.exists(y, y == x))")).await.expect("legal");
    node.sagas.publish(&poison("memory", "input.l.map(x, input.l.map(y, y)).size()")).await.expect("legal");
    let list = |n: u32| serde_json::to_string(&(0..n).collect::<Vec<_>>()).expect("JSON");
    let mut ids = Vec::new();
    for (name, n) in [("time", 5_000), ("memory", 7_000)] {
        let input = json(&format!(r#"{{"id":"1","l":{}}}"#, list(n)));
        ids.push(
            node.sagas.start(StartSaga { saga: name.parse().expect("legal"), version: None, mode: None, input }).await.expect("started").id,
        );
    }
    for _ in &ids {
        let (call, _) = node.next_command("svc.commands").await;
        node.sagas.complete(reply_to(&call, CallOutcome::Succeeded { output: JsonText::null() })).await.expect("applied");
    }
    for _ in &ids {
        let (undo, _) = node.next_command("svc.commands").await;
        assert_eq!(undo.call, "undo", "what was done is undone");
        node.sagas.complete(reply_to(&undo, CallOutcome::Succeeded { output: JsonText::null() })).await.expect("applied");
    }
    for id in &ids {
        let saga = node.at_rest(*id).await;
        let failure = saga.summary.failure.expect("why");
        assert_eq!((saga.summary.state, failure.code.as_str()), (SagaState::Compensated, "EXPRESSION_FAILED"));
        assert!(failure.message.contains("the expressions of a decision"), "{}", failure.message);
    }
    let left = storage.after_kill();
    node.close().await;
    let node = Node::open(Arc::new(left)).await.expect("it opens");
    for id in &ids {
        assert_eq!(node.sagas.get(*id).await.expect("it is there").summary.state, SagaState::Compensated, "nothing is tried again");
    }
    start(&node, r#"{"id":"9","v":1}"#).await.expect("others go on");
    node.close().await;
}

#[tokio::test]
async fn a_key_that_takes_too_much_or_is_inexact_is_refused() {
    let (_, node) = open("${ input.v }").await;
    let keyed = |name: &str, key: &str| {
        format!(
            "saga: {name}\nversion: 1\nkey: \"${{ {key} }}\"\nservices:\n  svc: {{ topic: svc.commands }}\nsteps:\n  \
             - {{ id: one, call: svc.one, compensate: svc.undo }}\n"
        )
    };
    node.sagas.publish(&keyed("loops", "string(input.l.all(x, input.l.exists(y, y == x)))")).await.expect("legal");
    node.sagas.publish(&keyed("sum", "input.n + 1")).await.expect("legal");
    let list = serde_json::to_string(&(0..5_000).collect::<Vec<_>>()).expect("JSON");
    for (name, input) in [("loops", format!(r#"{{"l":{list}}}"#)), ("sum", r#"{"n":100000000000000000001}"#.to_owned())] {
        let refused =
            node.sagas.start(StartSaga { saga: name.parse().expect("legal"), version: None, mode: None, input: json(&input) }).await;
        assert!(matches!(refused, Err(StartError::InvalidInput(_))), "{refused:?}");
    }
    node.close().await;
}
