//! Steps that begin under a lock.

use super::fixture::*;
use crate::definition::StepKind::{Compensatable, Pivot, Retriable};
use crate::definition::{Lock, Step};
use crate::expression::Template;
use crate::protocol::lock::{Claimant, LockSaid};
use crate::protocol::saga::{Phase, SagaEvent};
use crate::protocol::{Command, Input, Rejection};
use core::time::Duration;
use sagamq_api::saga::{FencedLock, Operation, SagaState, SagaVerb, StepState, WaitCode};
use serde_json::{Value, json};

/// The step, under the lock of this key.
pub(super) fn locked(step: Step, key: &str, timeout_ms: Option<u64>) -> Step {
    let key = Template::compile(&json!(key)).expect("legal");
    Step { lock: Some(Lock { key, timeout: timeout_ms.map(Duration::from_millis) }), ..step }
}

impl Run {
    /// What the homes of locks are told by the last input: keys, numbers of claims, and whether they are made.
    pub(super) fn locks(&self) -> Vec<(&str, u64, bool)> {
        let mut found = Vec::new();
        for command in &self.commands {
            if let Command::Lock { key, by, wants, must: _ } = command {
                assert_eq!(by.instance, self.state.head.id);
                found.push((key.as_str(), by.number, *wants));
            }
        }
        found
    }

    pub(super) fn hears(&mut self, key: &str, number: u64, said: LockSaid) -> bool {
        self.input(Input::Lock { key: key.to_owned(), number, said }).expect("it is told")
    }

    pub(super) fn gets(&mut self, key: &str, number: u64, token: u64) -> bool {
        self.hears(key, number, LockSaid::Granted { token })
    }

    pub(super) fn lock_of_call(&self, name: &str) -> Option<FencedLock> {
        self.commands.iter().find_map(|command| match command {
            Command::Call(command) if command.call.call == name => Some(command.call.lock.clone()),
            _ => None,
        })?
    }
}

pub(super) fn fenced(key: &str, token: u64) -> Option<FencedLock> {
    Some(FencedLock { key: key.to_owned(), token })
}

/// `a` is called, `b` is called under a lock, `c` under the same.
pub(super) fn chain_of_locks() -> Run {
    let steps = vec![
        step("a", &[], Compensatable),
        locked(step("b", &[0], Compensatable), "sku/${ input.sku }", Some(5_000)),
        locked(step("c", &[1], Compensatable), "sku/${ input.sku }", Some(5_000)),
    ];
    let mut run = Run::start_with(definition(steps), json!({"sku": 7}));
    run.reply("a", done());
    run
}

#[test]
fn a_step_begins_when_it_has_its_lock_and_what_is_called_under_it_bears_its_token() {
    let mut run = chain_of_locks();
    let [("sku/7", number, true)] = run.locks()[..] else { panic!("it asks once: {:?}", run.locks()) };
    assert_eq!((run.called().len(), run.step_state("b"), run.saga_state()), (0, StepState::Scheduled, SagaState::Waiting));
    let waits = run.state.waits(&[]);
    let [waits] = waits.as_slice() else { panic!("it waits for one thing: {waits:?}") };
    assert_eq!((waits.code, waits.step.as_ref(), waits.next_at_ms), (WaitCode::AwaitsLock, Some(&id("b")), Some(run.now_ms + 5_000)));
    assert!(waits.message.contains("`sku/7`"), "{}", waits.message);
    assert!(!run.gets("sku/7", number, 17));
    assert_eq!((run.called(), run.lock_of_call("b")), (vec!["b"], fenced("sku/7", 17)));
    run.reply("b", done());
    // Whoever has it does not ask again.
    assert_eq!((run.locks().len(), run.called(), run.lock_of_call("c")), (0, vec!["c"], fenced("sku/7", 17)));
    run.reply("c", refused());
    // What is undone is undone under it, and it is let go at the end.
    assert_eq!((run.called(), run.lock_of_call("undo_b"), run.locks().len()), (vec!["undo_b"], fenced("sku/7", 17), 0));
    run.undo_reply("b", done());
    run.undo_reply("a", done());
    assert_eq!((run.saga_state(), run.locks()), (SagaState::Compensated, vec![("sku/7", number, false)]));
}

#[test]
fn every_end_lets_go_of_what_is_held_and_of_what_is_waited_for_and_a_blocked_saga_keeps_it() {
    let held = || {
        let mut run = chain_of_locks();
        let number = run.locks()[0].1;
        run.gets("sku/7", number, 1);
        (run, number)
    };
    let (mut completed, number) = held();
    completed.reply("b", done());
    completed.reply("c", done());
    let (mut terminated, _) = held();
    terminated.operate(SagaVerb::Terminate).expect("it runs");
    let (mut cancelled, _) = held();
    cancelled.operate(SagaVerb::Cancel).expect("it runs");
    assert_eq!((cancelled.locks().len(), cancelled.state.phase), (0, Phase::Compensating), "what is undone is undone under the lock");
    cancelled.reply("b", refused());
    cancelled.undo_reply("a", done());
    for run in [&completed, &terminated, &cancelled] {
        assert!(run.state.phase.is_final(), "{:?}", run.state.phase);
        assert_eq!(run.locks(), [("sku/7", number, false)], "{:?}", run.state.phase);
    }
    let (mut blocked, _) = held();
    blocked.reply("b", refused());
    for _ in 0..3 {
        let epoch = blocked.step("a").compensation.epoch;
        blocked.reply_to("a", Operation::Compensation, epoch, unknown()).expect("the current attempt");
        if blocked.state.phase != Phase::Blocked {
            blocked.tick();
        }
    }
    assert_eq!((blocked.state.phase, blocked.state.claims.get("sku/7").and_then(|claim| claim.token)), (Phase::Blocked, Some(1)));
    let rerun = blocked.rerun("a");
    assert!(matches!(rerun, Err(Rejection::InDoubt(_))), "its doubt is another matter");
    blocked.operate(SagaVerb::Terminate).expect("it is blocked");
    assert_eq!(blocked.locks(), [("sku/7", number, false)]);
}

#[test]
fn whatever_ends_the_way_forward_ends_the_wait_and_a_lock_that_comes_then_is_left() {
    let mut cancelled = chain_of_locks();
    let number = cancelled.locks()[0].1;
    cancelled.operate(SagaVerb::Cancel).expect("it waits");
    let mut late = chain_of_locks();
    late.now_ms += 5_000;
    late.look(crate::protocol::HandOut::Unknown);
    assert_eq!((late.last_failure(), late.step_state("b")), ("LOCK_TIMEOUT", StepState::Failed));
    let mut refused = chain_of_locks();
    let failure = failure("LOCK_DEADLOCK");
    assert!(!refused.hears("sku/7", number, LockSaid::Refused { failure }));
    assert_eq!(refused.last_failure(), "LOCK_DEADLOCK");
    let mut skipped = chain_of_locks();
    skipped.operate(SagaVerb::Skip { step: id("b"), item: None }).expect("it waits");
    // The step behind it wants the same: that is another claim.
    let asked: Vec<bool> = skipped.locks().into_iter().map(|(_, _, wants)| wants).collect();
    assert_eq!((skipped.step_state("b"), asked), (StepState::Skipped, vec![false, true]));
    for mut run in [cancelled, late, refused] {
        assert_eq!((run.state.phase, run.locks()), (Phase::Compensating, vec![("sku/7", number, false)]));
        assert!(run.gets("sku/7", number, 3), "it is old news");
        assert_eq!((run.locks(), run.called().len()), (vec![("sku/7", number, false)], 0), "whoever gave it hears that it is not wanted");
        run.undo_reply("a", done());
        assert_eq!((run.saga_state(), run.step_state("c")), (SagaState::Compensated, StepState::Scheduled));
    }
}

#[test]
fn a_grant_that_was_meant_for_an_older_claim_is_none_for_a_newer_one() {
    let mut run = chain_of_locks();
    let old = run.locks()[0].1;
    run.operate(SagaVerb::Skip { step: id("b"), item: None }).expect("it waits");
    let new = run.locks()[1].1;
    assert!(old != new && run.gets("sku/7", old, 1) && run.called().is_empty());
    assert!(!run.gets("sku/7", new, 2));
    assert_eq!((run.called(), run.lock_of_call("c")), (vec!["c"], fenced("sku/7", 2)));
}

#[test]
fn behind_the_pivot_a_step_waits_on_whatever_it_is_told() {
    let steps = vec![step("a", &[], Pivot), locked(step("b", &[0], Retriable), "k", Some(100))];
    let mut run = Run::start(definition(steps));
    run.reply("a", done());
    let number = run.locks()[0].1;
    assert_eq!(run.state.lock_waits().first().map(|wait| wait.may_fail), Some(false));
    run.now_ms += 1_000;
    run.look(crate::protocol::HandOut::Unknown);
    assert!(run.hears("k", number, LockSaid::Refused { failure: failure("LOCK_DEADLOCK") }), "nothing follows");
    assert_eq!((run.saga_state(), run.step_state("b")), (SagaState::Waiting, StepState::Scheduled));
    run.tick();
    assert!(run.history.iter().any(|recorded| recorded.event == SagaEvent::SagaTimeoutPassed), "the saga's minute is over");
    assert_eq!(run.state.next_look_ms(run.now_ms), None, "nothing else is due");
    run.gets("k", number, 4);
    run.reply("b", done());
    assert_eq!((run.saga_state(), run.locks()), (SagaState::Completed, vec![("k", number, false)]));
}

#[test]
fn a_pivot_that_waits_is_not_in_flight() {
    let steps = vec![step("a", &[], Compensatable), locked(step("b", &[0], Pivot), "k", None)];
    let mut run = Run::start(definition(steps));
    run.reply("a", done());
    assert!(!run.state.is_pivot_in_flight() && run.state.lock_waits()[0].may_fail);
    run.operate(SagaVerb::Cancel).expect("it may be undone");
    assert_eq!((run.called(), run.locks().len()), (vec!["undo_a"], 1));
}

#[test]
fn steps_side_by_side_that_want_one_key_have_one_claim_and_an_optional_one_is_gone_on_without() {
    let optional = Step { optional: true, ..locked(step("c", &[], Compensatable), "other", Some(100)) };
    let steps = vec![locked(step("a", &[], Compensatable), "k", None), locked(step("b", &[], Compensatable), "k", None), optional];
    let mut run = Run::start(definition(steps));
    let asked = run.locks();
    assert_eq!(asked.iter().map(|(key, ..)| *key).collect::<Vec<_>>(), ["k", "other"]);
    let (k, other) = (asked[0].1, asked[1].1);
    run.gets("k", k, 9);
    assert_eq!((run.called(), run.lock_of_call("a"), run.lock_of_call("b")), (vec!["a", "b"], fenced("k", 9), fenced("k", 9)));
    run.now_ms += 100;
    run.look(crate::protocol::HandOut::Unknown);
    assert_eq!((run.step_state("c"), run.locks(), run.state.phase), (StepState::Failed, vec![("other", other, false)], Phase::Running));
    run.reply("a", done());
    run.reply("b", done());
    assert_eq!(run.saga_state(), SagaState::Completed);
}

#[test]
fn while_it_is_paused_a_lock_is_taken_and_nobody_is_called() {
    let mut run = chain_of_locks();
    let number = run.locks()[0].1;
    run.operate(SagaVerb::Pause).expect("it waits");
    run.gets("sku/7", number, 2);
    assert_eq!((run.called().len(), run.saga_state()), (0, SagaState::Paused));
    run.operate(SagaVerb::Resume).expect("it is paused");
    assert_eq!(run.called(), ["b"]);
}

#[test]
fn who_loses_a_lock_goes_on_with_its_old_token_and_asks_anew_for_the_next_step() {
    let mut run = chain_of_locks();
    let number = run.locks()[0].1;
    run.gets("sku/7", number, 5);
    let (actor, reason) = (Some("ann".to_owned()), Some("counted by hand".to_owned()));
    let broken = |token| LockSaid::Broken { token, actor: actor.clone(), reason: reason.clone() };
    assert!(run.hears("sku/7", number, broken(4)), "it was never held with that token");
    assert!(!run.hears("sku/7", number, broken(5)));
    let said = SagaEvent::LockBroken { key: "sku/7".to_owned(), token: 5, actor: actor.clone(), reason: reason.clone() };
    assert_eq!(run.history.last().map(|recorded| &recorded.event), Some(&said));
    run.reply("b", unknown());
    run.tick();
    assert_eq!(run.lock_of_call("b"), fenced("sku/7", 5), "its participant refuses that, or it is done still");
    run.reply("b", done());
    let [(_, again, true)] = run.locks()[..] else { panic!("it asks anew: {:?}", run.locks()) };
    assert!(again > number);
    run.gets("sku/7", again, 8);
    assert_eq!(run.lock_of_call("c"), fenced("sku/7", 8));
}

#[test]
fn after_a_restart_it_asks_again_for_what_it_waits_for_and_not_for_what_it_has() {
    let mut run = chain_of_locks();
    let number = run.locks()[0].1;
    run.input(Input::Recovered).expect("it goes on");
    assert_eq!(run.locks(), [("sku/7", number, true)]);
    assert_eq!(run.state.asleep_until_ms(), None, "it is told so only while it is in memory");
    run.gets("sku/7", number, 5);
    run.input(Input::Recovered).expect("it goes on");
    assert_eq!(run.locks(), []);
}

#[test]
fn a_rerun_takes_the_locks_of_what_it_runs_anew() {
    let mut run = chain_of_locks();
    let number = run.locks()[0].1;
    run.gets("sku/7", number, 5);
    run.reply("b", done());
    run.operate(SagaVerb::Terminate).expect("it runs");
    assert_eq!(run.locks(), [("sku/7", number, false)]);
    run.operate(SagaVerb::Resolve { step: id("c"), item: None, outcome: sagamq_api::saga::StepOutcome::Failed }).expect("it is unknown");
    let mut again = run.rerun("c").expect("`b` stands");
    let [("sku/7", number, true)] = again.locks()[..] else { panic!("it asks: {:?}", again.locks()) };
    assert_eq!((again.step_state("b"), again.step("b").lock.is_none()), (StepState::Succeeded, true));
    again.gets("sku/7", number, 9);
    assert_eq!(again.lock_of_call("c"), fenced("sku/7", 9));
}

#[test]
fn a_key_is_text_or_a_number_within_its_bounds() {
    for (sku, said) in [
        (json!("x"), None),
        (json!(12345678901234567890_u64), None),
        (json!({"a": 1}), Some("text or a number")),
        (json!(""), Some("1 to 512 bytes")),
        (json!("a\nb"), Some("control")),
    ] {
        let steps = vec![locked(step("a", &[], Compensatable), "${ input.sku }", None)];
        let run = Run::start_with(definition(steps), json!({ "sku": sku }));
        match said {
            None => {
                let expected = sku.as_str().map_or_else(|| sku.to_string(), str::to_owned);
                assert_eq!(run.locks()[0].0, expected);
            }
            Some(said) => {
                let failure = run.state.failure.as_ref().expect("it fails");
                assert!(failure.code == "EXPRESSION_FAILED" && failure.message.contains(said), "{failure:?}");
            }
        }
    }
    let steps = vec![locked(step("a", &[], Compensatable), "${ input.sku }", None)];
    let missing = Run::start_with(definition(steps), Value::Object(serde_json::Map::new()));
    assert_eq!(missing.saga_state(), SagaState::Failed);
}

#[test]
fn events_of_locks_that_cannot_be_are_refused() {
    let run = chain_of_locks();
    let number = run.locks()[0].1;
    let by = Claimant { instance: run.state.head.id, number };
    assert_eq!(by.number, run.state.claims.get("sku/7").expect("it waits").number);
    let broken = |token| SagaEvent::LockBroken { key: "sku/7".to_owned(), token, actor: None, reason: None };
    for event in [broken(1), SagaEvent::LockGranted { key: "x".to_owned(), token: 1 }] {
        assert!(run.state.clone().apply(&event, 1).is_err(), "{event:?}");
    }
    let attempt = |step: &str| run.attempt(step, Operation::Action, 0).within();
    for (step, key) in [("a", "k"), ("b", "sku/7"), ("b", ""), ("c", "")] {
        let event = SagaEvent::LockAsked { attempt: attempt(step), key: key.to_owned(), until_ms: None };
        assert!(run.state.clone().apply(&event, 1).is_err(), "{event:?}");
    }
    let called = SagaEvent::StepCalled {
        attempt: run.attempt("b", Operation::Action, 1).within(),
        deadline_ms: 9,
        queue_deadline_ms: None,
        arguments: Some(json!({}).into()),
    };
    assert!(run.state.clone().apply(&called, 1).is_err(), "nobody is called without the lock");
}
