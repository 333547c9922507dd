//! One move, made: on a copy of the world, with what is found to be wrong on the way.

mod checks;
mod faults;
mod messages;
mod regular;
mod said;

use super::call::{Call, Side};
use super::model::Model;
use super::moves::Move;
use super::property::{Tried, Wrong};
use super::tape::Who;
use super::world::{Flight, Way, World};
use crate::protocol::{HandOut, Input};
use sagamq_api::saga::{AttemptId, Failure};
use uuid::Uuid;

/// What a move leads to.
pub(super) struct After {
    pub(super) world: World,
    pub(super) wrong: Vec<Wrong>,
}

struct Turn<'m> {
    model: &'m Model<'m>,
    world: World,
    wrong: Vec<Wrong>,
    tried: &'m mut Tried,
}

/// Makes a move. `None`: it is not possible here, or more would go wrong on the way than may.
pub(super) fn after<'m>(model: &'m Model<'m>, world: &World, step: Move, tried: &'m mut Tried) -> Option<After> {
    let mut turn = Turn { model, world: world.clone(), wrong: Vec::new(), tried };
    turn.world.faults += u8::from(step.is_fault());
    turn.take(step)?;
    turn.forget_what_is_settled();
    let Turn { world, wrong, .. } = turn;
    (world.faults <= model.bounds.faults).then_some(After { world, wrong })
}

/// The world in which the instance has just been started.
pub(super) fn start<'m>(model: &'m Model<'m>, empty: World, tried: &'m mut Tried) -> After {
    let mut turn = Turn { model, world: empty, wrong: Vec::new(), tried };
    let key = model.definition.business_key(&model.subject.sample.input).unwrap_or_else(|_| "key".to_owned());
    turn.say(Who::Operator, Some(Who::Saga), format!("starts `{}` with the key `{key}`", model.definition.name), false);
    let input =
        Input::Start { parent: None, key, generation: 1, input: model.subject.sample.input.clone(), cluster: Uuid::nil(), trace: None };
    turn.tell(input);
    After { world: turn.world, wrong: turn.wrong }
}

impl Turn<'_> {
    fn take(&mut self, step: Move) -> Option<()> {
        match step {
            Move::Serve(call) => self.serve(call)?,
            Move::Hear(call) => self.hear_answer(call)?,
            Move::Look => self.look(),
            Move::Wait => self.wait()?,
            Move::Signal { place, is_early } => self.signal(place, is_early)?,
            Move::Arrive { call, epoch, is_reply } => self.arrive(call, epoch, is_reply)?,
            Move::Refuse(call) => self.refuse(call)?,
            Move::LoseCall(call) => self.lose_call(call)?,
            Move::LoseReply(call) => self.lose_reply(call)?,
            Move::Silence { call, ran } => self.silence(call, ran)?,
            Move::NotSent(call) => self.not_sent(call)?,
            Move::Repeat(call) => self.repeat(call)?,
            Move::Queued(call) => self.leave_queued(call)?,
            Move::Grant(place) => self.grant(place)?,
            Move::Deny(place) => self.deny(place)?,
            Move::Break(place) => self.break_lock(place)?,
            Move::Crash => self.crash(),
            Move::Cancel => self.cancel(),
            Move::TimeOut => self.time_out()?,
        }
        Some(())
    }

    fn attempt(&self, call: Call, epoch: u32) -> AttemptId {
        call.attempt(epoch, self.model.id(), &self.model.definition)
    }

    fn queued(&self, call: Call) -> Option<Flight> {
        self.world.flight(call).copied().filter(|flight| flight.way == Way::Queued)
    }

    fn hand_out(&mut self, call: Call) {
        let now_ms = self.world.now_ms;
        if let Some(flight) = self.world.flight_mut(call) {
            flight.handed_ms.get_or_insert(now_ms);
        }
    }

    /// The participant does what it is called for. Gives whether it says success.
    fn work(&mut self, call: Call) -> bool {
        let stood = self.world.book(call.place).stands();
        let done = self.world.book_mut(call.place).serve(call.side);
        if call.side == Side::Undo && stood {
            self.check_undo(call.place.index());
        }
        done
    }

    /// Time has passed while calls waited in their queues: those that were handed out were so just now.
    fn pass_time(&mut self, until_ms: u64) {
        self.world.now_ms = self.world.now_ms.max(until_ms);
        let now_ms = self.world.now_ms;
        for flight in self.world.flights.iter_mut().filter(|flight| flight.handed_ms.is_some()) {
            flight.handed_ms = Some(now_ms);
        }
    }

    fn timer(&self) -> Input {
        let known = |attempt: AttemptId| {
            let flight = self.world.flight(Call::of(&attempt, &self.model.definition))?;
            Some((attempt, flight.handed_ms.map_or(HandOut::Never, HandOut::At)))
        };
        Input::Timer { hand_outs: self.world.state.unseen_calls().into_iter().filter_map(known).collect() }
    }
}

fn failure(code: &str, message: &str) -> Failure {
    Failure { code: code.to_owned(), message: message.to_owned() }
}
