//! The routes of transactions over real HTTP: what participants and operators are answered, and that nothing is guessed.

use crate::api::Api;
use crate::branches::Say;
use crate::common::{Node, ORDER};
use crate::shop::Shop;
use sagamq_api::transaction::TransactionState;
use sagamq_broker::storage::crash::CrashStorage;
use sagamq_broker::storage::{Durability, Family, Mutation, Storage};
use sagamq_saga::protocol::lane_of;
use sagamq_saga::store::keys::SagaKey;
use sagamq_saga::{InstanceError, OutcomeError};
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::sync::Semaphore;
use uuid::Uuid;

/// The status and the code of a problem.
fn code((status, problem): (u16, Value)) -> (u16, String) {
    (status, problem["code"].as_str().unwrap_or_default().to_owned())
}

fn expect(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

#[tokio::test]
async fn what_was_decided_is_told_of_transactions_that_are_unknown_and_never_guessed_where_it_cannot_be_known() {
    let node = Node::open(Arc::new(CrashStorage::new())).await.expect("it opens");
    let api = Api::of(&node).await;
    api.post("/v1/saga-definitions", ORDER).await;
    let saga = node.start("order", json!({"order": "1", "behave": ""})).await.expect("started").id;
    let (own, other) = (node.broker.cluster(), Uuid::nil());
    let unknown = Uuid::from_u128(7);
    let ask = async |id: Uuid, cluster| api.get(&format!("/v1/transactions/{id}/outcome?cluster={cluster}")).await;
    let (status, answer) = ask(unknown, own).await;
    assert_eq!((status, answer), (200, json!({"id": unknown, "outcome": "rolled_back", "known": false})));
    assert_eq!(code(ask(unknown, other).await), expect(409, "WRONG_CLUSTER"));
    assert_eq!(code(ask(saga, own).await), expect(400, "INVALID_REQUEST"), "a saga was never prepared");
    let no_lane = Uuid::from_u128(u128::MAX);
    assert_eq!(code(ask(no_lane, own).await), expect(400, "INVALID_REQUEST"), "the server has no such lane");
    assert_eq!(code(api.get(&format!("/v1/transactions/{unknown}/outcome")).await).0, 400, "whose transaction is meant is not said");
    node.sagas.shutdown().await;
    assert_eq!(code(ask(unknown, own).await), expect(503, "SHUTTING_DOWN"), "a lane that is not there presumes nothing");
    node.close().await;
}

#[tokio::test]
async fn a_transaction_is_started_listed_shown_and_resolved() {
    let (shop, node) = (Shop::open().await, Node::open(Arc::new(CrashStorage::new())).await.expect("it opens"));
    let api = Api::of(&node).await;
    assert_eq!(api.post("/v1/saga-definitions", shop.text.clone()).await.1["mode"], json!("2pc"));
    for _ in 0..2 {
        shop.money.says("commit", Say::Instead(409, json!({ "code": "BRANCH_ROLLED_BACK" })));
    }
    let start = json!({"saga": "shop", "mode": "2pc", "input": {"order": "1"}}).to_string();
    let (status, started) = api.post("/v1/sagas?wait_ms=60000", start).await;
    assert_eq!((status, &started["state"]), (201, &json!("BLOCKED")), "{started}");
    let path = format!("/v1/transactions/{}", started["id"].as_str().expect("an id"));
    let (_, shown) = api.get(&path).await;
    assert_eq!((&shown["state"], &shown["outcome"], &shown["saga_state"]), (&json!("COMMITTING"), &json!("committed"), &json!("BLOCKED")));
    assert_eq!((&shown["cluster"], &shown["branches"][1]["state"]), (&json!(node.broker.cluster()), &json!("DISAGREES")), "{shown}");
    assert_eq!(api.get("/v1/transactions?state=COMMITTING&saga=shop").await.1["transactions"][0]["id"], started["id"]);
    assert_eq!(api.get("/v1/transactions?state=ABORTED").await.1, json!({ "transactions": [] }));
    let saying = |branch: &str, outcome: &str, actor: &str| json!({"branch": branch, "outcome": outcome, "actor": actor, "reason": "x"});
    let resolve = async |body: Value| api.post(&format!("{path}:resolve"), body.to_string()).await;
    assert_eq!(code(resolve(saying("money", "committed", "")).await), expect(400, "INVALID_REQUEST"), "nobody says so");
    assert_eq!(code(resolve(saying("money", "perhaps", "ada")).await), expect(400, "INVALID_REQUEST"));
    assert_eq!(code(resolve(saying("nobody", "committed", "ada")).await), expect(400, "INVALID_REQUEST"));
    assert_eq!(code(resolve(saying("money", "committed", &"x".repeat(257))).await), expect(400, "INVALID_REQUEST"));
    assert_eq!(code(resolve(saying("stock", "committed", "ada")).await), expect(409, "SAGA_STATE_CONFLICT"), "it says so itself");
    let (status, resolved) = resolve(saying("money", "rolled_back", "ada")).await;
    assert_eq!((status, &resolved["heuristic"], &resolved["saga_state"]), (200, &json!("MIXED"), &json!("TERMINATED")), "{resolved}");
    assert_eq!(code(resolve(saying("money", "committed", "ada")).await), expect(409, "SAGA_STATE_CONFLICT"));
    let (_, history) = api.get(&format!("{path}/history")).await;
    assert_eq!(history["events"][0]["type"], json!("transaction_started"));
    let cancel = format!("/v1/sagas/{}:cancel", started["id"].as_str().expect("an id"));
    assert_eq!(code(api.post(&cancel, "{}").await), expect(409, "SAGA_STATE_CONFLICT"), "it is decided");
    node.close().await;
}

#[tokio::test]
async fn what_is_no_transaction_and_what_cannot_be_run_so_are_problems_with_a_code() {
    let (shop, node) = (Shop::open().await, Node::open(Arc::new(CrashStorage::new())).await.expect("it opens"));
    let api = Api::of(&node).await;
    api.post("/v1/saga-definitions", shop.text.clone()).await;
    api.post("/v1/saga-definitions", ORDER).await;
    let saga = node.start("order", json!({"order": "1", "behave": ""})).await.expect("started").id;
    for id in [Uuid::nil(), saga, Uuid::from_u128(u128::MAX)] {
        for path in [format!("/v1/transactions/{id}"), format!("/v1/transactions/{id}/history")] {
            assert_eq!(code(api.get(&path).await), expect(404, "TRANSACTION_NOT_FOUND"), "{path}");
        }
        let resolve = json!({"branch": "a", "outcome": "unknown", "actor": "ada", "reason": ""}).to_string();
        assert_eq!(code(api.post(&format!("/v1/transactions/{id}:resolve"), resolve).await), expect(404, "TRANSACTION_NOT_FOUND"), "{id}");
    }
    for query in ["limit=0", "after=x", "state=RUNNING", "in_doubt=maybe", "sagas=x"] {
        assert_eq!(api.get(&format!("/v1/transactions?{query}")).await.0, 400, "{query}");
    }
    let start = async |body: Value| code(api.post("/v1/sagas", body.to_string()).await);
    let queued = json!({"saga": "order", "mode": "2pc", "input": {"order": "2", "behave": ""}});
    assert_eq!(start(queued).await, expect(400, "MODE_NOT_POSSIBLE"));
    let as_saga = json!({"saga": "shop", "mode": "saga", "input": {"order": "1"}});
    assert_eq!(start(as_saga).await, expect(400, "MODE_NOT_POSSIBLE"));
    assert_eq!(start(json!({"saga": "shop", "mode": "3pc", "input": {"order": "1"}})).await, expect(400, "INVALID_REQUEST"));
    let other = json!({"saga": "order", "mode": "saga", "input": {"order": "1", "behave": "x"}});
    assert_eq!(start(other).await, expect(409, "SAGA_KEY_CONFLICT"));
    node.close().await;
}

/// The key of a row of an instance, with its shard.
fn row(id: Uuid, key: &SagaKey<'_>) -> Vec<u8> {
    [&lane_of(id).to_be_bytes()[..], &key.encode()].concat()
}

#[tokio::test]
async fn of_what_cannot_be_read_no_outcome_is_presumed() {
    let (shop, storage) = (Shop::open().await, CrashStorage::new());
    let node = shop.node(Arc::new(storage.clone())).await;
    let gate = Arc::new(Semaphore::new(0));
    let [damaged, gone, kept] = [node.order("damaged").await, node.order("gone").await, node.order("kept").await];
    for id in [damaged, gone, kept] {
        assert_eq!(node.ended(id).await.summary.status.state, TransactionState::Committed);
    }
    shop.money.says("commit", Say::Held(Arc::clone(&gate)));
    let open = node.order("open").await;
    node.transaction(open, |transaction| transaction.summary.status.state == TransactionState::Committing).await;
    let left = storage.after_kill();
    node.close().await;
    let (mut mutations, garbage) = (Vec::new(), b"\x01{}");
    for id in [damaged, open] {
        mutations.push(Mutation::Put { family: Family::Saga, key: row(id, &SagaKey::Event(id, 1)), value: garbage[..].into() });
    }
    mutations.extend((0..100).map(|event| Mutation::Delete { family: Family::Saga, key: row(gone, &SagaKey::Event(gone, event)) }));
    left.write(&mutations, Durability::Synced).expect("it writes");
    let node = shop.node(Arc::new(left)).await;
    let cluster = node.broker.cluster();
    for id in [damaged, gone] {
        let told = node.sagas.outcome(id, cluster).await;
        assert!(matches!(told, Err(OutcomeError::Instance(InstanceError::Store(_)))), "{told:?}");
    }
    let told = node.sagas.outcome(open, cluster).await;
    assert!(matches!(told, Err(OutcomeError::Instance(InstanceError::Quarantined { .. }))), "{told:?}");
    assert!(node.sagas.outcome(kept, cluster).await.expect("it can be read").known);
    gate.add_permits(9);
    node.close().await;
}
