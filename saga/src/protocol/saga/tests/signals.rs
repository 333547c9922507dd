//! Steps that wait for signals, and signals that come early, late, twice, and where nobody waits.

use super::fixture::*;
use crate::definition::OnTimeout::{Continue, Fail};
use crate::definition::StepKind::{Compensatable, Pivot, Retriable};
use crate::protocol::Rejection;
use crate::protocol::saga::SagaEvent;
use sagamq_api::JsonText;
use sagamq_api::limits::{SAGA_SIGNALS_BYTES_MAX, SAGA_SIGNALS_MAX};
use sagamq_api::saga::{SagaState, SagaVerb, StepOutcome, StepState, WaitCode};
use serde_json::json;

/// `a` is called, `b` waits for `go`, `c` is called.
pub(super) fn review() -> Run {
    let steps =
        vec![step("a", &[], Compensatable), wait_for("b", &[0], Compensatable, "go", Some(5_000), Fail), step("c", &[1], Compensatable)];
    Run::start(definition(steps))
}

pub(super) fn waiting() -> Run {
    let mut run = review();
    run.reply("a", done());
    run
}

fn output(run: &Run, step: &str) -> Option<String> {
    run.step(step).output.as_ref().map(JsonText::to_string)
}

fn not_awaited(answer: Result<bool, Rejection>) -> String {
    match answer {
        Err(Rejection::NotAwaited { reason, .. }) => reason,
        other => panic!("it is not awaited: {other:?}"),
    }
}

#[test]
fn the_payload_is_the_output_of_the_step_that_waited() {
    let mut run = waiting();
    assert_eq!((run.saga_state(), run.step_state("b")), (SagaState::Waiting, StepState::InProgress));
    let [waits] = &run.state.waits(&[])[..] else { panic!("it waits for one thing") };
    assert_eq!((waits.code, waits.next_at_ms), (WaitCode::AwaitsSignal, Some(run.now_ms + 5_000)));
    assert!(waits.message.contains("waits at `b` for the signal `go`"), "{}", waits.message);
    assert_eq!(run.signal("go", None, json!({"n": 1})), Ok(false));
    assert_eq!((run.step_state("b"), output(&run, "b").as_deref(), run.called()), (StepState::Succeeded, Some(r#"{"n":1}"#), vec!["c"]));
    let told = run.history.iter().any(|recorded| match &recorded.event {
        SagaEvent::SignalReceived { actor, reason, .. } => actor.as_deref() == Some("ann") && reason.as_deref() == Some("she looked"),
        _ => false,
    });
    assert!(told, "who sent it, and why, is in the history");
}

#[test]
fn a_signal_that_comes_before_its_step_is_kept_and_taken_when_the_step_begins() {
    let mut run = review();
    assert_eq!(run.signal("go", Some("1"), json!(7)), Ok(false));
    let kept: Vec<_> = run.state.description().signals;
    assert_eq!((kept.len(), kept[0].name.as_str(), kept[0].signal_id.as_deref()), (1, "go", Some("1")));
    run.reply("a", done());
    assert_eq!((output(&run, "b").as_deref(), run.called(), run.state.description().signals.len()), (Some("7"), vec!["c"], 0));
}

#[test]
fn the_first_step_in_order_takes_a_signal_and_the_next_one_the_next() {
    let steps = vec![
        wait_for("a", &[], Compensatable, "go", None, Fail),
        wait_for("b", &[], Compensatable, "go", None, Fail),
        wait_for("c", &[1], Compensatable, "go", None, Fail),
    ];
    let mut run = Run::start(definition(steps));
    for (number, is_done) in [(0, [true, false, false]), (1, [true, true, false]), (2, [true, true, true])] {
        run.signal("go", None, json!(number)).expect("a step waits for it");
        assert_eq!(["a", "b", "c"].map(|step| run.step_state(step) == StepState::Succeeded), is_done);
    }
    assert_eq!(["a", "b", "c"].map(|step| output(&run, step)), ["0", "1", "2"].map(|n| Some(n.to_owned())));
    assert_eq!(run.saga_state(), SagaState::Completed);
}

#[test]
fn the_same_signal_again_changes_nothing_at_any_time_and_its_id_is_not_used_for_another() {
    let mut run = review();
    assert_eq!(run.signal("go", Some("1"), json!({"a": 1, "b": 2})), Ok(false));
    for moment in 0..3 {
        let events = run.history.len();
        assert_eq!(run.signal("go", Some("1"), json!({"b": 2, "a": 1})), Ok(true), "{moment}: the order of fields makes no other payload");
        assert_eq!(run.signal("go", Some("1"), json!({"a": 2})), Err(Rejection::SignalIdTaken("1".to_owned())));
        assert_eq!(run.history.len(), events);
        match moment {
            0 => run.reply("a", done()),
            1 => run.reply("c", done()),
            _ => assert_eq!(run.saga_state(), SagaState::Completed),
        }
    }
}

#[test]
fn nobody_takes_a_signal_that_no_step_can_take() {
    let mut run = review();
    let Err(Rejection::NoSuchSignal { known, .. }) = run.signal("stop", None, json!(1)) else { panic!("nobody waits for it") };
    assert_eq!(known.iter().map(|name| name.as_str()).collect::<Vec<_>>(), ["go"]);
    run.signal("go", None, json!(1)).expect("it is kept");
    assert!(not_awaited(run.signal("go", None, json!(2))).contains("one that came before"));
    run.reply("a", done());
    assert_eq!(not_awaited(run.signal("go", None, json!(2))), "`b` has its signal");
    run.reply("c", done());
    assert_eq!(run.signal("go", None, json!(2)), Err(Rejection::AlreadyFinal(SagaState::Completed)));
    let mut skipped = waiting();
    skipped.operate(SagaVerb::Skip { item: None, step: id("b") }).expect("it waits");
    assert_eq!(not_awaited(skipped.signal("go", None, json!(2))), "`b` was left out");
    let mut undone = waiting();
    undone.operate(SagaVerb::Cancel).expect("before the pivot");
    assert_eq!(undone.step_state("b"), StepState::Failed);
    assert_eq!(not_awaited(undone.signal("go", None, json!(2))), "the saga is being undone");
}

#[test]
fn a_signal_that_does_not_come_in_time_fails_the_saga_or_lets_it_go_on() {
    let mut run = waiting();
    run.tick();
    assert_eq!((run.saga_state(), run.step_state("b"), run.last_failure()), (SagaState::Compensating, StepState::Failed, "SIGNAL_TIMEOUT"));
    assert_eq!(run.state.failure.as_ref().map(|failure| failure.code.as_str()), Some("SIGNAL_TIMEOUT"));
    for kind in [Compensatable, Retriable] {
        let first = if kind == Retriable { step("a", &[], Pivot) } else { step("a", &[], Compensatable) };
        let mut run = Run::start(definition(vec![first, wait_for("b", &[0], kind, "go", Some(5_000), Continue), step("c", &[1], kind)]));
        run.reply("a", done());
        run.tick();
        assert_eq!((run.step_state("b"), output(&run, "b").as_deref(), run.called()), (StepState::Succeeded, Some("null"), vec!["c"]));
        assert_eq!(not_awaited(run.signal("go", None, json!(1))), "the time for it was over at `b`, and the saga went on");
    }
}

#[test]
fn a_signal_is_taken_while_the_saga_is_paused_and_nothing_follows_until_it_is_resumed() {
    let mut run = waiting();
    run.operate(SagaVerb::Pause).expect("it runs");
    run.signal("go", None, json!(1)).expect("it waits");
    assert_eq!((run.step_state("b"), run.called().len()), (StepState::Succeeded, 0));
    run.operate(SagaVerb::Resume).expect("it is paused");
    assert_eq!(run.called(), ["c"]);
}

#[test]
fn what_is_kept_is_bounded_in_number_and_in_bytes_and_says_so() {
    let steps = || {
        let first = step("a", &[], Compensatable);
        let waits = (0..=SAGA_SIGNALS_MAX).map(|number| wait_for(&format!("w{number}"), &[0], Compensatable, "go", None, Fail));
        core::iter::once(first).chain(waits).collect()
    };
    let mut many = Run::start(definition(steps()));
    for number in 0..SAGA_SIGNALS_MAX {
        many.signal("go", None, json!(number)).expect("it is kept");
    }
    let mut large = Run::start(definition(steps()));
    let payload = json!("x".repeat(SAGA_SIGNALS_BYTES_MAX / 2));
    large.signal("go", None, payload.clone()).expect("it is kept");
    for (mut run, payload) in [(many, json!(1)), (large, payload)] {
        let before = run.state.clone();
        let refused = run.signal("go", None, payload.clone()).expect_err("there is no room");
        assert!(matches!(refused, Rejection::SignalLimit { .. }) && refused.to_string().contains("SAGA_SIGNALS_MAX"), "{refused}");
        assert_eq!(run.state, before);
        run.reply("a", done());
        run.signal("go", None, payload).expect("those that were kept are taken, and a step waits for it");
    }
}

#[test]
fn a_wait_is_no_call_for_an_operator_and_is_waited_again_by_a_rerun() {
    let mut run = waiting();
    for verb in
        [SagaVerb::Retry { item: None, step: Some(id("b")) }, SagaVerb::Resolve { item: None, step: id("b"), outcome: StepOutcome::Failed }]
    {
        let Err(Rejection::NotNow { reason, .. }) = run.operate(verb) else { panic!("it is refused") };
        assert!(reason.contains("calls nobody"), "{reason}");
    }
    run.operate(SagaVerb::Terminate).expect("it runs");
    assert_eq!(run.signal("go", None, json!(1)), Err(Rejection::AlreadyFinal(SagaState::Terminated)));
    let mut again = run.rerun("b").expect("`a` stands");
    assert_eq!(again.step_state("b"), StepState::InProgress);
    again.signal("go", None, json!(1)).expect("it waits");
    assert_eq!(again.called(), ["c"]);
    assert!(matches!(run.signal("go", None, json!(1)), Err(Rejection::HandedOver(_))));
}

#[test]
fn events_of_signals_fit_or_are_damage() {
    let run = waiting();
    let signal = |number, name: &str| SagaEvent::SignalReceived {
        signal: name.parse().expect("legal"),
        number,
        id: None,
        payload: json!(1).into(),
        actor: None,
        reason: None,
    };
    let woke = |signal| SagaEvent::StepWoke {
        attempt: sagamq_api::saga::StepAttempt { step: id("b"), item: None, operation: sagamq_api::saga::Operation::Action, epoch: 0 },
        signal,
    };
    for events in [vec![signal(1, "go")], vec![woke(Some(0))], vec![signal(0, "stop"), woke(Some(0))], vec![signal(0, "go"), woke(Some(1))]]
    {
        let mut state = run.state.clone();
        let last = events.len() - 1;
        for (at, event) in events.iter().enumerate() {
            assert_eq!(state.apply(event, 5).is_err(), at == last, "{event:?}");
        }
    }
}
