//! The clients of sagas and transactions: what they send, and how they wait.

use crate::support::{Answer, LIMIT, Server, soon};
use sagamq_sdk::ClientError;
use sagamq_sdk::api::ErrorCode;
use sagamq_sdk::api::saga::{BreakLock, CancelSaga, SagaQuery, SagaState, StartSaga};
use sagamq_sdk::api::transaction::Outcome;
use serde_json::{Value, json};
use std::time::Duration;
use uuid::Uuid;

fn description(state: &str) -> Value {
    json!({
        "id": Uuid::nil(), "saga": "checkout", "version": 1, "key": "k", "state": state, "started_at_ms": 1, "updated_at_ms": 2,
        "events": 3, "input": {}, "steps": [], "failures": [],
    })
}

#[tokio::test]
async fn waiting_ends_when_the_saga_is_at_its_end_or_blocked() {
    for last in ["COMPLETED", "COMPENSATED", "FAILED", "TERMINATED", "BLOCKED"] {
        let states = ["PENDING", "RUNNING", "WAITING", "COMPENSATING", "PAUSED", last];
        let server = Server::with_answers(states.iter().map(|state| Answer::Json(200, description(state))).collect()).await;
        let ended = soon(server.client().sagas().wait(Uuid::nil(), Duration::from_secs(60))).await.expect("it ends");
        assert_eq!(ended.summary.state.to_string(), last);
        assert_eq!(server.seen().len(), states.len());
    }
}

#[tokio::test]
async fn waiting_in_vain_says_that_the_saga_goes_on() {
    let server = Server::with_answers(vec![Answer::Json(200, description("RUNNING"))]).await;
    let mut at_most = Duration::from_millis(50);
    let error = loop {
        match soon(server.client().sagas().wait(Uuid::nil(), at_most)).await.expect_err("it runs") {
            // A machine that stands still may give no answer within the time.
            ClientError::WaitElapsed { state: None, .. } if at_most < LIMIT / 4 => at_most *= 2,
            error => break error,
        }
    };
    assert!(matches!(error, ClientError::WaitElapsed { state: Some(SagaState::Running), .. }), "{error:?}");
    assert!(error.is_outcome_unknown());
    assert!(error.to_string().contains("goes on"), "{error}");
}

#[tokio::test]
async fn a_wait_ends_in_time_also_when_no_answer_comes() {
    let server = Server::start(|_| std::future::pending::<Answer>()).await;
    let error = soon(server.client().sagas().wait(Uuid::nil(), Duration::from_millis(50))).await.expect_err("no answer");
    assert!(matches!(error, ClientError::WaitElapsed { state: None, .. }), "{error:?}");
    let server = Server::with_answers(vec![Answer::Text(503, "away")]).await;
    let client = sagamq_sdk::Client::builder(&server.url).build().expect("an address");
    let error = soon(client.sagas().wait(Uuid::nil(), Duration::from_millis(50))).await.expect_err("no answer");
    assert!(matches!(error, ClientError::WaitElapsed { state: None, .. }), "the retries do not outlast the wait: {error:?}");
}

#[tokio::test]
async fn paths_queries_and_bodies_are_those_of_the_wire() {
    let server = Server::start(|seen| {
        let answer = match (seen.method.as_str(), seen.path.as_str()) {
            ("POST", "/v1/saga-definitions:lint") => Answer::Json(200, json!({"valid": true, "faults": []})),
            ("POST", "/v1/sagas" | "/v1/sagas?wait_ms=1500" | "/v1/sagas?wait_ms=60000") => {
                Answer::Json(201, json!({"id": Uuid::nil(), "key": "k", "duplicate": false, "state": "PENDING"}))
            }
            ("GET", path) if path.starts_with("/v1/sagas?") => Answer::Json(200, json!({"sagas": []})),
            ("POST", path) if path.ends_with(":cancel") => {
                Answer::Json(200, json!({"duplicate": false, "saga": description("COMPENSATING")}))
            }
            _ => Answer::Problem(ErrorCode::DefinitionNotFound),
        };
        async move { answer }
    })
    .await;
    let sagas = server.client().sagas();
    assert!(soon(sagas.lint("saga: checkout")).await.expect("linted").valid);
    let start = StartSaga { saga: "checkout".parse().expect("legal"), version: None, mode: None, input: json!({"a": 1}).into() };
    assert_eq!(soon(sagas.start(&start)).await.expect("started").state, SagaState::Pending);
    for at_most in [Duration::from_millis(1_500), Duration::from_secs(600)] {
        soon(sagas.start_waiting(&start, at_most)).await.expect("started");
    }
    let query = SagaQuery { state: Some(SagaState::Blocked), key: Some("a b&c".into()), ..SagaQuery::default() };
    soon(sagas.list(&query)).await.expect("listed");
    let cancelled = soon(sagas.cancel(Uuid::nil(), &CancelSaga { reason: Some("why".into()), actor: None })).await.expect("cancelled");
    assert_eq!(cancelled.summary.state, SagaState::Compensating);
    let error = soon(sagas.definition(&"checkout".parse().expect("legal"), Some(2))).await.expect_err("none");
    assert_eq!(error.code(), Some(ErrorCode::DefinitionNotFound));

    let seen = server.seen();
    assert_eq!((seen[0].header("content-type"), seen[0].text.as_str()), ("application/yaml", "saga: checkout"));
    assert_eq!(seen[1].json, json!({"saga": "checkout", "input": {"a": 1}}));
    assert_eq!((seen[2].path.as_str(), &seen[2].json), ("/v1/sagas?wait_ms=1500", &json!({"saga": "checkout", "input": {"a": 1}})));
    assert_eq!(seen[3].path, "/v1/sagas?wait_ms=60000", "no longer than the server holds an answer back");
    assert_eq!(seen[4].path, "/v1/sagas?state=BLOCKED&key=a+b%26c");
    assert_eq!(seen[5].json, json!({"reason": "why"}));
    assert_eq!(seen[6].path, "/v1/saga-definitions/checkout?version=2");
}

#[tokio::test]
async fn a_participant_asks_for_the_outcome_of_the_data_that_its_calls_named() {
    let answer = json!({"id": Uuid::nil(), "outcome": "rolled_back", "known": false});
    let server = Server::with_answers(vec![Answer::Json(200, answer), Answer::Problem(ErrorCode::WrongCluster)]).await;
    let transactions = server.client().transactions();
    let (id, cluster) = (Uuid::from_u128(1), Uuid::from_u128(2));
    let outcome = soon(transactions.outcome(id, cluster)).await.expect("answered");
    assert_eq!((outcome.outcome, outcome.known), (Outcome::RolledBack, false));
    assert_eq!(server.seen()[0].path, format!("/v1/transactions/{id}/outcome?cluster={cluster}"));
    let error = soon(transactions.outcome(id, cluster)).await.expect_err("another server");
    assert_eq!(error.code(), Some(ErrorCode::WrongCluster));
    assert!(!error.is_retryable());
}

#[tokio::test]
async fn a_lock_is_not_taken_a_second_time_from_whoever_has_it_then() {
    let broken = || Answer::Json(200, json!({"key": "k", "taken_from": Uuid::nil(), "token": 7}));
    let wanted = |token| BreakLock { key: "k".to_owned(), token, actor: None, reason: "why".to_owned() };
    let server = Server::with_answers(vec![Answer::Break, broken()]).await;
    let error = soon(server.client().sagas().break_lock(&wanted(None))).await.expect_err("the answer is lost");
    assert!(error.is_outcome_unknown(), "{error:?}");
    assert_eq!(server.seen().len(), 1, "it may have been taken: the next one has it");
    let server = Server::with_answers(vec![Answer::Problem(ErrorCode::Overloaded), broken()]).await;
    assert_eq!(soon(server.client().sagas().break_lock(&wanted(None))).await.expect("nothing was done before").token, 7);
    let server = Server::with_answers(vec![Answer::Break, broken()]).await;
    soon(server.client().sagas().break_lock(&wanted(Some(7)))).await.expect("with its token it is taken from that one only");
    assert_eq!(server.seen().len(), 2);
    // That nobody holds it so any more is what the first attempt did, or not.
    let server = Server::with_answers(vec![Answer::Break, Answer::Problem(ErrorCode::LockNotHeld)]).await;
    let error = soon(server.client().sagas().break_lock(&wanted(Some(7)))).await.expect_err("it is not known");
    assert!(error.is_outcome_unknown() && error.code() == Some(ErrorCode::LockNotHeld), "{error:?}");
}
