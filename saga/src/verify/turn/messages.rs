//! What is on its way: the instance is told something, what it orders is sent, and what nothing can follow from is forgotten.

use super::{Turn, failure};
use crate::protocol::saga::child_key;
use crate::protocol::{Command, Decision, Input, Related, Told};
use crate::verify::book::Habit;
use crate::verify::call::{Call, Side};
use crate::verify::model::Model;
use crate::verify::property::{Property, Wrong};
use crate::verify::tape::Who;
use crate::verify::words;
use crate::verify::world::{Flight, Overdue, Way, World};
use sagamq_api::saga::CallOutcome;
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64;

impl Turn<'_> {
    pub(super) fn hear(&mut self, call: Call, epoch: u32, done: bool, how: &str) {
        let said = if done { "success" } else { "a refusal" };
        let text = format!("{how}{said} for {} reaches the saga", words::attempt(self.model, call, epoch));
        self.say_by(call, text, !how.is_empty());
        let outcome = match done {
            true => CallOutcome::Succeeded { output: self.model.output(call.place) },
            false => CallOutcome::Refused { failure: failure("REFUSED", "the participant refused") },
        };
        self.tell(Input::Reply { attempt: self.attempt(call, epoch), outcome, note: None, branch_address: None });
    }

    /// Tells the instance, and puts what it orders on its way.
    pub(super) fn tell(&mut self, input: Input) {
        let model = self.model;
        let decided = model.subject.decides.decide(&model.definition, &self.world.state, input, self.world.now_ms);
        let Ok(Decision { events, commands, state, .. }) = decided else { return };
        if events.is_empty() && commands.is_empty() {
            return;
        }
        self.check_restart(&events, &state);
        self.check_expressions(&events);
        self.world.state = Arc::new(state);
        if self.world.tape.is_some() {
            for text in events.iter().filter_map(|recorded| words::event(&recorded.event)) {
                self.say(Who::Saga, None, text, false);
            }
        }
        self.land();
        for command in commands {
            match command {
                Command::Call(command) => {
                    let call = Call::of(&command.call.attempt, &model.definition);
                    self.send(call, command.call.attempt.epoch, command.call.arguments.as_str());
                }
                Command::Relate(related) => self.cancel_sub_saga(&related),
                Command::Tell(told) => self.told(&told),
                Command::Settle { .. } | Command::Postpone { .. } | Command::Lock { .. } => {}
            }
        }
    }

    /// A sub-saga that has not come far is undone when it is cancelled; one that is done has its answer on the way.
    fn cancel_sub_saga(&mut self, related: &Related) {
        let Related::Cancel(child) = related else { return };
        let is_it = |flight: &&mut Flight| {
            let attempt = flight.call.attempt(flight.epoch, self.model.id(), &self.model.definition);
            flight.way == Way::Queued && child_key(&attempt) == child.key
        };
        let Some(flight) = self.world.flights.iter_mut().find(is_it) else { return };
        flight.way = Way::Answered { done: false };
        let call = flight.call;
        self.world.book_mut(call.place).refused = true;
        self.say_by(call, "is cancelled, and undoes what it has done".to_owned(), false);
    }

    /// Attempts that are over are in flight no more; an answer on the way arrives late.
    fn land(&mut self) {
        let World { state, flights, .. } = &mut self.world;
        let mut late = Vec::new();
        flights.retain(|flight| {
            let is_open = Model::open(state, flight.call).is_some_and(|(epoch, _)| epoch == flight.epoch);
            match flight.way {
                Way::Answered { done } if !is_open => late.push(Overdue { call: flight.call, epoch: flight.epoch, answer: Some(done) }),
                Way::Answered { .. } | Way::Queued | Way::Lost => {}
            }
            is_open
        });
        late.into_iter().for_each(|message| self.world.keep(message));
    }

    fn send(&mut self, call: Call, epoch: u32, arguments: &str) {
        let hash = xxh3_64(arguments.as_bytes());
        match self.world.arguments.iter().find(|(known, _)| *known == call) {
            None => Arc::make_mut(&mut self.world.arguments).push((call, hash)),
            Some((_, first)) => {
                self.tried.note(Property::Arguments);
                if *first != hash {
                    let what = format!("attempt {epoch} of {} has other arguments than the first", call.name(&self.model.definition));
                    self.wrong.push(Wrong { property: Property::Arguments, what });
                }
            }
        }
        let is_silent = self.world.book(call.place).habit(call.side) == Habit::Silent;
        let (handed_ms, way) = if is_silent { (Some(self.world.now_ms), Way::Lost) } else { (None, Way::Queued) };
        self.world.flights.push(Flight { call, epoch, handed_ms, way });
        if self.world.tape.is_some() {
            let text = format!("calls {}", words::attempt(self.model, call, epoch));
            self.say(Who::Saga, Some(Who::Service(self.model.called(call).service.clone())), text, false);
        }
    }

    /// A step tells others what it did.
    fn told(&mut self, told: &Told) {
        let call = Call::of(&told.attempt, &self.model.definition);
        self.check_told(call, told);
        Arc::make_mut(&mut self.world.told).push(call);
        if self.world.tape.is_some() {
            let step = &self.model.definition.steps[call.place.index()].id;
            let what = if call.side == Side::Action { "done" } else { "undone" };
            self.say(Who::Saga, None, format!("tells `{}` that `{step}` is {what}", told.topic), false);
        }
    }

    /// Messages that nothing can follow from any more are forgotten, once that is seen.
    pub(super) fn forget_what_is_settled(&mut self) {
        let mut at = 0;
        while let Some(message) = self.world.overdue.get(at).copied() {
            if self.matters(message) {
                at += 1;
            } else {
                self.world.overdue.remove(at);
            }
        }
    }

    fn matters(&self, message: Overdue) -> bool {
        let Overdue { call, epoch, answer } = message;
        let (step, book) = (call.place.status(&self.world.state), self.world.book(call.place));
        let is_live = step.and_then(|step| step.live_operation()) == Some(call.side.operation()) && !self.world.state.phase.is_at_rest();
        let may_work = answer.is_none() && book.answer(call.side).is_none() && !(call.side == Side::Action && book.barred);
        if is_live || may_work {
            return true;
        }
        let Some(done) = answer.or(book.answer(call.side)) else { return false };
        let outcome = match done {
            true => CallOutcome::Succeeded { output: self.model.output(call.place) },
            false => CallOutcome::Refused { failure: failure("REFUSED", "the participant refused") },
        };
        let input = Input::Reply { attempt: self.attempt(call, epoch), outcome, note: None, branch_address: None };
        let model = self.model;
        let decided = model.subject.decides.decide(&model.definition, &self.world.state, input, self.world.now_ms);
        decided.is_ok_and(|decision| !decision.events.is_empty() || !decision.commands.is_empty())
    }
}
