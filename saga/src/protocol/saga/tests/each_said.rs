//! What an operator says of items, and of what rests on them, when others have failed already.

use super::fixture::*;
use crate::definition::{Definition, StepKind};
use crate::expression::Template;
use sagamq_api::ids::ItemIndex;
use sagamq_api::saga::{CallOutcome, SagaState, SagaVerb, StepOutcome, StepState};
use serde_json::{Value, json};

/// Two items of an optional step, the pivot behind it, and a step that must succeed.
fn optional_items() -> Definition {
    let mut definition = definition(vec![
        each("b", &[], StepKind::Compensatable, "${ [1, 2] }", 2),
        step("p", &[0], StepKind::Pivot),
        step("c", &[1], StepKind::Retriable),
    ]);
    definition.steps[0].optional = true;
    definition
}

fn succeeded(item: Option<u32>, output: Value) -> SagaVerb {
    SagaVerb::Resolve { step: id("b"), item: item.map(ItemIndex), outcome: StepOutcome::Succeeded { output: output.into() } }
}

fn hopeless() -> CallOutcome {
    CallOutcome::Refused { failure: failure("HOPELESS") }
}

#[test]
fn items_of_which_all_are_said_to_be_done_stay_and_their_output_with_them() {
    for (item, output) in [(None, json!(["x", "y"])), (Some(1), json!("y"))] {
        // One has failed while the other is called.
        let mut run = Run::start(optional_items());
        run.item_reply("b", 1, refused());
        if item.is_some() {
            run.operate(SagaVerb::Pause).expect("it runs");
        }
        run.operate(succeeded(item, output)).expect("it is open");
        if item.is_some() {
            run.item_reply("b", 0, CallOutcome::Succeeded { output: json!("x").into() });
            run.operate(SagaVerb::Resume).expect("it is paused");
        }
        assert_eq!((run.called(), run.step_state("b")), (vec!["p"], StepState::Succeeded), "{item:?}");
        assert_eq!(run.step("b").output.as_ref().expect("done").as_str(), r#"["x","y"]"#);
    }
}

#[test]
fn before_the_pivot_an_item_that_is_said_to_be_done_is_undone_with_what_the_others_did() {
    let mut run = Run::start(optional_items());
    run.operate(SagaVerb::Pause).expect("it runs");
    run.item_reply("b", 0, refused());
    run.item_reply("b", 1, refused());
    run.operate(succeeded(Some(0), json!("x"))).expect("it is open");
    run.operate(SagaVerb::Resume).expect("it is paused");
    assert_eq!(run.calls(), [r#"undo b[0] {"item":1,"index":0}"#]);
}

#[test]
fn when_the_pivot_is_called_no_item_comes_to_be_done_that_nobody_could_undo() {
    let mut run = Run::start(optional_items());
    run.item_reply("b", 0, refused());
    run.item_reply("b", 1, refused());
    assert_eq!(run.called(), ["p"], "the saga goes on without it");
    for is_passed in [false, true] {
        if is_passed {
            run.reply("p", done());
            assert_eq!(run.called(), ["c"]);
        }
        let no = run.operate(succeeded(Some(0), json!("x"))).expect_err("it cannot be undone");
        assert!(no.to_string().contains("by its pivot"), "{no}");
    }
    run.reply("c", done());
    assert_eq!(run.saga_state(), SagaState::Completed);
}

#[test]
fn a_compensation_that_was_called_and_has_no_value_any_more_fails_again() {
    let mut optional = step("o", &[], StepKind::Compensatable);
    (optional.optional, optional.compensation) = (true, None);
    let mut undone = step("a", &[0], StepKind::Compensatable);
    undone.compensation.as_mut().expect("it has one").arguments =
        Template::compile(&json!({"of": "${ has(steps.o.output) ? steps.o.output.id : '' }"})).expect("legal");
    let mut run = Run::start(definition(vec![optional, undone, step("b", &[1], StepKind::Compensatable)]));
    run.reply("o", refused());
    run.reply("a", done());
    run.reply("b", refused());
    run.undo_reply("a", hopeless());
    assert_eq!(run.saga_state(), SagaState::Blocked);
    let said = StepOutcome::Succeeded { output: json!({}).into() };
    run.operate(SagaVerb::Resolve { step: id("o"), item: None, outcome: said }).expect("it is open");
    run.operate(SagaVerb::Retry { step: Some(id("a")), item: None }).expect("it failed for good");
    assert_eq!((run.saga_state(), run.step_state("a")), (SagaState::Blocked, StepState::CompensationFailed));
    assert!(run.step("a").compensation.epoch > 0);
}

#[test]
fn a_rerun_takes_over_items_that_were_never_all_done_at_one_time() {
    let mut fans = each("b", &[], StepKind::Compensatable, "${ [1, 2] }", 2);
    // What the items return has no such field.
    fans.compensation.as_mut().expect("it has one").arguments = Template::compile(&json!({"of": "${ steps.b.output.id }"})).expect("legal");
    let definition = definition(vec![fans, step("c", &[0], StepKind::Compensatable)]);
    let mut run = Run::start(definition);
    run.item_reply("b", 0, CallOutcome::Succeeded { output: json!({}).into() });
    run.item_reply("b", 1, refused());
    assert_eq!(run.saga_state(), SagaState::Blocked, "what the first did cannot be undone");
    run.operate(succeeded(Some(1), json!({}))).expect("it is open");
    assert_eq!(run.saga_state(), SagaState::Blocked, "nor what the second did");
    let rerun = run.rerun("c").expect("both stand");
    assert_eq!(rerun.called(), ["c"]);
    assert_eq!(rerun.step("b").output.as_ref().expect("taken over").as_str(), "[{},{}]");
}
