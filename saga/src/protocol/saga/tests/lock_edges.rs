//! Locks at the edges: inputs that are edited, places that are refused, pivots in flight.

use super::fixture::*;
use super::locks::{chain_of_locks, fenced, locked};
use crate::definition::StepKind::{Compensatable, Pivot, Retriable};
use crate::definition::{Sleep, Step};
use crate::expression::Template;
use crate::protocol::lock::LockSaid;
use crate::protocol::saga::{Claims, InstanceState, Phase, SagaEvent};
use crate::protocol::{Command, Rejection};
use core::time::Duration;
use sagamq_api::saga::{Operation, SagaState, SagaVerb, StepState, VerbName};
use serde_json::{Value, json};

impl Run {
    fn edit(&mut self, input: Value) -> Result<bool, Rejection> {
        self.operate(SagaVerb::EditInput { input: input.into() })
    }

    /// Whether the last input asks for a lock that must be had.
    fn asks_for_what_must_be_had(&self, wanted: (&str, u64)) -> bool {
        self.commands.iter().any(|command| match command {
            Command::Lock { key, by, wants: true, must: true } => (key.as_str(), by.number) == wanted,
            _ => false,
        })
    }
}

fn broken(token: u64) -> LockSaid {
    LockSaid::Broken { token, actor: None, reason: None }
}

#[test]
fn a_step_that_waits_asks_for_the_key_that_it_has_with_the_edited_input() {
    let mut run = chain_of_locks();
    let old = run.locks()[0].1;
    run.edit(json!({"sku": 7, "more": true})).expect("the same key");
    assert_eq!(run.locks(), [], "with the same key it has its place");
    run.now_ms += 1_000;
    run.edit(json!({"sku": 8})).expect("it waits");
    let [("sku/7", left, false), ("sku/8", new, true)] = run.locks()[..] else {
        panic!("it leaves one queue for the other: {:?}", run.locks())
    };
    assert_eq!((left, run.called().len(), run.saga_state()), (old, 0, SagaState::Waiting));
    assert_eq!(run.state.next_due_ms(), Some(run.now_ms + 5_000), "its time to wait is a new one");
    assert!(run.gets("sku/7", old, 3) && run.called().is_empty(), "what it works on is another thing now");
    run.gets("sku/8", new, 4);
    assert_eq!((run.called(), run.lock_of_call("b")), (vec!["b"], fenced("sku/8", 4)));
    run.reply("b", done());
    assert_eq!((run.called(), run.lock_of_call("c")), (vec!["c"], fenced("sku/8", 4)));
    run.reply("c", done());
    assert_eq!((run.saga_state(), run.locks()), (SagaState::Completed, vec![("sku/8", new, false)]));
}

#[test]
fn a_step_that_got_its_lock_while_it_was_paused_begins_under_the_one_of_the_edited_input() {
    let mut run = chain_of_locks();
    let old = run.locks()[0].1;
    run.operate(SagaVerb::Pause).expect("it waits");
    run.gets("sku/7", old, 3);
    run.edit(json!({"sku": 8})).expect("it is paused");
    let [("sku/8", new, true)] = run.locks()[..] else { panic!("it asks, and keeps what it has until its end: {:?}", run.locks()) };
    run.operate(SagaVerb::Resume).expect("it is paused");
    assert_eq!((run.called().len(), run.saga_state()), (0, SagaState::Waiting));
    run.gets("sku/8", new, 4);
    assert_eq!((run.called(), run.lock_of_call("b")), (vec!["b"], fenced("sku/8", 4)));
    run.operate(SagaVerb::Terminate).expect("it runs");
    assert_eq!(run.locks(), [("sku/7", old, false), ("sku/8", new, false)]);
}

/// It has done nothing under it, so it is not called under a lock that somebody else may have by now.
#[test]
fn a_step_whose_lock_was_taken_away_before_it_began_asks_for_it_again() {
    let mut run = chain_of_locks();
    let number = run.locks()[0].1;
    run.operate(SagaVerb::Pause).expect("it waits");
    run.gets("sku/7", number, 3);
    run.hears("sku/7", number, broken(3));
    run.operate(SagaVerb::Resume).expect("it is paused");
    let [("sku/7", again, true)] = run.locks()[..] else { panic!("it asks anew: {:?}, and calls {:?}", run.locks(), run.called()) };
    assert!(again > number && run.called().is_empty() && run.saga_state() == SagaState::Waiting);
    assert_eq!(run.state.next_due_ms(), Some(run.now_ms + 5_000), "its time to wait begins anew");
    run.gets("sku/7", again, 9);
    assert_eq!((run.called(), run.lock_of_call("b")), (vec!["b"], fenced("sku/7", 9)));
}

/// What asks for the key meanwhile has a claim that is the instance's, so both have one.
#[test]
fn of_two_steps_one_of_which_lost_its_lock_before_it_began_both_have_the_next_one() {
    let steps = vec![
        locked(step("a", &[], Compensatable), "k", None),
        step("z", &[], Compensatable),
        locked(step("b", &[1], Compensatable), "k", None),
    ];
    let mut run = Run::start(definition(steps));
    let number = run.locks()[0].1;
    run.operate(SagaVerb::Pause).expect("it waits");
    run.gets("k", number, 3);
    run.hears("k", number, broken(3));
    run.reply("z", done());
    run.operate(SagaVerb::Resume).expect("it is paused");
    let [("k", again, true)] = run.locks()[..] else { panic!("they ask once: {:?}, and {:?} is called", run.locks(), run.called()) };
    run.gets("k", again, 9);
    assert_eq!((run.lock_of_call("a"), run.lock_of_call("b")), (fenced("k", 9), fenced("k", 9)));
}

#[test]
fn an_input_with_which_the_lock_of_a_step_that_waits_has_no_key_is_refused() {
    let mut run = chain_of_locks();
    let before = run.state.clone();
    for input in [json!({}), json!({"sku": "a\nb"})] {
        let refused = run.edit(input).expect_err("there is nothing to lock");
        assert!(matches!(&refused, Rejection::InvalidInput(why) if why.contains("`lock` of `b`")), "{refused:?}");
    }
    assert_eq!(run.state, before);
    // What it has not come to is asked when its turn comes.
    let number = run.locks().first().map(|lock| lock.1);
    assert_eq!(number, Some(run.state.claims.get("sku/7").expect("it waits").number));
}

#[test]
fn a_step_that_waits_is_left_out_if_its_condition_does_not_hold_with_the_edited_input() {
    let begun = |pauses: bool| {
        let conditional = Step { when: Some(Template::text("${ input.wanted }").expect("legal")), ..step("b", &[0], Compensatable) };
        let steps = vec![step("a", &[], Compensatable), locked(conditional, "sku/${ input.sku }", None), step("c", &[1], Compensatable)];
        let mut run = Run::start_with(definition(steps), json!({"sku": 7, "wanted": true}));
        run.reply("a", done());
        let number = run.locks()[0].1;
        if pauses {
            run.operate(SagaVerb::Pause).expect("it waits");
            run.gets("sku/7", number, 3);
        }
        (run, number)
    };
    let (mut waits, number) = begun(false);
    waits.edit(json!({"sku": 7, "wanted": true, "more": 1})).expect("it holds still");
    assert_eq!((waits.locks(), waits.step_state("b")), (vec![], StepState::Scheduled));
    for input in [json!({"sku": 7}), json!({"sku": 7, "wanted": 1})] {
        let refused = waits.edit(input).expect_err("nobody knows whether it is to be called");
        assert!(matches!(&refused, Rejection::InvalidInput(why) if why.contains("condition of `b`")), "{refused:?}");
    }
    waits.edit(json!({"sku": 8, "wanted": false})).expect("it waits");
    assert_eq!((waits.step_state("b"), waits.called(), waits.locks()), (StepState::Skipped, vec!["c"], vec![("sku/7", number, false)]));
    let (mut paused, number) = begun(true);
    paused.edit(json!({"sku": 7, "wanted": false})).expect("it is paused");
    assert_eq!((paused.step_state("b"), paused.locks().len()), (StepState::Skipped, 0), "what it has it keeps until its end");
    paused.operate(SagaVerb::Resume).expect("it is paused");
    assert_eq!(paused.called(), ["c"]);
    paused.reply("c", done());
    assert_eq!((paused.saga_state(), paused.locks()), (SagaState::Completed, vec![("sku/7", number, false)]));
    // Asked once, but for that.
    let (mut run, _) = begun(false);
    let attempt = run.attempt("b", Operation::Action, 0).within();
    let again = SagaEvent::StepCondition { attempt, holds: true };
    assert!(run.state.apply(&again, 1).is_err());
}

#[test]
fn items_that_are_yet_to_be_called_are_not_called_under_the_lock_of_another_input() {
    let mut fanned = locked(each("b", &[], Compensatable, "${ input.lines }", 1), "sku/${ input.sku }", None);
    fanned.call_mut(Operation::Action).arguments = Template::compile(&json!({"sku": "${ input.sku }"})).expect("legal");
    let mut run = Run::start_with(definition(vec![fanned]), json!({"sku": 7, "lines": [1, 2]}));
    let number = run.locks()[0].1;
    run.gets("sku/7", number, 3);
    let refused = run.edit(json!({"sku": 8, "lines": [1, 2]})).expect_err("an item is left");
    let is_it = |reason: &str| reason.contains("`b`") && reason.contains("`sku/7`") && reason.contains("`sku/8`");
    assert!(matches!(&refused, Rejection::NotNow { verb: VerbName::EditInput, reason } if is_it(reason)), "{refused:?}");
    run.edit(json!({"sku": 7, "lines": []})).expect("the same lock");
    run.item_reply("b", 0, done());
    run.edit(json!({"sku": 8})).expect("all of them are called");
    run.item_reply("b", 1, done());
    assert_eq!((run.saga_state(), run.locks()), (SagaState::Completed, vec![("sku/7", number, false)]));
}

/// Blocked behind its pivot, because its second step has no address; both are called under the lock of a shelf.
fn blocked() -> (Run, u64) {
    let mut behind = locked(step("b", &[0], Retriable), "sku/${ input.sku }", None);
    behind.call_mut(Operation::Action).arguments = Template::compile(&json!({"to": "${ input.address }"})).expect("legal");
    let steps = vec![locked(step("a", &[], Pivot), "sku/${ input.sku }", None), behind];
    let mut run = Run::start_with(definition(steps), json!({"sku": 7}));
    let number = run.locks()[0].1;
    run.gets("sku/7", number, 3);
    run.reply("a", done());
    assert_eq!((run.state.phase, run.step_state("b")), (Phase::Blocked, StepState::Failed));
    (run, number)
}

fn retry(run: &mut Run) {
    run.operate(SagaVerb::Retry { step: Some(id("b")), item: None }).expect("it is blocked");
}

#[test]
fn what_is_tried_again_is_not_called_under_a_lock_that_was_taken_away_meanwhile_or_is_another_one() {
    let (mut same, _) = blocked();
    same.edit(json!({"sku": 7, "address": "here"})).expect("it is blocked");
    retry(&mut same);
    assert_eq!((same.called(), same.lock_of_call("b"), same.locks().len()), (vec!["b"], fenced("sku/7", 3), 0), "it has it still");
    let (mut taken, old) = blocked();
    taken.hears("sku/7", old, broken(3));
    taken.edit(json!({"sku": 7, "address": "here"})).expect("it is blocked");
    retry(&mut taken);
    let [("sku/7", new, true)] = taken.locks()[..] else { panic!("it asks anew: {:?}", taken.locks()) };
    assert!(new > old && taken.called().is_empty());
    taken.gets("sku/7", new, 9);
    assert_eq!(taken.lock_of_call("b"), fenced("sku/7", 9));
    let (mut other, _) = blocked();
    other.edit(json!({"sku": 8, "address": "here"})).expect("it is blocked");
    retry(&mut other);
    let [("sku/8", new, true)] = other.locks()[..] else { panic!("it asks for what it works on: {:?}", other.locks()) };
    assert!(other.called().is_empty());
    other.gets("sku/8", new, 9);
    assert_eq!(other.lock_of_call("b"), fenced("sku/8", 9));
}

#[test]
fn who_cannot_fail_asks_again_for_a_place_that_was_refused() {
    let steps = vec![step("a", &[], Pivot), locked(step("b", &[0], Retriable), "k", None)];
    let mut run = Run::start(definition(steps));
    run.reply("a", done());
    let number = run.locks()[0].1;
    assert!(!run.asks_for_what_must_be_had(("k", number)), "others come first, until there is no place");
    assert!(run.hears("k", number, LockSaid::Refused { failure: failure("LOCK_QUEUE_FULL") }));
    assert!(run.asks_for_what_must_be_had(("k", number)), "{:?}", run.commands);
    // Who can fail does.
    let mut other = chain_of_locks();
    let number = other.locks()[0].1;
    other.hears("sku/7", number, LockSaid::Refused { failure: failure("LOCK_QUEUE_FULL") });
    assert_eq!((other.last_failure(), other.locks()), ("LOCK_QUEUE_FULL", vec![("sku/7", number, false)]));
}

#[test]
fn a_pivot_does_not_stop_waiting_for_its_lock_while_another_one_is_in_flight() {
    let begun = || {
        let pivot = |name: &str, timeout_ms| locked(step(name, &[0], Pivot), name, timeout_ms);
        let steps = vec![step("a", &[], Compensatable), pivot("p", None), pivot("q", Some(100))];
        let mut run = Run::start(definition(steps));
        run.reply("a", done());
        let (p, q) = (run.locks()[0].1, run.locks()[1].1);
        assert!(run.state.lock_waits().iter().all(|wait| wait.may_fail));
        run.gets("p", p, 1);
        assert!(run.state.is_pivot_in_flight() && !run.state.lock_waits()[0].may_fail);
        run.now_ms += 200;
        run.look(crate::protocol::HandOut::At(run.now_ms));
        assert!(run.hears("q", q, LockSaid::Refused { failure: failure("LOCK_DEADLOCK") }));
        assert_eq!((run.step_state("q"), run.state.phase), (StepState::Scheduled, Phase::Running));
        (run, q)
    };
    let (mut forward, q) = begun();
    forward.reply("p", done());
    forward.look(crate::protocol::HandOut::Unknown);
    assert_eq!((forward.step_state("q"), forward.state.phase), (StepState::Scheduled, Phase::Running), "now it cannot fail at all");
    forward.gets("q", q, 2);
    assert_eq!(forward.called(), ["q"]);
    let (mut back, q) = begun();
    back.reply("p", refused());
    assert_eq!((back.called(), back.locks()), (vec!["undo_a"], vec![("q", q, false)]));
}

#[test]
fn an_input_that_is_edited_while_the_saga_is_undone_asks_for_nothing() {
    let mut run = chain_of_locks();
    let number = run.locks()[0].1;
    run.operate(SagaVerb::Pause).expect("it waits");
    run.gets("sku/7", number, 3);
    run.operate(SagaVerb::Cancel).expect("it is paused");
    run.edit(json!({"sku": 8})).expect("it is paused");
    assert_eq!((run.state.phase, run.locks().len()), (Phase::Compensating, 0));
    run.edit(json!({})).expect("nothing is locked any more");
    run.operate(SagaVerb::Resume).expect("it is paused");
    run.undo_reply("a", done());
    assert_eq!(run.locks(), [("sku/7", number, false)]);
}

#[test]
fn who_waits_for_a_lock_beside_a_long_sleep_stays_in_memory() {
    let nap = sleep("nap", &[], Compensatable, Sleep::For(Duration::from_secs(30)));
    let mut run = Run::start(definition(vec![nap, locked(step("b", &[], Compensatable), "k", None)]));
    assert_eq!(run.state.asleep_until_ms(), None, "else nobody asks again after a restart");
    let number = run.locks()[0].1;
    run.gets("k", number, 1);
    run.reply("b", done());
    assert!(run.state.asleep_until_ms().is_some());
}

#[test]
fn behind_the_pivot_the_question_for_a_lock_has_no_time() {
    let steps = vec![step("a", &[], Pivot), locked(step("b", &[0], Retriable), "k", Some(100))];
    let mut run = Run::start(definition(steps));
    run.reply("a", done());
    let asked = run.history.iter().find_map(|recorded| match &recorded.event {
        SagaEvent::LockAsked { until_ms, .. } => Some(*until_ms),
        _ => None,
    });
    assert_eq!(asked, Some(None));
}

/// What is wrong, and how it comes about.
type Spoilt = (&'static str, fn(&mut InstanceState));

#[test]
fn claims_that_cannot_be_are_told() {
    let run = chain_of_locks();
    let spoilt: [Spoilt; 4] = [
        ("a step waits and the instance does not", |state| state.claims = Claims::default()),
        ("a step waits for what is held", |state| state.claims.0.values_mut().for_each(|claim| claim.token = Some(1))),
        ("the instance waits and no step does", |state| state.steps.iter_mut().for_each(|step| step.lock = None)),
        ("the end is there and something is held", |state| {
            state.steps.iter_mut().for_each(|step| step.lock = None);
            state.claims.0.values_mut().for_each(|claim| claim.token = Some(1));
            state.phase = Phase::Terminated;
        }),
    ];
    run.state.check_locks().expect("what was decided can be");
    for (what, spoil) in spoilt {
        let mut state = run.state.clone();
        spoil(&mut state);
        assert!(state.check_locks().is_err(), "{what}");
    }
    let mut held = chain_of_locks();
    let number = held.locks()[0].1;
    held.gets("sku/7", number, 5);
    let other = SagaEvent::LockBroken { key: "sku/7".to_owned(), token: 4, actor: None, reason: None };
    assert!(held.state.clone().apply(&other, 1).is_err(), "it was never held with that token");
}

/// Behind the pivot: with the input that there was, no item had arguments.
#[test]
fn items_that_are_to_be_called_again_are_not_called_under_the_lock_of_another_input() {
    let mut fanned = locked(each("b", &[0], Retriable, "${ [1, 2] }", 1), "sku/${ input.sku }", None);
    fanned.call_mut(Operation::Action).arguments = Template::compile(&json!({"n": "${ input.factor }"})).expect("legal");
    let mut run = Run::start_with(definition(vec![step("a", &[], Pivot), fanned]), json!({"sku": 7}));
    run.reply("a", done());
    let number = run.locks()[0].1;
    run.gets("sku/7", number, 3);
    assert_eq!((run.saga_state(), run.step_state("b")), (SagaState::Blocked, StepState::Failed));
    let refused = run.edit(json!({"sku": 8, "factor": 2})).expect_err("items are left");
    let is_it = |reason: &str| reason.contains("`sku/7`") && reason.contains("`sku/8`");
    assert!(matches!(&refused, Rejection::NotNow { verb: VerbName::EditInput, reason } if is_it(reason)), "{refused:?}");
    run.edit(json!({"sku": 7, "factor": 2})).expect("the same lock");
    run.operate(SagaVerb::Retry { step: Some(id("b")), item: None }).expect("it failed for good");
    assert_eq!(run.calls(), [r#"b[0] {"n":2}"#]);
}
