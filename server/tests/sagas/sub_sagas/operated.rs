//! What operators do to parents and to sub-sagas.

use super::{ACTIVE, child, money, open, open_with, paid, stock, with_pivot};
use crate::common::{refused, reply_to, succeeded};
use sagamq_api::saga::{CompleteCall, IncidentQuery, Operation, SagaState, SagaVerb, StepAttempt, StepOutcome, StepState, WaitCode};
use sagamq_broker::storage::crash::CrashStorage;
use sagamq_saga::OrchestratorConfig;
use serde_json::json;

#[tokio::test]
async fn one_that_is_past_its_pivot_blocks_its_parent_with_the_reason() {
    let node = open(&CrashStorage::new()).await;
    node.sagas.publish_with(&with_pivot(), ACTIVE).await.expect("it is activated behind the order's back");
    let (id, paying) = paid(&node, "1").await;
    stock(&node, "ship", refused()).await;
    let order = node.at_rest(id).await;
    assert_eq!((order.summary.state, order.steps[1].state), (SagaState::Blocked, StepState::CompensationFailed));
    let last = order.failures.last().expect("it says why");
    assert!(last.failure.code == "CHILD_PAST_PIVOT" && last.failure.message.contains(&paying.to_string()), "{last:?}");
    assert_eq!(order.steps[1].compensation_attempts, 1, "it is not asked again and again");
    assert_eq!(node.sagas.get(paying).await.expect("it is there").summary.state, SagaState::Completed);
    node.operate(id, SagaVerb::Resolve { item: None, step: "pay".parse().expect("legal"), outcome: StepOutcome::Compensated })
        .await
        .expect("said");
    stock(&node, "release", succeeded()).await;
    assert_eq!(node.at_rest(id).await.summary.state, SagaState::Compensated);
    node.close().await;
}

#[tokio::test]
async fn one_that_an_operator_ended_is_in_doubt_for_its_parent() {
    let node = open(&CrashStorage::new()).await;
    let id = node.start("order", json!({"order": "1"})).await.expect("started").id;
    stock(&node, "reserve", succeeded()).await;
    let paying = child(&node, id, "pay").await;
    money(&node, "authorize", succeeded()).await;
    node.operate(paying, SagaVerb::Terminate).await.expect("it can be ended");
    let order = node.at_rest(id).await;
    assert_eq!((order.summary.state, order.steps[1].attempts), (SagaState::Blocked, 1), "no other one is started by itself");
    let codes: Vec<&str> = order.failures.iter().map(|failed| failed.failure.code.as_str()).collect();
    assert_eq!(codes, ["CHILD_TERMINATED", "CHILD_TERMINATED"], "of the action, and of undoing it");
    // Rerun, it is the one that its parent undoes.
    let rerun = SagaVerb::Rerun { from: "book".parse().expect("legal"), input: None };
    assert!(node.operate(paying, rerun.clone()).await.is_err(), "the call of the step is in doubt");
    node.operate(paying, SagaVerb::Resolve { item: None, step: "book".parse().expect("legal"), outcome: StepOutcome::Failed })
        .await
        .expect("said");
    node.operate(paying, rerun).await.expect("it is rerun");
    money(&node, "book", succeeded()).await;
    node.operate(id, SagaVerb::Retry { item: None, step: Some("pay".parse().expect("legal")) }).await.expect("it is undone again");
    money(&node, "unbook", succeeded()).await;
    money(&node, "void", succeeded()).await;
    stock(&node, "release", succeeded()).await;
    let order = node.at_rest(id).await;
    assert_eq!(order.summary.state, SagaState::Compensated);
    let last = order.steps[1].child.clone().expect("it is shown");
    assert!(last.id != Some(paying) && last.state == Some(SagaState::Compensated), "{last:?}");
    node.close().await;
}

/// An order that pays behind its point of no return.
const LATE: &str = "
saga: late
version: 1
key: ${ input.order }
services: { stock: { topic: stock.commands } }
steps:
  - { id: sell, call: stock.sell, pivot: true }
  - { id: pay, saga: payment, with: { order: \"${ input.order }\" }, retry: { initial: 1ms, max: 5ms } }
";

#[tokio::test]
async fn behind_the_pivot_what_is_refused_is_started_anew_and_what_is_in_doubt_waits_for_an_operator() {
    let node = open(&CrashStorage::new()).await;
    node.sagas.publish(LATE).await.expect("a legal definition");
    let id = node.start("late", json!({"order": "1"})).await.expect("started").id;
    stock(&node, "sell", succeeded()).await;
    let first = child(&node, id, "pay").await;
    money(&node, "authorize", refused()).await;
    let started =
        node.until(id, |saga| saga.steps[1].attempts == 2 && saga.steps[1].child.as_ref().is_some_and(|child| child.id.is_some())).await;
    let second = started.steps[1].child.as_ref().and_then(|child| child.id).expect("it was waited for");
    assert_ne!(first, second, "each attempt is a saga of its own");
    node.operate(second, SagaVerb::Terminate).await.expect("it can be ended");
    let held = node.until(id, |saga| saga.summary.waits.as_ref().is_some_and(|waits| waits.code == WaitCode::Blocked)).await;
    assert_eq!((held.summary.state, held.steps[1].attempts, held.steps[1].due_at_ms), (SagaState::Waiting, 2, None));
    let incidents = node.sagas.incidents(IncidentQuery::default()).await.expect("they are told");
    assert!(incidents.incidents.iter().any(|incident| format!("{incident:?}").contains("CHILD_TERMINATED")), "{incidents:?}");
    node.operate(id, SagaVerb::Retry { item: None, step: None }).await.expect("it is started anew");
    let last = loop {
        let (call, _) = node.next_command("money.commands").await;
        if node.sagas.complete(reply_to(&call, succeeded())).await.is_ok() && call.call == "authorize" {
            break call.attempt.instance;
        }
    };
    assert!(last != first && last != second);
    money(&node, "book", succeeded()).await;
    assert_eq!(node.at_rest(id).await.summary.state, SagaState::Completed);
    node.close().await;
}

#[tokio::test]
async fn a_blocked_one_is_waited_for_and_one_whose_parent_went_on_is_not_rerun() {
    let node = open(&CrashStorage::new()).await;
    let id = node.start("order", json!({"order": "1"})).await.expect("started").id;
    stock(&node, "reserve", succeeded()).await;
    let paying = child(&node, id, "pay").await;
    money(&node, "authorize", succeeded()).await;
    money(&node, "book", refused()).await;
    for _ in 0..2 {
        money(&node, "void", refused()).await;
    }
    node.until(paying, |saga| saga.summary.state == SagaState::Blocked).await;
    let order = node.sagas.get(id).await.expect("it is there");
    assert_eq!(
        (order.summary.state, order.steps[1].child.as_ref().and_then(|child| child.state)),
        (SagaState::Waiting, Some(SagaState::Blocked))
    );
    let waits = order.summary.waits.expect("it says why it does not move");
    assert!(waits.message.ends_with(&format!("to end: {paying}, which is BLOCKED")), "{}", waits.message);
    node.operate(paying, SagaVerb::Resolve { item: None, step: "authorize".parse().expect("legal"), outcome: StepOutcome::Compensated })
        .await
        .expect("said");
    stock(&node, "release", succeeded()).await;
    assert_eq!(node.at_rest(id).await.summary.state, SagaState::Compensated);
    let rerun = SagaVerb::Rerun { from: "authorize".parse().expect("legal"), input: None };
    let error = node.operate(paying, rerun).await.expect_err("its parent went on from its failure");
    assert!(error.to_string().contains("rerun the parent"), "{error}");
    node.close().await;
}

#[tokio::test]
async fn a_rerun_answers_the_parent_that_waits() {
    let node = open(&CrashStorage::new()).await;
    node.sagas.publish(LATE).await.expect("a legal definition");
    let id = node.start("late", json!({"order": "1"})).await.expect("started").id;
    stock(&node, "sell", succeeded()).await;
    let paying = child(&node, id, "pay").await;
    money(&node, "authorize", succeeded()).await;
    node.operate(paying, SagaVerb::Terminate).await.expect("it can be ended");
    node.until(id, |saga| saga.summary.waits.as_ref().is_some_and(|waits| waits.code == WaitCode::Blocked)).await;
    let book = || "book".parse().expect("legal");
    node.operate(paying, SagaVerb::Resolve { item: None, step: book(), outcome: StepOutcome::Failed }).await.expect("said");
    node.operate(paying, SagaVerb::Rerun { from: book(), input: None }).await.expect("it is rerun");
    money(&node, "book", succeeded()).await;
    let order = node.at_rest(id).await;
    assert_eq!((order.summary.state, order.steps[1].attempts), (SagaState::Completed, 1));
    let last = order.steps[1].child.clone().expect("it is shown");
    assert!(last.id != Some(paying) && last.state == Some(SagaState::Completed), "{last:?}");
    node.close().await;
}

#[tokio::test]
async fn a_rerun_of_a_parent_takes_over_the_right_to_undo_its_sub_saga() {
    let node = open(&CrashStorage::new()).await;
    let (id, paying) = paid(&node, "1").await;
    drop(node.next_command("stock.commands").await);
    node.operate(id, SagaVerb::Terminate).await.expect("it can be ended");
    let ship = || "ship".parse().expect("legal");
    node.operate(id, SagaVerb::Resolve { item: None, step: ship(), outcome: StepOutcome::Failed }).await.expect("said");
    node.operate(id, SagaVerb::Rerun { from: ship(), input: None }).await.expect("it is rerun");
    let rerun = node.sagas.get(id).await.expect("it is there").summary.rerun_as.expect("it was rerun");
    let shown = node.sagas.get(rerun).await.expect("it is there").steps[1].child.clone().expect("it is shown");
    assert_eq!(shown.id, Some(paying), "it is the one that the first instance started");
    stock(&node, "ship", refused()).await;
    money(&node, "unbook", succeeded()).await;
    money(&node, "void", succeeded()).await;
    stock(&node, "release", succeeded()).await;
    assert_eq!(node.at_rest(rerun).await.summary.state, SagaState::Compensated);
    assert_eq!(node.sagas.get(paying).await.expect("it is there").summary.state, SagaState::Compensated);
    node.close().await;
}

#[tokio::test]
async fn one_that_had_no_effect_by_an_operators_word_is_undone_wherever_it_is() {
    let node = open(&CrashStorage::new()).await;
    let none = |step: &str| SagaVerb::Resolve { item: None, step: step.parse().expect("legal"), outcome: StepOutcome::Failed };
    // It runs.
    let id = node.start("order", json!({"order": "1"})).await.expect("started").id;
    stock(&node, "reserve", succeeded()).await;
    let paying = child(&node, id, "pay").await;
    money(&node, "authorize", succeeded()).await;
    let (book, _) = node.next_command("money.commands").await;
    node.operate(id, none("pay")).await.expect("it is open");
    stock(&node, "release", succeeded()).await;
    assert_eq!(node.at_rest(id).await.summary.state, SagaState::Compensated, "nobody waits for it");
    node.until(paying, |saga| saga.summary.state == SagaState::Compensating).await;
    node.sagas.complete(reply_to(&book, succeeded())).await.expect("the current attempt");
    money(&node, "unbook", succeeded()).await;
    money(&node, "void", succeeded()).await;
    let payment = node.at_rest(paying).await;
    assert_eq!(
        (payment.summary.state, payment.summary.failure.map(|why| why.code)),
        (SagaState::Compensated, Some("PARENT_UNDONE".to_owned()))
    );
    // It is done, and its parent, which was ended as it was, has not counted it.
    let id = node.start("order", json!({"order": "2"})).await.expect("started").id;
    stock(&node, "reserve", succeeded()).await;
    let paying = child(&node, id, "pay").await;
    node.operate(id, SagaVerb::Terminate).await.expect("it can be ended");
    money(&node, "authorize", succeeded()).await;
    money(&node, "book", succeeded()).await;
    assert_eq!(node.at_rest(paying).await.summary.state, SagaState::Completed, "ending the parent leaves it as it is");
    node.operate(id, none("pay")).await.expect("it was open then");
    money(&node, "unbook", succeeded()).await;
    money(&node, "void", succeeded()).await;
    node.until(paying, |saga| saga.summary.state == SagaState::Compensated).await;
    assert_eq!(node.sagas.get(id).await.expect("it is there").standing.len(), 1, "what it reserved");
    node.close().await;
}

#[tokio::test]
async fn a_parent_cancels_no_saga_that_somebody_else_started_under_the_key_of_its_own() {
    let config = OrchestratorConfig { hold: true, ..OrchestratorConfig::default() };
    let node = open_with(&CrashStorage::new(), config).await;
    let id = node.start("order", json!({"order": "1"})).await.expect("taken").id;
    let key = format!("{id}/pay/action#1");
    let anothers = node.start("payment", json!({ "order": key })).await.expect("taken").id;
    // While everything is held, messages wait: the start and the cancel of the sub-saga come one after the other.
    let attempt = StepAttempt { step: "reserve".parse().expect("legal"), item: None, operation: Operation::Action, epoch: 1 }.of(id);
    node.sagas.complete(CompleteCall { attempt, reply: succeeded() }).await.expect("the current attempt");
    node.operate(id, SagaVerb::Cancel).await.expect("it can be cancelled");
    node.sagas.release().await.expect("released");
    stock(&node, "release", succeeded()).await;
    let order = node.at_rest(id).await;
    assert_eq!((order.summary.state, order.steps[1].state), (SagaState::Compensated, StepState::Failed));
    assert!(order.failures.iter().any(|failed| failed.failure.code == "SAGA_KEY_CONFLICT"), "{:?}", order.failures);
    assert_eq!(node.sagas.get(anothers).await.expect("it is there").summary.state, SagaState::Running);
    money(&node, "authorize", succeeded()).await;
    money(&node, "book", succeeded()).await;
    assert_eq!(node.at_rest(anothers).await.summary.state, SagaState::Completed);
    node.close().await;
}
