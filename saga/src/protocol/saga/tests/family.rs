//! A parent and its sub-saga, in every order in which messages, answers, refusals and operators can meet: whatever happens, both come to rest,
//! and what stands at their participants fits how both ended.
//!
//! Messages between the two are in the order of their lanes and neither lost nor doubled, as the outbox has it. A crash at any moment goes on from
//! the fold of the events, which is compared after each decision.

use crate::definition::{Definition, Target};
use crate::dsl::compile;
use crate::protocol::saga::{InstanceState, Phase, decide};
use crate::protocol::{By, Command, Decision, Input, Parent, Related, Verb};
use sagamq_api::JsonText;
use sagamq_api::saga::{AttemptId, CallOutcome, Failure, Operation, SagaVerb, StepState};
use serde_json::json;
use std::collections::{BTreeMap, HashSet, VecDeque};
use uuid::Uuid;
use xxhash_rust::xxh3::xxh3_128;

const NOW_MS: u64 = 1_000;

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Who {
    Parent,
    Child,
}

/// What lanes tell each other.
#[derive(Clone, Debug)]
enum Message {
    Start { attempt: AttemptId, input: JsonText, depth: u32 },
    Cancel,
    Undo(AttemptId),
    Release,
    Ended { attempt: AttemptId, outcome: CallOutcome },
}

#[derive(Clone, Debug)]
struct World {
    parent: InstanceState,
    child: InstanceState,
    to_child: VecDeque<Message>,
    to_parent: VecDeque<Message>,
    /// Whether the effect of a step stands at its participant.
    books: BTreeMap<(Who, String), bool>,
    /// What may still go wrong.
    faults: u8,
}

#[derive(Clone, Copy, Debug)]
enum Move {
    Deliver(Who),
    Answer { who: Who, step: usize, refused: bool },
    Operate(Who, Fault),
}

#[derive(Clone, Copy, Debug)]
enum Fault {
    Cancel,
    Terminate,
}

struct Family {
    parent: Definition,
    child: Definition,
}

impl Family {
    fn new(parent: &str, child: &str) -> Self {
        let of = |text: &str| compile(text).unwrap_or_else(|faults| panic!("{faults:?}")).definition;
        Self { parent: of(parent), child: of(child) }
    }

    fn begin(&self) -> World {
        let (parent, child) = (InstanceState::new(Uuid::from_u128(1), &self.parent), InstanceState::new(Uuid::from_u128(2), &self.child));
        let mut world = World { parent, child, to_child: VecDeque::new(), to_parent: VecDeque::new(), books: BTreeMap::new(), faults: 3 };
        let (key, input) = ("k".to_owned(), JsonText::from(json!({"id": "k"})));
        let start = Input::Start { parent: None, key, generation: 1, input, cluster: Uuid::nil() };
        assert!(self.tell(&mut world, Who::Parent, start));
        world
    }

    const fn definition(&self, who: Who) -> &Definition {
        match who {
            Who::Parent => &self.parent,
            Who::Child => &self.child,
        }
    }

    /// Gives whether the instance took it.
    fn tell(&self, world: &mut World, who: Who, input: Input) -> bool {
        let state = world.state(who);
        let Ok(Decision { events, commands, state: after, next, .. }) = decide(self.definition(who), state, input, NOW_MS, &mut || 1.0)
        else {
            return false;
        };
        assert!(next.is_none(), "nobody reruns here");
        let mut folded = state.clone();
        for event in &events {
            folded.apply(&event.event, event.at_ms).expect("what was decided can be folded");
        }
        assert_eq!(folded, after, "a restart goes on from the same state");
        *world.state_mut(who) = after;
        for command in commands {
            match command {
                Command::Call(call) => {
                    if let (Target::Saga(_), Some(child)) = (&call.target, &call.child) {
                        let (attempt, input, depth) = (call.call.attempt, call.call.arguments, child.depth);
                        world.to_child.push_back(match attempt.operation {
                            Operation::Action => Message::Start { attempt, input, depth },
                            _ => Message::Undo(attempt),
                        });
                    }
                }
                Command::Relate(related) => match *related {
                    Related::Answer { attempt, outcome, .. } => world.to_parent.push_back(Message::Ended { attempt, outcome }),
                    Related::Cancel(_) => world.to_child.push_back(Message::Cancel),
                    Related::Release(_) => world.to_child.push_back(Message::Release),
                },
                Command::Settle { .. } | Command::Postpone { .. } | Command::Lock { .. } | Command::Tell(_) => {}
            }
        }
        true
    }

    /// What the lane of each does with a message.
    fn deliver(&self, world: &mut World, to: Who) {
        let queue = if to == Who::Parent { &mut world.to_parent } else { &mut world.to_child };
        let is_there = world.child.phase != Phase::New;
        match queue.pop_front().expect("there is one") {
            Message::Start { .. } if is_there => assert!(self.tell(world, Who::Child, Input::ParentAsks), "it is asked again"),
            Message::Start { attempt, input, depth } => {
                let parent = Some(Box::new(Parent { saga: self.parent.name.clone(), attempt: attempt.clone(), depth }));
                let start = Input::Start { parent, key: attempt.to_string(), generation: 1, input, cluster: Uuid::nil() };
                assert!(self.tell(world, Who::Child, start));
            }
            Message::Cancel => {
                let by = By::default();
                _ = self.tell(world, Who::Child, Input::Operate { verb: Verb::Saga(SagaVerb::Cancel), by });
            }
            Message::Undo(attempt) if !is_there => {
                world.to_parent.push_back(Message::Ended { attempt, outcome: CallOutcome::Succeeded { output: JsonText::null() } });
            }
            Message::Undo(attempt) => assert!(self.tell(world, Who::Child, Input::Undo(attempt)), "it is answered whatever it is"),
            Message::Release => _ = self.tell(world, Who::Child, Input::ParentEnded),
            Message::Ended { attempt, outcome } => {
                _ = self.tell(world, Who::Parent, Input::Reply { attempt, outcome, note: None, branch_address: None });
            }
        }
    }

    fn moves(&self, world: &World) -> Vec<Move> {
        let mut moves = Vec::new();
        moves.extend((!world.to_child.is_empty()).then_some(Move::Deliver(Who::Child)));
        moves.extend((!world.to_parent.is_empty()).then_some(Move::Deliver(Who::Parent)));
        for who in [Who::Parent, Who::Child] {
            let state = world.state(who);
            for (step, status) in state.steps.iter().enumerate() {
                let Some(operation) = status.live_operation().filter(|_| !state.phase.is_at_rest()) else { continue };
                let is_called = status.progress(operation).attempt.is_open();
                if !is_called || self.definition(who).steps[step].call(operation).sub_saga().is_some() {
                    continue;
                }
                moves.push(Move::Answer { who, step, refused: false });
                let must_succeed = operation == Operation::Compensation || state.is_past_pivot();
                if world.faults > 0 && !must_succeed {
                    moves.push(Move::Answer { who, step, refused: true });
                }
            }
            if world.faults > 0 && state.phase != Phase::New && !state.phase.is_final() {
                moves.push(Move::Operate(who, Fault::Cancel));
                moves.extend((who == Who::Child).then_some(Move::Operate(who, Fault::Terminate)));
            }
        }
        moves
    }

    /// Gives whether anything came of it.
    fn make(&self, world: &mut World, step: Move) -> bool {
        match step {
            Move::Deliver(to) => self.deliver(world, to),
            Move::Answer { who, step, refused } => {
                world.faults -= u8::from(refused);
                let status = &world.state(who).steps[step];
                let operation = status.live_operation().expect("it is called");
                let attempt = AttemptId {
                    instance: world.state(who).head.id,
                    step: status.id.clone(),
                    item: None,
                    operation,
                    epoch: status.progress(operation).epoch,
                };
                let outcome = match refused {
                    true => CallOutcome::Refused { failure: Failure { code: "NO".to_owned(), message: String::new() } },
                    false => CallOutcome::Succeeded { output: JsonText::null() },
                };
                if !refused {
                    world.books.insert((who, status.id.to_string()), operation == Operation::Action);
                }
                assert!(self.tell(world, who, Input::Reply { attempt, outcome, note: None, branch_address: None }));
            }
            Move::Operate(who, fault) => {
                world.faults -= 1;
                let verb = match fault {
                    Fault::Cancel => SagaVerb::Cancel,
                    Fault::Terminate => SagaVerb::Terminate,
                };
                return self.tell(world, who, Input::Operate { verb: Verb::Saga(verb), by: By::default() });
            }
        }
        true
    }

    /// Every state that can be reached; how many there are, and at rest.
    fn explore(&self) -> (usize, usize) {
        let (mut seen, mut at_rest) = (HashSet::new(), 0);
        let mut open = vec![(self.begin(), Vec::new())];
        while let Some((world, way)) = open.pop() {
            if !seen.insert(xxh3_128(format!("{world:?}").as_bytes())) {
                continue;
            }
            assert!(seen.len() < 500_000, "the family is too large");
            let moves = self.moves(&world);
            if moves.iter().all(|step| matches!(step, Move::Operate(..))) {
                at_rest += 1;
                self.check(&world, &way);
            }
            for step in moves {
                let mut next = world.clone();
                if self.make(&mut next, step) {
                    let way = way.iter().copied().chain([step]).collect::<Vec<_>>();
                    open.push((next, way));
                }
            }
        }
        (seen.len(), at_rest)
    }

    fn check(&self, world: &World, way: &[Move]) {
        let (parent, child) = (&world.parent, &world.child);
        let say = |what: &str| format!("{what}\n{way:?}\nparent {:?}: {parent:?}\nchild {:?}: {child:?}", parent.phase, child.phase);
        assert!(parent.phase.is_at_rest(), "{}", say("the parent does not come to rest"));
        assert!(child.phase == Phase::New || child.phase.is_at_rest(), "{}", say("the child does not come to rest"));
        let stands = |who: Who| world.books.iter().any(|((of, _), stands)| *of == who && *stands);
        let is_ended_as_it_is = child.phase == Phase::Terminated;
        let pay = parent.steps.iter().find(|step| step.child.is_some()).expect("it starts one");
        match parent.phase {
            Phase::Completed => {
                let is_done = child.phase == Phase::Completed && pay.state == StepState::Succeeded;
                assert!(is_done || pay.is_optional, "{}", say("a parent that completed has a child that did"));
                assert!(is_done || !stands(Who::Child) || is_ended_as_it_is, "{}", say("what was gone on without is undone"));
            }
            Phase::Compensated | Phase::Failed => {
                assert!(!stands(Who::Parent) && (!stands(Who::Child)), "{}", say("what was undone does not stand"));
                assert!(child.phase != Phase::Completed, "{}", say("the child of an undone parent is undone"));
            }
            Phase::Blocked => {
                let is_past_pivot = child.is_past_pivot();
                assert!(is_ended_as_it_is || is_past_pivot, "{}", say("a parent is blocked for a reason"));
            }
            Phase::New | Phase::Running | Phase::Compensating | Phase::Terminated => panic!("{}", say("not at rest")),
        }
        let has_let_go = parent.phase.is_final() && child.phase != Phase::New;
        assert_eq!(has_let_go, child.has_parent_ended, "{}", say("a child is told of its parent's end, and not before"));
    }
}

impl World {
    const fn state(&self, who: Who) -> &InstanceState {
        match who {
            Who::Parent => &self.parent,
            Who::Child => &self.child,
        }
    }

    const fn state_mut(&mut self, who: Who) -> &mut InstanceState {
        match who {
            Who::Parent => &mut self.parent,
            Who::Child => &mut self.child,
        }
    }
}

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
fn an_answer_that_was_missed_is_given_again_when_an_operator_asks() {
    let family = Family::new(&saga("parent", &[BEFORE, PAY, BEHIND]), &child());
    let mut world = family.begin();
    let answer = |world: &mut World, who: Who, step: usize, refused: bool| family.make(world, Move::Answer { who, step, refused });
    let ask = |world: &mut World| {
        let (verb, by) = (Verb::Saga(SagaVerb::Retry { step: Some("pay".parse().expect("legal")), item: None }), By::default());
        assert!(family.tell(world, Who::Parent, Input::Operate { verb, by }), "it can be asked");
        family.deliver(world, Who::Child);
    };
    answer(&mut world, Who::Parent, 0, false);
    family.deliver(&mut world, Who::Child);
    ask(&mut world);
    assert!(world.to_parent.is_empty() && world.parent.steps[1].action.epoch == 1, "it runs, and no other one is started");
    answer(&mut world, Who::Child, 0, false);
    answer(&mut world, Who::Child, 1, false);
    // The parent is set aside when the answer comes.
    assert_eq!(world.to_parent.drain(..).count(), 1);
    ask(&mut world);
    family.deliver(&mut world, Who::Parent);
    assert_eq!(world.parent.steps[1].state, StepState::Succeeded);
    answer(&mut world, Who::Parent, 2, true);
    family.deliver(&mut world, Who::Child);
    answer(&mut world, Who::Child, 1, false);
    answer(&mut world, Who::Child, 0, false);
    assert_eq!(world.to_parent.drain(..).count(), 1);
    ask(&mut world);
    family.deliver(&mut world, Who::Parent);
    assert_eq!((world.parent.steps[1].state, world.child.phase), (StepState::Compensated, Phase::Compensated));
}

#[test]
fn what_an_older_attempt_says_is_another_sagas_word() {
    let late = saga("parent", &["id: sell, call: s.do, pivot: true", "id: pay, saga: child, with: { id: \"${ input.id }\" }"]);
    let family = Family::new(&late, &child());
    let mut world = family.begin();
    assert!(family.make(&mut world, Move::Answer { who: Who::Parent, step: 0, refused: false }));
    let Some(Message::Start { attempt: first, .. }) = world.to_child.pop_front() else { panic!("it is started") };
    let reply =
        |attempt: &AttemptId, outcome: CallOutcome| Input::Reply { attempt: attempt.clone(), outcome, note: None, branch_address: None };
    let failure = Failure { code: "CHILD_TERMINATED".to_owned(), message: String::new() };
    let in_doubt = CallOutcome::Unknown { failure, retry_after_ms: None };
    assert!(family.tell(&mut world, Who::Parent, reply(&first, in_doubt)));
    assert!(world.to_child.is_empty() && world.parent.next_look_ms(NOW_MS).is_none(), "no other one is started by itself");
    assert_eq!(world.parent.trouble().map(|trouble| trouble.is_blocked), Some(true), "an operator has to look at it");
    let (verb, by) = (Verb::Saga(SagaVerb::Retry { step: None, item: None }), By::default());
    assert!(family.tell(&mut world, Who::Parent, Input::Operate { verb, by }));
    let Some(Message::Start { attempt: second, .. }) = world.to_child.pop_front() else { panic!("another one is started") };
    assert_eq!((second.epoch, world.parent.steps[1].action.epoch), (2, 2));
    let done = || CallOutcome::Succeeded { output: JsonText::null() };
    assert!(!family.tell(&mut world, Who::Parent, reply(&first, done())), "it is fenced");
    assert_eq!(world.parent.steps[1].state, StepState::InProgress);
    assert!(family.tell(&mut world, Who::Parent, reply(&second, done())));
    assert_eq!(world.parent.phase, Phase::Completed);
    // Each is let go, also the one that nobody waits for any more.
    assert_eq!(world.to_child.iter().filter(|message| matches!(message, Message::Release)).count(), 2);
}
