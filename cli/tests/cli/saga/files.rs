//! Files of definitions: lint, publish, graph, diff.

use super::*;

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
fn lint_knows_what_is_started_if_it_is_given_both_files() {
    let ((_parents, parent), (_children, child)) = (file(PARENT), file(CHILD));
    let alone = run(&["saga", "lint", text(&parent), "--output", "json"]).expect(0).json();
    assert_eq!(alone["files"][0]["faults"], json!([]), "what it starts may be as it gives it");
    let report = run(&["saga", "lint", text(&parent), text(&child), "--output", "json"]).expect(1).json();
    let faults = report["files"][0]["faults"].as_array().expect("faults");
    let found: Vec<_> = faults.iter().map(|fault| (&fault["code"], fault["line"].as_u64(), fault["message"].as_str())).collect();
    let missing = found.iter().find(|(code, ..)| **code == "sub_saga_input").expect("it lacks what is required");
    assert!(missing.1 == Some(8) && missing.2.is_some_and(|says| says.contains("`order` is missing")), "{found:?}");
    assert!(found.iter().any(|(code, ..)| **code == "undeclared_input"), "{found:?}");
    assert_eq!(report["files"][1]["valid"], true);
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
        (http::StatusCode::BAD_REQUEST, json(&Problem::new(ErrorCode::InvalidDefinition, "faults"))).into_response()
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
        (http::StatusCode::BAD_REQUEST, json(&problem)).into_response()
    });
    let shown = server.run(&["saga", "publish", text(&path)]).expect(1);
    for part in ["the first", "the second", "(INVALID_DEFINITION)", "checkout.yaml"] {
        assert!(shown.stderr.contains(part), "{part} is missing in\n{}", shown.stderr);
    }
    let error = server.run(&["saga", "publish", text(&path), "--output", "json"]).expect(1).error();
    assert_eq!(error["faults"].as_array().map(Vec::len), Some(2), "{error}");
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
