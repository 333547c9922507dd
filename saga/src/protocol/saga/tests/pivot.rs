//! The point of no return.

use super::fixture::*;
use crate::definition::StepKind::{Compensatable, Pivot, Retriable};
use crate::protocol::saga::SagaEvent;
use crate::protocol::{By, Command, HandOut, Input, Rejection, Verb};
use sagamq_api::saga::{SagaState, SagaVerb, StepState};

#[test]
fn a_refused_pivot_undoes_what_was_done() {
    let mut run = Run::start(chain(Some(1)));
    run.reply("a", done());
    run.reply("b", refused());
    assert_eq!(run.called(), ["undo_a"]);
}

#[test]
fn an_unknown_pivot_is_retried_until_it_is_known_and_that_is_written_once() {
    let mut run = Run::start(chain(Some(1)));
    run.reply("a", done());
    for _ in 0..20 {
        run.reply("b", unknown());
        run.tick();
    }
    assert_eq!((run.step_state("b"), run.step("b").action.epoch), (StepState::InProgress, 21));
    assert_eq!(run.count(|event| matches!(event, SagaEvent::StepAttemptsExceeded { .. })), 1);
    run.reply("b", done());
    assert_eq!(run.called(), ["c"]);
}

#[test]
fn behind_the_pivot_a_refusal_is_only_another_attempt() {
    let mut run = Run::start(chain(Some(1)));
    run.reply("a", done());
    run.reply("b", done());
    for _ in 0..5 {
        run.reply("c", refused());
        run.tick();
    }
    assert_eq!((run.step_state("a"), run.step_state("c")), (StepState::Succeeded, StepState::InProgress));
    run.reply("c", done());
    assert_eq!((run.saga_state(), run.state.failures.len()), (SagaState::Completed, 5));
}

#[test]
fn a_call_says_whether_a_refusal_of_it_is_final_and_when_its_saga_started() {
    let must_succeed = |run: &Run| {
        let Some(Command::Call(command)) = run.commands.iter().find(|command| matches!(command, Command::Call(_))) else {
            panic!("nothing is called")
        };
        assert_eq!(command.call.started_at_ms, 1_000);
        command.call.must_succeed
    };
    let mut run = Run::start(chain(Some(1)));
    assert!(!must_succeed(&run), "a step before the pivot may be refused");
    run.now_ms = 2_000;
    run.reply("a", done());
    assert!(!must_succeed(&run), "and so may the pivot");
    run.reply("b", done());
    assert!(must_succeed(&run), "behind the pivot it only goes forward");
    let mut run = Run::start(chain(Some(1)));
    run.reply("a", done());
    run.reply("b", refused());
    assert!(must_succeed(&run), "a compensation is made until it succeeds");
}

#[test]
fn a_timeout_waits_for_a_pivot_in_flight_and_is_void_if_it_succeeded() {
    let mut run = Run::start(chain(Some(1)));
    run.reply("a", done());
    run.now_ms = 61_000;
    run.look(HandOut::Unknown);
    assert_eq!((run.step_state("b"), run.state.stop.is_some()), (StepState::InProgress, true));
    run.tick();
    assert_eq!(run.called(), ["b"], "its outcome must be known");
    run.reply("b", done());
    assert_eq!((run.called(), run.state.stop.is_some()), (vec!["c"], false));
    run.reply("c", done());
    assert_eq!((run.saga_state(), run.state.failure.is_some()), (SagaState::Completed, false));
}

#[test]
fn a_cancellation_waits_for_a_pivot_in_flight_and_counts_if_it_was_refused() {
    let mut run = Run::start(chain(Some(1)));
    run.reply("a", done());
    assert_eq!(run.input(Input::Operate { verb: Verb::Saga(SagaVerb::Cancel), by: By::default() }), Ok(false));
    assert!(run.called().is_empty());
    run.reply("b", refused());
    assert_eq!((run.called(), run.state.failure.as_ref().map(|f| f.code.as_str())), (vec!["undo_a"], Some("CANCELLED")));
}

#[test]
fn past_the_pivot_nothing_stops_the_saga() {
    let mut run = Run::start(chain(Some(1)));
    run.reply("a", done());
    run.reply("b", done());
    assert_eq!(run.input(Input::Operate { verb: Verb::Saga(SagaVerb::Cancel), by: By::default() }), Err(Rejection::NotCancellable));
    run.now_ms = 61_000;
    run.look(HandOut::Unknown);
    run.tick();
    assert_eq!(run.count(|event| *event == SagaEvent::SagaTimeoutPassed), 1);
    run.reply("c", done());
    assert_eq!(run.saga_state(), SagaState::Completed);
}

#[test]
fn a_pivot_waits_for_the_other_branches() {
    let steps = vec![step("a", &[], Compensatable), step("p", &[], Pivot), step("z", &[1], Retriable)];
    let mut run = Run::start(definition(steps));
    assert_eq!(run.called(), ["a"]);
    run.reply("a", done());
    assert_eq!(run.called(), ["p"]);
}

#[test]
fn of_two_pivots_the_first_decides_and_the_second_is_retried() {
    let mut run = Run::start(definition(vec![step("p", &[], Pivot), step("q", &[], Pivot)]));
    assert_eq!(run.called(), ["p"]);
    run.reply("p", done());
    assert_eq!(run.called(), ["q"]);
    run.reply("q", refused());
    assert_eq!(run.saga_state(), SagaState::Waiting);
    run.tick();
    run.reply("q", done());
    assert_eq!(run.saga_state(), SagaState::Completed);
}
