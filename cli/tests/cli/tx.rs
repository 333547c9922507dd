//! `sagamq tx`.

use crate::support::{Scripted, json, run};
use sagamq_api::ErrorCode;
use serde_json::{Value, json};

const ID: &str = "00000000-0000-0000-0000-000000000001";

fn summary() -> Value {
    json!({
        "id": ID, "saga": "checkout", "version": 3, "key": "o-1", "state": "COMMITTING", "outcome": "committed", "branches_in_doubt": 1,
        "branches_disagreeing": 1, "in_doubt_since_ms": 1_000, "in_doubt_ms": 90_000, "saga_state": "BLOCKED", "started_at_ms": 0, "updated_at_ms": 0, "events": 9,
        "failure": { "code": "BRANCH_UNKNOWN", "message": "never heard of it" },
    })
}

fn description() -> Value {
    let mut description = summary();
    description["cluster"] = json!(ID);
    description["input"] = json!({ "order_id": "o-1" });
    description["branches"] = json!([
        { "branch": "stock", "state": "COMMITTED", "address": "http://stock:8080", "steps": ["reserve", "sell"] },
        {
            "branch": "money", "state": "DISAGREES", "address": "http://10.0.0.7:8080", "steps": ["charge"], "in_doubt_since_ms": 1_000,
            "in_doubt_ms": 90_000, "failure": { "code": "BRANCH_UNKNOWN", "message": "" }, "contradictions": ["changed_vote"],
        },
        { "branch": "mail", "state": "RESOLVED", "address": "http://mail", "steps": ["send"], "resolution": "rolled_back" },
    ]);
    description["failures"] = json!([{
        "step": "charge", "operation": "commit", "epoch": 2, "at_ms": 0, "failure": { "code": "BRANCH_UNKNOWN", "message": "" }
    }]);
    description
}

#[test]
fn transactions_are_listed_a_page_after_the_other() {
    let server = Scripted::new(|asked| {
        let next = (!asked.line.contains("after=")).then_some("page-2");
        json(&json!({ "transactions": [summary()], "next": next }))
    });
    let shown = server.run(&["tx", "list", "--in-doubt", "--state", "committing", "--saga", "checkout", "--all"]).expect(0).stdout;
    for part in [ID, "checkout v3", "o-1", "COMMITTING", "BLOCKED", "1 for 1m 30s, 1 disagrees", "BRANCH_UNKNOWN"] {
        assert!(shown.contains(part), "{part} is missing in\n{shown}");
    }
    let lines: Vec<String> = server.asked().iter().map(|asked| asked.line.clone()).collect();
    let first = "GET /v1/transactions?state=COMMITTING&in_doubt=true&saga=checkout&limit=1000";
    assert_eq!(lines, [first.to_owned(), format!("{first}&after=page-2")]);
    let server = Scripted::answering(&json!({ "transactions": [summary()] }));
    let list = server.run(&["tx", "list", "--output", "json"]).expect(0).json();
    assert_eq!(list["transactions"][0]["in_doubt_ms"], 90_000);
    assert_eq!(server.asked()[0].line, "GET /v1/transactions?limit=100");
}

#[test]
fn a_transaction_is_shown_with_who_holds_what() {
    let server = Scripted::answering(&description());
    let shown = server.run(&["tx", "get", ID]).expect(0).stdout;
    for part in [
        "committed",
        "reserve, sell",
        "http://10.0.0.7:8080",
        "DISAGREES (changed_vote)",
        "RESOLVED: rolled_back",
        "1m 30s",
        "BRANCH_UNKNOWN: never heard of it",
        "charge commit",
    ] {
        assert!(shown.contains(part), "{part} is missing in\n{shown}");
    }
    assert_eq!(server.run(&["tx", "get", ID, "--output", "json"]).expect(0).json()["branches"][1]["state"], "DISAGREES");
    let refusing = Scripted::refusing(ErrorCode::TransactionNotFound);
    assert!(refusing.run(&["tx", "get", ID]).expect(4).stderr.contains("sagamq tx list"));
    let history = json!({ "id": ID, "events": [{ "sequence": 0, "at_ms": 0, "type": "commit_decided", "data": {} }] });
    let server = Scripted::answering(&history);
    assert!(server.run(&["tx", "history", ID]).expect(0).stdout.contains("commit_decided"));
    assert_eq!(server.asked()[0].line, format!("GET /v1/transactions/{ID}/history"));
}

#[test]
fn what_became_of_a_branch_is_said_with_who_says_so_and_why() {
    let server = Scripted::answering(&description());
    let resolve = ["tx", "resolve", ID, "money", "rolled_back", "--reason", "I looked", "--actor", "ada"];
    assert!(server.run(&resolve).expect(0).stdout.contains("RESOLVED"));
    let asked = &server.asked()[0];
    assert_eq!(asked.line, format!("POST /v1/transactions/{ID}:resolve"));
    assert_eq!(asked.json(), json!({ "branch": "money", "outcome": "rolled_back", "actor": "ada", "reason": "I looked" }));
    run(&["tx", "resolve", ID, "money", "perhaps", "--reason", "x"]).expect(2);
    run(&["tx", "resolve", ID, "money", "committed"]).expect(2);
}

#[test]
fn a_saga_is_started_in_the_mode_that_is_asked_for_and_cancelled_by_somebody() {
    let started = json!({ "id": ID, "key": "o-1", "duplicate": false, "state": "RUNNING" });
    let server = Scripted::answering(&started);
    server.run(&["saga", "start", "checkout", "--input", "{}", "--mode", "2pc"]).expect(0);
    assert_eq!(server.asked()[0].json(), json!({ "saga": "checkout", "mode": "2pc", "input": {} }));
    run(&["saga", "start", "checkout", "--input", "{}", "--mode", "3pc"]).expect(2);
}
