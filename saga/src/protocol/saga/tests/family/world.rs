//! The world of a parent and its sub-sagas, and every state of it that can be reached.
//!
//! Messages between them are in the order of their lanes and neither lost nor doubled, as the outbox has it. A crash at any moment goes on from
//! the fold of the events, which is compared after each decision.

use crate::definition::{Definition, Target};
use crate::dsl::compile;
use crate::protocol::saga::{Attempt, InstanceState, Phase, StepStatus, decide};
use crate::protocol::{By, Command, Decision, Input, Parent, Related, Verb};
use sagamq_api::JsonText;
use sagamq_api::saga::{AttemptId, CallOutcome, Failure, Operation, SagaVerb, StepOutcome, StepState};
use serde_json::json;
use std::collections::{BTreeMap, HashSet, VecDeque};
use uuid::Uuid;
use xxhash_rust::xxh3::xxh3_128;

pub(super) const NOW_MS: u64 = 1_000;

/// Which of them: each attempt of the parent's step is a sub-saga of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Who {
    Parent,
    Child(u32),
}

/// The first sub-saga.
pub(super) const CHILD: Who = Who::Child(1);

/// What lanes tell each other.
#[derive(Clone, Debug)]
pub(super) enum Message {
    Start { attempt: AttemptId, input: JsonText, depth: u32 },
    Cancel,
    Undo(AttemptId),
    Release,
    Ended { attempt: AttemptId, outcome: CallOutcome },
    NotStarted(AttemptId),
}

/// A sub-saga, and what is on its way to it: each has a lane of its own.
#[derive(Clone, Debug)]
pub(super) struct Child {
    pub(super) state: InstanceState,
    pub(super) inbox: VecDeque<Message>,
}

#[derive(Clone, Debug)]
pub(super) struct World {
    pub(super) parent: InstanceState,
    pub(super) children: BTreeMap<u32, Child>,
    pub(super) to_parent: VecDeque<Message>,
    now_ms: u64,
    /// Whether the effect of a step stands at its participant.
    books: BTreeMap<(Who, String), bool>,
    /// What may still go wrong.
    faults: u8,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Move {
    Deliver(Who),
    /// The disk has no room for the start that comes next.
    Refuse(u32),
    Answer {
        who: Who,
        step: usize,
        refused: bool,
    },
    Wait,
    Operate(Who, Fault),
}

/// What operators do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Cancel,
    Terminate,
    /// Of the step that starts the sub-saga: it had no effect.
    ResolveAsFailed,
    /// It is asked what became of it.
    Ask,
}

pub(super) struct Family {
    pub(super) parent: Definition,
    pub(super) child: Definition,
    /// What else may happen to the parent than that it is cancelled.
    pub(super) more: &'static [Fault],
    /// Whether the disk may have no room.
    pub(super) may_be_full: bool,
    /// How much may go wrong.
    pub(super) faults: u8,
}

impl Family {
    pub(super) fn new(parent: &str, child: &str) -> Self {
        let of = |text: &str| compile(text).unwrap_or_else(|faults| panic!("{faults:?}")).definition;
        Self { parent: of(parent), child: of(child), more: &[], may_be_full: false, faults: 3 }
    }

    pub(super) fn begin(&self) -> World {
        let parent = InstanceState::new(Uuid::from_u128(1), &self.parent);
        let (children, to_parent, books) = (BTreeMap::new(), VecDeque::new(), BTreeMap::new());
        let mut world = World { parent, children, to_parent, now_ms: NOW_MS, books, faults: self.faults };
        let (key, input) = ("k".to_owned(), JsonText::from(json!({"id": "k"})));
        let start = Input::Start { parent: None, key, generation: 1, input, cluster: Uuid::nil(), trace: None };
        assert!(self.tell(&mut world, Who::Parent, start));
        world
    }

    const fn definition(&self, who: Who) -> &Definition {
        match who {
            Who::Parent => &self.parent,
            Who::Child(_) => &self.child,
        }
    }

    /// Gives whether the instance took it.
    pub(super) fn tell(&self, world: &mut World, who: Who, input: Input) -> bool {
        let state = world.state(who);
        let decided = decide(self.definition(who), state, input, world.now_ms, &mut || 1.0);
        let Ok(Decision { events, commands, state: after, next, .. }) = decided else { return false };
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
                        let message = match attempt.operation {
                            Operation::Action => Message::Start { attempt, input, depth },
                            _ => Message::Undo(attempt),
                        };
                        self.send(world, &child.key, message);
                    }
                }
                Command::Relate(related) => match *related {
                    Related::Answer { attempt, outcome, .. } => world.to_parent.push_back(Message::Ended { attempt, outcome }),
                    Related::Cancel(child) => self.send(world, &child.key, Message::Cancel),
                    Related::Release(child) => self.send(world, &child.key, Message::Release),
                    Related::Disown { child, attempt } => self.send(world, &child.key, Message::Undo(attempt)),
                },
                Command::Settle { .. } | Command::Postpone { .. } | Command::Lock { .. } | Command::Tell(_) => {}
            }
        }
        true
    }

    /// To the lane of the sub-saga of this key.
    fn send(&self, world: &mut World, key: &str, message: Message) {
        let number: u32 = key.rsplit_once('#').and_then(|(_, number)| number.parse().ok()).expect("an attempt");
        let new = || InstanceState::new(Uuid::from_u128(1 + u128::from(number)), &self.child);
        let child = world.children.entry(number).or_insert_with(|| Child { state: new(), inbox: VecDeque::new() });
        child.inbox.push_back(message);
    }

    /// What the lane of each does with a message.
    pub(super) fn deliver(&self, world: &mut World, to: Who) {
        let queue = match to {
            Who::Parent => &mut world.to_parent,
            Who::Child(number) => &mut world.children.get_mut(&number).expect("it is there").inbox,
        };
        let message = queue.pop_front().expect("there is one");
        let is_there = to != Who::Parent && world.state(to).phase != Phase::New;
        match message {
            Message::Start { .. } if is_there => assert!(self.tell(world, to, Input::ParentAsks), "it is asked again"),
            Message::Start { attempt, input, depth } => {
                let parent = Some(Box::new(Parent { saga: self.parent.name.clone(), attempt: attempt.clone(), depth }));
                let start = Input::Start { parent, key: attempt.to_string(), generation: 1, input, cluster: Uuid::nil(), trace: None };
                assert!(self.tell(world, to, start));
            }
            Message::Cancel => {
                let by = By::default();
                _ = self.tell(world, to, Input::Operate { verb: Verb::Saga(SagaVerb::Cancel), by });
            }
            Message::Undo(attempt) if !is_there => {
                world.to_parent.push_back(Message::Ended { attempt, outcome: CallOutcome::Succeeded { output: JsonText::null() } });
            }
            Message::Undo(attempt) => assert!(self.tell(world, to, Input::Undo(attempt)), "it is answered whatever it is"),
            Message::Release => _ = self.tell(world, to, Input::ParentEnded),
            Message::Ended { attempt, outcome } => {
                _ = self.tell(world, to, Input::Reply { attempt, outcome, note: None, branch_address: None });
            }
            Message::NotStarted(attempt) => {
                let failure = Failure { code: "STORAGE_FULL".to_owned(), message: String::new() };
                _ = self.tell(world, to, Input::NotSent { attempt, failure, was_never_sent: false });
            }
        }
    }

    fn moves(&self, world: &World) -> Vec<Move> {
        let mut moves = Vec::new();
        for (number, child) in &world.children {
            moves.extend((!child.inbox.is_empty()).then_some(Move::Deliver(Who::Child(*number))));
            let is_start = matches!(child.inbox.front(), Some(Message::Start { .. })) && child.state.phase == Phase::New;
            moves.extend((is_start && self.may_be_full && world.faults > 0).then_some(Move::Refuse(*number)));
        }
        moves.extend((!world.to_parent.is_empty()).then_some(Move::Deliver(Who::Parent)));
        moves.extend(world.retry_at_ms().map(|_| Move::Wait));
        for who in world.everybody() {
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
                let more: &[Fault] = if who == Who::Parent { self.more } else { &[Fault::Terminate] };
                moves.extend(more.iter().map(|fault| Move::Operate(who, *fault)));
            }
        }
        moves
    }

    /// Gives whether anything came of it.
    pub(super) fn make(&self, world: &mut World, step: Move) -> bool {
        match step {
            Move::Deliver(to) => self.deliver(world, to),
            Move::Refuse(number) => {
                world.faults -= 1;
                let message = world.children.get_mut(&number).and_then(|child| child.inbox.pop_front());
                let Some(Message::Start { attempt, .. }) = message else { unreachable!("looked at") };
                world.to_parent.push_back(Message::NotStarted(attempt));
            }
            Move::Wait => {
                world.now_ms = world.retry_at_ms().expect("it waits");
                assert!(self.tell(world, Who::Parent, Input::Timer { hand_outs: Vec::new() }));
            }
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
                    Fault::ResolveAsFailed => {
                        SagaVerb::Resolve { step: "pay".parse().expect("legal"), item: None, outcome: StepOutcome::Failed }
                    }
                    Fault::Ask => SagaVerb::Retry { step: Some("pay".parse().expect("legal")), item: None },
                };
                return self.tell(world, who, Input::Operate { verb: Verb::Saga(verb), by: By::default() });
            }
        }
        true
    }

    /// Every state that can be reached; how many there are, and at rest.
    pub(super) fn explore(&self) -> (usize, usize) {
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
        let (parent, children) = (&world.parent, &world.children);
        let say = |what: &str| {
            let phases: Vec<_> = children.values().map(|child| child.state.phase).collect();
            format!("{what}\n{way:?}\nparent {:?}, children {phases:?}\n{parent:?}\n{children:?}", parent.phase)
        };
        let pay = parent.steps.iter().find(|step| step.child.is_some()).expect("it starts one");
        // A pivot in doubt waits for an operator.
        assert!(parent.phase.is_at_rest() || pay.action.attempt.is_undecided(), "{}", say("the parent does not come to rest"));
        let all_rest = children.values().all(|child| child.state.phase == Phase::New || child.state.phase.is_at_rest());
        assert!(all_rest, "{}", say("a child does not come to rest"));
        let last = children.get(&pay.action.epoch).map(|child| &child.state);
        let is_in = |phase: Phase| last.is_some_and(|child| child.phase == phase);
        let is_ended_as_it_is = is_in(Phase::Terminated);
        let stands = |is_of: &dyn Fn(Who) -> bool| world.books.iter().any(|((of, _), stands)| is_of(*of) && *stands);
        // What an operator ended as it is may leave something, and says so itself.
        let of_children = |who: Who| who != Who::Parent && world.state(who).phase != Phase::Terminated;
        match parent.phase {
            Phase::Completed => {
                let is_done = is_in(Phase::Completed) && pay.state == StepState::Succeeded;
                assert!(is_done || pay.is_optional, "{}", say("a parent that completed has a child that did"));
                assert!(is_done || !stands(&of_children), "{}", say("what was gone on without is undone"));
            }
            Phase::Compensated | Phase::Failed => {
                assert!(!stands(&|who| who == Who::Parent), "{}", say("what was undone does not stand"));
                assert!(!stands(&of_children), "{}", say("nor does it of a child"));
                assert!(!is_ended_as_it_is || pay.state == StepState::Failed, "{}", say("what is in doubt is not called undone"));
                assert!(!is_in(Phase::Completed), "{}", say("the child of an undone parent is undone"));
            }
            Phase::Blocked => {
                let is_past_pivot = last.is_some_and(InstanceState::is_past_pivot);
                assert!(is_ended_as_it_is || is_past_pivot, "{}", say("a parent is blocked for a reason"));
            }
            // As it was: what its child does is that one's affair, and what may stand is listed.
            Phase::Terminated => {
                let is_listed = |id: &str| parent.standing().iter().any(|effect| effect.step.as_str() == id);
                let is_told = |who: Who, step: &str| who != Who::Parent || is_listed(step);
                let untold = world.books.iter().find(|((who, step), stands)| **stands && !is_told(*who, step));
                assert!(untold.is_none() && (!is_in(Phase::Completed) || is_listed("pay")), "{}", say("what stands is listed"));
            }
            Phase::New | Phase::Running | Phase::Compensating => {}
        }
        let older = children.iter().filter(|(number, _)| **number < pay.action.epoch);
        let is_gone = |child: &Child| child.state.phase != Phase::Completed;
        assert!(older.map(|(_, child)| child).all(is_gone), "{}", say("what an older attempt started does not stand beside the last one"));
        for child in children.values().filter(|child| child.state.phase != Phase::New) {
            assert_eq!(
                parent.phase.is_final(),
                child.state.has_parent_ended,
                "{}",
                say("a child is told of its parent's end, and not before")
            );
        }
    }
}

impl World {
    /// When the parent asks for another sub-saga by itself.
    fn retry_at_ms(&self) -> Option<u64> {
        let waiting = |step: &StepStatus| match step.action.attempt {
            Attempt::Waiting { retry_at_ms } => Some(retry_at_ms).filter(|at_ms| *at_ms < u64::MAX),
            _ => None,
        };
        self.parent.steps.iter().filter(|_| !self.parent.phase.is_at_rest()).find_map(waiting)
    }

    fn everybody(&self) -> impl Iterator<Item = Who> {
        core::iter::once(Who::Parent).chain(self.children.keys().map(|number| Who::Child(*number)))
    }

    fn state(&self, who: Who) -> &InstanceState {
        match who {
            Who::Parent => &self.parent,
            Who::Child(number) => &self.children[&number].state,
        }
    }

    fn state_mut(&mut self, who: Who) -> &mut InstanceState {
        match who {
            Who::Parent => &mut self.parent,
            Who::Child(number) => &mut self.children.get_mut(&number).expect("it is there").state,
        }
    }

    /// What is on its way to the first sub-saga.
    pub(super) fn first_inbox(&mut self) -> &mut VecDeque<Message> {
        &mut self.children.get_mut(&1).expect("it is there").inbox
    }
}
