//! A parent and its sub-saga, in every order in which messages, answers, refusals and operators can meet: whatever happens, both come to rest,
//! and what stands at their participants fits how both ended.

mod world;

use crate::protocol::saga::Phase;
use crate::protocol::{By, Input, Verb};
use sagamq_api::JsonText;
use sagamq_api::saga::{AttemptId, CallOutcome, Failure, SagaVerb, StepState};
use world::{CHILD, Child, Family, Fault, Message, Move, NOW_MS, Who, World};

fn saga(name: &str, steps: &[&str]) -> String {
    let steps: String = steps.iter().map(|step| format!("  - {{ {step} }}\n")).collect();
    format!("saga: {name}\nversion: 1\nkey: ${{ input.id }}\nservices: {{ s: {{ topic: t }} }}\nsteps:\n{steps}")
}

const BEFORE: &str = "id: before, call: s.do, compensate: s.undo";
const PAY: &str = "id: pay, saga: child, with: { id: \"${ input.id }\" }";
const BEHIND: &str = "id: behind, call: s.do, compensate: s.undo";

fn child() -> String {
    saga("child", &["id: one, call: s.do, compensate: s.undo", "id: two, call: s.do, compensate: s.undo"])
}

#[test]
fn in_every_order_of_messages_answers_and_operators_parent_and_child_end_as_one() {
    let (states, at_rest) = Family::new(&saga("parent", &[BEFORE, PAY, BEHIND]), &child()).explore();
    assert!(states > 200 && at_rest > 40, "{states} states, {at_rest} at rest");
}

#[test]
fn a_child_beside_other_steps_is_cancelled_with_them() {
    let pay = format!("{PAY}, after: []");
    let beside = "id: beside, call: s.do, compensate: s.undo, after: []";
    let (states, at_rest) = Family::new(&saga("parent", &[pay.as_str(), beside]), &child()).explore();
    assert!(states > 200 && at_rest > 40, "{states} states, {at_rest} at rest");
}

#[test]
fn an_optional_child_that_had_no_effect_is_gone_on_without() {
    let pay = format!("{PAY}, optional: true");
    let (states, at_rest) = Family::new(&saga("parent", &[BEFORE, pay.as_str(), BEHIND]), &child()).explore();
    assert!(states > 200 && at_rest > 40, "{states} states, {at_rest} at rest");
}

#[test]
fn a_child_with_a_pivot_blocks_the_parent_that_is_undone_behind_it_and_nothing_else_does() {
    let child = saga("child", &["id: one, call: s.do, compensate: s.undo", "id: two, call: s.do, pivot: true", "id: three, call: s.do"]);
    let (states, at_rest) = Family::new(&saga("parent", &[BEFORE, PAY, BEHIND]), &child).explore();
    assert!(states > 200 && at_rest > 40, "{states} states, {at_rest} at rest");
}

#[test]
fn an_operator_who_ends_the_parent_or_says_what_became_of_the_child_leaves_none_behind() {
    let more = &[Fault::Terminate, Fault::ResolveAsFailed];
    let pay = format!("{PAY}, after: []");
    let beside = "id: beside, call: s.do, compensate: s.undo, after: []";
    for steps in [vec![BEFORE, PAY], vec![pay.as_str(), beside]] {
        let family = Family { more, faults: 2, ..Family::new(&saga("parent", &steps), &child()) };
        let (states, at_rest) = family.explore();
        assert!(states > 200 && at_rest > 40, "{states} states, {at_rest} at rest");
    }
}

#[test]
fn a_disk_without_room_and_operators_who_ask_again_make_no_second_child() {
    let one = saga("child", &["id: one, call: s.do, compensate: s.undo"]);
    for kind in [PAY.to_owned(), format!("{PAY}, pivot: true"), format!("{PAY}, optional: true")] {
        let family = Family { more: &[Fault::Ask], may_be_full: true, ..Family::new(&saga("parent", &[BEFORE, kind.as_str()]), &one) };
        let (states, at_rest) = family.explore();
        assert!(states > 100 && at_rest > 10, "{kind}: {states} states, {at_rest} at rest");
    }
}

#[test]
fn a_child_that_had_no_effect_by_an_operators_word_is_undone_and_nobody_waits_for_it() {
    let family = Family::new(&saga("parent", &[BEFORE, PAY, BEHIND]), &child());
    let mut world = family.begin();
    let answer = |world: &mut World, who: Who| assert!(family.make(world, Move::Answer { who, step: 0, refused: false }));
    answer(&mut world, Who::Parent);
    family.deliver(&mut world, CHILD);
    assert!(family.make(&mut world, Move::Operate(Who::Parent, Fault::Ask)), "it is asked what became of it");
    family.deliver(&mut world, CHILD);
    assert!(world.to_parent.is_empty(), "it runs");
    assert!(family.make(&mut world, Move::Operate(Who::Parent, Fault::ResolveAsFailed)), "it is open");
    answer(&mut world, Who::Parent);
    assert_eq!(world.parent.phase, Phase::Compensated);
    family.deliver(&mut world, CHILD);
    answer(&mut world, CHILD);
    answer(&mut world, CHILD);
    assert_eq!(world.children[&1].state.phase, Phase::Compensated);
    family.deliver(&mut world, Who::Parent);
    assert_eq!(world.parent.phase, Phase::Compensated);
}

#[test]
fn an_answer_that_was_missed_is_given_again_when_an_operator_asks() {
    let family = Family::new(&saga("parent", &[BEFORE, PAY, BEHIND]), &child());
    let mut world = family.begin();
    let answer = |world: &mut World, who: Who, step: usize, refused: bool| family.make(world, Move::Answer { who, step, refused });
    let ask = |world: &mut World| {
        let (verb, by) = (Verb::Saga(SagaVerb::Retry { step: Some("pay".parse().expect("legal")), item: None }), By::default());
        assert!(family.tell(world, Who::Parent, Input::Operate { verb, by }), "it can be asked");
        family.deliver(world, CHILD);
    };
    answer(&mut world, Who::Parent, 0, false);
    family.deliver(&mut world, CHILD);
    ask(&mut world);
    assert!(world.to_parent.is_empty() && world.parent.steps[1].action.epoch == 1, "it runs, and no other one is started");
    answer(&mut world, CHILD, 0, false);
    answer(&mut world, CHILD, 1, false);
    // The parent is set aside when the answer comes.
    assert_eq!(world.to_parent.drain(..).count(), 1);
    ask(&mut world);
    family.deliver(&mut world, Who::Parent);
    assert_eq!(world.parent.steps[1].state, StepState::Succeeded);
    answer(&mut world, Who::Parent, 2, true);
    family.deliver(&mut world, CHILD);
    answer(&mut world, CHILD, 1, false);
    answer(&mut world, CHILD, 0, false);
    assert_eq!(world.to_parent.drain(..).count(), 1);
    ask(&mut world);
    family.deliver(&mut world, Who::Parent);
    assert_eq!((world.parent.steps[1].state, world.children[&1].state.phase), (StepState::Compensated, Phase::Compensated));
}

#[test]
fn what_an_older_attempt_says_is_another_sagas_word() {
    let late = saga("parent", &["id: sell, call: s.do, pivot: true", "id: pay, saga: child, with: { id: \"${ input.id }\" }"]);
    let family = Family::new(&late, &child());
    let mut world = family.begin();
    assert!(family.make(&mut world, Move::Answer { who: Who::Parent, step: 0, refused: false }));
    let Some(Message::Start { attempt: first, .. }) = world.first_inbox().pop_front() else { panic!("it is started") };
    let reply =
        |attempt: &AttemptId, outcome: CallOutcome| Input::Reply { attempt: attempt.clone(), outcome, note: None, branch_address: None };
    let failure = Failure { code: "CHILD_TERMINATED".to_owned(), message: String::new() };
    let in_doubt = CallOutcome::Unknown { failure, retry_after_ms: None };
    assert!(family.tell(&mut world, Who::Parent, reply(&first, in_doubt)));
    assert!(world.first_inbox().is_empty() && world.parent.next_look_ms(NOW_MS).is_none(), "no other one is started by itself");
    assert_eq!(world.parent.trouble().map(|trouble| trouble.is_blocked), Some(true), "an operator has to look at it");
    let (verb, by) = (Verb::Saga(SagaVerb::Retry { step: None, item: None }), By::default());
    assert!(family.tell(&mut world, Who::Parent, Input::Operate { verb, by }));
    let Some(Message::Start { attempt: second, .. }) = world.children.get_mut(&2).and_then(|child| child.inbox.pop_front()) else {
        panic!("another one is started")
    };
    assert_eq!((second.epoch, world.parent.steps[1].action.epoch), (2, 2));
    let done = || CallOutcome::Succeeded { output: JsonText::null() };
    assert!(
        family.tell(&mut world, Who::Parent, reply(&first, done())) && matches!(world.first_inbox().pop_front(), Some(Message::Undo(_)))
    );
    assert_eq!(world.parent.steps[1].state, StepState::InProgress);
    assert!(family.tell(&mut world, Who::Parent, reply(&second, done())));
    assert_eq!(world.parent.phase, Phase::Completed);
    // Each is let go, also the one that nobody waits for any more.
    let released = |child: &Child| child.inbox.iter().filter(|message| matches!(message, Message::Release)).count();
    assert_eq!(world.children.values().map(released).collect::<Vec<_>>(), [1, 1]);
}
