//! The definition as a world to be explored: where it begins, and what can happen in a state.

use super::call::{Call, Place, Side};
use super::moves::Move;
use super::subject::{Bounds, Subject};
use super::symmetry::classes;
use super::tape::Tape;
use super::world::{Flight, Way, World};
use crate::definition::{Definition, HttpTarget, Moment, StepKind, Target};
use crate::protocol::saga::{Attempt, InstanceState, Open, Phase, StepStatus};
use sagamq_api::JsonText;
use sagamq_api::saga::StepState;
use std::sync::Arc;
use uuid::Uuid;

/// The virtual clock's time at the start, in milliseconds since 1970: the begin of 2026, always, so that a way can be gone again.
pub(super) const START_MS: u64 = 1_767_225_600_000;

/// The model.
#[derive(Debug)]
pub(super) struct Model<'a> {
    pub(super) subject: Subject<'a>,
    pub(super) bounds: Bounds,
    /// The definition, with no more attempts than the bounds say.
    pub(super) definition: Definition,
    /// The steps that rest on each, also by way of others.
    pub(super) dependents: Vec<Vec<usize>>,
    /// What each step returns.
    outputs: Vec<JsonText>,
    /// Steps of the same class are in the same place.
    pub(super) classes: Vec<u16>,
    /// Whether a class has more than one step.
    pub(super) has_twins: bool,
    id: Uuid,
}

/// The lock that the saga holds for this step, with its token, and for none before it.
pub(super) fn held_lock(state: &InstanceState, index: usize) -> Option<(&str, u64)> {
    let held = |step: &StepStatus| {
        let lock = step.lock.as_ref()?;
        let token = state.claims.get(&lock.key)?.token.filter(|token| Some(*token) == lock.token)?;
        Some((lock.key.clone(), token))
    };
    let found = held(&state.steps[index])?;
    let is_first = !state.steps[..index].iter().any(|before| held(before).as_ref() == Some(&found));
    is_first.then(|| state.steps[index].lock.as_ref().map(|lock| (lock.key.as_str(), found.1)))?
}

impl<'a> Model<'a> {
    pub(super) fn new(subject: Subject<'a>, bounds: Bounds) -> Self {
        let mut definition = subject.definition.clone();
        for step in &mut definition.steps {
            for call in step.action.call_mut().into_iter().chain(&mut step.compensation) {
                call.retry.attempts = call.retry.attempts.min(bounds.attempts.max(1));
            }
        }
        let count = definition.steps.len();
        let mut dependents = vec![Vec::new(); count];
        for step in (0..count).rev() {
            let mut found: Vec<usize> = Vec::new();
            for other in step + 1..count {
                if definition.steps[other].after.iter().any(|before| *before == step || found.contains(before)) {
                    found.push(other);
                }
            }
            dependents[step] = found;
        }
        let output = |step: &crate::definition::Step| {
            subject.sample.outputs.get(&step.id).cloned().unwrap_or_else(|| JsonText::from(serde_json::json!({})))
        };
        let outputs = definition.steps.iter().map(output).collect();
        let classes = if bounds.reduce { classes(&definition, subject.invariants) } else { (0..).take(count).collect() };
        let mut seen = classes.clone();
        seen.sort_unstable();
        let has_twins = seen.windows(2).any(|pair| pair[0] == pair[1]);
        Self { subject, bounds, definition, dependents, outputs, classes, has_twins, id: Uuid::from_u128(1) }
    }

    /// The world before the instance is started.
    pub(super) fn empty(&self, tape: Option<Tape>) -> World {
        // Those of items begin with their first calls.
        let called = (0..self.definition.steps.len()).filter(|step| self.definition.steps[*step].for_each.is_none());
        let books = called.map(|step| (Place::of(step), super::book::Book::default())).collect();
        World {
            state: Arc::new(self.subject.decides.new_instance(self.id, &self.definition)),
            now_ms: START_MS,
            flights: Vec::new(),
            overdue: Vec::new(),
            books,
            arguments: Arc::default(),
            told: Arc::default(),
            faults: 0,
            tape,
        }
    }

    pub(super) const fn id(&self) -> Uuid {
        self.id
    }

    pub(super) fn output(&self, place: Place) -> JsonText {
        self.outputs[place.index()].clone()
    }

    /// What is called, as the definition says.
    pub(super) fn called(&self, call: Call) -> &crate::definition::Call {
        self.definition.steps[call.place.index()].call(call.side.operation())
    }

    pub(super) fn is_http(&self, call: Call) -> bool {
        matches!(self.called(call).target, Target::Http(HttpTarget::Service { .. } | HttpTarget::Worker { .. }))
    }

    /// Whether it is a sub-saga that is called: then nothing is lost on the way, and it takes as long as it takes.
    pub(super) fn is_sub_saga(&self, call: Call) -> bool {
        self.called(call).sub_saga().is_some()
    }

    /// The attempt of a call in progress, with its epoch.
    pub(super) fn open(state: &InstanceState, call: Call) -> Option<(u32, Open)> {
        let step = call.place.status(state)?;
        let progress = step.progress(call.side.operation());
        (step.live_operation() == Some(call.side.operation())).then_some(())?;
        progress.attempt.open().map(|open| (progress.epoch, open))
    }

    /// When an attempt is given up, as far as it is known outside when it was handed out.
    pub(super) fn deadline_ms(state: &InstanceState, flight: &Flight) -> Option<u64> {
        let (_, open) = Self::open(state, flight.call)?;
        let at_ms = if open.is_handed_out { open.deadline_ms } else { flight.handed_ms?.saturating_add(open.timeout_ms) };
        // A sub-saga has none.
        (at_ms < u64::MAX).then_some(at_ms)
    }

    /// What is waited for, and until when: answers that do not come in time, and retries.
    pub(super) fn dues(world: &World) -> impl Iterator<Item = (Place, u64)> {
        let lost = world.flights.iter().filter(|flight| flight.way == Way::Lost);
        let lost = lost.filter_map(|flight| Some((flight.call.place, Self::deadline_ms(&world.state, flight)?)));
        let state = &world.state;
        let retries = state.live().filter_map(|(place, operation)| match state.at(place).progress(operation).attempt {
            // What only an operator ends is not waited for.
            Attempt::Waiting { retry_at_ms } => (retry_at_ms < u64::MAX).then(|| (Place::of_state(place), retry_at_ms)),
            Attempt::Asleep(asleep) => asleep.until_ms.map(|at_ms| (Place::of_state(place), at_ms)),
            Attempt::None | Attempt::Open(_) => None,
        });
        lost.chain(retries)
    }

    /// Whether a step can only go forward: it is called until it succeeds.
    fn is_forward_only(&self, world: &World, call: Call) -> bool {
        let step = &self.definition.steps[call.place.index()];
        call.side == Side::Action && !step.optional && (step.kind == StepKind::Retriable || world.state.is_past_pivot())
    }

    /// What happens by itself, the most usual first. Nothing of it: the instance is at rest, or stuck.
    pub(super) fn goes_on(&self, world: &World, moves: &mut Vec<Move>) {
        if world.state.phase.is_at_rest() {
            return;
        }
        if world.state.is_due(world.now_ms) {
            moves.push(Move::Look);
        }
        for flight in &world.flights {
            match flight.way {
                Way::Answered { .. } => moves.push(Move::Hear(flight.call)),
                Way::Queued => moves.push(Move::Serve(flight.call)),
                Way::Lost => {}
            }
        }
        for (index, step) in world.state.steps.iter().enumerate() {
            if step.awaits_lock() {
                moves.push(Move::Grant(Place::of(index)));
            }
            if step.action.attempt.is_asleep() && step.signal.is_some() {
                moves.push(Move::Signal { place: Place::of(index), is_early: false });
            }
        }
        if Self::dues(world).next().is_some() {
            moves.push(Move::Wait);
        }
    }

    /// What arrives late.
    pub(super) fn arrives(world: &World, moves: &mut Vec<Move>) {
        let arrive =
            |message: &super::world::Overdue| Move::Arrive { call: message.call, epoch: message.epoch, is_reply: message.answer.is_some() };
        moves.extend(world.overdue.iter().map(arrive));
    }

    /// What goes wrong.
    pub(super) fn faults(&self, world: &World, moves: &mut Vec<Move>) {
        if world.state.phase.is_at_rest() || world.faults >= self.bounds.faults {
            return;
        }
        for flight in &world.flights {
            match flight.way {
                Way::Queued => self.faults_of_queued(world, flight, moves),
                Way::Answered { .. } if self.is_sub_saga(flight.call) => {}
                Way::Answered { .. } => moves.push(Move::LoseReply(flight.call)),
                Way::Lost => {}
            }
        }
        for (place, book) in &world.books {
            for side in Side::BOTH {
                let call = Call { place: *place, side };
                if book.answer(side).is_some() && !self.tells_once(call) && world.flight(call).is_none() {
                    moves.push(Move::Repeat(call));
                }
            }
        }
        for (index, step) in world.state.steps.iter().enumerate() {
            if step.awaits_lock() && !world.state.is_forward_only(index) {
                moves.push(Move::Deny(Place::of(index)));
            }
            if held_lock(&world.state, index).is_some() {
                moves.push(Move::Break(Place::of(index)));
            }
            if step.state == StepState::Scheduled && step.signal.is_some() {
                moves.push(Move::Signal { place: Place::of(index), is_early: true });
            }
        }
        moves.push(Move::Crash);
        if world.state.phase == Phase::Running {
            moves.push(Move::Cancel);
            if world.state.timeout_at_ms.is_some() {
                moves.push(Move::TimeOut);
            }
        }
    }

    /// The one move that is looked at where nothing more can go wrong and all else can wait: of a step that is undone, while no step that rests
    /// on it, or on which it rests, has anything left to do. Whatever else happens neither changes what it leads to nor is changed by it, so every
    /// order ends alike. What must hold in between is not asked for here: with such an invariant, every order is looked at.
    pub(super) fn alone(&self, world: &World) -> Option<Move> {
        let asks_always = || self.subject.invariants.iter().any(|invariant| invariant.moment == Moment::Always);
        let may_go_wrong = world.faults < self.bounds.faults;
        if !self.bounds.reduce || may_go_wrong || world.state.phase != Phase::Compensating || asks_always() {
            return None;
        }
        let found = world.flights.iter().find(|flight| {
            let is_undone = flight.call.side == Side::Undo || flight.way != Way::Queued;
            is_undone && flight.way != Way::Lost && self.is_apart(world, flight.call.place)
        });
        found.map(|flight| if flight.way == Way::Queued { Move::Serve(flight.call) } else { Move::Hear(flight.call) })
    }

    /// Whether nothing is left to do for any step that is before or behind this one.
    fn is_apart(&self, world: &World, place: Place) -> bool {
        let index = place.index();
        // Items of one step follow from each other.
        if self.definition.steps[index].for_each.is_some() {
            return false;
        }
        let is_related = |other: usize| self.dependents[index].contains(&other) || self.dependents[other].contains(&index);
        let is_busy = |other: usize| {
            let step = &world.state.steps[other];
            let has_message = world.overdue.iter().any(|message| message.call.place.index() == other);
            step.live_operation().is_some() || step.needs_undoing() || has_message
        };
        (0..self.definition.steps.len()).all(|other| !is_related(other) || !is_busy(other))
    }

    /// Whether the step has no such call, or one whose answer comes once: that of a sub-saga.
    fn tells_once(&self, call: Call) -> bool {
        let step = &self.definition.steps[call.place.index()];
        let called = if call.side == Side::Action { step.action.call() } else { step.compensation.as_ref() };
        called.is_none_or(|called| called.sub_saga().is_some())
    }

    fn faults_of_queued(&self, world: &World, flight: &Flight, moves: &mut Vec<Move>) {
        let (call, book) = (flight.call, world.book(flight.call.place));
        if book.habit(call.side) != super::book::Habit::Answers {
            return;
        }
        let is_forward_only = self.is_forward_only(world, call);
        let is_pivot = self.definition.steps[call.place.index()].kind == StepKind::Pivot;
        let may_refuse = match call.side {
            Side::Action => is_forward_only || (!book.ran && !book.barred && !book.refused),
            Side::Undo => true,
        };
        if may_refuse {
            moves.push(Move::Refuse(call));
        }
        if self.is_sub_saga(call) {
            if call.side == Side::Action {
                moves.push(Move::NotSent(call));
            }
            // An operator may end it as it is; what must be known waits for an operator then, who is not played.
            if call.side == Side::Action && !(is_forward_only || is_pivot) {
                moves.extend([Move::Silence { call, ran: true }, Move::Silence { call, ran: false }]);
            }
            return;
        }
        moves.push(Move::LoseCall(call));
        // What must be known is asked for until it is known, so somebody has to answer at last.
        if call.side == Side::Undo || !(is_forward_only || is_pivot) {
            moves.extend([Move::Silence { call, ran: true }, Move::Silence { call, ran: false }]);
        }
        let open = Self::open(&world.state, call).map(|(_, open)| open);
        if let Some(open) = open.filter(|_| flight.handed_ms.is_none()) {
            if !open.is_waiting {
                moves.push(Move::NotSent(call));
            }
            if call.side == Side::Action && open.queue_deadline_ms.is_some_and(|at_ms| at_ms > world.now_ms) {
                moves.push(Move::Queued(call));
            }
        }
    }
}
