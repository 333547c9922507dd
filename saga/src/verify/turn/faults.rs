//! What goes wrong: refusals, messages that are lost, doubled or too late, crashes, and whoever wants it to end.

use super::{Turn, failure};
use crate::definition::StepKind;
use crate::protocol::lock::LockSaid;
use crate::protocol::{By, Input, Verb, codes};
use crate::verify::book::Habit;
use crate::verify::call::{Call, Place, Side};
use crate::verify::model::{Model, held_lock};
use crate::verify::property::Property;
use crate::verify::tape::Who;
use crate::verify::words;
use crate::verify::world::{Overdue, Way};
use sagamq_api::saga::{CallOutcome, SagaVerb};

impl Turn<'_> {
    pub(super) fn refuse(&mut self, call: Call) -> Option<()> {
        let flight = self.queued(call)?;
        let is_past = self.world.state.is_past_pivot();
        let step = &self.model.definition.steps[call.place.index()];
        let is_forward_only = !step.optional && (step.kind == StepKind::Retriable || is_past);
        self.hand_out(call);
        let book = self.world.book_mut(call.place);
        let how = match call.side {
            Side::Undo => {
                book.undo = Habit::Refuses;
                "refuses it, now and ever after"
            }
            // The guides say: what must succeed is not refused for good.
            Side::Action if is_forward_only => "refuses it this time",
            Side::Action if book.ran || book.barred => return None,
            Side::Action => {
                book.refused = true;
                "refuses it"
            }
        };
        self.world.flight_mut(call)?.way = Way::Answered { done: false };
        self.say_by(call, format!("{how}: {}", words::attempt(self.model, call, flight.epoch)), true);
        Some(())
    }

    pub(super) fn lose_call(&mut self, call: Call) -> Option<()> {
        let epoch = self.queued(call)?.epoch;
        self.hand_out(call);
        self.world.flight_mut(call)?.way = Way::Lost;
        self.world.keep(Overdue { call, epoch, answer: None });
        self.say_to(call, format!("{} does not arrive in time", words::attempt(self.model, call, epoch)));
        Some(())
    }

    pub(super) fn lose_reply(&mut self, call: Call) -> Option<()> {
        let flight = *self.world.flight(call)?;
        let Way::Answered { done } = flight.way else { return None };
        self.world.flight_mut(call)?.way = Way::Lost;
        self.world.keep(Overdue { call, epoch: flight.epoch, answer: Some(done) });
        let text = format!("the answer to {} does not arrive in time", words::attempt(self.model, call, flight.epoch));
        self.say_by(call, text, true);
        Some(())
    }

    pub(super) fn silence(&mut self, call: Call, ran: bool) -> Option<()> {
        let epoch = self.queued(call)?.epoch;
        self.hand_out(call);
        self.world.book_mut(call.place).set_habit(call.side, Habit::Silent);
        let done = ran && self.work(call);
        if self.model.is_sub_saga(call) {
            return self.end_as_it_is(call, epoch, done);
        }
        self.world.flight_mut(call)?.way = Way::Lost;
        let what = if done { "is done, but no answer to any attempt comes back" } else { "is never done, and never answered" };
        self.say_by(call, format!("{} {what}", words::attempt(self.model, call, epoch)), true);
        Some(())
    }

    /// An operator ends a sub-saga: what it did stands, and it is not undone any more.
    fn end_as_it_is(&mut self, call: Call, epoch: u32, done: bool) -> Option<()> {
        self.world.book_mut(call.place).set_habit(Side::Undo, Habit::Refuses);
        self.world.flights.retain(|flight| flight.call != call);
        let what = if done { "after it has done its work" } else { "before it has done anything" };
        self.say_by(call, format!("{} is ended by an operator, {what}", words::attempt(self.model, call, epoch)), true);
        let failure = failure(codes::CHILD_TERMINATED, "an operator ended the sub-saga as it was: what it did may stand");
        let outcome = CallOutcome::Unknown { failure, retry_after_ms: None };
        self.tell(Input::Reply { attempt: self.attempt(call, epoch), outcome, note: None, branch_address: None });
        Some(())
    }

    pub(super) fn not_sent(&mut self, call: Call) -> Option<()> {
        let epoch = self.queued(call)?.epoch;
        let (says, why) = match self.model.is_sub_saga(call) {
            // The refusal is an answer, and another attempt follows.
            true => ("has no room for it; it is asked for again later", "the disk has too little room to start it"),
            false => ("cannot be connected to; the call waits", "the participant cannot be connected to"),
        };
        self.say_to(call, says.to_owned());
        let failure = failure(codes::NOT_SENT, why);
        self.tell(Input::NotSent { attempt: self.attempt(call, epoch), failure, was_never_sent: false });
        Some(())
    }

    pub(super) fn repeat(&mut self, call: Call) -> Option<()> {
        let done = self.world.book(call.place).answer(call.side)?;
        let epoch = call.place.status(&self.world.state)?.progress(call.side.operation()).epoch;
        if epoch == 0 || self.world.flight(call).is_some() {
            return None;
        }
        self.hear(call, epoch, done, "once more, ");
        Some(())
    }

    /// The call lies in its queue until its time there is over.
    pub(super) fn leave_queued(&mut self, call: Call) -> Option<()> {
        self.queued(call)?;
        let (_, open) = Model::open(&self.world.state, call)?;
        self.pass_time(open.queue_deadline_ms?);
        self.say_to(call, format!("{} lies in its queue until its time there is over", call.name(&self.model.definition)));
        let input = self.timer();
        self.tell(input);
        Some(())
    }

    /// The step does not get its lock.
    pub(super) fn deny(&mut self, place: Place) -> Option<()> {
        let (key, number) = self.claim(place)?;
        self.say(Who::Lock, Some(Who::Saga), format!("`{key}` is held by a saga that waits for this one, and this one gives way"), true);
        let failure = failure(codes::LOCK_DEADLOCK, "another saga waits for this one");
        self.tell(Input::Lock { key, number, said: LockSaid::Refused { failure } });
        Some(())
    }

    /// An operator takes the step's lock away. Nobody else works on what it guards: two sagas that meet are not played.
    pub(super) fn break_lock(&mut self, place: Place) -> Option<()> {
        let (key, token) = held_lock(&self.world.state, place.index())?;
        let number = self.world.state.claims.get(key)?.number;
        let key = key.to_owned();
        self.say(Who::Operator, Some(Who::Lock), format!("takes `{key}` away from the saga"), true);
        let said = LockSaid::Broken { token, actor: None, reason: Some("it was believed lost".to_owned()) };
        self.tell(Input::Lock { key, number, said });
        Some(())
    }

    pub(super) fn crash(&mut self) {
        let now_ms = self.world.now_ms;
        let model = self.model;
        for flight in self.world.flights.iter_mut().filter(|flight| model.is_http(flight.call)) {
            // The connection is gone, and with it the answer; the call is made again, with a run's time of its own.
            if flight.way != Way::Lost {
                (flight.way, flight.handed_ms) = (Way::Queued, Some(now_ms));
            }
        }
        self.say(Who::Saga, None, "the orchestrator dies and is started again; open HTTP calls are made again".to_owned(), true);
        self.tried.note(Property::Restart);
        self.tell(Input::Recovered);
    }

    pub(super) fn cancel(&mut self) {
        self.say(Who::Operator, Some(Who::Saga), "cancels the saga".to_owned(), true);
        self.tell(Input::Operate { verb: Verb::Saga(SagaVerb::Cancel), by: By::default() });
    }

    pub(super) fn time_out(&mut self) -> Option<()> {
        self.pass_time(self.world.state.timeout_at_ms?);
        let text = "the saga's time is over: calls have waited in their queues until now".to_owned();
        self.say(Who::Time, Some(Who::Saga), text, true);
        let input = self.timer();
        self.tell(input);
        self.check_timeout();
        Some(())
    }
}
