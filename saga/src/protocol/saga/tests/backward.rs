//! Backward: what is undone, in which order, and what happens when undoing fails.

use super::fixture::*;
use crate::definition::StepKind::Compensatable;
use crate::protocol::saga::SagaEvent;
use crate::protocol::{By, Command, HandOut, Input, Rejection, Verb};
use sagamq_api::saga::{CallOutcome, SagaState, SagaVerb, StepState};
use serde_json::json;

#[test]
fn a_refusal_undoes_what_succeeded_in_reverse_order() {
    let mut run = Run::start(chain(None));
    run.reply("a", done());
    run.reply("b", done());
    run.reply("c", refused());
    assert_eq!((run.called(), run.step_state("c")), (vec!["undo_b"], StepState::Failed));
    let Some(Command::Call(command)) = run.commands.last().cloned() else { panic!("a call is ordered") };
    assert_eq!(command.call.action_output, Some(json!({"ok": true}).into()));
    run.undo_reply("b", done());
    assert_eq!(run.called(), ["undo_a"]);
    run.undo_reply("a", done());
    assert_eq!(run.saga_state(), SagaState::Compensated);
    assert_eq!(run.state.failure, Some(failure("NO")));
}

#[test]
fn a_refusal_before_any_effect_is_a_failed_saga() {
    let mut run = Run::start(chain(None));
    run.reply("a", refused());
    assert_eq!(run.saga_state(), SagaState::Failed);
}

#[test]
fn branches_are_undone_side_by_side_and_their_root_last() {
    let steps = vec![
        step("a", &[], Compensatable),
        step("b", &[0], Compensatable),
        step("c", &[0], Compensatable),
        step("d", &[1, 2], Compensatable),
    ];
    let mut run = Run::start(definition(steps));
    for name in ["a", "b", "c"] {
        run.reply(name, done());
    }
    run.reply("d", refused());
    assert_eq!(run.called(), ["undo_c", "undo_b"]);
    run.undo_reply("b", done());
    assert!(run.called().is_empty(), "`c` still depends on `a`");
    run.undo_reply("c", done());
    assert_eq!(run.called(), ["undo_a"]);
}

#[test]
fn a_step_without_effect_does_not_break_the_order() {
    let mut definition = definition(vec![
        step("a", &[], Compensatable),
        step("look", &[0], Compensatable),
        step("c", &[1], Compensatable),
        step("d", &[2], Compensatable),
    ]);
    definition.steps[1].compensation = None;
    let mut run = Run::start(definition);
    for name in ["a", "look", "c"] {
        run.reply(name, done());
    }
    run.reply("d", refused());
    assert_eq!(run.called(), ["undo_c"], "`a` waits for `c`, although `look` between them is not undone");
    run.undo_reply("c", done());
    run.undo_reply("a", done());
    assert_eq!((run.saga_state(), run.step_state("look")), (SagaState::Compensated, StepState::Succeeded));
}

#[test]
fn what_is_in_flight_when_the_saga_fails_is_awaited_and_then_undone() {
    let mut run = Run::start(definition(vec![step("a", &[], Compensatable), step("b", &[], Compensatable)]));
    run.reply("a", refused());
    assert_eq!((run.saga_state(), run.called()), (SagaState::Compensating, vec![]));
    run.reply("b", done());
    assert_eq!(run.called(), ["undo_b"]);
}

#[test]
fn what_is_in_flight_and_stays_silent_is_undone_without_another_attempt() {
    let mut run = Run::start(definition(vec![step("a", &[], Compensatable), step("b", &[], Compensatable)]));
    run.reply("a", refused());
    run.tick();
    assert_eq!(run.called(), ["undo_b"]);
    assert_eq!(run.count(|event| matches!(event, SagaEvent::StepUnknown { .. })), 1);
    let Some(Command::Call(command)) = run.commands.last() else { panic!("a call is ordered") };
    assert_eq!(command.call.action_output, None, "its output is not known");
}

#[test]
fn what_waits_for_a_retry_when_the_saga_fails_is_undone() {
    let mut run = Run::start(definition(vec![step("a", &[], Compensatable), step("b", &[], Compensatable)]));
    run.reply("b", unknown());
    run.reply("a", refused());
    assert_eq!(run.called(), ["undo_b"]);
}

#[test]
fn a_compensation_is_tried_again_then_blocks_and_the_others_go_on() {
    let mut run =
        Run::start(definition(vec![step("a", &[], Compensatable), step("b", &[], Compensatable), step("c", &[0, 1], Compensatable)]));
    run.reply("a", done());
    run.reply("b", done());
    run.reply("c", refused());
    for _ in 0..2 {
        run.undo_reply("a", refused());
        run.now_ms += 400;
        run.look(HandOut::Unknown);
    }
    run.undo_reply("a", unknown());
    assert_eq!((run.step_state("a"), run.saga_state()), (StepState::CompensationFailed, SagaState::Compensating));
    run.undo_reply("b", done());
    assert_eq!((run.saga_state(), run.step_state("b")), (SagaState::Blocked, StepState::Compensated));
    assert_eq!(run.state.failure, Some(failure("NO")), "what failed first stays the cause");
    assert_eq!(run.state.failures.len(), 4, "no error hides another");
    assert_eq!(
        run.input(Input::Operate { verb: Verb::Saga(SagaVerb::Cancel), by: By::default() }),
        Err(Rejection::AlreadyFinal(SagaState::Blocked))
    );
}

#[test]
fn what_a_failed_compensation_depends_on_is_not_undone_before_it() {
    let mut definition = chain(None);
    definition.steps[1].compensation.as_mut().expect("it has one").retry.attempts = 1;
    let mut run = Run::start(definition);
    run.reply("a", done());
    run.reply("b", done());
    run.reply("c", refused());
    run.undo_reply("b", unknown());
    assert_eq!((run.saga_state(), run.step_state("a")), (SagaState::Blocked, StepState::Succeeded));
}

#[test]
fn a_compensation_whose_arguments_have_no_value_blocks() {
    let mut definition = chain(None);
    definition.steps[0].compensation = Some(call("undo_a", json!("${steps.a.output.missing}"), 3));
    let mut run = Run::start(definition);
    run.reply("a", done());
    run.reply("b", refused());
    assert_eq!((run.saga_state(), run.step_state("a")), (SagaState::Blocked, StepState::CompensationFailed));
    assert_eq!(run.state.failures.last().map(|failed| failed.failure.code.as_str()), Some("COMPENSATION_FAILED"));
}

#[test]
fn a_compensation_sees_the_failure() {
    let mut definition = chain(None);
    definition.steps[0].compensation = Some(call("undo_a", json!({"why": "${failure.code}"}), 3));
    let mut run = Run::start(definition);
    run.reply("a", done());
    run.reply("b", refused());
    let Some(Command::Call(command)) = run.commands.last() else { panic!("a call is ordered") };
    assert_eq!(command.call.arguments, json!({"why": "NO"}).into());
}

#[test]
fn cancelling_undoes_and_is_the_same_when_said_twice() {
    let mut run = Run::start(chain(None));
    run.reply("a", done());
    assert_eq!(run.input(Input::Operate { verb: Verb::Saga(SagaVerb::Cancel), by: by("changed my mind") }), Ok(false));
    assert_eq!(run.saga_state(), SagaState::Compensating);
    assert_eq!(run.input(Input::Operate { verb: Verb::Saga(SagaVerb::Cancel), by: by("really") }), Ok(true));
    run.reply("b", CallOutcome::Succeeded { output: json!(null).into() });
    run.undo_reply("b", done());
    run.undo_reply("a", done());
    assert_eq!((run.saga_state(), run.state.failure.as_ref().map(|f| f.code.as_str())), (SagaState::Compensated, Some("CANCELLED")));
}

#[test]
fn the_sagas_timeout_undoes_and_does_not_touch_compensations() {
    let mut run = Run::start(chain(None));
    run.reply("a", done());
    run.reply("b", done());
    run.now_ms = 61_000;
    run.look(HandOut::Unknown);
    assert_eq!(run.state.failure.as_ref().map(|f| f.code.as_str()), Some("SAGA_TIMEOUT"));
    assert_eq!(run.called(), ["undo_c"], "its attempt was over as well, without an answer");
    run.now_ms += 500_000;
    run.look(HandOut::Unknown);
    assert_eq!(run.saga_state(), SagaState::Compensating);
}
