//! Starting a saga, and what is seen of it.

use super::*;

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
