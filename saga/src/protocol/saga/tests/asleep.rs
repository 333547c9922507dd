//! Steps that sleep.

use super::fixture::*;
use crate::definition::Sleep;
use crate::definition::StepKind::{Compensatable, Pivot, Retriable};
use crate::expression::Template;
use crate::protocol::saga::{Phase, SagaEvent};
use crate::protocol::{HandOut, Rejection};
use core::time::Duration;
use sagamq_api::saga::{SagaState, SagaVerb, StepOutcome, StepState, WaitCode};
use serde_json::{Value, json};

const LENGTH_MS: u64 = 10_000;

fn length() -> Sleep {
    Sleep::For(Duration::from_millis(LENGTH_MS))
}

/// `a` is called, `b` sleeps, `c` is called.
pub(super) fn nap() -> Run {
    let steps = vec![step("a", &[], Compensatable), sleep("b", &[0], Compensatable, length()), step("c", &[1], Compensatable)];
    let mut run = Run::start(definition(steps));
    run.reply("a", done());
    run
}

fn codes(run: &Run) -> Vec<&str> {
    run.state.failures.iter().map(|failed| failed.failure.code.as_str()).collect()
}

#[test]
fn a_step_sleeps_its_time_calls_nobody_and_the_next_one_follows() {
    let mut run = nap();
    assert_eq!((run.saga_state(), run.step_state("b"), run.called().len()), (SagaState::Waiting, StepState::InProgress, 0));
    let woken_ms = run.now_ms + LENGTH_MS;
    assert_eq!(
        (run.state.next_look_ms(run.now_ms), run.state.is_due(woken_ms - 1), run.state.is_due(woken_ms)),
        (Some(woken_ms), false, true)
    );
    let waits = run.state.waits(&[]);
    let [waits] = waits.as_slice() else { panic!("it waits for one thing: {waits:?}") };
    assert_eq!((waits.code, waits.next_at_ms, waits.step.as_ref()), (WaitCode::Sleeps, Some(woken_ms), Some(&id("b"))));
    run.now_ms = woken_ms - 1;
    run.look(HandOut::Unknown);
    assert_eq!(run.step_state("b"), StepState::InProgress, "nobody wakes it before");
    run.tick();
    assert_eq!((run.step_state("b"), run.step("b").output.as_ref().map(|output| output.as_str())), (StepState::Succeeded, Some("null")));
    assert_eq!((run.called(), run.now_ms), (vec!["c"], woken_ms));
    run.reply("c", done());
    assert_eq!((run.saga_state(), run.state.failures.len()), (SagaState::Completed, 0));
}

#[test]
fn whatever_undoes_the_saga_ends_a_sleep_at_once() {
    let mut cancelled = nap();
    cancelled.operate(SagaVerb::Cancel).expect("nothing stands in the way");
    let mut late = nap();
    late.definition.timeout = Some(Duration::from_millis(1));
    late.state.timeout_at_ms = Some(late.now_ms);
    late.look(HandOut::Unknown);
    let steps = vec![step("a", &[], Compensatable), sleep("b", &[], Compensatable, length()), step("c", &[], Compensatable)];
    let mut beside = Run::start(definition(steps));
    beside.reply("a", done());
    beside.reply("c", refused());
    for mut run in [cancelled, late, beside] {
        assert_eq!(
            (run.state.phase, run.step_state("b"), run.step_state("a")),
            (Phase::Compensating, StepState::Failed, StepState::Compensating)
        );
        assert!(codes(&run).contains(&"SLEEP_ENDED"), "{:?}", codes(&run));
        run.undo_reply("a", done());
        assert_eq!((run.saga_state(), run.state.next_look_ms(run.now_ms)), (SagaState::Compensated, None));
    }
}

#[test]
fn behind_the_pivot_a_sleep_is_never_ended_by_time_or_a_cancellation() {
    let steps =
        vec![step("a", &[], Pivot), sleep("b", &[0], Retriable, Sleep::For(Duration::from_secs(3_600))), step("c", &[1], Retriable)];
    let mut run = Run::start(definition(steps));
    run.reply("a", done());
    assert_eq!(run.operate(SagaVerb::Cancel), Err(Rejection::NotCancellable));
    run.tick();
    assert!(run.history.iter().any(|recorded| recorded.event == SagaEvent::SagaTimeoutPassed), "the saga's minute is over");
    assert_eq!(run.step_state("b"), StepState::InProgress);
    run.tick();
    assert_eq!(run.called(), ["c"]);
}

#[test]
fn while_it_is_paused_nobody_wakes_and_what_is_over_wakes_when_it_is_resumed() {
    let mut run = nap();
    run.operate(SagaVerb::Pause).expect("it runs");
    assert_eq!((run.saga_state(), run.state.next_look_ms(run.now_ms)), (SagaState::Paused, None));
    run.now_ms += 2 * LENGTH_MS;
    run.look(HandOut::Unknown);
    assert_eq!(run.step_state("b"), StepState::InProgress);
    run.operate(SagaVerb::Resume).expect("it is paused");
    assert!(run.state.is_due(run.now_ms));
    run.tick();
    assert_eq!(run.called(), ["c"]);
}

#[test]
fn a_sleep_is_skipped_and_nothing_else_of_a_call_is_done_to_it() {
    let mut run = nap();
    for verb in [
        SagaVerb::Retry { item: None, step: Some(id("b")) },
        SagaVerb::Resolve { item: None, step: id("b"), outcome: StepOutcome::Failed },
        SagaVerb::Resolve { item: None, step: id("b"), outcome: StepOutcome::Succeeded { output: json!(1).into() } },
    ] {
        let Err(Rejection::NotNow { reason, .. }) = run.operate(verb) else { panic!("it is refused") };
        assert!(reason.contains("`b`") && reason.contains("calls nobody") && reason.contains("skip"), "{reason}");
    }
    run.operate(SagaVerb::Skip { item: None, step: id("b") }).expect("it sleeps");
    assert_eq!((run.step_state("b"), run.called()), (StepState::Skipped, vec!["c"]));
}

#[test]
fn a_sleep_leaves_nothing_when_it_is_terminated_and_is_not_slept_again_by_a_rerun() {
    let mut run = nap();
    run.operate(SagaVerb::Terminate).expect("it runs");
    let standing: Vec<_> = run.state.standing().into_iter().map(|effect| effect.step).collect();
    assert_eq!((run.step_state("b"), standing), (StepState::Failed, vec![id("a")]));
    let mut again = run.rerun("b").expect("`a` stands without doubt");
    assert_eq!((again.step_state("a"), again.step_state("b")), (StepState::Succeeded, StepState::InProgress));
    again.tick();
    again.operate(SagaVerb::Skip { item: None, step: id("c") }).expect_err("it is called");
    again.operate(SagaVerb::Pause).expect("it runs");
    again.operate(SagaVerb::Resolve { item: None, step: id("c"), outcome: StepOutcome::Failed }).expect("it is called");
    again.operate(SagaVerb::Terminate).expect("it is paused");
    let third = again.rerun("c").expect("what is before it is done");
    assert_eq!((third.step_state("b"), third.step("b").origin.is_some()), (StepState::Succeeded, false));
    assert_eq!(third.called(), ["c"]);
}

fn told(sleep_of: fn(Template) -> Sleep, input: Value) -> Run {
    let value = Template::compile(&json!("${ input.at }")).expect("legal");
    let mut definition = definition(vec![sleep("a", &[], Compensatable, sleep_of(value))]);
    definition.timeout = None;
    Run::start_with(definition, input)
}

#[test]
fn an_expression_says_how_long_or_until_when() {
    for (sleep_of, value, until_ms) in [
        (Sleep::Given as fn(Template) -> Sleep, json!("1m30s"), 91_000),
        (Sleep::Given, json!("0s"), 1_000),
        (Sleep::Until, json!(5_000), 5_000),
        (Sleep::Until, json!("1970-01-01T00:00:07.5Z"), 7_500),
        (Sleep::Until, json!("1970-01-01T02:00:07+02:00"), 7_000),
        (Sleep::Until, json!(1), 1_000),
        (Sleep::Until, json!("1815-12-10T00:00:00Z"), 1_000),
    ] {
        let mut run = told(sleep_of, json!({ "at": value }));
        assert_eq!(run.state.next_due_ms(), Some(until_ms), "{value}");
        run.tick();
        assert_eq!(run.saga_state(), SagaState::Completed);
    }
}

#[test]
fn what_is_no_time_fails_the_step_before_the_pivot_and_says_what_it_was() {
    for (sleep_of, value, said) in [
        (Sleep::Given as fn(Template) -> Sleep, json!(15), "15 is no duration"),
        (Sleep::Given, json!("soon"), "`soon` is no duration"),
        (Sleep::Given, json!("366d"), "more than 365 days"),
        (Sleep::Until, json!("tomorrow"), "\"tomorrow\" is no time"),
        (Sleep::Until, json!(1.5), "1.5 is no time"),
        (Sleep::Until, json!("2200-01-01T00:00:00Z"), "more than 365 days"),
        (Sleep::Until, Value::Null, "null is no time"),
    ] {
        let run = told(sleep_of, json!({ "at": value }));
        let failure = run.state.failure.as_ref().expect("it fails");
        assert_eq!((run.saga_state(), failure.code.as_str()), (SagaState::Failed, "EXPRESSION_FAILED"), "{value}");
        assert!(failure.message.contains(said) && failure.message.contains("`sleep` of `a`"), "{}", failure.message);
    }
}

#[test]
fn a_sleep_behind_the_pivot_without_a_time_goes_on_with_another_input() {
    let value = Template::compile(&json!("${ input.at }")).expect("legal");
    let mut run = Run::start(definition(vec![step("a", &[], Pivot), sleep("b", &[0], Retriable, Sleep::Until(value))]));
    run.reply("a", done());
    assert_eq!((run.saga_state(), run.last_failure()), (SagaState::Blocked, "EXPRESSION_FAILED"));
    run.operate(SagaVerb::EditInput { input: json!({"at": 1}).into() }).expect("the same key");
    run.operate(SagaVerb::Retry { item: None, step: None }).expect("it can be tried");
    run.tick();
    assert_eq!(run.saga_state(), SagaState::Completed);
}

#[test]
fn events_of_a_sleep_fit_a_step_that_sleeps_and_no_other() {
    let run = nap();
    let of = |step: &str, epoch| sagamq_api::saga::StepAttempt {
        step: id(step),
        item: None,
        operation: sagamq_api::saga::Operation::Action,
        epoch,
    };
    for event in [
        SagaEvent::StepAsleep { attempt: of("b", 0), until_ms: Some(5) },
        SagaEvent::StepAsleep { attempt: of("c", 0), until_ms: Some(5) },
        SagaEvent::StepWoke { attempt: of("c", 0), signal: None },
        SagaEvent::StepWoke { attempt: of("b", 1), signal: None },
        SagaEvent::StepWoke { attempt: of("b", 0), signal: Some(0) },
        SagaEvent::StepCalled { attempt: of("b", 1), deadline_ms: 5, queue_deadline_ms: None, arguments: Some(json!({}).into()) },
        SagaEvent::StepSucceeded { attempt: of("b", 0), output: json!(1).into(), note: None },
        SagaEvent::StepUnknown { attempt: of("b", 0), failure: failure("LOST") },
    ] {
        assert!(run.state.clone().apply(&event, 5).is_err(), "{event:?}");
    }
}
