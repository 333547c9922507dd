//! Steps that fan out: events that cannot be, and what a decision about one of many items costs.

use super::each::{around, fanned, item};
use super::fixture::*;
use crate::expression::Template;
use crate::protocol::HandOut;
use crate::protocol::saga::{InstanceState, SagaEvent};
use sagamq_api::limits::SAGA_FAN_OUT_MAX;
use sagamq_api::saga::{Operation, SagaState, SagaVerb, StepState};
use serde_json::json;

#[test]
fn events_that_cannot_be_are_refused() {
    let run = fanned("${ [1, 2] }", 1);
    let fanned_out = run.history.iter().find(|recorded| matches!(recorded.event, SagaEvent::StepFannedOut { .. })).expect("it has");
    assert!(run.state.clone().apply(&fanned_out.event, 5).is_err(), "only once");
    let called = run.history.iter().rfind(|recorded| matches!(recorded.event, SagaEvent::StepCalled { .. })).expect("it is");
    let SagaEvent::StepCalled { attempt, deadline_ms, arguments, .. } = called.event.clone() else { unreachable!("looked at") };
    let other = |of| SagaEvent::StepCalled {
        attempt: sagamq_api::saga::StepAttempt { item: of, ..attempt.clone() },
        deadline_ms,
        queue_deadline_ms: None,
        arguments: arguments.clone(),
    };
    for (of, why) in [(item(1), "one at a time"), (item(2), "no such item"), (None, "the step itself is not called")] {
        assert!(run.state.clone().apply(&other(of), 5).is_err(), "{why}");
    }
    // Before the list there is nothing to call.
    let at = run.history.iter().position(|recorded| recorded.event == fanned_out.event).expect("it was found");
    let mut before = InstanceState::new(run.state.head.id, &run.definition);
    run.history[..at].iter().for_each(|recorded| before.apply(&recorded.event, recorded.at_ms).expect("it was decided"));
    assert!(before.clone().apply(&other(None), 5).is_err(), "its items are called");
    let SagaEvent::StepFannedOut { attempt: listed, .. } = fanned_out.event.clone() else { unreachable!("looked at") };
    let many = json!(vec![1; SAGA_FAN_OUT_MAX + 1]).into();
    assert!(before.clone().apply(&SagaEvent::StepFannedOut { attempt: listed, items: many }, 5).is_err(), "too many");
    let SagaEvent::StepFannedOut { attempt: listed, items } = fanned_out.event.clone() else { unreachable!("looked at") };
    for wrong in [
        sagamq_api::saga::StepAttempt { epoch: 1, ..listed.clone() },
        sagamq_api::saga::StepAttempt { operation: Operation::Compensation, ..listed.clone() },
        sagamq_api::saga::StepAttempt { step: id("c"), ..listed },
    ] {
        let event = SagaEvent::StepFannedOut { attempt: wrong, items: items.clone() };
        assert!(before.clone().apply(&event, 5).is_err(), "{event:?}");
    }
    let mut skipped = before.clone();
    let left_out = SagaEvent::StepSkipped { attempt: listed, actor: None, reason: None };
    skipped.apply(&left_out, 5).expect("its turn has not come");
    assert!(skipped.apply(&fanned_out.event, 5).is_err(), "it is left out");
    let mut going_back = before.clone();
    going_back.apply(&SagaEvent::SagaCompensating { failure: failure("NO"), actor: None }, 5).expect("it can be undone");
    assert!(going_back.apply(&fanned_out.event, 5).is_err(), "nothing is begun any more");
    before.steps[1].has_condition = true;
    let unasked = before.apply(&fanned_out.event, 5).expect_err("its condition was not asked");
    assert!(unasked.to_string().contains("has done so"), "{unasked}");
    // One is undone at a time, and none is begun after one has failed.
    let mut undone = fanned("${ [1, 2] }", 2);
    (0..2).for_each(|item| undone.item_reply("b", item, done()));
    undone.reply("c", refused());
    let called =
        undone.history.iter().rfind(|recorded| matches!(recorded.event, SagaEvent::StepCalled { .. })).expect("it is").event.clone();
    let SagaEvent::StepCalled { attempt, deadline_ms, arguments, queue_deadline_ms } = called else { unreachable!("looked at") };
    let attempt = sagamq_api::saga::StepAttempt { item: item(0), ..attempt };
    let beside = SagaEvent::StepCalled { attempt, deadline_ms, arguments, queue_deadline_ms };
    assert!(undone.state.apply(&beside, 5).is_err(), "the other one is being undone");
    let mut definition = around("${ [1, 2, 3] }", 1);
    definition.steps[1].optional = true;
    let mut closed = Run::start(definition);
    closed.reply("a", done());
    closed.item_reply("b", 0, done());
    closed.item_reply("b", 1, refused());
    assert_eq!(closed.saga_state(), SagaState::Running);
    assert!(closed.state.apply(&other(item(2)), 5).is_err(), "one failed");
}

/// The saga goes on, so it is not withdrawn because that is undone.
#[test]
fn an_item_of_a_step_that_is_gone_on_without_is_taken_out_of_its_queue_when_another_one_fails() {
    let mut definition = around("${ [1, 2] }", 2);
    definition.steps[1].optional = true;
    let mut run = Run::start(definition);
    run.reply("a", done());
    run.item_reply("b", 0, refused());
    assert!(run.state.is_due(run.now_ms), "it is looked at, at once");
    run.look(HandOut::Never);
    assert_eq!((run.item("b", 1).state, run.step_state("b"), run.called()), (StepState::Failed, StepState::Failed, vec!["c"]));
}

/// No item is called just then that would say so.
#[test]
fn a_step_whose_next_item_has_not_begun_is_over_when_the_saga_is_undone() {
    let mut run = fanned("${ [1, 2] }", 1);
    run.operate(SagaVerb::Pause).expect("it runs");
    run.item_reply("b", 0, done());
    run.operate(SagaVerb::Cancel).expect("before the pivot");
    assert_eq!((run.step_state("b"), run.item("b", 1).state), (StepState::Failed, StepState::Scheduled));
    run.operate(SagaVerb::Resume).expect("it is paused");
    assert_eq!(run.calls(), [r#"undo b[0] {"item":1,"index":0}"#]);
}

/// All expressions of a decision together are bounded.
#[test]
fn items_for_which_a_decision_has_nothing_left_are_begun_by_later_ones_and_one_that_takes_too_much_alone_fails() {
    let costly = |list: usize, items: usize| {
        let mut definition = around(&format!("${{ {:?} }}", (0..items).collect::<Vec<_>>()), 100);
        definition.steps[1].call_mut(Operation::Action).arguments =
            Template::text("${ input.list.all(x, x + item >= 0) }").expect("a legal expression");
        let mut run = Run::start_with(definition, json!({ "list": (0..list).collect::<Vec<_>>() }));
        run.reply("a", done());
        run
    };
    let (mut run, count) = (costly(10_000, 60), 60);
    let begun = run.calls().len();
    assert!((1..60).contains(&begun), "{begun} at once");
    (0..count).for_each(|item| run.item_reply("b", item, done()));
    assert_eq!((run.step_state("b"), run.called()), (StepState::Succeeded, vec!["c"]));
    let run = costly(600_000, 1);
    assert_eq!(
        (run.step_state("b"), run.called()),
        (StepState::Failed, vec!["undo_a"]),
        "no later decision has more: {}",
        run.last_failure()
    );
}

/// How many items change hands with a decision, in a saga with as many items as there may be.
#[test]
fn a_decision_about_one_of_a_thousand_items_costs_what_one_costs() {
    let most = format!("${{ [{}] }}", vec!["1"; SAGA_FAN_OUT_MAX].join(","));
    let mut run = fanned(&most, 100);
    let shared = |before: &InstanceState, after: &InstanceState| {
        let (before, after) = (before.steps[1].fan.as_ref().expect("items"), after.steps[1].fan.as_ref().expect("items"));
        before.iter().zip(after.iter()).filter(|(before, after)| core::ptr::eq(*before, *after)).count()
    };
    for item in 0..1_000 {
        let (before, events) = (run.state.clone(), run.history.len());
        run.item_reply("b", item, done());
        assert!(run.history.len() - events <= 3, "one is done, and the next one is called");
        assert!(shared(&before, &run.state) >= 998, "all others are shared with the state before");
    }
    assert_eq!(run.step_state("b"), StepState::Succeeded);
    assert_eq!(run.history.len(), 2 * 1_000 + 5, "two events an item in the good path");
    // Each decision is folded once more, and looked at as a whole, by the test itself.
}
