//! Steps that fan out, as `sagamq saga get` shows them.

use crate::saga::{ID, description};
use crate::support::Scripted;
use serde_json::{Value, json};

#[test]
fn items_are_shown_behind_their_step_and_of_many_those_that_are_not_done() {
    let item = |at: usize, state: &str| json!({ "item": at, "state": state, "attempts": 1, "compensation_attempts": 0, "output": at });
    let mut saga = description("RUNNING");
    saga["steps"][0]["items"] = json!([item(0, "SUCCEEDED"), item(1, "IN_PROGRESS"), item(2, "SCHEDULED")]);
    saga["standing"] = json!([{ "step": "create", "item": 1, "in_doubt": true }]);
    let id = saga["steps"][0]["id"].as_str().expect("text").to_owned();
    let show = |saga: &Value| Scripted::answering(saga).run(&["saga", "get", ID]).expect(0).stdout;
    let shown = show(&saga);
    for part in ["(1 of 3 items)", &format!("{id}[1]"), &format!("{id}[2]"), "create[1]"] {
        assert!(shown.contains(part), "{part} is missing in\n{shown}");
    }
    let many = (0..100).map(|at| item(at, if at == 70 { "FAILED" } else { "SUCCEEDED" }));
    saga["steps"][0]["items"] = many.collect();
    let shown = show(&saga);
    assert!(shown.contains(&format!("{id}[70]")) && !shown.contains(&format!("{id}[69]")), "{shown}");
}
