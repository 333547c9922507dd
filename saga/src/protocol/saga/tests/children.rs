//! Sub-sagas at the edges: a start that could not be, and an operator's word against that of the sub-saga.

use super::fixture::*;
use crate::definition::{Definition, Step, StepKind, SubSaga, Target};
use crate::expression::Template;
use crate::protocol::{Command, Input, Rejection, Related};
use sagamq_api::saga::{Operation, SagaState, SagaVerb, StepOutcome, StepState};
use serde_json::json;

/// A step that starts a sub-saga, which is undone as a whole.
pub(super) fn sub_saga(name: &str, after: &[usize], kind: StepKind) -> Step {
    let mut step = step(name, after, kind);
    let target = Target::Saga(SubSaga { name: "child".parse().expect("legal"), version: None });
    for call in step.action.call_mut().into_iter().chain(&mut step.compensation) {
        (call.target, call.retry.attempts) = (target.clone(), 1);
    }
    step
}

/// A step, a sub-saga, and a step.
pub(super) fn around(kind: StepKind) -> Definition {
    let behind = if kind == StepKind::Compensatable { kind } else { StepKind::Retriable };
    definition(vec![step("a", &[], StepKind::Compensatable), sub_saga("pay", &[0], kind), step("c", &[1], behind)])
}

/// The same, with `a` done and the sub-saga asked for.
pub(super) fn asked(kind: StepKind) -> Run {
    let mut run = Run::start(around(kind));
    run.reply("a", done());
    assert_eq!(run.called(), ["pay"]);
    run
}

pub(super) fn not_started(run: &mut Run, epoch: u32) -> Result<bool, Rejection> {
    let attempt = run.attempt("pay", Operation::Action, epoch);
    run.input(Input::NotSent { attempt, failure: failure("STORAGE_FULL"), was_never_sent: false })
}

fn ask_again(run: &mut Run) {
    run.operate(SagaVerb::Retry { step: Some(id("pay")), item: None }).expect("it is asked again");
    assert_eq!(run.called(), ["pay"]);
}

/// The attempts of sub-sagas that the last input disowns, as their keys have them.
fn disowned(run: &Run) -> Vec<String> {
    let keys = run.commands.iter().filter_map(|command| match command {
        Command::Relate(related) => match related.as_ref() {
            Related::Disown { child, .. } => Some(child.key.clone()),
            _ => None,
        },
        _ => None,
    });
    keys.map(|key| key.split_once('/').expect("behind the id").1.to_owned()).collect()
}

/// How many sub-sagas the last input cancels.
fn cancelled(run: &Run) -> usize {
    let is_it = |command: &&Command| matches!(command, Command::Relate(related) if matches!(**related, Related::Cancel(_)));
    run.commands.iter().filter(is_it).count()
}

pub(super) fn says(step: &str, outcome: StepOutcome) -> SagaVerb {
    SagaVerb::Resolve { step: id(step), item: None, outcome }
}

#[test]
fn a_pivot_that_could_not_be_started_is_not_tried_again_when_the_saga_is_to_be_undone() {
    let mut run = asked(StepKind::Pivot);
    assert_eq!(not_started(&mut run, 1), Ok(false));
    assert_eq!(run.step_state("pay"), StepState::InProgress, "another attempt follows");
    run.operate(SagaVerb::Cancel).expect("before the pivot");
    assert_eq!((run.step_state("pay"), run.called()), (StepState::Failed, vec!["undo_a"]), "provably nothing was started");
    assert_eq!(cancelled(&run), 0, "so there is nothing to cancel");
    run.undo_reply("a", done());
    assert_eq!(run.saga_state(), SagaState::Compensated);
}

#[test]
fn a_pivot_that_is_asked_for_when_the_saga_is_to_be_undone_says_itself_whether_it_was() {
    let mut run = asked(StepKind::Pivot);
    run.operate(SagaVerb::Cancel).expect("before the pivot");
    assert_eq!((run.step_state("pay"), run.called().len()), (StepState::InProgress, 0), "it may have begun");
    assert_eq!(cancelled(&run), 1, "it is to be undone as well, if it still can be");
    assert_eq!((run.operate(SagaVerb::Cancel), cancelled(&run)), (Ok(true), 0), "once");
    assert_eq!(not_started(&mut run, 1), Ok(false));
    assert_eq!((run.step_state("pay"), run.called()), (StepState::Failed, vec!["undo_a"]));
}

#[test]
fn no_other_sub_saga_is_started_for_a_pivot_in_doubt_when_the_saga_is_to_be_undone() {
    let mut run = asked(StepKind::Pivot);
    run.reply("pay", unknown());
    run.operate(SagaVerb::Cancel).expect("nobody knows of the pivot");
    assert_eq!((run.saga_state(), run.step_state("pay")), (SagaState::Waiting, StepState::InProgress));
    for step in [Some(id("pay")), None] {
        let no = run.operate(SagaVerb::Retry { step: step.clone(), item: None }).expect_err("it would be a second effect");
        assert!(step.is_none() || no.to_string().contains("`resolve` says"), "{no}");
    }
    run.operate(says("pay", StepOutcome::Failed)).expect("somebody looked");
    assert_eq!(run.called(), ["undo_a"]);
}

#[test]
fn one_that_was_asked_for_again_is_not_started_a_second_time_because_the_first_ask_came_to_nothing() {
    let mut run = asked(StepKind::Compensatable);
    ask_again(&mut run);
    // The first came to nothing; the second has started it.
    assert_eq!(not_started(&mut run, 1), Ok(false));
    assert_eq!(
        (run.step("pay").action.epoch, run.state.next_due_ms()),
        (1, Some(61_000)),
        "there is no other attempt, only the saga's time"
    );
    run.reply("pay", done());
    assert_eq!((run.step_state("pay"), run.called()), (StepState::Succeeded, vec!["c"]));
    // Both came to nothing.
    let mut run = asked(StepKind::Compensatable);
    ask_again(&mut run);
    assert_eq!((not_started(&mut run, 1), not_started(&mut run, 1)), (Ok(false), Ok(false)));
    run.tick();
    assert_eq!((run.called(), run.step("pay").action.epoch), (vec!["pay"], 2));
}

#[test]
fn a_sub_saga_of_a_step_that_an_operator_says_had_no_effect_is_disowned() {
    let mut run = asked(StepKind::Compensatable);
    run.operate(says("pay", StepOutcome::Failed)).expect("it is open");
    assert_eq!((disowned(&run), run.step_state("pay")), (vec!["pay/action#1".to_owned()], StepState::Failed));
    assert!(run.called().contains(&"undo_a"), "and the saga goes back");
    // What it says to that, nobody waits for.
    let attempt = run.attempt("pay", Operation::Compensation, 0);
    let answer = Input::Reply { attempt, outcome: done(), note: None, branch_address: None };
    assert!(matches!(run.input(answer), Err(Rejection::Fenced { .. })));
    // At its end as well.
    let mut run = asked(StepKind::Compensatable);
    run.operate(SagaVerb::Terminate).expect("it runs");
    assert!(disowned(&run).is_empty(), "to end a saga as it is says nothing of its sub-sagas");
    run.operate(says("pay", StepOutcome::Failed)).expect("it was open then");
    assert_eq!(disowned(&run), ["pay/action#1"]);
    // And of no other outcome.
    let mut run = asked(StepKind::Compensatable);
    run.operate(says("pay", StepOutcome::Succeeded { output: json!(1).into() })).expect("it is open");
    assert!(disowned(&run).is_empty());
}

#[test]
fn a_success_that_does_not_count_is_not_left_standing() {
    // A refusal of one ask, and another one that started it: by the time it is done its step has failed.
    let mut run = asked(StepKind::Compensatable);
    ask_again(&mut run);
    run.reply("pay", refused());
    assert!(disowned(&run).is_empty());
    assert_eq!(run.reply_to("pay", Operation::Action, 1, done()), Ok(true), "it changes nothing here");
    assert_eq!(disowned(&run), ["pay/action#1"]);
    run.undo_reply("a", done());
    assert_eq!(run.saga_state(), SagaState::Compensated);
    assert_eq!(run.reply_to("pay", Operation::Action, 1, done()), Ok(true), "also at its end");
    assert_eq!(disowned(&run), ["pay/action#1"]);
    assert!(run.reply_to("pay", Operation::Action, 1, unknown()).is_err(), "doubt is fenced");
    // Of an older attempt.
    let mut run = Run::start(definition(vec![step("a", &[], StepKind::Pivot), sub_saga("pay", &[0], StepKind::Retriable)]));
    run.reply("a", done());
    run.reply("pay", unknown());
    run.operate(SagaVerb::Retry { step: None, item: None }).expect("it waits for an operator");
    assert_eq!(run.step("pay").action.epoch, 2);
    assert!(run.reply_to("pay", Operation::Action, 1, refused()).is_err(), "a refusal is another one's word");
    assert_eq!((run.reply_to("pay", Operation::Action, 1, done()), disowned(&run)), (Ok(true), vec!["pay/action#1".to_owned()]));
    assert_eq!(run.step_state("pay"), StepState::InProgress);
    // One that is in doubt for an instance that was ended as it is stays as it is.
    let mut run = asked(StepKind::Compensatable);
    run.operate(SagaVerb::Terminate).expect("it runs");
    assert!(run.reply_to("pay", Operation::Action, 1, done()).is_err() && run.state.standing().len() == 2);
}

/// Nothing was started for it, so nothing can be asked to undo it.
#[test]
fn what_an_operator_did_in_place_of_a_sub_saga_is_undone_by_hand() {
    let done_by_hand = || {
        let mut pay = Step { optional: true, ..sub_saga("pay", &[0], StepKind::Compensatable) };
        pay.call_mut(Operation::Action).arguments = Template::compile(&json!("${ input.gone }")).expect("legal");
        let steps = vec![step("a", &[], StepKind::Compensatable), pay, step("c", &[1], StepKind::Compensatable)];
        let mut run = Run::start(definition(steps));
        run.reply("a", done());
        assert_eq!((run.step_state("pay"), run.step("pay").action.epoch, run.called()), (StepState::Failed, 0, vec!["c"]));
        run.operate(says("pay", StepOutcome::Succeeded { output: json!(1).into() })).expect("it is open");
        run
    };
    let is_blocked = |run: &Run| {
        assert_eq!((run.saga_state(), run.step_state("pay")), (SagaState::Blocked, StepState::CompensationFailed));
        assert!(run.called().is_empty(), "{:?}", run.called());
        let last = run.state.failures.last().expect("it says why");
        assert!(last.failure.code == "COMPENSATION_FAILED" && last.failure.message.contains("DONE_BY_HAND"), "{last:?}");
    };
    let mut run = done_by_hand();
    run.reply("c", refused());
    is_blocked(&run);
    run.operate(SagaVerb::Retry { step: Some(id("pay")), item: None }).expect("it is blocked");
    is_blocked(&run);
    run.operate(says("pay", StepOutcome::Compensated)).expect("it was undone by hand");
    assert_eq!(run.called(), ["undo_a"]);
    // A rerun that took it over knows no more.
    let mut run = done_by_hand();
    run.operate(SagaVerb::Terminate).expect("it runs");
    run.operate(says("c", StepOutcome::Failed)).expect("it was open then");
    let mut rerun = run.rerun("c").expect("what comes before it is done");
    rerun.reply("c", refused());
    is_blocked(&rerun);
}

#[test]
fn a_sub_saga_is_asked_what_became_of_it_only_if_its_step_is_named() {
    let mut run = asked(StepKind::Compensatable);
    let no = run.operate(SagaVerb::Retry { step: None, item: None });
    assert!(matches!(no, Err(Rejection::NotNow { .. })), "{no:?}");
}

#[test]
fn one_that_could_not_be_started_leaves_nothing_to_undo() {
    let mut run = asked(StepKind::Compensatable);
    assert_eq!(not_started(&mut run, 1), Ok(false));
    run.operate(SagaVerb::Cancel).expect("it runs");
    assert_eq!((run.step_state("pay"), run.called()), (StepState::Failed, vec!["undo_a"]), "provably nothing was started");
}

#[test]
fn that_an_older_attempt_was_not_started_is_no_news() {
    let mut run = asked(StepKind::Compensatable);
    assert_eq!(not_started(&mut run, 1), Ok(false));
    run.tick();
    assert_eq!((run.called(), run.step("pay").action.epoch), (vec!["pay"], 2));
    assert_eq!(not_started(&mut run, 1), Ok(true), "the second one may have been");
    assert!(run.state.waits_for_relatives().1.len() == 1, "it is waited for");
}

/// Only a start can come to nothing.
#[test]
fn that_an_undoing_was_not_sent_is_no_news() {
    let mut run = asked(StepKind::Compensatable);
    run.reply("pay", done());
    run.reply("c", refused());
    assert_eq!(run.called(), ["undo_pay"]);
    let attempt = run.attempt("pay", Operation::Compensation, 1);
    assert_eq!(run.input(Input::NotSent { attempt, failure: failure("STORAGE_FULL"), was_never_sent: false }), Ok(true));
    assert_eq!(run.step_state("pay"), StepState::Compensating);
}

/// It is folded again when something comes for it. Who is to be undone, or took effects over, is known by what memory has of it.
#[test]
fn a_parent_that_only_waits_may_leave_memory_unless_it_is_to_be_undone_or_took_effects_over() {
    let mut run = asked(StepKind::Compensatable);
    assert_eq!(run.state.asleep_until_ms(), Some(61_000), "its own timeout");
    run.operate(SagaVerb::Terminate).expect("it runs");
    run.operate(says("pay", StepOutcome::Failed)).expect("it was open then");
    let rerun = run.rerun("pay").expect("a stands");
    assert_eq!((rerun.called(), rerun.state.asleep_until_ms()), (vec!["pay"], None));
    let mut run = asked(StepKind::Pivot);
    assert_eq!(run.state.asleep_until_ms(), Some(61_000));
    run.operate(SagaVerb::Cancel).expect("before the pivot");
    assert_eq!(run.state.asleep_until_ms(), None);
}
