//! `sagamq saga repair`.

use crate::support::{Scripted, json, run};
use sagamq_api::ErrorCode;
use serde_json::{Value, json};

const ID: &str = "00000000-0000-8000-8000-000000000001";
const SAGA: &str = "00000000-0000-8000-8000-000000000002";

fn repair(state: &str) -> Value {
    json!({
        "id": ID, "key": "bank", "state": state, "filter": { "saga": "checkout", "state": "BLOCKED", "unchanged_for_ms": 60_000 },
        "operate": { "verb": "retry", "reason": "the bank is back", "actor": "ada" }, "rate": 20, "max_sagas": 10_000, "patience_ms": 60_000,
        "created_at_ms": 0, "updated_at_ms": 0, "found": 7, "is_all_found": state == "DONE", "waiting": 1, "in_progress": 2,
        "results": { "done": 3, "refused": 0, "blocked": 1, "not_moved": 0, "gone": 0, "no_match": 0 },
    })
}

#[test]
fn a_repair_is_started_with_its_filter_and_shown() {
    let server = Scripted::answering(&json!({ "duplicate": false, "repair": repair("RUNNING") }));
    let start = [
        "saga",
        "repair",
        "start",
        "retry",
        "--saga",
        "checkout",
        "--version",
        "3",
        "--state",
        "blocked",
        "--at",
        "charge",
        "--failure",
        "TIMEOUT",
        "--unchanged-for",
        "1m",
        "--rate",
        "20",
        "--max",
        "100",
        "--patience",
        "2m",
        "--key",
        "bank",
        "--reason",
        "the bank is back",
        "--actor",
        "ada",
    ];
    let shown = server.run(&start).expect(0).stdout;
    for part in [ID, "RUNNING", "retry", "of checkout, that are BLOCKED, unchanged for 1m", "7, looking for more", "20 a second"] {
        assert!(shown.contains(part), "{part} is missing in\n{shown}");
    }
    let asked = &server.asked()[0];
    assert_eq!(asked.line, "POST /v1/saga-repairs");
    let filter = json!({
        "saga": "checkout", "version": 3, "state": "BLOCKED", "step": "charge", "failure": "TIMEOUT", "unchanged_for_ms": 60_000
    });
    let operate = json!({ "verb": "retry", "reason": "the bank is back", "actor": "ada" });
    let request = json!({ "key": "bank", "filter": filter, "operate": operate, "rate": 20, "max_sagas": 100, "patience_ms": 120_000 });
    assert_eq!(asked.json(), request);

    let server = Scripted::answering(&json!({ "duplicate": true, "repair": repair("RUNNING") }));
    let by_id = ["saga", "repair", "start", "skip", "--step", "notify", "--id", SAGA, "--id", ID, "--actor", "", "--yes"];
    assert!(server.run(&by_id).expect(0).stderr.contains("started this repair before"));
    let asked = server.asked()[0].json();
    assert_eq!((&asked["ids"], &asked["operate"]), (&json!([SAGA, ID]), &json!({ "verb": "skip", "step": "notify" })));
    assert!(asked["key"].is_string(), "a retry of the request starts no second one");
    run(&["saga", "repair", "start", "retry"]).expect(2);
    run(&["saga", "repair", "start", "skip", "--state", "blocked", "--yes"]).expect(2);
    assert!(run(&["saga", "repair", "start", "terminate", "--state", "blocked"]).expect(2).stderr.contains("--yes"));
    run(&["saga", "repair", "start", "dance", "--state", "blocked"]).expect(2);
    run(&["saga", "repair", "start", "retry", "--state", "blocked", "--id", SAGA]).expect(2);
}

#[test]
fn who_waits_hears_whether_all_are_done() {
    let waited = |ended: Value| {
        let server = Scripted::new(move |asked| {
            let started = json!({ "duplicate": false, "repair": repair("RUNNING") });
            json(if asked.line.starts_with("POST") { &started } else { &ended })
        });
        server.run(&["saga", "repair", "start", "retry", "--state", "blocked", "--wait"])
    };
    assert!(waited(repair("DONE")).expect(1).stdout.contains("DONE"));
    let mut all = repair("DONE");
    all["found"] = json!(3);
    waited(all).expect(0);
}

#[test]
fn results_are_listed_a_page_after_the_other() {
    let result =
        json!({ "number": 0, "saga": SAGA, "outcome": "blocked", "state": "BLOCKED", "code": "NO", "message": "it cannot be", "at_ms": 0 });
    let server = Scripted::new(move |asked| {
        let is_first = !asked.line.contains("after=");
        json(&json!({ "results": vec![&result; if is_first { 1_000 } else { 1 }], "next": is_first.then_some(1_000) }))
    });
    let shown = server.run(&["saga", "repair", "results", ID, "--outcome", "blocked", "--all"]).expect(0).stdout;
    assert_eq!(shown.matches(SAGA).count(), 1_001);
    assert!(shown.contains("it cannot be"));
    let lines: Vec<String> = server.asked().iter().map(|asked| asked.line.clone()).collect();
    let first = format!("GET /v1/saga-repairs/{ID}/results?outcome=blocked&limit=1000");
    assert_eq!(lines, [first.clone(), format!("{first}&after=1000")]);
}

#[test]
fn repairs_are_listed_paused_resumed_cancelled_and_previewed() {
    let server = Scripted::answering(&json!({ "repairs": [repair("PAUSED")] }));
    let shown = server.run(&["saga", "repair", "list", "--state", "paused"]).expect(0).stdout;
    assert!(shown.contains(ID) && shown.contains("PAUSED"), "{shown}");
    assert_eq!(server.asked()[0].line, "GET /v1/saga-repairs?state=PAUSED");
    for (verb, state) in [("pause", "PAUSED"), ("resume", "RUNNING"), ("cancel", "CANCELLING")] {
        let server = Scripted::answering(&repair(state));
        assert!(server.run(&["saga", "repair", verb, ID, "--reason", "so", "--actor", "ada"]).expect(0).stdout.contains(state));
        let asked = &server.asked()[0];
        assert_eq!(
            (asked.line.clone(), asked.json()),
            (format!("POST /v1/saga-repairs/{ID}:{verb}"), json!({ "reason": "so", "actor": "ada" }))
        );
    }
    let refusing = Scripted::refusing(ErrorCode::RepairNotFound);
    assert!(refusing.run(&["saga", "repair", "get", ID]).expect(4).stderr.contains("sagamq saga repair list"));
    let saga = json!({
        "id": SAGA, "saga": "checkout", "version": 3, "key": "o-1", "state": "BLOCKED", "started_at_ms": 0, "updated_at_ms": 0, "events": 9
    });
    let preview = json!({ "duplicate": false, "state": "COMPENSATING", "calls": [], "end": "COMPENSATED", "whole": true });
    let refused = json!({ "saga": saga, "code": "SAGA_STATE_CONFLICT", "message": "no" });
    let server = Scripted::answering(&json!({ "sagas": [{ "saga": saga, "preview": preview }, refused], "has_more": true }));
    let shown = server.run(&["saga", "repair", "preview", "retry", "--state", "blocked", "--limit", "5"]).expect(0);
    for part in ["o-1", "COMPENSATING", "COMPENSATED", "refused: SAGA_STATE_CONFLICT"] {
        assert!(shown.stdout.contains(part), "{part} is missing in\n{}", shown.stdout);
    }
    assert!(shown.stderr.contains("there may be more"));
    assert_eq!(server.asked()[0].line, "POST /v1/saga-repairs:preview?limit=5");
}
