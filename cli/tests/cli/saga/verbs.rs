//! What an operator does with a saga, and with all of a definition.

use super::*;

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
