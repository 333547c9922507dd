//! Steps with a condition: asked once, in their turn; what is left out by it gives nothing and has nothing to undo.

use super::fixture::*;
use crate::definition::Definition;
use crate::definition::StepKind::{Compensatable, Pivot, Retriable};
use crate::expression::Template;
use crate::protocol::saga::SagaEvent;
use sagamq_api::saga::{Operation, SagaState, SagaVerb, StepState};
use serde_json::json;

fn conditional(mut definition: Definition, step: usize, condition: &str) -> Definition {
    definition.steps[step].when = Some(Template::text(&format!("${{ {condition} }}")).expect("legal"));
    definition
}

fn asked(run: &Run) -> Vec<(String, bool)> {
    let asked = run.history.iter().filter_map(|recorded| match &recorded.event {
        SagaEvent::StepCondition { attempt, holds } => Some((attempt.step.to_string(), *holds)),
        _ => None,
    });
    asked.collect()
}

#[test]
fn a_condition_that_holds_lets_the_step_run_and_one_that_does_not_leaves_it_out() {
    for (holds, called) in [(true, vec!["b"]), (false, vec!["c"])] {
        let mut run = Run::start_with(conditional(chain(None), 1, "input.wanted"), json!({"wanted": holds}));
        assert!(asked(&run).is_empty(), "its turn has not come");
        run.reply("a", done());
        assert_eq!((run.called(), asked(&run)), (called, vec![("b".to_owned(), holds)]));
        if holds {
            run.reply("b", done());
        }
        run.reply("c", done());
        assert_eq!(run.saga_state(), SagaState::Completed);
        let step = run.step("b");
        assert_eq!((step.state == StepState::Skipped, step.output.is_some(), step.condition), (!holds, holds, Some(holds)));
        assert!(run.state.standing().iter().all(|effect| !effect.in_doubt));
    }
}

#[test]
fn what_a_condition_left_out_is_not_undone_and_is_told_from_what_an_operator_left_out() {
    let mut run = Run::start(conditional(chain(None), 1, "has(input.wanted)"));
    run.reply("a", done());
    run.reply("c", refused());
    assert_eq!((run.called(), run.step_state("b")), (vec!["undo_a"], StepState::Skipped));
    run.undo_reply("a", done());
    assert_eq!(run.saga_state(), SagaState::Compensated);
    let shown = &run.state.description().steps[1];
    assert_eq!((shown.condition, shown.output.as_ref(), shown.attempts), (Some(false), None, 0));
    let mut run = Run::start(conditional(chain(None), 1, "has(input.wanted)"));
    run.operate(SagaVerb::Skip { item: None, step: id("b") }).expect("its turn has not come");
    run.reply("a", done());
    let shown = &run.state.description().steps[1];
    assert_eq!((shown.condition, shown.output.clone()), (None, Some(json!(null).into())), "an operator lets it give null");
}

#[test]
fn a_chain_of_steps_that_are_left_out_ends_in_one_decision() {
    let mut definition = chain(None);
    for step in 0..3 {
        definition = conditional(definition, step, "has(input.wanted)");
    }
    let run = Run::start(definition);
    assert_eq!((run.saga_state(), asked(&run).len()), (SagaState::Completed, 3));
    assert!(run.commands.is_empty());
}

#[test]
fn conditions_see_what_was_there_before_them_and_that_it_is_not() {
    let definition = conditional(conditional(chain(None), 1, "!steps.a.output.ok"), 2, "has(steps.b.output)");
    let mut run = Run::start(definition);
    run.reply("a", done());
    assert_eq!(asked(&run), [("b".to_owned(), false), ("c".to_owned(), false)]);
    assert_eq!(run.saga_state(), SagaState::Completed);
}

#[test]
fn a_condition_without_a_value_fails_the_step_before_it_is_called_and_the_saga_is_compensated() {
    for condition in ["input.missing", "input.text", "input.text + 1"] {
        let mut run = Run::start_with(conditional(chain(None), 1, condition), json!({"text": "yes"}));
        run.reply("a", done());
        assert_eq!((run.called(), run.step_state("b"), run.last_failure()), (vec!["undo_a"], StepState::Failed, "CONDITION_FAILED"));
        assert_eq!(run.step("b").action.epoch, 0);
        run.undo_reply("a", done());
        assert_eq!(run.saga_state(), SagaState::Compensated);
    }
}

/// What is known before the pivot is asked before it: behind it the saga could go neither on nor back.
#[test]
fn a_condition_behind_the_pivot_that_can_be_told_before_it_stops_it() {
    let mut run = Run::start(conditional(chain(Some(1)), 2, "input.missing"));
    run.reply("a", done());
    assert_eq!((run.called(), run.step_state("b"), run.last_failure()), (vec!["undo_a"], StepState::Failed, "CONDITION_FAILED"));
    // One that holds is asked in its turn, and only then.
    let mut run = Run::start(conditional(chain(Some(1)), 2, "!has(input.missing)"));
    run.reply("a", done());
    assert_eq!((run.called(), asked(&run).len()), (vec!["b"], 0));
    run.reply("b", done());
    assert_eq!((run.called(), asked(&run).len()), (vec!["c"], 1));
}

#[test]
fn a_condition_behind_the_pivot_that_has_no_value_blocks_the_saga_until_somebody_mends_it() {
    let blocked = || {
        let mut run = Run::start(conditional(chain(Some(1)), 2, "steps.b.output.ok ? input.expected : false"));
        run.reply("a", done());
        run.reply("b", done());
        assert_eq!(
            (run.saga_state(), run.step_state("c"), run.last_failure()),
            (SagaState::Blocked, StepState::Failed, "CONDITION_FAILED")
        );
        run
    };
    let mut run = blocked();
    run.operate(SagaVerb::EditInput { input: json!({"expected": true}).into() }).expect("it is blocked");
    run.operate(SagaVerb::Retry { item: None, step: None }).expect("it is blocked");
    assert_eq!((run.called(), run.saga_state(), asked(&run).len()), (vec!["c"], SagaState::Running, 1));
    let mut run = blocked();
    run.operate(SagaVerb::Skip { item: None, step: id("c") }).expect("it is blocked");
    assert_eq!((run.saga_state(), run.step("c").condition), (SagaState::Completed, None));
}

/// It is asked once: another input, or another try because of the arguments, does not ask again.
#[test]
fn what_was_asked_is_not_asked_again() {
    let mut definition = conditional(chain(Some(1)), 2, "!has(input.late)");
    definition.steps[2].call_mut(Operation::Action).arguments = Template::compile(&json!("${ input.late }")).expect("legal");
    let mut run = Run::start(definition);
    run.reply("a", done());
    run.reply("b", done());
    assert_eq!((run.saga_state(), run.last_failure()), (SagaState::Blocked, "EXPRESSION_FAILED"));
    run.operate(SagaVerb::EditInput { input: json!({"late": {}}).into() }).expect("it is blocked");
    run.operate(SagaVerb::Retry { item: None, step: None }).expect("it is blocked");
    assert_eq!((run.called(), asked(&run)), (vec!["c"], vec![("c".to_owned(), true)]));
}

#[test]
fn nothing_is_asked_while_it_is_paused_or_to_be_undone() {
    let mut run = Run::start(conditional(chain(None), 1, "has(input.wanted)"));
    run.operate(SagaVerb::Pause).expect("it runs");
    run.reply("a", done());
    assert!(asked(&run).is_empty());
    run.operate(SagaVerb::Resume).expect("it is paused");
    assert_eq!((run.called(), asked(&run).len()), (vec!["c"], 1));
    let mut run = Run::start(conditional(chain(None), 1, "has(input.wanted)"));
    run.operate(SagaVerb::Cancel).expect("it runs");
    run.reply("a", done());
    assert_eq!((run.called(), asked(&run).len()), (vec!["undo_a"], 0));
}

#[test]
fn a_pivot_does_not_wait_for_what_is_left_out_and_behind_it_nothing_begins_before_it() {
    let steps = vec![step("a", &[], Compensatable), step("p", &[], Pivot), step("c", &[1], Retriable), step("d", &[2], Retriable)];
    let run = Run::start(conditional(definition(steps.clone()), 0, "has(input.wanted)"));
    assert_eq!(run.called(), ["p"]);
    let mut run = Run::start(conditional(definition(steps), 2, "has(input.wanted)"));
    run.reply("a", done());
    assert_eq!((run.called(), asked(&run).len()), (vec!["p"], 0));
    run.reply("p", done());
    assert_eq!((run.called(), asked(&run).len()), (vec!["d"], 1));
}

#[test]
fn a_rerun_asks_again_but_for_what_comes_before_its_step() {
    // c was left out; a rerun from it asks with the input that it has.
    let mut run = Run::start(conditional(chain(Some(1)), 2, "has(input.wanted)"));
    run.reply("a", done());
    run.reply("b", done());
    assert_eq!(run.saga_state(), SagaState::Completed);
    run.operate(SagaVerb::Rerun { from: id("c"), input: Some(json!({"wanted": 1}).into()) }).expect("nothing stands of it");
    let rerun = run.take_next();
    assert_eq!((rerun.called(), asked(&rerun)), (vec!["c"], vec![("c".to_owned(), true)]));
    // a was left out, and what comes after it goes on from that.
    let mut run = Run::start(conditional(chain(None), 0, "has(input.wanted)"));
    run.reply("b", done());
    run.operate(SagaVerb::Pause).expect("it runs");
    run.reply("c", unknown());
    run.operate(SagaVerb::Resolve { item: None, step: id("c"), outcome: sagamq_api::saga::StepOutcome::Failed }).expect("it is open");
    run.operate(SagaVerb::Terminate).expect("it is not at its end");
    run.operate(SagaVerb::Rerun { from: id("c"), input: Some(json!({"wanted": 1}).into()) }).expect("what is before it is done");
    let rerun = run.take_next();
    assert_eq!((rerun.called(), asked(&rerun)), (vec!["c"], vec![("a".to_owned(), false)]));
    assert_eq!(rerun.step_state("a"), StepState::Skipped);
    // Beside its step, and before nothing that is taken over, it is asked anew.
    let steps = || vec![step("a", &[], Compensatable), step("b", &[], Compensatable)];
    let mut run = Run::start(conditional(definition(steps()), 0, "has(input.wanted)"));
    run.reply("b", refused());
    assert_eq!(run.saga_state(), SagaState::Failed);
    run.operate(SagaVerb::Rerun { from: id("b"), input: Some(json!({"wanted": 1}).into()) }).expect("nothing stands");
    let rerun = run.take_next();
    assert_eq!((rerun.called(), asked(&rerun)), (vec!["a", "b"], vec![("a".to_owned(), true)]));
    assert!(run.state.steps.iter().all(|step| !step.is_handed_over));
}

#[test]
fn events_that_ask_twice_or_call_unasked_are_refused() {
    let run = Run::start(conditional(chain(None), 0, "!has(input.wanted)"));
    let attempt = |epoch| run.attempt("a", Operation::Action, epoch).within();
    let mut state = run.state.clone();
    assert!(state.apply(&SagaEvent::StepCondition { attempt: attempt(0), holds: true }, 5).is_err(), "asked twice");
    let mut state = crate::protocol::saga::InstanceState::new(run.state.head.id, &run.definition);
    for event in run.history.iter().filter(|recorded| !matches!(recorded.event, SagaEvent::StepCondition { .. })) {
        if state.apply(&event.event, event.at_ms).is_err() {
            assert!(matches!(event.event, SagaEvent::StepCalled { .. }), "called unasked");
            return;
        }
    }
    panic!("a step with a condition was called unasked");
}
