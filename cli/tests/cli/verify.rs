//! `sagamq saga verify` and `sagamq saga test`.

use crate::support::{Run, run};
use serde_json::Value;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const WRONG: &str = "\
saga: sale
version: 1
key: ${ input.order_id }
services:
  shipping: { topic: shipping.commands }
  payments: { http: \"http://payments:8080\" }
steps:
  - { id: capture, call: payments.capture, after: [], compensate: payments.refund }
  - { id: ship, call: shipping.ship, after: [], compensate: none }
verify:
  - steps.ship.done implies steps.capture.done
";

const RIGHT: &str = "\
saga: sale
version: 1
key: ${ input.order_id }
services:
  shipping: { topic: shipping.commands }
  payments: { http: \"http://payments:8080\" }
steps:
  - { id: capture, call: payments.capture, pivot: true }
  - { id: ship, call: shipping.ship }
verify:
  - steps.ship.done implies steps.capture.done
";

fn files(text: &str) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("sale.yaml");
    std::fs::write(&path, text).expect("a file");
    (directory, path)
}

fn verify(path: &Path, flags: &[&str]) -> Run {
    run(&[&["saga", "verify", text(path)], flags].concat())
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path of text")
}

#[test]
fn what_holds_is_said_with_its_bounds() {
    let (_directory, path) = files(RIGHT);
    let shown = verify(&path, &[]).expect(0);
    assert!(shown.stdout.contains("complete: every state within these bounds was looked at"), "{}", shown.stdout);
    assert!(shown.stdout.contains("bounds: 2 faults on a way, 2 attempts a call"), "{}", shown.stdout);
    let answer = verify(&path, &["--output", "json"]).expect(0).json();
    assert_eq!((&answer["result"], &answer["reports"][0]["complete"]), (&Value::from("holds"), &Value::from(true)));
}

#[test]
fn what_is_wrong_is_shown_written_down_and_played_again() {
    let (directory, path) = files(WRONG);
    let (scripts, junit) = (directory.path().join("scripts"), directory.path().join("verify.xml"));
    let shown = verify(&path, &["--scripts", text(&scripts), "--junit", text(&junit)]).expect(1);
    assert!(shown.stdout.contains("invariant-1: `steps.ship.done implies steps.capture.done` does not hold"), "{}", shown.stdout);
    assert!(shown.stdout.contains("`ship` (shipping.ship) is done, but no answer to any attempt comes back"), "{}", shown.stdout);
    assert!(shown.stdout.contains("again: sagamq saga test"), "{}", shown.stdout);
    let junit = std::fs::read_to_string(&junit).expect("a report");
    assert!(junit.contains("failures=\"1\" errors=\"0\""), "{junit}");
    assert!(junit.contains("<failure message=\"`steps.ship.done implies steps.capture.done` does not hold\">"), "{junit}");
    assert!(junit.contains("<skipped message=\"it could not fail\"/>"), "{junit}");
    let script = scripts.join("invariant-1.json");
    let again = run(&["saga", "test", text(&path), "--script", text(&script)]).expect(0);
    assert!(again.stdout.contains("ends FAILED, and `invariant-1` is broken"), "{}", again.stdout);
    let diagram = run(&["saga", "test", text(&path), "--script", text(&script), "--mermaid"]).expect(0);
    assert!(diagram.stdout.starts_with("sequenceDiagram\n") && diagram.stdout.contains("participant"), "{}", diagram.stdout);
    assert!(verify(&path, &["--mermaid"]).expect(1).stdout.contains("sequenceDiagram\n"));
    // Another end is told.
    let other = std::fs::read_to_string(&script).expect("a script").replace("\"FAILED\"", "\"COMPLETED\"");
    std::fs::write(&script, other).expect("it can be written");
    let other = run(&["saga", "test", text(&path), "--script", text(&script)]).expect(1);
    assert!(other.stdout.contains("the script says that it ends COMPLETED"), "{}", other.stdout);
}

#[test]
fn a_bound_that_is_hit_is_no_proof() {
    let (directory, path) = files(RIGHT);
    let junit = directory.path().join("verify.xml");
    let shown = verify(&path, &["--max-states", "10", "--junit", text(&junit)]).expect(3);
    assert!(shown.stdout.contains("INCOMPLETE: the bound of states was hit"), "{}", shown.stdout);
    assert!(std::fs::read_to_string(&junit).expect("a report").contains("<error message=\"INCOMPLETE"));
}

#[test]
fn each_flag_changes_what_is_looked_at() {
    let (_directory, path) = files(WRONG);
    let states = |flags: &[&str]| {
        let answer = run(&[&["saga", "verify", text(&path), "--output", "json"], flags].concat()).json();
        answer["reports"][0]["states"].as_u64().expect("a number")
    };
    let usual = states(&[]);
    assert!(states(&["--faults", "1"]) < usual);
    assert_ne!(states(&["--attempts", "1"]), usual);
    assert_eq!(states(&["--threads", "1"]), usual, "threads change how long it takes, and nothing else");
    assert!(states(&["--no-reduction"]) > usual);
    let drawn = |seed: &str| {
        let answer = verify(&path, &["--output", "json", "--random", "50", "--seed", seed, "--max-states", "1"]).json();
        answer["reports"][0]["drawn"].clone()
    };
    assert_eq!(drawn("3"), drawn("3"));
    assert_ne!(drawn("3")["steps"], drawn("4")["steps"]);
}

#[test]
fn data_is_made_up_or_given() {
    let (_directory, path) = files(&RIGHT.replace("call: shipping.ship", "call: shipping.ship, with: { first: \"${ input.lines[0] }\" }"));
    let given = verify(
        &path,
        &["--input", r#"{"order_id": "o-1", "lines": [1]}"#, "--input", r#"{"order_id": "o-1", "lines": []}"#, "--output", "json"],
    );
    let given = given.expect(1).json();
    let broken = |at: usize| given["reports"][at]["violations"].as_array().expect("a list").len();
    assert_eq!((broken(0), broken(1)), (0, 1), "{given}");
    assert_eq!(given["reports"][1]["violations"][0]["property"], "expressions");
    let unknown = verify(&path, &["--outputs", r#"{"pay": {}}"#]).expect(2);
    assert!(unknown.stderr.contains("the saga has no such step"), "{}", unknown.stderr);
}

#[test]
fn what_nobody_notices_is_told() {
    let (_directory, path) = files(WRONG);
    let shown = verify(&path, &["--mutate"]);
    assert!(shown.stdout.contains("`compensate` of `capture`") && shown.stdout.contains("nobody"), "{}", shown.stdout);
}

#[test]
fn what_cannot_be_verified_is_said() {
    let (_directory, path) = files(&RIGHT.replace("version: 1", "version: 1\nmode: 2pc").replace("{ topic: shipping.commands }", "{}"));
    let refused = verify(&path, &[]).expect(2);
    assert!(refused.stderr.contains("only sagas can be verified"), "{}", refused.stderr);
    let (_directory, path) = files(&RIGHT.replace("steps.capture.done", "steps.captur.done"));
    let refused = verify(&path, &[]).expect(1);
    assert!(
        refused.stderr.contains("there is no step `captur`") && refused.stderr.contains("did you mean `capture`?"),
        "{}",
        refused.stderr
    );
}

#[test]
fn without_a_script_every_step_fails_in_turn() {
    let (directory, path) = files(RIGHT);
    let shown = run(&["saga", "test", text(&path)]).expect(0);
    assert!(shown.stdout.contains("refuse capture/action"), "{}", shown.stdout);
    let script = directory.path().join("script.yaml");
    std::fs::write(&script, "saga: sale\ninput: { order_id: o-1 }\nmoves: [ serve capture/action, fly away ]\nends: { state: RUNNING }\n")
        .expect("a file");
    let refused = run(&["saga", "test", text(&path), "--script", text(&script)]).expect(2);
    assert!(refused.stderr.contains("move 2 of the script, `fly away`, is none"), "{}", refused.stderr);
    std::fs::write(&script, "saga: sale\ninput: { order_id: o-1 }\nmoves: [ hear capture/action ]\nends: { state: RUNNING }\n")
        .expect("a file");
    let refused = run(&["saga", "test", text(&path), "--script", text(&script)]).expect(2);
    assert!(refused.stderr.contains("is not possible there"), "{}", refused.stderr);
}
