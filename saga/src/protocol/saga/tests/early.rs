//! What a compensation needs is looked at before its action: an effect that cannot be undone is not made.

use super::fixture::*;
use crate::definition::StepKind;
use crate::protocol::Command;
use sagamq_api::saga::{SagaState, StepState};
use serde_json::json;

#[test]
fn an_action_whose_compensation_cannot_be_computed_is_not_called() {
    let mut definition = chain(None);
    definition.steps[1].compensation = Some(call("undo_b", json!({"card": "${ input.card }", "id": "${ steps.b.output.id }"}), 3));
    let mut run = Run::start(definition);
    run.reply("a", done());
    assert_eq!(run.step_state("b"), StepState::Failed, "before it had an effect");
    assert_eq!(run.called(), ["undo_a"]);
    let failure = run.state.failure.clone().expect("why");
    assert_eq!(failure.code, "EXPRESSION_FAILED");
    assert!(failure.message.contains("compensation `b`"), "{}", failure.message);
    run.undo_reply("a", done());
    assert_eq!(run.saga_state(), SagaState::Compensated);
}

#[test]
fn what_is_known_only_later_is_left_for_later() {
    let mut definition = chain(None);
    let with =
        json!({"why": "${ failure.code }", "own": "${ has(steps.b.output) ? steps.b.output.ok : false }", "a": "${ steps.a.output.ok }"});
    definition.steps[1].compensation = Some(call("undo_b", with, 3));
    let mut run = Run::start(definition);
    run.reply("a", done());
    run.reply("b", done());
    run.reply("c", refused());
    let undo =
        run.commands.iter().find_map(|command| if let Command::Call(call) = command { Some(call) } else { None }).expect("b is undone");
    assert_eq!(undo.call.arguments, json!({"why": "NO", "own": true, "a": true}).into());
}

#[test]
fn arguments_of_a_compensation_that_are_too_large_are_found_before_the_action() {
    let mut definition = definition(vec![step("a", &[], StepKind::Compensatable)]);
    definition.steps[0].compensation = Some(call("undo_a", json!({"x": "${ input.x }", "y": "${ input.x }"}), 3));
    let run = Run::start_with(definition, json!({"x": "x".repeat(1_500_000)}));
    assert_eq!((run.saga_state(), run.called().len()), (SagaState::Failed, 0));
    assert_eq!(run.state.failure.expect("why").code, "PAYLOAD_TOO_LARGE");
}
