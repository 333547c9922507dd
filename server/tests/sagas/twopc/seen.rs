//! What operators see of transactions, and what they say of branches: services that do not keep to the protocol, lists, and when one is forgotten.

use super::open;
use crate::branches::{Kept, Say, Service};
use crate::common::Node;
use crate::shop::Shop;
use core::time::Duration;
use sagamq_api::saga::{Call, CallOutcome, CompleteCall, HistoryQuery, Operation, Retention, SagaState, SagaVerb};
use sagamq_api::transaction::{
    BranchOutcome, BranchState, Contradiction, Heuristic, Outcome, ResolveBranch, TransactionQuery, TransactionState,
};
use sagamq_saga::protocol::Rejection;
use sagamq_saga::{CallError, InstanceError, OperateError};
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio::sync::Semaphore;
use uuid::Uuid;

/// A transaction whose second branch is told to commit and says otherwise.
async fn disagreeing(shop: &Shop, node: &Node, order: &str) -> Uuid {
    for _ in 0..3 {
        shop.money.says("commit", Say::Instead(409, json!({ "code": "BRANCH_ROLLED_BACK", "message": "the disk was replaced" })));
    }
    let id = node.order(order).await;
    let blocked = node.ended(id).await;
    assert_eq!(
        (blocked.summary.status.state, blocked.summary.saga_state),
        (TransactionState::Committing, SagaState::Blocked),
        "{blocked:?}"
    );
    assert_eq!(blocked.branches[1].state, BranchState::Disagrees);
    assert_eq!(blocked.branches[1].failure.as_ref().map(|failure| failure.code.as_str()), Some("BRANCH_ROLLED_BACK"));
    id
}

#[tokio::test]
async fn what_an_operator_says_of_a_branch_ends_the_transaction_and_is_reported() {
    let (shop, node) = open().await;
    for (outcome, heuristic, state) in [
        (BranchOutcome::RolledBack, Some(Heuristic::Mixed), SagaState::Terminated),
        (BranchOutcome::Unknown, Some(Heuristic::Hazard), SagaState::Terminated),
        (BranchOutcome::Committed, None, SagaState::Completed),
    ] {
        let id = disagreeing(&shop, &node, outcome.as_str()).await;
        let say =
            |branch: &str| ResolveBranch { branch: branch.to_owned(), outcome, actor: "ada".to_owned(), reason: "I looked".to_owned() };
        let nobody = node.sagas.resolve(id, say("nobody")).await;
        assert!(matches!(nobody, Err(OperateError::Rejected(Rejection::NoSuchBranch(_)))), "{nobody:?}");
        let settled = node.sagas.resolve(id, say("stock")).await;
        assert!(matches!(settled, Err(OperateError::Rejected(_))), "stock has committed: {settled:?}");
        node.sagas.resolve(id, say("money")).await.expect("it is decided");
        let done = node.ended(id).await;
        assert_eq!((done.summary.status.heuristic, done.summary.saga_state), (heuristic, state), "{done:?}");
        assert_eq!((done.branches[1].state, done.branches[1].resolution), (BranchState::Resolved, Some(outcome)));
        assert_eq!(node.decided(id).await, (Outcome::Committed, true), "a decision never changes");
        let history = node.sagas.history(id, HistoryQuery::default()).await.expect("it has one");
        let resolved = history.events.iter().find(|event| event.r#type == "branch_resolved").expect("it is written down").data.to_value();
        assert_eq!((&resolved["actor"], &resolved["reason"]), (&json!("ada"), &json!("I looked")), "{resolved}");
    }
    let undecided =
        ResolveBranch { branch: "stock".to_owned(), outcome: BranchOutcome::Committed, actor: "ada".to_owned(), reason: String::new() };
    let nobody = node.sagas.resolve(Uuid::from_u128(9), undecided).await;
    assert!(matches!(nobody, Err(OperateError::Instance(_))), "{nobody:?}");
    node.close().await;
}

/// The vote of a branch of this service, as if it came again or late.
fn vote(service: &Service, id: Uuid, vote: &str) -> CompleteCall {
    let asked = |call: &Call| call.attempt.instance == id && call.attempt.operation == Operation::Prepare;
    let prepare = service.calls().into_iter().map(|(_, call)| call).find(asked).expect("it was asked for its vote");
    crate::common::reply_to(&prepare, CallOutcome::Succeeded { output: json!({ "vote": vote }).into() })
}

#[tokio::test]
async fn a_branch_that_votes_twice_is_told_as_such_if_it_votes_otherwise_and_changes_nothing() {
    let (shop, node) = open().await;
    let gate = Arc::new(Semaphore::new(0));
    shop.money.says("commit", Say::Held(Arc::clone(&gate)));
    let id = node.order("1").await;
    node.transaction(id, |transaction| transaction.branches[0].state == BranchState::Committed).await;
    assert!(node.sagas.complete(vote(&shop.money, id, "yes")).await.expect("the vote that is known").duplicate);
    assert_eq!(node.sagas.transaction(id).await.expect("there").branches[1].contradictions, []);
    node.sagas.complete(vote(&shop.money, id, "read_only")).await.expect("it is written down");
    let after = node.sagas.transaction(id).await.expect("there");
    assert_eq!(
        (after.summary.status.outcome, &after.branches[1].contradictions[..]),
        (Outcome::Committed, &[Contradiction::ChangedVote][..])
    );
    gate.add_permits(1);
    assert_eq!(node.ended(id).await.summary.status.state, TransactionState::Committed);
    let mut nobody = vote(&shop.money, id, "yes");
    nobody.attempt.instance = Uuid::from_u128(3);
    assert!(matches!(node.sagas.complete(nobody).await, Err(CallError::Instance(InstanceError::NotFound(_)))));
    let late = node.sagas.complete(vote(&shop.money, id, "read_only")).await;
    assert!(matches!(late, Err(CallError::Rejected(Rejection::Fenced { .. }))), "it is at its end: {late:?}");
    node.close().await;
}

#[tokio::test]
async fn a_vote_that_comes_after_the_decision_is_told_as_such() {
    let (shop, node) = open().await;
    let gate = Arc::new(Semaphore::new(0));
    shop.stock.says("rollback", Say::Held(Arc::clone(&gate)));
    shop.money.says("prepare", Say::Held(Arc::clone(&gate)));
    let id = node.order("1").await;
    node.transaction(id, |transaction| transaction.branches[0].state == BranchState::Prepared).await;
    node.operate(id, SagaVerb::Cancel).await.expect("it is not decided");
    node.sagas.complete(vote(&shop.money, id, "yes")).await.expect("it is written down");
    let after = node.sagas.transaction(id).await.expect("there");
    assert_eq!(
        (after.summary.status.outcome, &after.branches[1].contradictions[..]),
        (Outcome::RolledBack, &[Contradiction::LateVote][..])
    );
    gate.add_permits(9);
    assert_eq!(node.ended(id).await.summary.status.state, TransactionState::Aborted);
    node.close().await;
}

#[tokio::test]
async fn a_participant_that_lost_what_it_prepared_is_shown_to_the_operator() {
    let (shop, node) = open().await;
    let gate = Arc::new(Semaphore::new(0));
    shop.money.says("commit", Say::Held(Arc::clone(&gate)));
    let id = node.order("1").await;
    let told = node.transaction(id, |transaction| transaction.branches[1].state == BranchState::Committing).await;
    assert_eq!(told.summary.status.outcome, Outcome::Committed);
    shop.money.keep(id, None);
    gate.add_permits(1);
    let blocked = node.ended(id).await;
    assert_eq!(blocked.summary.saga_state, SagaState::Blocked, "{blocked:?}");
    assert_eq!(blocked.branches[1].failure.as_ref().map(|failure| failure.code.as_str()), Some("BRANCH_UNKNOWN"));
    assert_eq!(shop.stock.kept(id), Some(Kept::Committed), "the others are not held back");
    node.close().await;
}

#[tokio::test]
async fn transactions_are_listed_with_what_is_in_doubt() {
    let (shop, node) = open().await;
    let done = node.order("done").await;
    node.ended(done).await;
    let commits = Arc::new(Semaphore::new(0));
    shop.money.says("commit", Say::Held(Arc::clone(&commits)));
    let doubtful = node.order("doubtful").await;
    node.transaction(doubtful, |transaction| transaction.branches[0].state == BranchState::Committed).await;
    node.sagas.publish(crate::common::ORDER).await.expect("legal");
    node.start("order", json!({ "order": "1", "behave": "" })).await.expect("a saga, which is none of these");
    let blocked = disagreeing(&shop, &node, "blocked").await;
    let list = async |query: TransactionQuery| -> Vec<Uuid> {
        let mut found: Vec<Uuid> = node.sagas.transactions(query).await.expect("listed").transactions.iter().map(|row| row.id).collect();
        found.sort_unstable();
        found
    };
    let mut all = [done, doubtful, blocked];
    all.sort_unstable();
    assert_eq!(list(TransactionQuery::default()).await, all);
    let mut doubts = [doubtful, blocked];
    doubts.sort_unstable();
    assert_eq!(list(TransactionQuery { in_doubt: Some(true), ..TransactionQuery::default() }).await, doubts);
    let status = node.sagas.transaction(blocked).await.expect("there").summary.status;
    assert_eq!((status.branches_in_doubt, status.branches_disagreeing), (0, 1), "nobody holds locks, and somebody has to look");
    assert_eq!(list(TransactionQuery { in_doubt: Some(false), ..TransactionQuery::default() }).await, [done]);
    let state = |state| TransactionQuery { state: Some(state), ..TransactionQuery::default() };
    assert_eq!(list(state(TransactionState::Committed)).await, [done]);
    assert_eq!(list(state(TransactionState::Committing)).await, doubts);
    assert_eq!(
        list(TransactionQuery { saga: Some("other".parse().expect("legal")), ..TransactionQuery::default() }).await,
        Vec::<Uuid>::new()
    );
    let page = node.sagas.transactions(TransactionQuery { limit: Some(2), ..TransactionQuery::default() }).await.expect("listed");
    let next = node.sagas.transactions(TransactionQuery { limit: Some(1), after: page.next.clone(), ..TransactionQuery::default() }).await;
    let next = next.expect("listed");
    let places: Vec<_> = page.transactions.iter().chain(&next.transactions).map(|row| (row.started_at_ms, row.id)).collect();
    assert!(places.is_sorted_by(|a, b| a > b), "those that started last come first: {places:?}");
    assert_eq!(places.into_iter().map(|(_, id)| id).collect::<BTreeSet<_>>(), BTreeSet::from(all));
    assert_eq!((page.next.is_some(), next.next), (true, None));
    let one = node.sagas.transaction(doubtful).await.expect("there");
    assert_eq!(one.summary.status.branches_in_doubt, 1);
    assert!(one.branches[1].in_doubt_ms.is_some() && one.branches[0].in_doubt_ms.is_none(), "{one:?}");
    let steps: Vec<Vec<&str>> = one.branches.iter().map(|branch| branch.steps.iter().map(|step| step.as_str()).collect()).collect();
    assert_eq!(steps, [vec!["reserve", "sell"], vec!["charge"]]);
    commits.add_permits(1);
    let settled: &Service = &shop.money;
    node.ended(doubtful).await;
    assert_eq!(settled.kept(doubtful), Some(Kept::Committed));
    node.close().await;
}

#[tokio::test]
async fn a_transaction_is_forgotten_once_every_branch_has_acknowledged_its_end_itself() {
    let (shop, node) = open().await;
    let mut resolved = vec![disagreeing(&shop, &node, "resolved").await];
    // What its service was told to answer may be left for others.
    let first = loop {
        let id = node.order(&format!("after {}", resolved.len())).await;
        if node.ended(id).await.summary.saga_state != SagaState::Blocked {
            break id;
        }
        resolved.push(id);
    };
    for id in &resolved {
        let (branch, actor, reason) = ("money".to_owned(), "ada".to_owned(), "I looked".to_owned());
        let say = ResolveBranch { branch, outcome: BranchOutcome::Committed, actor, reason };
        node.sagas.resolve(*id, say).await.expect("it is decided");
        assert!(node.ended(*id).await.summary.status.state.is_final());
    }
    let second = node.order("second").await;
    node.ended(second).await;
    let only_one = Retention { keep_ms: None, keep_count: Some(1) };
    node.sagas.set_retention(None, Some(only_one)).await.expect("set");
    let left = tokio::time::timeout(crate::common::LIMIT, async {
        loop {
            let listed = node.sagas.transactions(TransactionQuery::default()).await.expect("listed").transactions;
            if listed.iter().all(|row| row.id != first) {
                return listed.into_iter().map(|row| row.id).collect::<BTreeSet<_>>();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let left = left.await.expect("one is forgotten");
    // Their service never said so itself, and may still ask.
    assert_eq!(left, resolved.iter().copied().chain([second]).collect());
    assert_eq!(node.decided(resolved[0]).await, (Outcome::Committed, true));
    assert_eq!(node.decided(first).await, (Outcome::RolledBack, false), "nobody who committed asks for it any more");
    node.close().await;
}
