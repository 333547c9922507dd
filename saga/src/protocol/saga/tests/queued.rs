//! Calls that wait in their queues: what was not sent had no effect, and waiting uses up no attempt.

use super::fixture::*;
use crate::definition::StepKind::Compensatable;
use crate::protocol::saga::{SagaEvent, open_calls};
use crate::protocol::{By, Command, HandOut, Input, Verb};
use core::time::Duration;
use sagamq_api::saga::{CallOutcome, Operation, SagaState, SagaVerb, StepState};
use serde_json::json;

/// Lets `spans` of the attempts' timeout pass, one look after the other.
fn wait(run: &mut Run, spans: u64, hand_out: HandOut) {
    let until_ms = run.now_ms + spans * 1_000;
    while let Some(look_ms) = run.state.next_look_ms(run.now_ms).filter(|&at_ms| at_ms <= until_ms) {
        assert!(look_ms > run.now_ms, "a look is in the future");
        run.now_ms = look_ms;
        run.look(hand_out);
    }
    run.now_ms = until_ms;
}

fn without_timeout(pivot: Option<usize>) -> crate::definition::Definition {
    let mut definition = chain(pivot);
    definition.timeout = None;
    definition
}

#[test]
fn a_call_that_nobody_has_waits_for_any_time_without_an_attempt_or_an_event() {
    let mut run = Run::start(without_timeout(None));
    let events = run.history.len();
    wait(&mut run, 10_000, HandOut::Never);
    assert_eq!((run.history.len(), run.step("a").action.epoch, run.saga_state()), (events, 1, SagaState::Running));
    run.reply("a", done());
    assert_eq!(run.called(), ["b"]);
}

#[test]
fn the_time_of_the_run_begins_when_the_call_is_handed_out() {
    let mut run = Run::start(without_timeout(None));
    wait(&mut run, 5, HandOut::Never);
    // Handed out at 6,500; looked at at 7,000.
    run.now_ms = 7_000;
    run.look(HandOut::At(6_500));
    assert_eq!((run.state.next_due_ms(), run.state.unseen_calls().len()), (Some(7_500), 0));
    run.now_ms = 7_499;
    run.look(HandOut::Unknown);
    assert!(run.state.failures.is_empty());
    run.now_ms = 7_500;
    run.look(HandOut::Unknown);
    assert_eq!(run.last_failure(), "TIMEOUT");
    assert_eq!(run.count(|event| matches!(event, SagaEvent::StepHandedOut { .. })), 1);
}

#[test]
fn a_call_that_is_made_again_has_the_time_of_one_run_however_long_it_waited() {
    let mut run = Run::start(without_timeout(None));
    wait(&mut run, 5, HandOut::Never);
    run.now_ms = 7_000;
    run.look(HandOut::At(6_500));
    let calls = open_calls(&run.definition, &run.state);
    assert_eq!((calls[0].call.timeout_ms, calls[0].call.deadline_ms), (1_000, 7_500), "not the 5,500 since it was decided");
}

#[test]
fn a_call_that_was_handed_out_at_once_writes_no_event_more() {
    let mut run = Run::start(without_timeout(None));
    run.now_ms = 2_000;
    run.look(HandOut::At(1_000));
    assert_eq!((run.last_failure(), run.count(|event| matches!(event, SagaEvent::StepHandedOut { .. }))), ("TIMEOUT", 0));
}

#[test]
fn at_the_sagas_timeout_a_call_that_nobody_has_failed_and_is_not_undone() {
    let mut run = Run::start(chain(None));
    run.reply("a", done());
    wait(&mut run, 59, HandOut::Never);
    run.now_ms = 61_000;
    run.look(HandOut::Never);
    assert_eq!((run.step_state("b"), run.last_failure(), run.called()), (StepState::Failed, "NOT_SENT", vec!["undo_a"]));
    assert!(
        matches!(&run.commands[0], Command::Settle { attempt, unseen: true, .. } if attempt.epoch == 1),
        "only if nobody has seen it: {:?}",
        run.commands
    );
    run.undo_reply("a", done());
    assert_eq!((run.saga_state(), run.state.failure.as_ref().map(|f| f.code.as_str())), (SagaState::Compensated, Some("SAGA_TIMEOUT")));
}

#[test]
fn one_attempt_that_may_have_been_sent_leaves_the_step_in_doubt_for_good() {
    let mut run = Run::start(chain(None));
    run.reply("a", unknown());
    run.tick();
    wait(&mut run, 50, HandOut::Never);
    assert_eq!(run.step("a").action.epoch, 2);
    run.now_ms = 61_000;
    run.look(HandOut::Never);
    assert_eq!((run.called(), run.count(|event| matches!(event, SagaEvent::StepUnknown { .. }))), (vec!["undo_a"], 1));
}

#[test]
fn a_cancelled_saga_takes_its_calls_out_of_the_queue_at_once() {
    let mut run = Run::start(definition(vec![step("a", &[], Compensatable), step("b", &[], Compensatable)]));
    run.input(Input::Operate { verb: Verb::Saga(SagaVerb::Cancel), by: By::default() }).expect("before the pivot");
    assert!(run.state.is_due(run.now_ms), "it does not wait for a deadline");
    run.look(HandOut::Never);
    assert_eq!((run.saga_state(), run.step_state("a"), run.step_state("b")), (SagaState::Failed, StepState::Failed, StepState::Failed));
}

#[test]
fn a_pivot_that_nobody_has_is_taken_back_and_one_that_was_sent_is_not() {
    for (hand_out, state) in [(HandOut::Never, SagaState::Compensating), (HandOut::At(1_000), SagaState::Running)] {
        let mut run = Run::start(chain(Some(1)));
        run.reply("a", done());
        run.input(Input::Operate { verb: Verb::Saga(SagaVerb::Cancel), by: By::default() }).expect("before the pivot");
        run.look(hand_out);
        assert_eq!(run.saga_state(), state, "{hand_out:?}");
    }
    let mut run = Run::start(chain(Some(1)));
    run.reply("a", done());
    run.reply("b", unknown());
    run.tick();
    run.input(Input::Operate { verb: Verb::Saga(SagaVerb::Cancel), by: By::default() }).expect("before the pivot");
    wait(&mut run, 100, HandOut::Never);
    assert_eq!(
        (run.step_state("b"), run.saga_state()),
        (StepState::InProgress, SagaState::Running),
        "an attempt was sent: it must be known"
    );
}

#[test]
fn a_queue_timeout_fails_the_step_without_undoing_it() {
    let mut definition = without_timeout(None);
    definition.steps[1].queue_timeout = Some(Duration::from_secs(5));
    let mut run = Run::start(definition);
    run.reply("a", done());
    wait(&mut run, 4, HandOut::Never);
    assert_eq!(run.step_state("b"), StepState::InProgress);
    wait(&mut run, 1, HandOut::Never);
    assert_eq!((run.step_state("b"), run.last_failure(), run.called()), (StepState::Failed, "QUEUE_TIMEOUT", vec!["undo_a"]));
}

#[test]
fn behind_the_pivot_nothing_gives_up() {
    let mut definition = without_timeout(Some(0));
    definition.steps[1].queue_timeout = Some(Duration::from_secs(5));
    let mut run = Run::start(definition);
    run.reply("a", done());
    wait(&mut run, 1_000, HandOut::Never);
    assert_eq!((run.step_state("b"), run.step("b").action.epoch), (StepState::InProgress, 1));
}

#[test]
fn a_compensation_that_nobody_has_uses_up_no_attempt_so_an_outage_blocks_nothing() {
    let mut run = Run::start(chain(None));
    run.reply("a", done());
    run.reply("b", refused());
    wait(&mut run, 100_000, HandOut::Never);
    assert_eq!((run.saga_state(), run.step("a").compensation.epoch), (SagaState::Compensating, 1));
    run.undo_reply("a", done());
    assert_eq!(run.saga_state(), SagaState::Compensated);
}

#[test]
fn an_unreachable_participant_is_told_once_an_attempt() {
    let mut run = Run::start(without_timeout(None));
    for _ in 0..3 {
        let attempt = run.state.unseen_calls().pop().expect("it is called");
        run.input(Input::NotSent { attempt, failure: failure("NOT_SENT"), was_never_sent: false }).expect("the attempt is open");
    }
    assert_eq!(run.count(|event| matches!(event, SagaEvent::StepNotSent { .. })), 1);
    assert_eq!((run.saga_state(), run.last_failure()), (SagaState::Waiting, "NOT_SENT"));
    run.reply("a", done());
    assert_eq!(run.called(), ["b"]);
}

/// It was looked at while a connection was being tried, which then did not come about.
#[test]
fn what_was_taken_for_handed_out_and_was_not_is_as_if_it_had_waited() {
    let not_sent = |run: &mut Run| {
        let attempt = run.state.open_attempts().pop().expect("it is called");
        run.input(Input::NotSent { attempt, failure: failure("NOT_SENT"), was_never_sent: true }).expect("the attempt is open")
    };
    let mut run = Run::start(without_timeout(None));
    run.input(Input::Operate { verb: Verb::Saga(SagaVerb::Cancel), by: By::default() }).expect("before the pivot");
    run.look(HandOut::At(run.now_ms));
    assert_eq!((run.saga_state(), not_sent(&mut run)), (SagaState::Compensating, false));
    assert!(run.state.is_due(run.now_ms), "it is taken out of the queue at once");
    run.look(HandOut::Never);
    assert_eq!((run.saga_state(), run.step_state("a")), (SagaState::Failed, StepState::Failed), "nothing is to be undone");
    // Nor does it use up an attempt.
    let mut run = Run::start(without_timeout(None));
    for _ in 0..10 {
        run.now_ms = run.state.next_look_ms(run.now_ms).expect("it is looked at").max(run.now_ms);
        run.look(HandOut::At(run.now_ms - 1));
        assert!(!not_sent(&mut run), "what was counted is not so");
        run.look(HandOut::Never);
    }
    assert_eq!((run.step("a").action.epoch, run.step_state("a"), run.saga_state()), (1, StepState::InProgress, SagaState::Waiting));
    run.reply("a", done());
    assert_eq!(run.called(), ["b"]);
}

#[test]
fn a_worker_that_works_on_is_asked_again_when_it_says_and_every_time_it_says() {
    let mut run = Run::start(chain(None));
    for times in 1..=3 {
        run.now_ms += 10;
        let epoch = run.step("a").action.epoch;
        let ongoing = CallOutcome::Ongoing { retry_after_ms: Some(200) };
        assert_eq!(run.reply_to("a", Operation::Action, epoch, ongoing), Ok(times > 1));
        let due_ms = run.now_ms + 200;
        assert!(matches!(run.commands[..], [Command::Postpone { due_ms: due, .. }] if due == due_ms), "{:?}", run.commands);
    }
    assert_eq!(run.count(|event| matches!(event, SagaEvent::StepOngoing { .. })), 1);
}

#[test]
fn every_attempt_has_the_arguments_of_the_first() {
    let mut steps = vec![step("a", &[], Compensatable)];
    steps[0].action = call("a", json!({"n": "${input.n}"}), 3).into();
    let mut run = Run::start_with(definition(steps), json!({"n": 5}));
    run.reply("a", unknown());
    // An upgrade, or an edited input: the expression gives something else now.
    run.definition.steps[0].action = call("a", json!({"n": "${input.missing}"}), 3).into();
    run.tick();
    let Some(Command::Call(command)) = run.commands.last() else { panic!("a call is ordered") };
    assert_eq!((command.call.attempt.epoch, command.call.arguments.as_str()), (2, r#"{"n":5}"#));
    let again = open_calls(&run.definition, &run.state);
    assert_eq!(again[0].call.arguments.as_str(), r#"{"n":5}"#, "and so it has after a crash");
}

#[test]
fn behind_the_pivot_pauses_grow_with_the_history_and_no_participant_can_ask_for_none() {
    let mut run = Run::start(without_timeout(Some(0)));
    run.reply("a", done());
    let began_ms = run.now_ms;
    while run.now_ms - began_ms < 30 * 24 * 3_600_000 {
        run.reply("b", CallOutcome::Unknown { failure: failure("BUSY"), retry_after_ms: Some(0) });
        run.tick();
        assert!(run.state.head.events < 25_000, "{} events in {} ms of trouble", run.state.head.events, run.now_ms - began_ms);
    }
    assert!(run.state.failures.len() <= sagamq_api::limits::SAGA_FAILURES_MAX);
    let before_ms = run.now_ms;
    run.reply("b", unknown());
    run.tick();
    assert!(run.now_ms - before_ms <= 24 * 3_600_000, "no pause is longer than a day");
}
