//! Transactions in two phases, with services in the process of the test: how they commit and roll back, and what participants are told.

mod crash;
mod seen;

use crate::branches::{Kept, Say, Service};
use crate::common::Node;
use crate::shop::Shop;
use core::time::Duration;
use sagamq_api::saga::{HistoryQuery, Mode, SagaState, SagaVerb, StartSaga};
use sagamq_api::transaction::{BranchState, Outcome, TransactionDescription, TransactionState};
use sagamq_broker::env::ManualClock;
use sagamq_broker::storage::crash::CrashStorage;
use sagamq_saga::protocol::Rejection;
use sagamq_saga::{OperateError, OrchestratorConfig, OutcomeError, StartError};
use serde_json::json;
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

async fn open() -> (Shop, Node) {
    let shop = Shop::open().await;
    let node = shop.node(Arc::new(CrashStorage::new())).await;
    (shop, node)
}

fn branches(transaction: &TransactionDescription) -> Vec<(&str, BranchState)> {
    transaction.branches.iter().map(|branch| (branch.branch.as_str(), branch.state)).collect()
}

fn why(transaction: &TransactionDescription) -> &str {
    transaction.summary.failure.as_ref().map_or("", |failure| failure.code.as_str())
}

fn kept(shop: &Shop, id: Uuid) -> (Option<Kept>, Option<Kept>) {
    (shop.stock.kept(id), shop.money.kept(id))
}

#[tokio::test]
async fn what_all_have_voted_for_is_committed_everywhere() {
    let (shop, node) = open().await;
    let id = node.order("1").await;
    let done = node.ended(id).await;
    assert_eq!((done.summary.status.state, done.summary.saga_state), (TransactionState::Committed, SagaState::Completed), "{done:?}");
    assert_eq!(done.output, Some(json!({ "sold": "sell" }).into()));
    assert_eq!(branches(&done), [("stock", BranchState::Committed), ("money", BranchState::Committed)]);
    assert_eq!(kept(&shop, id), (Some(Kept::Committed), Some(Kept::Committed)));
    assert_eq!(shop.stock.words(id), ["reserve", "sell", "prepare", "commit"]);
    assert_eq!(shop.money.words(id), ["charge", "prepare", "commit"]);
    let call = shop.stock.calls().pop().expect("it was called").1;
    let context = call.transaction.expect("a call of a transaction");
    assert_eq!((context.cluster, context.branch.as_str()), (node.broker.cluster(), "stock"));
    assert_eq!((call.attempt.step.as_str(), call.arguments.as_str()), ("reserve", "{}"), "the first step of the branch stands for it");
    assert_eq!(node.decided(id).await, (Outcome::Committed, true));
    let saga = node.sagas.get(id).await.expect("it is a saga as well");
    assert_eq!((saga.summary.state, saga.steps.len()), (SagaState::Completed, 3));
    assert_eq!(saga.summary.transaction.map(|status| status.state), Some(TransactionState::Committed));
    let history = node.sagas.history(id, HistoryQuery::default()).await.expect("it has one");
    let kinds: Vec<&str> = history.events.iter().map(|event| event.r#type.as_str()).collect();
    assert_eq!((kinds[0], kinds.iter().filter(|kind| **kind == "commit_decided").count()), ("transaction_started", 1), "{kinds:?}");
    node.close().await;
}

#[tokio::test]
async fn a_refusal_an_unknown_outcome_and_a_vote_against_it_roll_all_of_it_back() {
    let (shop, node) = open().await;
    for (order, word, said, code) in [
        ("refused", "charge", Say::Instead(409, json!({ "code": "NO_MONEY" })), "NO_MONEY"),
        ("unknown", "charge", Say::After(500, json!({ "code": "LOST" })), "LOST"),
        ("against", "prepare", Say::Instead(409, json!({ "code": "TOO_LATE" })), "TOO_LATE"),
    ] {
        shop.money.says(word, said);
        let id = node.order(order).await;
        let done = node.ended(id).await;
        assert_eq!(
            (done.summary.status.state, done.summary.saga_state),
            (TransactionState::Aborted, SagaState::Failed),
            "{order}: {done:?}"
        );
        assert_eq!(why(&done), code, "{order}");
        assert_eq!(shop.stock.kept(id), Some(Kept::RolledBack), "{order}");
        assert!(!shop.money.words(id).contains(&"commit".to_owned()), "{order}");
        assert_eq!(node.decided(id).await, (Outcome::RolledBack, true), "{order}");
        assert!(done.branches.iter().all(|branch| branch.in_doubt_since_ms.is_none()), "{order}: {done:?}");
    }
    node.close().await;
}

#[tokio::test]
async fn a_vote_that_is_not_heard_in_time_rolls_it_back() {
    let (shop, clock) = (Shop::open().await, ManualClock::at(1_800_000_000_000));
    let config = OrchestratorConfig::default();
    let node = Node::open_with(Arc::new(CrashStorage::new()), Arc::new(clock.clone()), config).await.expect("it opens");
    node.sagas.publish(&shop.text).await.expect("legal");
    let gate = Arc::new(Semaphore::new(0));
    for _ in 0..20 {
        shop.money.says("prepare", Say::Held(Arc::clone(&gate)));
    }
    let id = node.order("1").await;
    node.transaction(id, |transaction| transaction.branches[0].state == BranchState::Prepared).await;
    clock.advance(Duration::from_secs(60));
    let done = node.ended(id).await;
    assert_eq!((done.summary.status.state, why(&done)), (TransactionState::Aborted, "TRANSACTION_TIMEOUT"), "{done:?}");
    assert_eq!(shop.stock.kept(id), Some(Kept::RolledBack));
    node.close().await;
}

#[tokio::test]
async fn who_has_changed_nothing_hears_no_more_and_one_branch_commits_without_a_vote() {
    let (shop, node) = open().await;
    shop.money.read_only();
    let id = node.order("1").await;
    let done = node.ended(id).await;
    assert_eq!(branches(&done), [("stock", BranchState::Committed), ("money", BranchState::ReadOnly)]);
    assert_eq!(shop.money.words(id), ["charge", "prepare"]);
    let alone = Shop::open().await.with("money.charge", "stock.charge").with("saga: shop", "saga: alone");
    node.sagas.publish(&alone.text).await.expect("legal");
    let id = node.start("alone", json!({ "order": "1" })).await.expect("started").id;
    let done = node.ended(id).await;
    assert_eq!(done.summary.status.state, TransactionState::Committed, "{done:?}");
    assert_eq!(alone.stock.words(id), ["reserve", "charge", "sell", "commit_one_phase"]);
    node.close().await;
}

#[tokio::test]
async fn calls_of_a_branch_go_to_the_worker_that_has_it_open() {
    let (shop, node) = open().await;
    let here = shop.stock.serve(1).await;
    shop.stock.says("reserve", Say::At(format!("{here}/")));
    let id = node.order("1").await;
    let done = node.ended(id).await;
    assert_eq!((done.summary.status.state, &done.branches[0].address), (TransactionState::Committed, &here));
    let workers: Vec<usize> = shop.stock.calls().into_iter().map(|(worker, _)| worker).collect();
    assert_eq!(workers, [0, 1, 1, 1], "all but the first");
    for address in ["ftp://h", "http://", "http://user@h", "http://h/?a=b", "nonsense"] {
        shop.stock.says("reserve", Say::At(address.to_owned()));
        let done = node.ended(node.order(address).await).await;
        assert_eq!((done.summary.status.state, why(&done)), (TransactionState::Aborted, "BRANCH_ADDRESS_INVALID"), "{address}: {done:?}");
    }
    node.close().await;
}

/// A transaction whose stock is at a worker of its own, and which waits for a last vote. Gives what lets that vote go.
async fn at_a_worker(shop: &Shop, node: &Node, address: &str, keeps: &Service) -> (Uuid, Arc<Semaphore>) {
    let (acts, votes) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    shop.stock.says("reserve", Say::At(address.to_owned()));
    shop.money.says("charge", Say::Held(Arc::clone(&acts))).says("prepare", Say::Held(Arc::clone(&votes)));
    let id = node.order("1").await;
    node.transaction(id, |transaction| transaction.branches[0].address == address).await;
    if keeps.kept(id).is_none() {
        shop.stock.keep(id, None);
        keeps.keep(id, Some(Kept::Open(1)));
    }
    acts.add_permits(1);
    node.transaction(id, |transaction| transaction.branches[0].state == BranchState::Prepared).await;
    (id, votes)
}

#[tokio::test]
async fn a_worker_that_is_gone_leaves_the_commit_to_its_service() {
    let (shop, node) = open().await;
    let gone = CancellationToken::new();
    let here = shop.stock.serve_at(1, "127.0.0.1:0", gone.clone()).await;
    let (id, votes) = at_a_worker(&shop, &node, &here, &shop.stock).await;
    gone.cancel();
    votes.add_permits(1);
    let done = node.ended(id).await;
    assert_eq!((done.summary.status.state, kept(&shop, id).0), (TransactionState::Committed, Some(Kept::Committed)), "{done:?}");
    let workers: Vec<usize> = shop.stock.calls().into_iter().map(|(worker, _)| worker).collect();
    assert_eq!(workers, [0, 1, 1, 0], "the other one was told the decision");
    let not_sent = done.failures.iter().filter(|failed| failed.failure.code == "NOT_SENT").count();
    assert!(not_sent >= 3, "and only when nothing could be sent to the first: {done:?}");
    node.close().await;
}

#[tokio::test]
async fn a_service_that_does_not_know_the_branch_of_its_worker_does_not_contradict_it() {
    let (shop, node, other) = {
        let (shop, node) = open().await;
        (shop, node, Service::default())
    };
    let gone = CancellationToken::new();
    let here = other.serve_at(1, "127.0.0.1:0", gone.clone()).await;
    let (id, votes) = at_a_worker(&shop, &node, &here, &other).await;
    gone.cancel();
    votes.add_permits(1);
    let told = |service: &Service| service.words(id).iter().filter(|word| *word == "commit").count();
    node.transaction(id, |transaction| told(&shop.stock) >= 2 && transaction.branches[1].state == BranchState::Committed).await;
    let waits = node.sagas.transaction(id).await.expect("it is there");
    assert_eq!((waits.summary.status.state, waits.summary.saga_state), (TransactionState::Committing, SagaState::Running), "{waits:?}");
    assert_eq!((told(&other), other.kept(id)), (0, Some(Kept::Prepared)));
    other.serve_at(1, here.trim_start_matches("http://"), CancellationToken::new()).await;
    let done = node.ended(id).await;
    assert_eq!((done.summary.status.state, other.kept(id)), (TransactionState::Committed, Some(Kept::Committed)), "it came back: {done:?}");
    node.close().await;
}

#[tokio::test]
async fn a_worker_may_only_be_where_participants_may_be() {
    let shop = Shop::open().await;
    let config = OrchestratorConfig { participant_hosts: vec!["127.0.0.1".parse().expect("a host")], ..Default::default() };
    let clock = Arc::new(sagamq_broker::env::SystemClock);
    let node = Node::open_with(Arc::new(CrashStorage::new()), clock, config).await.expect("it opens");
    node.sagas.publish(&shop.text).await.expect("legal");
    shop.stock.says("reserve", Say::At("http://169.254.169.254/latest".to_owned()));
    let done = node.ended(node.order("1").await).await;
    assert_eq!((done.summary.status.state, why(&done)), (TransactionState::Aborted, "PARTICIPANT_HOST_NOT_ALLOWED"), "{done:?}");
    node.close().await;
}

#[tokio::test]
async fn a_start_may_say_how_it_is_run_and_the_same_key_in_another_mode_is_a_conflict() {
    let (shop, node) = open().await;
    let start = async |saga: &str, order: &str, mode| {
        let input = json!({ "order": order }).into();
        node.sagas.start(StartSaga { saga: saga.parse().expect("legal"), version: None, mode, input }).await
    };
    let as_saga = start("shop", "1", Some(Mode::Saga)).await;
    assert!(matches!(&as_saga, Err(StartError::ModeNotPossible { reason, .. }) if reason.contains("`reserve`")), "{as_saga:?}");
    let both = shop
        .clone()
        .with("saga: shop", "saga: both")
        .with("mode: 2pc\n", "")
        .with("call: stock.reserve\n", "call: stock.reserve\n    compensate: stock.release\n");
    node.sagas.publish(&both.text).await.expect("legal");
    let id = start("both", "1", Some(Mode::TwoPhase)).await.expect("it can be run so").id;
    assert_eq!(node.ended(id).await.summary.status.state, TransactionState::Committed);
    let other = start("both", "1", Some(Mode::Saga)).await;
    assert!(matches!(&other, Err(StartError::ModeConflict { id: of, mode: Mode::TwoPhase, .. }) if *of == id), "{other:?}");
    for mode in [None, Some(Mode::TwoPhase)] {
        let again = start("both", "1", mode).await.expect("it is the same");
        assert_eq!((again.id, again.duplicate), (id, true), "{mode:?}");
    }
    let id = start("both", "2", None).await.expect("as the definition says").id;
    assert!(matches!(node.sagas.transaction(id).await, Err(sagamq_saga::TransactionError::Saga(_))));
    assert!(matches!(node.sagas.outcome(id, node.broker.cluster()).await, Err(OutcomeError::Saga(_))));
    node.sagas.publish(crate::common::ORDER).await.expect("legal");
    let queued = start("order", "3", Some(Mode::TwoPhase)).await;
    assert!(
        matches!(&queued, Err(StartError::ModeNotPossible { reason, .. }) if reason.contains("`stock`") && reason.contains("topic")),
        "{queued:?}"
    );
    node.close().await;
}

#[tokio::test]
async fn a_transaction_is_cancelled_until_it_is_decided() {
    let (shop, node) = open().await;
    let gate = Arc::new(Semaphore::new(0));
    shop.money.says("charge", Say::Held(Arc::clone(&gate)));
    let id = node.order("1").await;
    node.transaction(id, |transaction| transaction.branches[1].state == BranchState::Active).await;
    assert_eq!(node.decided(id).await, (Outcome::Undecided, true));
    node.operate(id, SagaVerb::Cancel).await.expect("it is not decided");
    assert_eq!(node.decided(id).await, (Outcome::RolledBack, true));
    gate.add_permits(1);
    let done = node.ended(id).await;
    assert_eq!((done.summary.status.state, why(&done)), (TransactionState::Aborted, "CANCELLED"));
    let history = node.sagas.history(id, HistoryQuery::default()).await.expect("it has one");
    let decided = history.events.iter().find(|event| event.r#type == "abort_decided").expect("it is decided");
    assert_eq!(decided.data.to_value()["actor"], json!("ada"));
    let late = node.ended(node.order("2").await).await.summary.id;
    assert!(matches!(node.operate(late, SagaVerb::Cancel).await, Err(OperateError::Rejected(Rejection::AlreadyFinal(_)))));
    node.close().await;
}

#[tokio::test]
async fn a_restart_between_votes_and_decision_rolls_it_back_and_one_behind_the_decision_goes_on() {
    let shop = Shop::open().await;
    let storage = CrashStorage::new();
    let node = shop.node(Arc::new(storage.clone())).await;
    let (votes, commits) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    shop.money.says("prepare", Say::Held(Arc::clone(&votes)));
    let voting = node.order("voting").await;
    node.transaction(voting, |transaction| transaction.branches[0].state == BranchState::Prepared).await;
    for _ in 0..2 {
        shop.money.says("commit", Say::Held(Arc::clone(&commits)));
    }
    let deciding = node.order("deciding").await;
    node.transaction(deciding, |transaction| transaction.branches[0].state == BranchState::Committed).await;
    assert_eq!(node.decided(voting).await, (Outcome::Undecided, true));
    assert_eq!(node.decided(deciding).await, (Outcome::Committed, true));
    let left = storage.after_kill();
    node.close().await;
    let node = shop.node(Arc::new(left)).await;
    assert_eq!(node.decided(deciding).await, (Outcome::Committed, true));
    let aborted = node.ended(voting).await;
    assert_eq!((aborted.summary.status.state, why(&aborted)), (TransactionState::Aborted, "COORDINATOR_RESTARTED"), "{aborted:?}");
    assert_eq!(shop.stock.kept(voting), Some(Kept::RolledBack));
    commits.add_permits(9);
    assert_eq!(node.ended(deciding).await.summary.status.state, TransactionState::Committed);
    assert_eq!(kept(&shop, deciding), (Some(Kept::Committed), Some(Kept::Committed)));
    node.close().await;
}
