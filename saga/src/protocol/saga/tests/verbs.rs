//! What follows from an operator's verb.

use super::fixture::*;
use super::verb_table::blocked_of;
use crate::definition::Definition;
use crate::definition::StepKind::{Compensatable, Pivot, Retriable};
use crate::expression::Template;
use crate::protocol::saga::SagaEvent;
use crate::protocol::{CallCommand, Command, HandOut, Rejection};
use sagamq_api::saga::{Operation, SagaState, SagaVerb, StandingEffect, StepOutcome, StepState};
use serde_json::{Value, json};

pub(super) fn edit(input: Value) -> SagaVerb {
    SagaVerb::EditInput { input: input.into() }
}

fn retry() -> SagaVerb {
    SagaVerb::Retry { item: None, step: None }
}

pub(super) fn skip(step: &str) -> SagaVerb {
    SagaVerb::Skip { item: None, step: id(step) }
}

pub(super) fn resolve(step: &str, outcome: StepOutcome) -> SagaVerb {
    SagaVerb::Resolve { item: None, step: id(step), outcome }
}

pub(super) fn standing(run: &Run) -> Vec<(String, bool)> {
    run.state.description().standing.into_iter().map(|StandingEffect { step, in_doubt, .. }| (step.to_string(), in_doubt)).collect()
}

pub(super) fn call_of<'a>(run: &'a Run, name: &str) -> &'a CallCommand {
    let called = run.commands.iter().find_map(|command| match command {
        Command::Call(command) if command.call.call == name => Some(command),
        _ => None,
    });
    called.unwrap_or_else(|| panic!("{name} is called: {:?}", run.commands))
}

#[test]
fn nobody_is_called_while_it_is_paused_and_what_is_said_counts() {
    let mut run = Run::start(chain(None));
    assert_eq!(run.operate(SagaVerb::Pause), Ok(false));
    run.reply("a", done());
    assert_eq!((run.called(), run.step_state("a"), run.saga_state()), (vec![], StepState::Succeeded, SagaState::Paused));
    run.now_ms += 100_000;
    assert_eq!((run.state.next_look_ms(run.now_ms), run.state.is_due(run.now_ms)), (None, false), "no time passes");
    run.look(HandOut::Unknown);
    assert_eq!(run.saga_state(), SagaState::Paused, "and the saga's timeout of a minute neither");
    assert_eq!(run.operate(SagaVerb::Resume), Ok(false));
    assert_eq!((run.called(), run.saga_state()), (vec!["b"], SagaState::Running));
    assert_eq!(run.state.timeout_at_ms, Some(1_000 + 60_000 + 100_000), "it is later by the pause");
}

#[test]
fn what_is_over_while_it_is_paused_is_looked_at_when_it_goes_on() {
    let mut run = Run::start(chain(None));
    run.reply("a", done());
    run.operate(SagaVerb::Pause).expect("it runs");
    run.reply("b", refused());
    assert_eq!((run.called(), run.state.failure.clone()), (vec![], Some(failure("NO"))), "it is to be undone, and nobody is called");
    run.operate(SagaVerb::Resume).expect("it is paused");
    assert_eq!(run.called(), ["undo_a"]);
    run.operate(SagaVerb::Pause).expect("it runs");
    run.now_ms += 5_000;
    run.operate(SagaVerb::Resume).expect("it is paused");
    assert!(run.state.is_due(run.now_ms), "the deadline of the compensation is over");
    run.look(HandOut::Unknown);
    assert_eq!(run.last_failure(), "TIMEOUT");
}

#[test]
fn a_terminated_saga_calls_nobody_and_says_what_stands() {
    let mut run = Run::start(chain(None));
    run.reply("a", done());
    assert_eq!(run.operate(SagaVerb::Terminate), Ok(false));
    let settled = run.commands.iter().filter(|command| matches!(command, Command::Settle { .. })).count();
    assert_eq!((run.called(), settled), (vec![], 1), "the command of `b` is taken back");
    assert_eq!((run.saga_state(), standing(&run)), (SagaState::Terminated, vec![("a".to_owned(), false), ("b".to_owned(), true)]));
    let failure = run.state.failure.clone().expect("why");
    assert_eq!((failure.code.as_str(), failure.message.as_str()), ("TERMINATED", "she looked"));
    let late = run.reply_to("b", Operation::Action, 1, done());
    assert!(matches!(late, Err(Rejection::Fenced { .. })), "{late:?}");
}

#[test]
fn terminating_what_is_undone_leaves_what_is_not_undone() {
    let mut run = Run::start(chain(None));
    run.reply("a", done());
    run.reply("b", done());
    run.reply("c", refused());
    run.undo_reply("b", unknown());
    run.operate(SagaVerb::Terminate).expect("it is not at its end");
    assert_eq!(standing(&run), [("a".to_owned(), false), ("b".to_owned(), true)]);
    assert_eq!(run.state.failure, Some(failure("NO")), "what failed first stays the cause");
}

#[test]
fn a_failed_compensation_is_called_again_under_its_key_with_all_its_attempts_and_the_input_it_was_done_with() {
    let mut definition = chain(None);
    definition.steps[0].compensation.as_mut().expect("it has one").arguments =
        Template::compile(&json!("${ input.?to.orValue(1) }")).expect("legal");
    let mut run = blocked_of(definition);
    assert_eq!((run.saga_state(), standing(&run)), (SagaState::Blocked, vec![("a".to_owned(), true)]));
    run.operate(edit(json!({"to": 2}))).expect("the same key");
    assert_eq!(run.operate(retry()), Ok(false));
    let call = &call_of(&run, "undo_a").call;
    assert_eq!((call.attempt.epoch, call.arguments.as_str()), (2, "1"), "what was done with 1 is not undone with 2");
    assert!(call.idempotency_key.ends_with("/a/compensation"), "{}", call.idempotency_key);
    for epoch in 2..4 {
        run.undo_reply("a", unknown());
        assert_eq!((run.step_state("a"), run.step("a").compensation.epoch), (StepState::Compensating, epoch), "it has three attempts");
        run.tick();
    }
    run.undo_reply("a", unknown());
    assert_eq!(run.saga_state(), SagaState::Blocked, "and blocks again when they are used up");
    run.operate(retry()).expect("again");
    run.undo_reply("a", done());
    assert_eq!((run.saga_state(), standing(&run)), (SagaState::Compensated, vec![]));
}

#[test]
fn one_failed_compensation_of_two_is_retried_by_name_and_the_other_still_blocks() {
    let mut run =
        Run::start(definition(vec![step("a", &[], Compensatable), step("b", &[], Compensatable), step("c", &[0, 1], Compensatable)]));
    run.reply("a", done());
    run.reply("b", done());
    run.reply("c", refused());
    let hopeless = || sagamq_api::saga::CallOutcome::Refused { failure: failure("HOPELESS") };
    run.undo_reply("a", hopeless());
    run.undo_reply("b", hopeless());
    run.operate(SagaVerb::Retry { item: None, step: Some(id("b")) }).expect("it failed for good");
    assert_eq!(run.called(), ["undo_b"]);
    run.undo_reply("b", done());
    assert_eq!((run.saga_state(), run.step_state("a")), (SagaState::Blocked, StepState::CompensationFailed));
    run.operate(retry()).expect("what is left");
    assert_eq!(run.called(), ["undo_a"]);
}

#[test]
fn a_waiting_attempt_is_due_now_with_the_arguments_it_had() {
    let mut definition = chain(None);
    definition.steps[0].call_mut(Operation::Action).arguments = Template::compile(&json!("${ input.?to.orValue(1) }")).expect("legal");
    let mut run = Run::start(definition);
    run.reply("a", unknown());
    run.operate(edit(json!({"to": 2}))).expect("the same key");
    run.operate(retry()).expect("it waits");
    let call = &call_of(&run, "a").call;
    assert_eq!((call.attempt.epoch, call.arguments.as_str()), (2, "1"), "one key, one set of arguments");
    for _ in 0..2 {
        run.reply("a", unknown());
        run.tick();
    }
    assert_eq!((run.step("a").action.epoch, run.saga_state()), (4, SagaState::Running), "attempts are counted anew");
    run.reply("a", unknown());
    assert_eq!(run.step_state("a"), StepState::Compensating, "the first and three more");
}

#[test]
fn a_step_behind_the_pivot_without_arguments_goes_on_with_another_input() {
    let mut definition = chain(Some(1));
    definition.steps[2].call_mut(Operation::Action).arguments = Template::compile(&json!("${ input.missing }")).expect("legal");
    let start = || {
        let mut run = Run::start(definition.clone());
        run.reply("a", done());
        run.reply("b", done());
        assert_eq!(run.saga_state(), SagaState::Blocked);
        run
    };
    let mut run = start();
    assert_eq!(run.operate(retry()), Ok(false));
    assert_eq!((run.saga_state(), run.called()), (SagaState::Blocked, vec![]), "it still has no value");
    run.operate(edit(json!({"missing": 7}))).expect("the same key");
    run.operate(retry()).expect("it failed for good");
    assert_eq!((run.saga_state(), call_of(&run, "c").call.arguments.as_str()), (SagaState::Running, "7"));
    run.reply("c", done());
    assert_eq!((run.saga_state(), run.state.failure.clone()), (SagaState::Completed, None));
    for verb in [skip("c"), resolve("c", StepOutcome::Succeeded { output: json!("by hand").into() })] {
        let mut run = start();
        run.operate(verb).expect("it failed for good");
        assert_eq!((run.saga_state(), run.called()), (SagaState::Completed, vec![]));
    }
}

#[test]
fn a_step_that_is_left_out_gives_null_and_is_undone_if_it_may_have_been_done() {
    let mut definition = chain(None);
    definition.steps[1].call_mut(Operation::Action).arguments = Template::compile(&json!({"a": "${ steps.a.output }"})).expect("legal");
    let mut run = Run::start(definition);
    run.reply("a", unknown());
    run.operate(skip("a")).expect("it waits");
    assert_eq!(call_of(&run, "b").call.arguments, json!({"a": null}).into());
    run.operate(skip("c")).expect("it was not called");
    run.reply("b", refused());
    assert_eq!((run.called(), run.step_state("c")), (vec!["undo_a"], StepState::Skipped), "what was never called is not undone");
    run.undo_reply("a", done());
    assert_eq!(run.saga_state(), SagaState::Compensated);
}

#[test]
fn a_completed_saga_says_what_a_step_that_was_left_out_may_have_done() {
    let mut run = Run::start(chain(None));
    run.reply("a", unknown());
    run.operate(skip("a")).expect("it waits");
    run.reply("b", done());
    run.reply("c", done());
    assert_eq!((run.saga_state(), standing(&run)), (SagaState::Completed, vec![("a".to_owned(), true)]));
}

#[test]
fn a_compensation_that_is_left_out_leaves_its_effect_and_the_others_are_undone() {
    let mut definition = chain(None);
    definition.steps[1].compensation.as_mut().expect("it has one").retry.attempts = 1;
    let mut run = Run::start(definition);
    run.reply("a", done());
    run.reply("b", done());
    run.reply("c", refused());
    run.undo_reply("b", unknown());
    assert_eq!(run.saga_state(), SagaState::Blocked);
    run.operate(skip("b")).expect("it failed for good");
    assert_eq!((run.called(), run.saga_state()), (vec!["undo_a"], SagaState::Compensating));
    run.undo_reply("a", done());
    assert_eq!((run.saga_state(), standing(&run)), (SagaState::Terminated, vec![("b".to_owned(), true)]));
    assert!(run.state.description().steps[1].skipped);
}

#[test]
fn a_late_success_of_what_was_left_out_or_is_to_be_called_again_counts() {
    let blocked = || {
        let mut definition = chain(None);
        definition.steps[1].compensation.as_mut().expect("it has one").retry.attempts = 1;
        let mut run = Run::start(definition);
        run.reply("a", done());
        run.reply("b", done());
        run.reply("c", refused());
        run.undo_reply("b", unknown());
        run
    };
    let mut run = blocked();
    run.operate(skip("b")).expect("it failed for good");
    run.undo_reply("b", done());
    run.undo_reply("a", done());
    assert_eq!((run.saga_state(), run.state.description().steps[1].skipped), (SagaState::Compensated, false));
    let mut run = blocked();
    run.operate(SagaVerb::Pause).expect("it is not at its end");
    run.operate(retry()).expect("it failed for good");
    assert_eq!((run.called(), run.step_state("b")), (vec![], StepState::Succeeded), "it is called when it is resumed");
    run.undo_reply("b", done());
    run.operate(SagaVerb::Resume).expect("it is paused");
    assert_eq!(run.called(), ["undo_a"]);
}

#[test]
fn an_operator_says_what_is_true_and_the_saga_goes_on_from_there() {
    let succeeded = || StepOutcome::Succeeded { output: json!({"by": "hand"}).into() };
    let mut run = Run::start(chain(None));
    run.operate(resolve("a", succeeded())).expect("it is called");
    assert_eq!((run.called(), run.commands.len()), (vec!["b"], 2), "the command of `a` is taken back");
    assert_eq!(run.step("a").output, Some(json!({"by": "hand"}).into()));
    assert_eq!(run.reply_to("a", Operation::Action, 1, done()), Ok(true), "its own word is no news");
    run.reply("b", unknown());
    run.operate(resolve("b", StepOutcome::Failed)).expect("it waits");
    assert_eq!((run.called(), run.step_state("b"), run.last_failure()), (vec!["undo_a"], StepState::Failed, "RESOLVED"));
    run.operate(resolve("a", StepOutcome::Compensated)).expect("it is undone");
    assert_eq!(run.saga_state(), SagaState::Compensated);
}

#[test]
fn a_pivot_in_doubt_is_resolved_either_way() {
    let pivot = |verb: SagaVerb| {
        let mut run = Run::start(chain(Some(1)));
        run.reply("a", done());
        run.reply("b", unknown());
        run.operate(SagaVerb::Cancel).expect("it waits for the pivot");
        run.operate(verb).expect("the pivot is in doubt");
        run
    };
    assert_eq!(pivot(resolve("b", StepOutcome::Succeeded { output: json!(1).into() })).called(), ["c"]);
    let run = pivot(resolve("b", StepOutcome::Failed));
    assert_eq!((run.called(), run.state.failure.as_ref().map(|failure| failure.code.as_str())), (vec!["undo_a"], Some("CANCELLED")));
}

#[test]
fn an_unknown_action_that_was_done_gives_its_output_to_its_compensation() {
    let mut run = Run::start(definition(vec![step("a", &[], Compensatable), step("b", &[0], Compensatable)]));
    run.reply("a", done());
    run.operate(SagaVerb::Pause).expect("it runs");
    run.reply("b", unknown());
    run.operate(SagaVerb::Cancel).expect("before the pivot");
    assert_eq!((run.step_state("b"), run.called()), (StepState::Unknown, vec![]));
    run.operate(resolve("b", StepOutcome::Succeeded { output: json!(7).into() })).expect("its outcome is open");
    run.operate(SagaVerb::Resume).expect("it is paused");
    assert_eq!(call_of(&run, "undo_b").call.action_output, Some(json!(7).into()));
}

#[test]
fn another_input_has_the_same_key_and_is_an_object() {
    let keyed = || -> Definition {
        let mut definition = chain(None);
        definition.key = Template::compile(&json!("${ input.k }")).expect("legal");
        definition
    };
    let mut run = Run::start_with(keyed(), json!({"k": "k", "n": 1}));
    for wrong in [json!({"k": "other"}), json!({"n": 1}), json!([1])] {
        assert!(matches!(run.operate(edit(wrong.clone())), Err(Rejection::InvalidInput(_))), "{wrong}");
    }
    assert_eq!(run.operate(edit(json!({"k": "k", "n": 1}))), Ok(true));
    assert_eq!(run.operate(edit(json!({"k": "k", "n": 2}))), Ok(false));
    assert_eq!(run.state.head.first_input(), &json!({"k": "k", "n": 1}).into(), "a start is the same by what it was started with");
    assert_eq!(run.count(|event| matches!(event, SagaEvent::SagaInputEdited { .. })), 1);
}

#[test]
fn a_step_that_is_not_there_is_named() {
    let mut run = Run::start(chain(None));
    for verb in [skip("z"), SagaVerb::Retry { item: None, step: Some(id("z")) }, resolve("z", StepOutcome::Failed)] {
        assert_eq!(run.operate(verb), Err(Rejection::NoStep(id("z"))));
    }
}

#[test]
fn what_follows_a_step_that_was_left_out_before_its_turn_waits_for_what_comes_before_that() {
    let steps = vec![step("a", &[], Compensatable), step("b", &[0], Pivot), step("c", &[1], Retriable), step("d", &[2], Retriable)];
    let mut run = Run::start(definition(steps));
    run.operate(skip("c")).expect("its turn has not come");
    assert_eq!(run.step_state("d"), StepState::Scheduled, "nothing behind the pivot is called before it");
    run.reply("a", done());
    assert_eq!((run.step_state("b"), run.step_state("d")), (StepState::InProgress, StepState::Scheduled));
    run.reply("b", done());
    assert_eq!(run.step_state("d"), StepState::InProgress);
    run.reply("d", done());
    assert_eq!(run.saga_state(), SagaState::Completed);
}

#[test]
fn what_was_left_out_is_not_undone_after_what_it_rests_on() {
    let mut run = Run::start(definition(vec![step("a", &[], Compensatable), step("b", &[0], Compensatable)]));
    run.reply("a", done());
    run.reply("b", unknown());
    while run.step_state("b") != StepState::CompensationFailed {
        match run.step_state("b") {
            StepState::Compensating if run.step("b").compensation.attempt.is_open() => run.undo_reply("b", refused()),
            StepState::InProgress if run.step("b").action.attempt.is_open() => run.reply("b", unknown()),
            _ => run.tick(),
        }
    }
    let again = SagaVerb::Retry { item: None, step: Some(id("b")) };
    run.operate(skip("b")).expect("it failed for good");
    assert_eq!(run.step_state("a"), StepState::Compensating);
    let refused = run.operate(again);
    assert!(matches!(&refused, Err(Rejection::NotNow { reason, .. }) if reason.contains("by hand")), "{refused:?}");
}
