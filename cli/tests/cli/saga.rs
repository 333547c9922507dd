//! `sagamq saga`.

use crate::support::{Scripted, json, run};
use axum::response::IntoResponse as _;
use sagamq_api::{ErrorCode, Problem};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

pub(crate) const ID: &str = "00000000-0000-0000-0000-000000000001";

const GOOD: &str = "\
saga: checkout
version: 1
key: ${ input.order_id }
services:
  orders: { topic: orders.commands }
steps:
  - id: create
    call: orders.create
    with: { order_id: \"${ input.order_id }\" }
    compensate: orders.reject
";

const BAD: &str = "\
saga: checkout
version: 1
key: ${ input.order_id }
services:
  orders: { topic: orders.commands }
steps:
  - id: create
    call: payments.create
    compensate: orders.reject
  - id: create
    call: orders.finish
    colour: red
    compensate: none
";

fn file(text: &str) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("checkout.yaml");
    std::fs::write(&path, text).expect("a file");
    (directory, path)
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path of text")
}

fn summary(state: &str) -> Value {
    json!({ "id": ID, "saga": "checkout", "version": 1, "key": "o-1", "state": state, "started_at_ms": 0, "updated_at_ms": 0, "events": 3 })
}

pub(crate) fn description(state: &str) -> Value {
    let mut description = summary(state);
    description["input"] = json!({ "order_id": "o-1" });
    description["steps"] =
        json!([{ "id": "create", "state": "SUCCEEDED", "attempts": 2, "compensation_attempts": 0, "output": { "n": 1 } }]);
    description["failures"] = json!([{
        "step": "create", "operation": "action", "epoch": 1, "at_ms": 0, "failure": { "code": "TIMED_OUT", "message": "no answer" }
    }]);
    description
}

#[test]
fn lint_needs_no_server_and_says_that_a_file_is_good() {
    let (_directory, path) = file(GOOD);
    let report = run(&["saga", "lint", text(&path), "--server", "http://127.0.0.1:1", "--output", "json"]).expect(0).json();
    assert_eq!((&report["valid"], &report["files"][0]["valid"]), (&json!(true), &json!(true)), "{report}");
}

#[test]
fn lint_reports_every_fault_of_every_file_with_its_place() {
    let (_good_directory, good) = file(GOOD);
    let (_directory, bad) = file(BAD);
    let report = run(&["saga", "lint", text(&good), text(&bad), "--output", "json"]).expect(1).json();
    assert_eq!(report["valid"], false);
    assert_eq!(report["files"][0]["valid"], true);
    let faults = report["files"][1]["faults"].as_array().expect("faults");
    let lines: Vec<u64> = faults.iter().filter_map(|fault| fault["line"].as_u64()).collect();
    for line in [8, 10, 12] {
        assert!(lines.contains(&line), "line {line} has a fault that is not in {faults:#?}");
    }
    let shown = run(&["saga", "lint", text(&bad)]).expect(1).stdout;
    for part in [&format!("{}:8:", text(&bad)), "payments", &format!("{}:12:", text(&bad)), "colour"] {
        assert!(shown.contains(part), "{part} is missing in\n{shown}");
    }
}

#[test]
fn a_file_that_is_not_there_is_wrong_use() {
    assert!(run(&["saga", "lint", "no-such.yaml"]).expect(2).stderr.contains("no-such.yaml"));
}

#[test]
fn publish_sends_the_text_as_it_is() {
    let (_directory, path) = file(GOOD);
    let published = json!({ "name": "checkout", "version": 1, "mode": "saga", "source": GOOD, "published_at_ms": 0, "starts_percent": 100, "steps": ["create"] });
    let server = Scripted::answering(&published);
    let report = json!({ "files": [{ "file": text(&path), "outcome": "published", "definition": published }] });
    assert_eq!(server.run(&["saga", "publish", text(&path), "--output", "json"]).expect(0).json(), report);
    let asked = server.asked();
    assert_eq!((asked[0].line.as_str(), &asked[0].body[..]), ("POST /v1/saga-definitions", GOOD.as_bytes()));
    assert!(server.run(&["saga", "publish", text(&path)]).expect(0).stdout.contains("checkout"));
    assert_eq!(server.run(&["saga", "definitions", "checkout"]).expect(0).stdout, GOOD);
}

#[test]
fn publish_says_of_each_file_what_became_of_it() {
    let (_first, good) = file(GOOD);
    let (_second, bad) = file(BAD);
    let server = Scripted::new(|asked| {
        if asked.body == GOOD.as_bytes() {
            return json(
                &json!({ "name": "checkout", "version": 1, "mode": "saga", "source": GOOD, "published_at_ms": 0, "steps": ["create"] }),
            );
        }
        (axum::http::StatusCode::BAD_REQUEST, json(&Problem::new(ErrorCode::InvalidDefinition, "faults"))).into_response()
    });
    let files = ["saga", "publish", text(&good), text(&bad), text(&good)];
    let run = server.run(&[&files[..], &["--output", "json"]].concat()).expect(1);
    let outcomes: Vec<_> = run.json()["files"].as_array().expect("files").iter().map(|file| file["outcome"].clone()).collect();
    assert_eq!(outcomes, ["published", "not_published", "not_tried"]);
    assert!(run.error()["detail"].as_str().is_some_and(|detail| detail.contains(text(&bad))), "{run:?}");
    let table = server.run(&files).expect(1).stdout;
    assert!(table.contains("published") && table.contains("not tried"), "{table}");
}

#[test]
fn a_definition_that_is_refused_is_shown_with_all_its_faults() {
    let (_directory, path) = file(BAD);
    let server = Scripted::new(|_| {
        let fault = |line: u32, message: &str| {
            serde_json::from_value(json!({
                "code": "a_rule", "severity": "error", "message": message, "line": line, "column": 5, "offset": 20 * line, "length": 3
            }))
            .expect("a fault")
        };
        let problem =
            Problem::new(ErrorCode::InvalidDefinition, "2 faults").with_faults(vec![fault(1, "the first"), fault(2, "the second")]);
        (axum::http::StatusCode::BAD_REQUEST, json(&problem)).into_response()
    });
    let shown = server.run(&["saga", "publish", text(&path)]).expect(1);
    for part in ["the first", "the second", "(INVALID_DEFINITION)", "checkout.yaml"] {
        assert!(shown.stderr.contains(part), "{part} is missing in\n{}", shown.stderr);
    }
    let error = server.run(&["saga", "publish", text(&path), "--output", "json"]).expect(1).error();
    assert_eq!(error["faults"].as_array().map(Vec::len), Some(2), "{error}");
}

#[test]
fn start_takes_its_input_from_a_flag_or_a_file() {
    let started = json!({ "id": ID, "key": "o-1", "duplicate": false, "state": "PENDING" });
    let server = Scripted::answering(&started);
    let (_directory, path) = file("{\"order_id\": \"o-1\"}");
    let from_file = format!("@{}", text(&path));
    for input in ["{\"order_id\": \"o-1\"}", &from_file] {
        let json = server.run(&["saga", "start", "checkout", "--input", input, "--version", "2", "--output", "json"]).expect(0).json();
        assert_eq!(json, started);
    }
    let stdin =
        server.run_with_stdin(&["saga", "start", "checkout", "--version", "2", "--input", "-"], b"{\"order_id\": \"o-1\"}").expect(0);
    assert!(stdin.stdout.contains(ID), "{}", stdin.stdout);
    for asked in server.asked() {
        assert_eq!(asked.json(), json!({ "saga": "checkout", "version": 2, "input": { "order_id": "o-1" } }));
    }
}

/// Starts a saga that is in this state from then on.
fn started_in(state: &'static str) -> Scripted {
    Scripted::new(move |asked| {
        if asked.line.starts_with("POST") {
            json(&json!({ "id": ID, "key": "o-1", "duplicate": false, "state": "PENDING" }))
        } else {
            json(&description(state))
        }
    })
}

#[test]
fn waiting_ends_with_the_saga_s_own_end() {
    let args = ["saga", "start", "checkout", "--input", "{}", "--wait", "--output", "json"];
    assert_eq!(started_in("COMPLETED").run(&args).expect(0).json(), description("COMPLETED"));
    assert_eq!(started_in("COMPENSATED").run(&args).expect(1).json()["state"], "COMPENSATED");
    assert_eq!(started_in("BLOCKED").run(&args).expect(1).json()["state"], "BLOCKED");
    let running = started_in("RUNNING").run(&[&args[..], &["--timeout", "1ms"]].concat()).expect(3);
    assert_eq!(running.json()["id"], ID, "the id is needed to look again");
    assert_eq!(running.error()["code"], "WAIT_ELAPSED");
}

#[test]
fn get_shows_steps_and_everything_that_went_wrong() {
    let server = Scripted::answering(&description("COMPLETED"));
    let table = server.run(&["saga", "get", ID]).expect(0).stdout;
    for part in ["checkout version 1", "COMPLETED", "SUCCEEDED", "{\"n\":1}", "TIMED_OUT", "no answer"] {
        assert!(table.contains(part), "{part} is missing in\n{table}");
    }
    assert_eq!(server.run(&["saga", "get", ID, "--output", "json"]).expect(0).json(), description("COMPLETED"));
}

#[test]
fn list_asks_page_by_page_for_as_many_as_are_wanted() {
    let server = Scripted::new(|asked| {
        let is_second = asked.line.contains("after=page-2");
        let next = if is_second { Value::Null } else { json!("page-2") };
        json(&json!({ "sagas": [summary("BLOCKED")], "next": next }))
    });
    let all = server
        .run(&["saga", "list", "--state", "blocked", "--saga", "checkout", "--key", "o 1", "--all", "--output", "json"])
        .expect(0)
        .json();
    assert_eq!(all, json!({ "sagas": [summary("BLOCKED"), summary("BLOCKED")] }));
    let asked = server.asked();
    assert_eq!(asked.len(), 2);
    for part in ["state=BLOCKED", "saga=checkout", "key=o+1", "limit=1000"] {
        assert!(asked.iter().all(|asked| asked.line.contains(part)), "{part} is missing in {asked:?}");
    }
    let one = server.run(&["saga", "list", "--limit", "1"]).expect(0);
    assert!(one.stderr.contains("there are more"), "{one:?}");
    assert_eq!(server.asked().len(), 3);
}

#[test]
fn history_and_cancel() {
    let history = json!({ "id": ID, "events": [{ "sequence": 0, "at_ms": 0, "type": "saga_started", "data": { "key": "o-1" } }] });
    let server = Scripted::answering(&history);
    assert_eq!(server.run(&["saga", "history", ID, "--output", "json"]).expect(0).json(), history);
    assert!(server.run(&["saga", "history", ID]).expect(0).stdout.contains("saga_started"));

    let server = Scripted::answering(&json!({ "duplicate": false, "saga": description("COMPENSATING") }));
    let cancelled = server.run(&["saga", "cancel", ID, "--reason", "customer called", "--actor", "ada"]).expect(0);
    assert!(cancelled.stdout.contains("COMPENSATING"));
    let asked = server.asked();
    assert_eq!(
        (asked[0].line.clone(), asked[0].json()),
        (format!("POST /v1/sagas/{ID}:cancel"), json!({ "reason": "customer called", "actor": "ada" }))
    );
}

#[test]
fn activate_says_which_versions_starts_take() {
    let answer = json!({ "saga": "checkout", "version": 1, "canary": { "version": 2, "percent": 10 }, "changed_at_ms": 0 });
    let server = Scripted::answering(&answer);
    let args = ["saga", "activate", "checkout", "1", "--canary", "2", "--percent", "10", "--reason", "a trial", "--actor", "ada"];
    let shown = server.run(&args).expect(0).stdout;
    assert!(shown.contains("90%") && shown.contains("10%"), "{shown}");
    let asked = &server.asked()[0];
    assert_eq!(asked.line, "PUT /v1/saga-definitions/checkout/activation");
    let body: Value = serde_json::from_slice(&asked.body).expect("JSON");
    assert_eq!(body, json!({ "version": 1, "canary": { "version": 2, "percent": 10 }, "actor": "ada", "reason": "a trial" }));
    for wrong in [&["--canary", "2"][..], &["--percent", "10"], &["--canary", "2", "--percent", "100"]] {
        server.run(&[&["saga", "activate", "checkout", "1"][..], wrong].concat()).expect(2);
    }
    let (_directory, path) = file(GOOD);
    let published = json!({ "name": "checkout", "version": 2, "mode": "saga", "source": GOOD, "published_at_ms": 0, "starts_percent": 100, "steps": [] });
    let server = Scripted::answering(&published);
    assert!(server.run(&["saga", "publish", text(&path), "--activate"]).expect(0).stdout.contains("100%"));
    assert_eq!(server.asked()[0].line, "POST /v1/saga-definitions?activate=true");
}

#[test]
fn list_narrows_by_version_failure_and_time_and_shows_why_a_saga_does_not_move() {
    let mut waiting = summary("WAITING");
    waiting["waits"] = json!({
        "code": "RETRY_WAITS", "message": "waits until noon for attempt 4", "step": "pay", "operation": "action", "attempt": 3, "next_at_ms": 0
    });
    let server = Scripted::answering(&json!({ "sagas": [waiting] }));
    let args =
        ["saga", "list", "--saga", "checkout", "--version", "2", "--failure", "NO", "--since", "1000", "--until", "1970-01-01T00:00:05Z"];
    let table = server.run(&args).expect(0).stdout;
    for part in ["waits until noon for attempt 4", "3", "1970-01-01 00:00:00.000Z"] {
        assert!(table.contains(part), "{part} is missing in\n{table}");
    }
    let asked = server.asked();
    for part in ["version=2", "failure=NO", "started_from_ms=1000", "started_before_ms=5000"] {
        assert!(asked[0].line.contains(part), "{part} is missing in {asked:?}");
    }
    server.run(&["saga", "list", "--version", "2"]).expect(2);
}

#[test]
fn a_history_is_read_to_its_end_and_told_as_a_timeline() {
    let event = |sequence: u64| {
        let data = json!({ "step": "pay", "operation": "action", "epoch": sequence });
        json!({ "sequence": sequence, "at_ms": 1_000 * sequence, "type": "step_called", "data": data })
    };
    let server = Scripted::new(move |asked| {
        let is_second = asked.line.contains("after=1");
        let events = if is_second { vec![event(2)] } else { vec![event(0), event(1)] };
        json(&json!({ "id": ID, "events": events, "next": if is_second { Value::Null } else { json!(1) } }))
    });
    let history = server.run(&["saga", "history", ID, "--output", "json"]).expect(0).json();
    assert_eq!((history["events"].as_array().map(Vec::len), history.get("next")), (Some(3), None));
    let timeline = server.run(&["saga", "timeline", ID]).expect(0).stdout;
    for part in ["+0s", "+2s", "pay", "called"] {
        assert!(timeline.contains(part), "{part} is missing in\n{timeline}");
    }
}

#[test]
fn each_verb_asks_for_what_is_typed() {
    let answer = json!({ "duplicate": false, "saga": description("RUNNING") });
    let server = Scripted::answering(&answer);
    let cases: [(&[&str], &str, Value); 13] = [
        (&["pause"], "pause", json!({})),
        (&["resume"], "resume", json!({})),
        (&["terminate", "--yes"], "terminate", json!({})),
        (&["retry"], "retry", json!({})),
        (&["retry", "--step", "create"], "retry", json!({ "step": "create" })),
        (&["retry", "--step", "pick", "--item", "3"], "retry", json!({ "step": "pick", "item": 3 })),
        (
            &["resolve", "--step", "pick", "--item", "0", "--outcome", "failed"],
            "resolve",
            json!({ "step": "pick", "item": 0, "outcome": "failed" }),
        ),
        (&["skip", "--step", "create", "--yes"], "skip", json!({ "step": "create" })),
        (
            &["resolve", "--step", "create", "--outcome", "succeeded", "--json", "{\"n\": 1.50}"],
            "resolve",
            json!({ "step": "create", "outcome": "succeeded", "output": { "n": 1.50 } }),
        ),
        (&["resolve", "--step", "create", "--outcome", "failed"], "resolve", json!({ "step": "create", "outcome": "failed" })),
        (&["edit-input", "--input", "{\"order_id\": \"o-1\"}"], "edit-input", json!({ "input": { "order_id": "o-1" } })),
        (&["rerun", "--from", "create"], "rerun", json!({ "from": "create" })),
        (&["rerun", "--from", "create", "--input", "{\"n\": 2}"], "rerun", json!({ "from": "create", "input": { "n": 2 } })),
    ];
    for (number, (typed, verb, mut body)) in cases.into_iter().enumerate() {
        let (name, rest) = typed.split_first().expect("a verb");
        let who = ["--reason", "mended", "--actor", "ada", "--output", "json"];
        let run = server.run(&[&["saga", name, ID], rest, &who[..]].concat()).expect(0);
        assert_eq!(run.json(), answer);
        body["reason"] = json!("mended");
        body["actor"] = json!("ada");
        let asked = &server.asked()[number];
        assert_eq!((asked.line.clone(), asked.json()), (format!("POST /v1/sagas/{ID}:{verb}"), body));
    }
}

#[test]
fn watch_shows_what_happens_until_the_saga_is_at_its_end() {
    let looks = std::sync::atomic::AtomicU64::new(0);
    let server = Scripted::new(move |asked| {
        if asked.line.contains("/history") {
            let first = json!({ "sequence": 0, "at_ms": 0, "type": "saga_started", "data": {} });
            let last = json!({ "sequence": 1, "at_ms": 5, "type": "saga_completed", "data": {} });
            let events = if asked.line.contains("after=0") { vec![last] } else { vec![first] };
            return json(&json!({ "id": ID, "events": events }));
        }
        let is_first = looks.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 0;
        json(&description(if is_first { "RUNNING" } else { "COMPLETED" }))
    });
    let watched = server.run(&["saga", "watch", ID]).expect(0);
    let (started, completed) = (watched.stdout.find("saga started"), watched.stdout.find("saga completed"));
    assert!(started.is_some() && started < completed, "{watched:?}");
    assert_eq!(watched.stdout.matches("saga started").count(), 1, "nothing is shown twice: {watched:?}");
}

#[test]
fn incidents_say_what_is_wrong_and_for_how_long() {
    let incident = json!({
        "saga": "checkout", "version": 2, "step": "pay", "operation": "action", "code": "TIMEOUT", "message": "no answer", "count": 12,
        "blocked": 3, "oldest_since_ms": 1, "newest_since_ms": 2, "oldest_age_ms": 90_000, "newest_age_ms": 500, "examples": [ID]
    });
    let list = json!({ "incidents": [incident], "instances": 14, "left_out": 1, "quarantined": 2 });
    let server = Scripted::answering(&list);
    let shown = server.run(&["saga", "incidents", "--saga", "checkout", "--limit", "1"]).expect(0);
    for part in ["12", "3", "checkout v2", "pay action", "TIMEOUT", "1m 30s", "500ms", ID, "no answer"] {
        assert!(shown.stdout.contains(part), "{part} is missing in {shown:?}");
    }
    assert!(shown.stderr.contains("1 incident more") && shown.stderr.contains("2 sagas set aside"), "{shown:?}");
    assert_eq!(server.run(&["saga", "incidents", "--output", "json"]).expect(0).json(), list);
    assert!(server.asked()[0].line.contains("saga=checkout"));
}

#[test]
fn retention_and_versions_are_shown_and_set() {
    let rules = json!({ "default": { "keep_ms": 3_600_000 }, "sagas": [{ "saga": "checkout", "retention": { "keep_count": 5 } }] });
    let server = Scripted::answering(&rules);
    let shown = server.run(&["saga", "retention"]).expect(0).stdout;
    for part in ["(all others)", "1h", "checkout", "5", "for ever"] {
        assert!(shown.contains(part), "{part} is missing in\n{shown}");
    }
    server.run(&["saga", "retention", "--keep", "90d"]).expect(0);
    server.run(&["saga", "retention", "checkout", "--count", "7"]).expect(0);
    server.run(&["saga", "retention", "checkout", "--forever"]).expect(0);
    server.run(&["saga", "retention", "checkout", "--reset"]).expect(0);
    server.run(&["saga", "retention", "--reset"]).expect(2);
    let asked = server.asked();
    assert_eq!((asked[1].line.as_str(), asked[1].json()), ("PUT /v1/saga-retention", json!({ "keep_ms": 7_776_000_000_u64 })));
    assert_eq!((asked[2].line.as_str(), asked[2].json()), ("PUT /v1/saga-retention/checkout", json!({ "keep_count": 7 })));
    assert_eq!((asked[3].line.as_str(), asked[3].json()), ("PUT /v1/saga-retention/checkout", json!({})));
    assert_eq!(asked[4].line, "DELETE /v1/saga-retention/checkout");
    let versions = json!({ "saga": "checkout", "versions": [{ "version": 1, "published_at_ms": 0, "instances": [{ "state": "RUNNING", "count": 3 }] }] });
    let shown = Scripted::answering(&versions).run(&["saga", "versions", "checkout"]).expect(0).stdout;
    assert!(shown.contains("3 RUNNING"), "{shown}");
}

#[test]
fn what_was_so_already_and_what_stands_is_shown() {
    let mut saga = description("TERMINATED");
    saga["standing"] = json!([{ "step": "create", "in_doubt": true }]);
    saga["steps"][0]["skipped"] = json!(true);
    let server = Scripted::answering(&json!({ "duplicate": true, "saga": saga }));
    let shown = server.run(&["saga", "terminate", ID, "--yes"]).expect(0);
    assert!(shown.stderr.contains("it was so already"), "{}", shown.stderr);
    assert!(shown.stdout.contains("in doubt") && shown.stdout.contains("(left out)"), "{}", shown.stdout);
    let wrong = run(&["saga", "resolve", ID, "--step", "create", "--outcome", "failed", "--json", "1"]).expect(2).stderr;
    assert!(wrong.contains("--outcome succeeded"), "{wrong}");
}

#[test]
fn a_rerun_is_previewed_with_what_it_takes_over_and_shown_at_both_ends() {
    let preview = json!({
        "duplicate": false, "state": "RUNNING", "end": "COMPLETED", "whole": true, "calls": [],
        "rerun": { "id": ID, "copied": [{ "step": "create", "origin": ID, "compensation_key": "k/create/compensation" }, { "step": "note" }] }
    });
    let server = Scripted::answering(&preview);
    let shown = server.run(&["saga", "rerun", ID, "--from", "pay", "--preview", "--actor", "ada"]).expect(0).stdout;
    for part in ["Rerun as", ID, "TAKES OVER", "k/create/compensation", "left out"] {
        assert!(shown.contains(part), "{part} is missing in\n{shown}");
    }
    assert_eq!(server.asked()[0].json(), json!({ "verb": "rerun", "from": "pay", "actor": "ada" }));
    let mut saga = description("TERMINATED");
    saga["rerun_as"] = json!(ID);
    saga["steps"][0]["handed_over"] = json!(true);
    let shown = Scripted::answering(&saga).run(&["saga", "get", ID]).expect(0).stdout;
    assert!(shown.contains("Rerun as") && shown.contains("(handed over)"), "{shown}");
    saga["steps"][0] = json!({ "id": "create", "state": "SUCCEEDED", "attempts": 0, "compensation_attempts": 0, "origin": ID });
    let shown = Scripted::answering(&saga).run(&["saga", "get", ID]).expect(0).stdout;
    assert!(shown.contains("(taken over)"), "{shown}");
}

#[test]
fn a_verb_is_previewed_and_what_leaves_effects_is_not_done_unasked() {
    let preview = json!({
        "duplicate": false, "state": "COMPENSATING", "end": "COMPENSATED", "whole": true,
        "calls": [{
            "step": "create", "operation": "compensation", "participant": "orders.commands", "call": "reject",
            "arguments": { "n": 1 }, "idempotency_key": "k/create/compensation"
        }],
        "standing": [{ "step": "create", "in_doubt": true }]
    });
    let server = Scripted::answering(&preview);
    assert_eq!(server.run(&["saga", "cancel", ID, "--preview", "--actor", "ada", "--output", "json"]).expect(0).json(), preview);
    let shown = server.run(&["saga", "skip", ID, "--step", "create", "--preview"]).expect(0).stdout;
    for part in ["reject at orders.commands", "COMPENSATED", "in doubt", "k/create/compensation"] {
        assert!(shown.contains(part), "{part} is missing in\n{shown}");
    }
    let asked = server.asked();
    assert_eq!(asked[0].line, format!("POST /v1/sagas/{ID}:preview"));
    assert_eq!(asked[0].json(), json!({ "verb": "cancel", "actor": "ada" }));
    for verb in [&["terminate"][..], &["skip", "--step", "create"]] {
        let (name, rest) = verb.split_first().expect("a verb");
        let refused = server.run(&[&["saga", name, ID], rest].concat()).expect(2);
        assert!(refused.stderr.contains("--yes"), "{}", refused.stderr);
    }
    assert_eq!(server.asked().len(), 2, "and nothing was asked of the server");
}

#[test]
fn graph_draws_a_file_in_each_language_without_a_server() {
    let (_directory, path) = file(GOOD);
    for (format, begin) in [("mermaid", "---\ntitle: checkout version 1"), ("dot", "digraph \"checkout version 1\""), ("svg", "<?xml")] {
        let drawn = run(&["saga", "graph", text(&path), "--format", format, "--server", "http://127.0.0.1:1"]).expect(0).stdout;
        assert!(drawn.starts_with(begin), "{format}: {drawn}");
        let answer = run(&["saga", "graph", text(&path), "--format", format, "--output", "json"]).expect(0).json();
        assert_eq!((&answer["format"], answer["picture"].as_str().map(str::trim)), (&json!(format), Some(drawn.trim())));
    }
    assert!(run(&["saga", "graph", text(&path), "--format", "png"]).expect(2).stderr.contains("mermaid, dot, svg"));
    let (_bad_directory, bad) = file(BAD);
    assert!(run(&["saga", "graph", text(&bad)]).expect(1).stderr.contains("lint"));
}

#[test]
fn diff_tells_what_new_starts_see_and_takes_published_versions_as_well() {
    let (_old_directory, old) = file(GOOD);
    let newer = GOOD.replace("version: 1", "version: 2\ntimeout: 5m");
    let (_new_directory, new) = file(&newer);
    let answer = run(&["saga", "diff", text(&old), text(&new), "--server", "http://127.0.0.1:1", "--output", "json"]).expect(0).json();
    assert_eq!((&answer["before"], &answer["after"], &answer["takes_old_inputs"]), (&json!(1), &json!(2), &json!(true)));
    assert_eq!(answer["changes"], json!([{ "seen_by": "operators", "what": "timeout", "after": "5m" }]));
    let shown = run(&["saga", "diff", text(&old), text(&new)]).expect(0).stdout;
    assert!(shown.contains("stay on it and see nothing of this") && shown.contains("timeout"), "{shown}");
    assert!(run(&["saga", "diff", text(&old), text(&old)]).expect(0).stdout.contains("no difference"));
    let other = GOOD.replace("saga: checkout", "saga: other");
    let (_other_directory, other) = file(&other);
    assert!(run(&["saga", "diff", text(&old), text(&other)]).expect(2).stderr.contains("two sagas"));
}
