//! Steps that fan out: an item is a step of its own in small, and the step is what all of them are.

use super::fixture::*;
use crate::definition::{Definition, Emission, StepKind};
use crate::expression::Template;
use crate::protocol::saga::SagaEvent;
use crate::protocol::{CallCommand, Command, HandOut, Rejection};
use sagamq_api::ids::ItemIndex;
use sagamq_api::limits::{SAGA_FAN_OUT_MAX, SAGA_JSON_DEPTH_MAX, SAGA_PAYLOAD_BYTES_MAX};
use sagamq_api::saga::{CallOutcome, Operation, SagaState, SagaVerb, StepOutcome, StepState};
use serde_json::{Value, json};

/// A step before it, `b` for each of these, and a step behind it.
pub(super) fn around(items: &str, max_parallel: u32) -> Definition {
    let kind = StepKind::Compensatable;
    definition(vec![step("a", &[], kind), each("b", &[0], kind, items, max_parallel), step("c", &[1], kind)])
}

/// The same, with `a` done.
pub(super) fn fanned(items: &str, max_parallel: u32) -> Run {
    let mut run = Run::start(around(items, max_parallel));
    run.reply("a", done());
    run
}

pub(super) fn said(value: Value) -> CallOutcome {
    CallOutcome::Succeeded { output: value.into() }
}

fn states(run: &Run) -> Vec<StepState> {
    run.step("b").fan.as_ref().expect("it has fanned out").iter().map(|item| item.state).collect()
}

pub(super) fn first_call(run: &Run) -> &CallCommand {
    let mut calls = run.commands.iter().filter_map(|command| if let Command::Call(call) = command { Some(call.as_ref()) } else { None });
    calls.next().expect("a call")
}

pub(super) fn item(number: u32) -> Option<ItemIndex> {
    Some(ItemIndex(number))
}

#[test]
fn items_are_called_in_their_order_so_many_at_a_time_and_the_output_is_theirs() {
    let mut run = fanned("${ [7, {'k': 'v'}, null, 'x'] }", 2);
    assert_eq!(run.calls(), [r#"b[0] {"item":7,"index":0}"#, r#"b[1] {"item":{"k":"v"},"index":1}"#]);
    let keys: Vec<String> = run
        .commands
        .iter()
        .filter_map(|command| if let Command::Call(call) = command { Some(call.call.idempotency_key.clone()) } else { None })
        .collect();
    assert_eq!(keys, [0, 1].map(|item| format!("{}/b[{item}]/action", run.state.head.id)), "each has a key of its own");
    run.item_reply("b", 1, said(json!("one")));
    assert_eq!(run.calls(), [r#"b[2] {"item":null,"index":2}"#], "the next one, whichever is done");
    run.item_reply("b", 2, said(json!(null)));
    assert_eq!(run.calls(), [r#"b[3] {"item":"x","index":3}"#]);
    run.item_reply("b", 3, said(json!([3])));
    assert_eq!((run.calls().len(), run.step_state("b")), (0, StepState::InProgress), "one is left");
    run.item_reply("b", 0, said(json!({"n": 1.50})));
    assert_eq!(run.step("b").output.as_ref().expect("done").as_str(), r#"[{"n":1.5},"one",null,[3]]"#, "in the order of the items");
    assert_eq!((run.step_state("b"), run.called()), (StepState::Succeeded, vec!["c"]));
    run.reply("c", done());
    assert_eq!(run.saga_state(), SagaState::Completed);
    assert!(run.state.standing().iter().all(|effect| !effect.in_doubt));
}

#[test]
fn an_empty_list_is_done_at_once() {
    let run = fanned("${ [] }", 2);
    assert_eq!((run.step_state("b"), run.called()), (StepState::Succeeded, vec!["c"]), "in the same decision");
    assert_eq!(run.step("b").output.as_ref().expect("done").as_str(), "[]");
    let mut run = run;
    run.reply("c", refused());
    run.undo_reply("a", done());
    assert_eq!(run.saga_state(), SagaState::Compensated, "and has nothing to undo");
}

#[test]
fn a_list_that_is_none_or_too_long_fails_the_step_before_any_call() {
    let many = format!("${{ [{}] }}", vec!["1"; SAGA_FAN_OUT_MAX + 1].join(","));
    for (list, code) in [("${ input }", "EXPRESSION_FAILED"), ("${ input.gone }", "EXPRESSION_FAILED"), (&many, "FAN_OUT_TOO_LARGE")] {
        let run = fanned(list, 2);
        assert_eq!((run.step_state("b"), run.last_failure()), (StepState::Failed, code), "{list:.40}");
        assert_eq!((run.called(), run.saga_state()), (vec!["undo_a"], SagaState::Compensating));
        assert!(run.step("b").fan.is_none());
    }
    let most = format!("${{ [{}] }}", vec!["1"; SAGA_FAN_OUT_MAX].join(","));
    assert_eq!(fanned(&most, 3).calls().len(), 3);
}

#[test]
fn lists_that_leave_no_room_to_undo_them_fail_before_any_call() {
    let most = format!("${{ [{}] }}", vec!["1"; SAGA_FAN_OUT_MAX].join(","));
    let kind = StepKind::Compensatable;
    let steps = ["b", "c", "d"].iter().enumerate().map(|(at, name)| each(name, &Vec::from_iter(at.checked_sub(1)), kind, &most, 1_000));
    let mut run = Run::start(definition(steps.collect()));
    for name in ["b", "c"] {
        (0..1_000).for_each(|item| run.item_reply(name, item, done()));
    }
    assert_eq!((run.last_failure(), run.step_state("d")), ("FAN_OUT_TOO_LARGE", StepState::Failed));
    assert_eq!(run.calls(), [r#"undo c[999] {"item":1,"index":999}"#]);
    for name in ["c", "b"] {
        (0..1_000).rev().for_each(|item| run.item_undo_reply(name, item, done()));
    }
    assert_eq!(run.saga_state(), SagaState::Compensated);
    assert!(run.history.len() < 9_000, "{}", run.history.len());
}

/// Items 0 and 1 done, 2 refused while 3 is in flight, and 4 never begun.
fn refused_in_the_middle() -> Run {
    let mut run = fanned("${ [10, 11, 12, 13, 14] }", 2);
    run.item_reply("b", 0, said(json!("r0")));
    run.item_reply("b", 1, said(json!("r1")));
    run.look(HandOut::At(run.now_ms));
    run.item_reply("b", 2, refused());
    run
}

#[test]
fn one_refused_ends_the_begin_of_others_and_what_is_in_flight_is_waited_for() {
    let mut run = refused_in_the_middle();
    let (done_before, flying, waits) = (StepState::Succeeded, StepState::InProgress, StepState::Scheduled);
    assert_eq!(states(&run), [done_before, done_before, StepState::Failed, flying, waits]);
    assert_eq!((run.calls().len(), run.saga_state()), (0, SagaState::Compensating));
    run.item_reply("b", 3, said(json!("r3")));
    assert_eq!(run.calls(), [r#"undo b[3] {"item":13,"index":3}"#], "one at a time, the last first");
    run.item_undo_reply("b", 3, done());
    assert_eq!(run.calls(), [r#"undo b[1] {"item":11,"index":1}"#], "what was refused has nothing to undo");
    run.item_undo_reply("b", 1, done());
    assert_eq!(run.called(), ["undo_b"]);
    run.item_undo_reply("b", 0, done());
    assert_eq!((run.called(), run.step_state("b")), (vec!["undo_a"], StepState::Compensated), "and then what is before it");
    run.undo_reply("a", done());
    assert_eq!(run.saga_state(), SagaState::Compensated);
    assert_eq!(run.item("b", 4).action.epoch, 0, "never called");
}

#[test]
fn an_item_that_lies_in_its_queue_is_taken_out_of_it_and_one_that_waits_for_a_retry_is_given_up() {
    let mut run = fanned("${ [1, 2, 3] }", 3);
    run.item_reply("b", 0, unknown());
    run.item_reply("b", 2, refused());
    assert_eq!(states(&run), [StepState::Unknown, StepState::InProgress, StepState::Failed], "the retry is not waited for");
    assert!(run.state.is_due(run.now_ms), "the call in its queue is looked at, at once");
    run.look(HandOut::Never);
    assert_eq!(states(&run)[1], StepState::Failed, "it was never sent");
    assert_eq!(run.calls(), [r#"undo b[0] {"item":1,"index":0}"#], "unknown is undone");
}

#[test]
fn a_compensation_sees_what_its_item_returned_and_is_called_with_it() {
    let mut definition = around("${ [1, 2] }", 2);
    let undo = definition.steps[1].compensation.as_mut().expect("it has one");
    undo.arguments = Template::compile(&json!({"of": "${ steps.b.?output.orValue('none') }", "why": "${ failure.code }"})).expect("legal");
    let mut run = Run::start(definition);
    run.reply("a", done());
    run.item_reply("b", 0, said(json!("first")));
    run.item_reply("b", 1, said(json!("second")));
    run.reply("c", refused());
    assert_eq!(run.calls(), [r#"undo b[1] {"of":"second","why":"NO"}"#], "not the list");
    let command = first_call(&run);
    assert_eq!(command.call.action_output.as_ref().map(|output| output.as_str()), Some("\"second\""));
}

#[test]
fn attempts_arguments_and_duplicates_are_those_of_the_item() {
    let mut run = fanned("${ [1, 2] }", 2);
    run.item_reply("b", 1, unknown());
    run.tick();
    let called: Vec<String> = run.calls();
    assert_eq!(called, [r#"b[1] {"item":2,"index":1}"#], "the same arguments");
    assert_eq!((run.item("b", 0).action.epoch, run.item("b", 1).action.epoch), (1, 2));
    assert_eq!(run.item_reply_to("b", 1, Operation::Action, 1, done()), Ok(false), "a late success counts");
    assert_eq!(run.item_reply_to("b", 1, Operation::Action, 2, done()), Ok(true), "and is known then");
    let stranger = run.item_reply_to("b", 2, Operation::Action, 1, done());
    assert!(matches!(stranger, Err(Rejection::NoSuchStep { .. })), "{stranger:?}");
    let whole = run.reply_to("b", Operation::Action, 1, done());
    assert!(matches!(whole, Err(Rejection::NoSuchStep { .. })), "the step itself is never called: {whole:?}");
}

#[test]
fn behind_the_pivot_each_item_is_called_until_it_succeeds() {
    let steps = vec![step("a", &[], StepKind::Pivot), each("b", &[0], StepKind::Retriable, "${ [1, 2, 3] }", 2)];
    let mut run = Run::start(definition(steps));
    run.reply("a", done());
    for _ in 0..4 {
        run.item_reply("b", 0, refused());
        run.tick();
    }
    assert_eq!((run.item("b", 0).state, run.item("b", 0).attempts_exceeded), (StepState::InProgress, true));
    run.item_reply("b", 1, done());
    assert_eq!(run.calls(), [r#"b[2] {"item":3,"index":2}"#], "others go on meanwhile");
    run.item_reply("b", 2, done());
    run.item_reply("b", 0, done());
    assert_eq!(run.saga_state(), SagaState::Completed);
}

#[test]
fn an_item_without_arguments_behind_the_pivot_blocks_when_the_others_are_done_and_can_be_left_out_or_tried_again() {
    let blocked = || {
        let mut fans = each("b", &[0], StepKind::Retriable, "${ [{'n': 1}, {}, {'n': 3}] }", 1);
        fans.call_mut(Operation::Action).arguments = Template::compile(&json!("${ has(item.n) ? item.n : input.n }")).expect("legal");
        let mut run = Run::start(definition(vec![step("a", &[], StepKind::Pivot), fans]));
        run.reply("a", done());
        assert_eq!(run.calls(), ["b[0] 1"]);
        run.item_reply("b", 0, done());
        assert_eq!(run.calls(), ["b[2] 3"], "the one in between cannot be called");
        run.item_reply("b", 2, done());
        assert_eq!((run.saga_state(), run.step_state("b")), (SagaState::Blocked, StepState::Failed));
        run
    };
    let mut left_out = blocked();
    let other = left_out.operate(SagaVerb::Skip { step: id("b"), item: item(0) }).expect_err("it is done");
    assert!(other.to_string().contains("b[0]"), "{other}");
    left_out.operate(SagaVerb::Skip { step: id("b"), item: item(1) }).expect("it is blocked");
    assert_eq!(left_out.saga_state(), SagaState::Completed);
    assert_eq!(left_out.step("b").output.as_ref().expect("done").as_str(), r#"[{"ok":true},null,{"ok":true}]"#);
    let mut again = blocked();
    again.operate(SagaVerb::EditInput { input: json!({"n": 2}).into() }).expect("the same key");
    again.operate(SagaVerb::Retry { step: Some(id("b")), item: None }).expect("it is blocked");
    assert_eq!(again.calls(), ["b[1] 2"]);
}

#[test]
fn the_saga_goes_on_without_an_optional_step_when_what_its_items_did_is_undone() {
    let mut definition = around("${ [1, 2, 3] }", 1);
    definition.steps[1].optional = true;
    let mut run = Run::start(definition);
    run.reply("a", done());
    run.item_reply("b", 0, done());
    run.item_reply("b", 1, refused());
    assert_eq!(run.calls(), [r#"undo b[0] {"item":1,"index":0}"#], "alone, at once");
    assert_eq!((run.saga_state(), run.step_state("b")), (SagaState::Running, StepState::Compensating));
    let no = run.operate(SagaVerb::Skip { step: id("b"), item: item(2) }).expect_err("it is not called any more");
    assert!(no.to_string().contains("another item failed"), "{no}");
    run.item_undo_reply("b", 0, done());
    assert_eq!((run.called(), run.step_state("b")), (vec!["c"], StepState::Compensated));
    assert!(run.step("b").output.is_none());
    run.reply("c", done());
    assert_eq!(run.saga_state(), SagaState::Completed);
}

#[test]
fn an_item_that_cannot_be_undone_keeps_no_other_in_effect_and_blocks_then() {
    let mut run = fanned("${ [1, 2, 3] }", 3);
    (0..3).for_each(|item| run.item_reply("b", item, done()));
    run.reply("c", refused());
    run.item_undo_reply("b", 2, done());
    run.item_undo_reply("b", 1, CallOutcome::Refused { failure: failure("HOPELESS") });
    assert_eq!(run.calls(), [r#"undo b[0] {"item":1,"index":0}"#]);
    run.item_undo_reply("b", 0, done());
    assert_eq!((run.saga_state(), run.step_state("b")), (SagaState::Blocked, StepState::CompensationFailed));
    let standing: Vec<_> = run.state.standing().into_iter().map(|effect| (effect.step.to_string(), effect.item, effect.in_doubt)).collect();
    assert_eq!(standing, [("a".to_owned(), None, false), ("b".to_owned(), item(1), true)]);
    let mut again = Run { history: run.history.clone(), commands: Vec::new(), next: None, ..Run::start(around("${ [1, 2, 3] }", 3)) };
    again.state = run.state.clone();
    again.operate(SagaVerb::Retry { step: Some(id("b")), item: item(1) }).expect("it failed for good");
    assert_eq!(again.calls(), [r#"undo b[1] {"item":2,"index":1}"#]);
    again.item_undo_reply("b", 1, done());
    assert_eq!(again.called(), ["undo_a"]);
    run.operate(SagaVerb::Resolve { step: id("b"), item: None, outcome: StepOutcome::Compensated }).expect("undone by hand");
    assert_eq!(run.called(), ["undo_a"], "of the step as a whole what is open is said");
}

#[test]
fn a_cancelled_saga_undoes_the_items_that_are_done_and_begins_no_other() {
    let mut run = fanned("${ [1, 2, 3] }", 1);
    run.item_reply("b", 0, done());
    run.operate(SagaVerb::Cancel).expect("before the pivot");
    assert_eq!(run.calls().len(), 0, "the second is in flight");
    run.look(HandOut::Never);
    assert_eq!(run.calls(), [r#"undo b[0] {"item":1,"index":0}"#]);
    run.item_undo_reply("b", 0, done());
    run.undo_reply("a", done());
    assert_eq!((run.saga_state(), states(&run)[2]), (SagaState::Compensated, StepState::Scheduled));
}

#[test]
fn a_paused_saga_begins_no_item_and_goes_on_where_it_was() {
    let mut run = fanned("${ [1, 2] }", 1);
    run.operate(SagaVerb::Pause).expect("it runs");
    run.item_reply("b", 0, done());
    assert!(run.calls().is_empty());
    run.operate(SagaVerb::Resume).expect("it is paused");
    assert_eq!(run.calls(), [r#"b[1] {"item":2,"index":1}"#]);
    run.operate(SagaVerb::Terminate).expect("it runs");
    let standing: Vec<_> = run.state.standing().into_iter().map(|effect| (effect.item, effect.in_doubt)).collect();
    assert_eq!(standing, [(None, false), (item(0), false), (item(1), true)]);
}

/// Between two items nothing is called: what is left to undo is undone by nobody then.
#[test]
fn a_saga_that_is_ended_between_two_items_leaves_the_step_as_it_is() {
    let mut run = fanned("${ [1, 2] }", 2);
    (0..2).for_each(|item| run.item_reply("b", item, done()));
    run.reply("c", refused());
    run.operate(SagaVerb::Pause).expect("it is undone");
    run.item_undo_reply("b", 1, done());
    assert_eq!((run.calls().len(), run.step_state("b")), (0, StepState::Compensating), "the next one is called when it is resumed");
    run.operate(SagaVerb::Terminate).expect("it is not at its end");
    assert_eq!((run.step_state("b"), states(&run)), (StepState::CompensationFailed, vec![StepState::Succeeded, StepState::Compensated]));
    let standing: Vec<_> = run.state.standing().into_iter().map(|effect| (effect.item, effect.in_doubt)).collect();
    assert_eq!(standing, [(None, false), (item(0), false)]);
}

#[test]
fn operators_name_an_item_or_mean_all_of_them() {
    let mut run = fanned("${ [1, 2, 3, 4] }", 2);
    let no = |answer: Result<bool, Rejection>, says: &str| {
        let error = answer.expect_err(says).to_string();
        assert!(error.contains(says), "{error}");
    };
    no(run.operate(SagaVerb::Skip { step: id("b"), item: item(9) }), "no item 9");
    no(run.operate(SagaVerb::Skip { step: id("a"), item: item(0) }), "does not fan out");
    no(run.operate(SagaVerb::Retry { step: Some(id("b")), item: item(0) }), "b[0]");
    run.item_reply("b", 0, unknown());
    run.operate(SagaVerb::Retry { step: Some(id("b")), item: item(0) }).expect("it waits");
    assert_eq!(run.calls(), [r#"b[0] {"item":1,"index":0}"#]);
    run.operate(SagaVerb::Resolve { step: id("b"), item: item(1), outcome: StepOutcome::Succeeded { output: json!("seen").into() } })
        .expect("it is called");
    assert_eq!(run.calls(), [r#"b[2] {"item":3,"index":2}"#]);
    run.operate(SagaVerb::Skip { step: id("b"), item: None }).expect("the last one has not begun");
    assert_eq!(states(&run)[3], StepState::Skipped, "those that are called are not left out");
    let whole =
        |outputs: Value| SagaVerb::Resolve { step: id("b"), item: None, outcome: StepOutcome::Succeeded { output: outputs.into() } };
    no(run.operate(whole(json!("x"))), "it has 4 items");
    run.operate(whole(json!(["p", "seen", "q", null]))).expect("two are open");
    assert_eq!(run.step("b").output.as_ref().expect("done").as_str(), r#"["p","seen","q",null]"#);
    assert_eq!(run.operate(whole(json!(["p", "seen", "q", null]))), Ok(true), "said twice");
    assert_eq!(run.saga_state(), SagaState::Running);
}

/// There is no item that could be called to undo it.
#[test]
fn what_an_operator_did_in_place_of_items_is_undone_by_hand() {
    let mut definition = around("${ input.gone }", 1);
    definition.steps[1].optional = true;
    let mut run = Run::start(definition);
    run.reply("a", done());
    assert_eq!((run.step_state("b"), run.called()), (StepState::Failed, vec!["c"]));
    let says = |outcome| SagaVerb::Resolve { step: id("b"), item: None, outcome };
    run.operate(says(StepOutcome::Succeeded { output: json!(["by hand"]).into() })).expect("it is open");
    run.reply("c", refused());
    assert_eq!((run.saga_state(), run.step_state("b"), run.called().len()), (SagaState::Blocked, StepState::CompensationFailed, 0));
    let last = run.state.failures.last().expect("it says why");
    assert!(last.failure.message.contains("DONE_BY_HAND"), "{last:?}");
    run.operate(says(StepOutcome::Compensated)).expect("it was undone by hand");
    assert_eq!(run.called(), ["undo_a"]);
}

#[test]
fn outputs_that_are_too_large_together_are_null_and_that_is_told() {
    let mut run = fanned("${ [1, 2, 3] }", 3);
    let large = json!("x".repeat(SAGA_PAYLOAD_BYTES_MAX / 2));
    run.item_reply("b", 0, said(large.clone()));
    run.item_reply("b", 1, said(large));
    assert_eq!((run.last_failure(), run.item("b", 1).output.as_ref().expect("done").is_null()), ("PAYLOAD_TOO_LARGE", true));
    run.item_reply("b", 2, said(json!("small")));
    assert!(run.step("b").output.as_ref().expect("done").len() <= SAGA_PAYLOAD_BYTES_MAX, "the list is a payload like others");
    assert_eq!(run.called(), ["c"], "a success is known, whatever comes with it");
}

/// The list has what the others give at least, and a level more than its items.
#[test]
fn an_output_that_has_no_room_in_the_list_is_null() {
    let mut run = fanned("${ [1, 2, 3] }", 3);
    run.item_reply("b", 0, said(json!("x".repeat(SAGA_PAYLOAD_BYTES_MAX - 12))));
    assert_eq!((run.last_failure(), run.item("b", 0).output.as_ref().expect("done").is_null()), ("PAYLOAD_TOO_LARGE", true));
    let deep = format!("{}{}", "[".repeat(SAGA_JSON_DEPTH_MAX), "]".repeat(SAGA_JSON_DEPTH_MAX));
    let output = sagamq_api::JsonText::parse(deep.as_bytes()).expect("it may be stored");
    run.item_reply("b", 1, CallOutcome::Succeeded { output });
    assert_eq!((run.last_failure(), run.item("b", 1).output.as_ref().expect("done").is_null()), ("PAYLOAD_TOO_DEEP", true));
    run.item_reply("b", 2, done());
    assert_eq!(run.step("b").output.as_ref().expect("done").as_str(), r#"[null,null,{"ok":true}]"#);
}

/// There is no way back, so there is no room to be kept for it.
#[test]
fn behind_the_pivot_a_list_is_called_however_many_events_there_are() {
    let steps = vec![step("a", &[], StepKind::Pivot), each("b", &[0], StepKind::Retriable, "${ [1, 2] }", 2)];
    let mut run = Run::start(definition(steps));
    run.state.head.events = sagamq_api::limits::SAGA_EVENTS_MAX - 1;
    run.reply("a", done());
    assert_eq!((run.calls().len(), run.step_state("b")), (2, StepState::InProgress));
}

#[test]
fn what_operators_say_that_items_returned_is_bounded_as_what_participants_say_is() {
    let mut run = fanned("${ [1, 2, 3] }", 3);
    let large = json!("x".repeat(SAGA_PAYLOAD_BYTES_MAX / 2));
    let says = |number: u32, output: &Value| {
        let outcome = StepOutcome::Succeeded { output: output.clone().into() };
        SagaVerb::Resolve { step: id("b"), item: item(number), outcome }
    };
    run.operate(says(0, &large)).expect("there is room");
    let no = run.operate(says(1, &large)).expect_err("not for another one");
    assert!(no.to_string().contains("too large"), "{no}");
    run.operate(says(1, &json!("small"))).expect("there is room");
    run.operate(SagaVerb::Terminate).expect("it runs");
    assert!(run.operate(says(2, &large)).is_err(), "nor at its end");
    run.operate(says(2, &json!("small"))).expect("it was open then");
    assert!(run.step("b").output.as_ref().expect("done").len() <= SAGA_PAYLOAD_BYTES_MAX, "the list is a payload like others");
}

/// With two items, and `b` tells what they returned, and why they were undone.
fn telling() -> Run {
    let mut definition = around("${ [1, 2] }", 2);
    let emission = |value: &str| Emission {
        topic: "order.events".parse().expect("legal"),
        key: None,
        value: Template::text(value).expect("legal"),
        headers: Vec::new(),
    };
    definition.steps[1].emit = Some(emission("${ steps.b.output }"));
    definition.steps[1].emit_undone = Some(emission("${ failure.code }"));
    let mut run = Run::start(definition);
    run.reply("a", done());
    run
}

fn told(run: &Run) -> Vec<String> {
    let told = run.commands.iter().filter_map(|command| if let Command::Tell(told) = command { Some(told) } else { None });
    told.map(|told| told.value.as_ref().expect("it has a value").to_string()).collect()
}

#[test]
fn what_a_step_tells_is_told_once_for_all_of_its_items() {
    let mut run = telling();
    run.item_reply("b", 0, said(json!(1)));
    assert!(told(&run).is_empty(), "not yet");
    run.item_reply("b", 1, said(json!(2)));
    assert_eq!(told(&run), ["[1,2]"]);
    run.reply("c", refused());
    run.item_undo_reply("b", 1, done());
    assert!(told(&run).is_empty(), "not yet");
    run.item_undo_reply("b", 0, done());
    assert_eq!(told(&run), ["\"NO\""]);
}

#[test]
fn what_is_to_be_undone_once_more_was_told_when_it_was_done() {
    let blocked = || {
        let mut run = telling();
        (0..2).for_each(|number| run.item_reply("b", number, said(json!(number))));
        assert_eq!(told(&run), ["[0,1]"]);
        run.reply("c", refused());
        [1, 0].into_iter().for_each(|number| run.item_undo_reply("b", number, CallOutcome::Refused { failure: failure("HOPELESS") }));
        assert_eq!((run.saga_state(), states(&run)), (SagaState::Blocked, vec![StepState::CompensationFailed; 2]));
        run
    };
    let retry = |run: &mut Run, step: Option<&str>, item: Option<ItemIndex>| {
        run.operate(SagaVerb::Retry { step: step.map(id), item }).expect("it failed for good");
        assert!(told(run).is_empty(), "{step:?}, {item:?}: they are as they were when they were done");
    };
    let undone = |run: &mut Run, order: [u32; 2]| {
        order.into_iter().for_each(|number| run.item_undo_reply("b", number, done()));
        assert_eq!((told(run), run.called()), (vec!["\"NO\"".to_owned()], vec!["undo_a"]));
    };
    let mut all = blocked();
    retry(&mut all, None, None);
    undone(&mut all, [1, 0]);
    let mut one_by_one = blocked();
    retry(&mut one_by_one, Some("b"), item(0));
    retry(&mut one_by_one, Some("b"), item(1));
    undone(&mut one_by_one, [0, 1]);
}

#[test]
fn a_condition_is_asked_once_for_the_step_and_then_there_is_no_list() {
    let mut definition = around("${ [1] }", 1);
    definition.steps[1].when = Some(Template::text("${ false }").expect("legal"));
    let mut run = Run::start(definition);
    run.reply("a", done());
    assert_eq!((run.step_state("b"), run.called()), (StepState::Skipped, vec!["c"]));
    assert_eq!(run.count(|event| matches!(event, SagaEvent::StepFannedOut { .. })), 0);
}
