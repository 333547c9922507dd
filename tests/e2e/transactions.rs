//! Transactions in two phases over real processes: the commands of operators, and `kill -9` of the server while services are in doubt.

#[path = "../../server/tests/sagas/branches.rs"]
pub(crate) mod branches;

use branches::{Kept, Say, Service};
use sagamq_api::saga::{SagaState, StartSaga};
use sagamq_api::transaction::{Outcome, TransactionDescription, TransactionState};
use sagamq_tests::ServerProcess;
use sagamq_tests::server::binary;
use serde_json::{Value, json};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use uuid::Uuid;

/// Longest time for anything here: generous, because this is no test of speed.
const PATIENCE: Duration = Duration::from_secs(120);

fn definition(stock: &str, money: &str) -> String {
    format!(
        "saga: shop\nversion: 1\nkey: ${{ input.order }}\ntimeout: 60s\n\
         defaults: {{ compensate_retry: {{ initial: 20ms, max: 100ms, attempts: 100 }} }}\n\
         services: {{ stock: {{ http: \"{stock}\" }}, money: {{ http: \"{money}\" }} }}\n\
         steps:\n  - {{ id: reserve, call: stock.reserve, compensate: stock.release }}\n  - {{ id: charge, call: money.charge, compensate: none }}\n"
    )
}

/// Runs a command of the client against the server; its answer as JSON, and its exit code.
fn sagamq(server: &ServerProcess, args: &[&str]) -> (Value, i32) {
    let output =
        Command::new(binary("sagamq")).args(args).args(["--output", "json", "--server", &server.url()]).output().expect("the command runs");
    let answer = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    (answer, output.status.code().expect("an exit code"))
}

async fn until(server: &ServerProcess, id: Uuid, wanted: impl Fn(&TransactionDescription) -> bool) -> TransactionDescription {
    let transactions = server.client().transactions();
    let mut last = None;
    let waited = tokio::time::timeout(PATIENCE, async {
        loop {
            if let Ok(found) = transactions.get(id).await {
                if wanted(&found) {
                    return found;
                }
                last = Some(found);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    match waited.await {
        Ok(found) => found,
        Err(_) => panic!("it does not get there: {last:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_see_what_is_in_doubt_and_say_what_became_of_it() {
    let server = ServerProcess::start().await;
    let (stock, money) = (Service::default(), Service::default());
    server.client().sagas().publish(&definition(&stock.serve(0).await, &money.serve(0).await)).await.expect("legal");
    for _ in 0..3 {
        money.says("commit", Say::Instead(409, json!({ "code": "BRANCH_ROLLED_BACK", "message": "restored from a backup" })));
    }
    let start = ["saga", "start", "shop", "--mode", "2pc", "--input", "{\"order\":\"1\"}", "--wait"];
    let (blocked, code) = sagamq(&server, &start);
    assert_eq!((&blocked["state"], &blocked["transaction"]["state"], code), (&json!("BLOCKED"), &json!("COMMITTING"), 1), "{blocked}");
    let id = blocked["id"].as_str().expect("an id");
    let (listed, _) = sagamq(&server, &["tx", "list", "--state", "committing", "--saga", "shop"]);
    assert_eq!((listed["transactions"].as_array().map(Vec::len), &listed["transactions"][0]["id"]), (Some(1), &json!(id)), "{listed}");
    let (shown, _) = sagamq(&server, &["tx", "get", id]);
    let held = &shown["branches"][1];
    assert_eq!((&held["branch"], &held["state"], &held["steps"]), (&json!("money"), &json!("DISAGREES"), &json!(["charge"])), "{shown}");
    let resolve = ["tx", "resolve", id, "money", "rolled_back", "--reason", "the backup is older", "--actor", "ada"];
    let (resolved, code) = sagamq(&server, &resolve);
    assert_eq!((&resolved["heuristic"], &resolved["saga_state"], code), (&json!("MIXED"), &json!("TERMINATED"), 0), "{resolved}");
    let lines = [
        r#"sagamq_transaction_heuristics_total{saga="shop",outcome="mixed"} 1"#,
        r#"sagamq_transactions_decided_total{saga="shop",outcome="committed"} 1"#,
        r#"sagamq_branch_lock_seconds_count{saga="shop",outcome="committed"} 1"#,
        "sagamq_transactions_in_doubt 0",
        "sagamq_transaction_in_doubt_oldest_seconds 0.0",
    ];
    server.shows(&lines).await;
    let (_, again) = sagamq(&server, &["tx", "resolve", id, "money", "committed", "--reason", "no", "--actor", "bob"]);
    assert_eq!(again, 1, "what was said is not said otherwise");
    let (history, _) = sagamq(&server, &["tx", "history", id]);
    let told = history["events"].as_array().expect("events").iter().any(|event| event["data"]["actor"] == "ada");
    assert!(told, "{history}");
    let (conflict, code) = sagamq(&server, &["saga", "start", "shop", "--mode", "saga", "--input", "{\"order\":\"1\"}"]);
    assert_eq!((conflict, code), (Value::Null, 1), "the same key in another mode");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_rolls_back_what_it_had_not_decided_and_goes_on_with_what_it_had() {
    let mut server = ServerProcess::start().await;
    let (stock, money) = (Service::default(), Service::default());
    server.client().sagas().publish(&definition(&stock.serve(0).await, &money.serve(0).await)).await.expect("legal");
    let start = async |server: &ServerProcess, order: &str| {
        let (saga, mode) = ("shop".parse().expect("legal"), "2pc".parse().ok());
        let start = StartSaga { saga, version: None, mode, input: json!({ "order": order }).into() };
        server.client().sagas().start(&start).await.expect("started").id
    };
    let gate = Arc::new(Semaphore::new(0));
    money.says("prepare", Say::Held(Arc::clone(&gate)));
    let voting = start(&server, "voting").await;
    until(&server, voting, |found| found.summary.status.state == TransactionState::Preparing && stock.kept(voting) == Some(Kept::Prepared))
        .await;
    for _ in 0..2 {
        money.says("commit", Say::Held(Arc::clone(&gate)));
    }
    let decided = start(&server, "decided").await;
    // Both have voted, one has committed, and its answer was heard.
    let told = until(&server, decided, |found| {
        found.summary.status.state == TransactionState::Committing && found.summary.status.branches_in_doubt == 1
    })
    .await;
    let (doubtful, _) = sagamq(&server, &["tx", "list", "--in-doubt"]);
    let of = doubtful["transactions"].as_array().expect("a list").iter().find(|row| row["id"] == json!(decided)).cloned();
    assert!(of.is_some_and(|row| row["branches_in_doubt"] == 1 && row["in_doubt_ms"].is_u64()), "{doubtful}");
    server.kill();
    server.restart().await;
    let transactions = server.client().transactions();
    let outcome = transactions.outcome(decided, told.cluster).await.expect("it is known");
    assert_eq!((outcome.outcome, outcome.known), (Outcome::Committed, true));
    gate.add_permits(9);
    let aborted = until(&server, voting, |found| found.summary.status.state.is_final()).await;
    assert_eq!(aborted.summary.status.state, TransactionState::Aborted, "{aborted:?}");
    let committed = until(&server, decided, |found| found.summary.status.state.is_final()).await;
    assert_eq!((committed.summary.status.state, committed.summary.saga_state), (TransactionState::Committed, SagaState::Completed));
    assert_eq!((stock.kept(decided), money.kept(decided)), (Some(Kept::Committed), Some(Kept::Committed)));
    assert_eq!(stock.kept(voting), Some(Kept::RolledBack));
    let unknown = transactions.outcome(Uuid::from_u128(1), told.cluster).await.expect("nothing is known of it");
    assert_eq!((unknown.outcome, unknown.known), (Outcome::RolledBack, false));
}
