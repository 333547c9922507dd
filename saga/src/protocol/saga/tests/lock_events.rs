//! Locks of several steps at a time, and events of locks that cannot be.

use super::fixture::*;
use super::locks::{chain_of_locks, fenced, locked};
use crate::definition::Step;
use crate::definition::StepKind::{Compensatable, Pivot, Retriable};
use crate::expression::Template;
use crate::protocol::HandOut;
use crate::protocol::lock::LockSaid;
use crate::protocol::saga::{InstanceState, SagaEvent};
use sagamq_api::saga::{Operation, SagaState, SagaVerb, StepAttempt, StepState};
use serde_json::json;

fn when(step: Step, condition: &str) -> Step {
    Step { when: Some(Template::text(condition).expect("legal")), ..step }
}

fn broken(token: u64) -> LockSaid {
    LockSaid::Broken { token, actor: None, reason: None }
}

/// The state in front of the first event that is so.
fn before(run: &Run, is_it: impl Fn(&SagaEvent) -> bool) -> InstanceState {
    let at = run.history.iter().position(|recorded| is_it(&recorded.event)).expect("it happened");
    let mut state = InstanceState::new(run.state.head.id, &run.definition);
    run.history[..at].iter().for_each(|recorded| state.apply(&recorded.event, recorded.at_ms).expect("it was decided"));
    state
}

#[test]
fn only_a_step_whose_turn_may_come_asks_for_a_lock() {
    let run = chain_of_locks();
    let asks = |state: &InstanceState, attempt: StepAttempt, key: &str| {
        state.clone().apply(&SagaEvent::LockAsked { attempt, key: key.to_owned(), until_ms: None }, 1).is_ok()
    };
    let attempt = |step: &str, operation, epoch| run.attempt(step, operation, epoch).within();
    let c = || attempt("c", Operation::Action, 0);
    assert!(asks(&run.state, c(), "k"), "it has not begun");
    assert!(!asks(&run.state, attempt("c", Operation::Compensation, 0), "k"), "what is undone has its lock");
    assert!(!asks(&run.state, attempt("c", Operation::Action, 1), "k"), "no attempt is made without it");
    let mut called = chain_of_locks();
    let number = called.locks()[0].1;
    called.gets("sku/7", number, 5);
    assert_eq!(called.step_state("b"), StepState::InProgress);
    assert!(!asks(&called.state, attempt("b", Operation::Action, 1), "k"), "what is called keeps the lock that it is called under");
    let mut cancelled = chain_of_locks();
    cancelled.operate(SagaVerb::Cancel).expect("it waits");
    assert!(!asks(&cancelled.state, c(), "k"), "nothing is begun any more");
    let plain = Run::start(definition(vec![step("a", &[], Compensatable), step("b", &[0], Compensatable)]));
    assert!(!asks(&plain.state, plain.attempt("b", Operation::Action, 0).within(), "k"), "it begins under none");
    let conditional = when(locked(step("b", &[0], Compensatable), "k", None), "${ true }");
    let mut run = Run::start(definition(vec![step("a", &[], Compensatable), conditional]));
    run.reply("a", done());
    let unasked = before(&run, |event| matches!(event, SagaEvent::StepCondition { .. }));
    assert!(!asks(&unasked, run.attempt("b", Operation::Action, 0).within(), "k"), "its condition comes first");
}

#[test]
fn a_lock_is_granted_once_and_to_who_asked() {
    let mut run = chain_of_locks();
    let number = run.locks()[0].1;
    run.gets("sku/7", number, 5);
    let again = SagaEvent::LockGranted { key: "sku/7".to_owned(), token: 6 };
    assert!(run.state.clone().apply(&again, 1).is_err());
    assert!(run.gets("sku/7", number, 6) && run.commands.is_empty(), "nothing is new about it");
}

#[test]
fn a_condition_without_a_lock_is_asked_once_whatever_it_gave() {
    let conditional = when(step("a", &[], Compensatable), "${ true }");
    let run = Run::start(definition(vec![conditional]));
    let mut state = before(&run, |event| matches!(event, SagaEvent::StepCalled { .. }));
    let attempt = |epoch| run.attempt("a", Operation::Action, epoch).within();
    assert!(state.apply(&SagaEvent::StepCondition { attempt: attempt(0), holds: false }, 1).is_err());
    let mut unasked = before(&run, |event| matches!(event, SagaEvent::StepCondition { .. }));
    assert!(unasked.clone().apply(&SagaEvent::StepCondition { attempt: attempt(1), holds: true }, 1).is_err(), "before any attempt");
    unasked.apply(&SagaEvent::StepCondition { attempt: attempt(0), holds: true }, 1).expect("it is asked now");
}

#[test]
fn a_step_that_is_called_keeps_the_token_that_it_is_called_under() {
    let other = locked(step("b", &[1], Compensatable), "k", None);
    let steps = vec![locked(step("a", &[], Compensatable), "k", None), step("z", &[], Compensatable), other];
    let mut run = Run::start(definition(steps));
    let number = run.locks()[0].1;
    run.gets("k", number, 5);
    run.hears("k", number, broken(5));
    run.reply("z", done());
    let [("k", again, true)] = run.locks()[..] else { panic!("it asks anew: {:?}", run.locks()) };
    let mut refused = Run::start(run.definition.clone());
    (refused.state, refused.now_ms) = (run.state.clone(), run.now_ms);
    refused.hears("k", again, LockSaid::Refused { failure: failure("LOCK_DEADLOCK") });
    assert_eq!(
        (refused.step_state("b"), refused.step_state("a")),
        (StepState::Failed, StepState::InProgress),
        "what is called does not wait"
    );
    run.gets("k", again, 8);
    assert_eq!(run.lock_of_call("b"), fenced("k", 8));
    run.reply("a", unknown());
    run.tick();
    assert_eq!(run.lock_of_call("a"), fenced("k", 5), "what it began may be half done under the old one");
}

/// A step that must succeed and one that need not wait for one lock.
#[test]
fn where_one_that_waits_cannot_fail_nobody_does() {
    let optional = Step { optional: true, ..locked(step("c", &[0], Retriable), "k", None) };
    let steps = vec![step("a", &[], Pivot), locked(step("b", &[0], Retriable), "k", None), optional];
    let mut run = Run::start(definition(steps));
    run.reply("a", done());
    let [("k", number, true)] = run.locks()[..] else { panic!("they ask once: {:?}", run.locks()) };
    assert!(!run.state.lock_waits()[0].may_fail);
    assert!(run.hears("k", number, LockSaid::Refused { failure: failure("LOCK_DEADLOCK") }));
    assert_eq!((run.step_state("b"), run.step_state("c")), (StepState::Scheduled, StepState::Scheduled));
}

#[test]
fn what_is_called_under_a_lost_lock_does_not_wait_for_it() {
    let optional = Step { optional: true, ..locked(step("c", &[2], Retriable), "k", None) };
    let steps = vec![step("a", &[], Pivot), locked(step("b", &[0], Retriable), "k", None), step("z", &[0], Retriable), optional];
    let mut run = Run::start(definition(steps));
    run.reply("a", done());
    let number = run.locks()[0].1;
    run.gets("k", number, 5);
    run.hears("k", number, broken(5));
    run.reply("z", done());
    let waits = run.state.lock_waits();
    assert_eq!(waits.iter().map(|wait| wait.may_fail).collect::<Vec<_>>(), [true], "the saga goes on without the one that waits");
}

/// What it begins with is known; it is asked of a step that has not begun.
#[test]
fn the_condition_of_a_step_whose_items_are_called_is_not_asked_again() {
    let fanned = when(locked(each("b", &[], Compensatable, "${ [1, 2] }", 1), "k", None), "${ input.wanted }");
    let mut run = Run::start_with(definition(vec![fanned]), json!({"wanted": true}));
    let number = run.locks()[0].1;
    run.gets("k", number, 5);
    run.operate(SagaVerb::EditInput { input: json!({"wanted": false}).into() }).expect("the same lock");
    run.item_reply("b", 0, done());
    assert_eq!(run.calls(), [r#"b[1] {"item":2,"index":1}"#]);
}

#[test]
fn who_has_its_lock_does_not_wait_for_it_any_more() {
    let mut run = chain_of_locks();
    let number = run.locks()[0].1;
    assert!(run.state.lock_due_ms(1).is_some());
    run.gets("sku/7", number, 5);
    assert_eq!((run.step_state("b"), run.state.lock_due_ms(1)), (StepState::InProgress, None));
    run.now_ms += 5_000;
    run.look(HandOut::At(run.now_ms));
    assert_eq!(run.step_state("b"), StepState::InProgress, "its participant has its own time");
}

#[test]
fn a_step_that_the_saga_goes_on_without_stops_waiting_also_beside_a_pivot_in_flight() {
    let optional = Step { optional: true, ..locked(step("c", &[0], Retriable), "k", Some(100)) };
    let mut run = Run::start(definition(vec![step("p", &[], Pivot), step("q", &[], Pivot), optional]));
    run.reply("p", done());
    assert!(run.state.is_pivot_in_flight() && run.state.lock_waits()[0].may_fail);
    run.now_ms += 200;
    run.look(HandOut::At(run.now_ms));
    assert_eq!((run.step_state("c"), run.step_state("q")), (StepState::Failed, StepState::InProgress));
    assert!(run.step("c").lock.is_none(), "it is shown no more");
    run.reply("q", done());
    assert_eq!(run.saga_state(), SagaState::Completed);
}
