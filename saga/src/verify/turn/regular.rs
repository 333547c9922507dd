//! What happens by itself: calls are served, answers heard, time passes, signals come, and what was believed lost arrives after all.

use super::Turn;
use crate::protocol::lock::LockSaid;
use crate::protocol::saga::Phase;
use crate::protocol::{By, Input, Signal};
use crate::verify::book::Habit;
use crate::verify::call::{Call, Place};
use crate::verify::model::Model;
use crate::verify::tape::Who;
use crate::verify::world::{Overdue, Way};

impl Turn<'_> {
    pub(super) fn serve(&mut self, call: Call) -> Option<()> {
        let flight = self.queued(call)?;
        self.hand_out(call);
        let done = self.world.book(call.place).habit(call.side) != Habit::Refuses && self.work(call);
        self.world.flight_mut(call)?.way = Way::Answered { done };
        let text = self.served(call, flight.epoch, done);
        self.say_by(call, text, false);
        Some(())
    }

    pub(super) fn hear_answer(&mut self, call: Call) -> Option<()> {
        let flight = *self.world.flight(call)?;
        let Way::Answered { done } = flight.way else { return None };
        self.world.flights.retain(|flight| flight.call != call);
        self.hear(call, flight.epoch, done, "");
        Some(())
    }

    pub(super) fn look(&mut self) {
        self.note_time();
        let input = self.timer();
        self.tell(input);
    }

    pub(super) fn wait(&mut self) -> Option<()> {
        let mut until_ms = Model::dues(&self.world).map(|(_, at_ms)| at_ms).min()?;
        if let Some(timeout_at_ms) = self.world.state.timeout_at_ms.filter(|_| self.world.state.phase == Phase::Running) {
            until_ms = until_ms.min(timeout_at_ms);
        }
        self.world.now_ms = self.world.now_ms.max(until_ms);
        // What is on its way must not be on it longer than its time: then it is late as well, which is one more thing that goes wrong.
        let now_ms = self.world.now_ms;
        for at in 0..self.world.flights.len() {
            let flight = self.world.flights[at];
            let is_over = Model::deadline_ms(&self.world.state, &flight).is_some_and(|at_ms| at_ms <= now_ms);
            if flight.way == Way::Lost || !is_over || flight.handed_ms.is_none() {
                continue;
            }
            self.world.faults += 1;
            self.world.flights[at].way = Way::Lost;
            let answer = if let Way::Answered { done } = flight.way { Some(done) } else { None };
            self.world.keep(Overdue { call: flight.call, epoch: flight.epoch, answer });
        }
        // So does whoever holds a lock for so long.
        let is_late = |index: &usize| self.world.state.lock_due_ms(*index).is_some_and(|at_ms| at_ms <= now_ms);
        let late = (0..self.world.state.steps.len()).filter(is_late).count();
        self.world.faults = self.world.faults.saturating_add(u8::try_from(late).unwrap_or(u8::MAX));
        self.look();
        self.check_timeout();
        Some(())
    }

    pub(super) fn signal(&mut self, place: Place, is_early: bool) -> Option<()> {
        let name = self.world.state.steps[place.index()].signal.clone()?;
        self.say(Who::Operator, Some(Who::Saga), format!("sends the signal `{name}`"), is_early);
        let payload = self.model.output(place);
        self.tell(Input::Signal(Box::new(Signal { name, id: None, payload, by: By::default() })));
        Some(())
    }

    /// The lock is free that the step waits for.
    pub(super) fn grant(&mut self, place: Place) -> Option<()> {
        let (key, number) = self.claim(place)?;
        self.say(Who::Lock, Some(Who::Saga), format!("`{key}` is free"), false);
        self.tell(Input::Lock { key, number, said: LockSaid::Granted { token: number } });
        Some(())
    }

    /// The claim of a step that waits for its lock.
    pub(super) fn claim(&self, place: Place) -> Option<(String, u64)> {
        let step = &self.world.state.steps[place.index()];
        let key = &step.lock.as_ref().filter(|_| step.awaits_lock())?.key;
        Some((key.clone(), self.world.state.claims.get(key)?.number))
    }

    pub(super) fn arrive(&mut self, call: Call, epoch: u32, is_reply: bool) -> Option<()> {
        let is_it = |message: &Overdue| message.call == call && message.epoch == epoch && message.answer.is_some() == is_reply;
        let at = self.world.overdue.iter().position(is_it)?;
        let message = self.world.overdue.remove(at);
        if let Some(done) = message.answer {
            self.hear(call, epoch, done, "late, ");
        } else {
            let done = self.world.book(call.place).habit(call.side) != Habit::Refuses && self.work(call);
            self.world.keep(Overdue { answer: Some(done), ..message });
            let text = format!("late, {}", self.served(call, epoch, done));
            self.say_by(call, text, false);
        }
        Some(())
    }
}
