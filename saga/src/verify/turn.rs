//! One move, made: on a copy of the world, with what is found to be wrong on the way.

use super::book::Habit;
use super::call::{Call, Place, Side};
use super::model::{Model, START_MS};
use super::moves::Move;
use super::property::{Property, Tried, Wrong};
use super::tape::{Line, Who};
use super::words;
use super::world::{Flight, Overdue, Way, World};
use crate::definition::StepKind;
use crate::protocol::saga::{InstanceState, Phase, SagaEvent};
use crate::protocol::{By, Command, Decision, HandOut, Input, Recorded, Signal, Verb, codes};
use sagamq_api::saga::{AttemptId, CallOutcome, Failure, SagaVerb};
use std::sync::Arc;
use uuid::Uuid;
use xxhash_rust::xxh3::xxh3_64;

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
    let input = Input::Start { key, generation: 1, input: model.subject.sample.input.clone(), cluster: Uuid::nil() };
    turn.tell(input);
    After { world: turn.world, wrong: turn.wrong }
}

impl Turn<'_> {
    fn take(&mut self, step: Move) -> Option<()> {
        let is_fault = step.is_fault();
        match step {
            Move::Serve(call) => {
                let flight = self.queued(call)?;
                self.hand_out(call);
                let done = self.world.book(call.place).habit(call.side) != Habit::Refuses && self.work(call);
                self.world.flight_mut(call)?.way = Way::Answered { done };
                let text = self.served(call, flight.epoch, done);
                self.say_by(call, text, false);
            }
            Move::Hear(call) => {
                let flight = *self.world.flight(call)?;
                let Way::Answered { done } = flight.way else { return None };
                self.world.flights.retain(|flight| flight.call != call);
                self.hear(call, flight.epoch, done, "");
            }
            Move::Look => {
                self.note_time();
                let input = self.timer();
                self.tell(input);
            }
            Move::Wait => self.wait()?,
            Move::Signal { place, is_early } => self.signal(place, is_early)?,
            Move::Arrive { call, epoch, is_reply } => self.arrive(call, epoch, is_reply)?,
            Move::Refuse(call) => self.refuse(call)?,
            Move::LoseCall(call) => {
                let epoch = self.queued(call)?.epoch;
                self.hand_out(call);
                self.world.flight_mut(call)?.way = Way::Lost;
                self.world.keep(Overdue { call, epoch, answer: None });
                self.say_to(call, format!("{} does not arrive in time", words::attempt(self.model, call, epoch)));
            }
            Move::LoseReply(call) => {
                let flight = *self.world.flight(call)?;
                let Way::Answered { done } = flight.way else { return None };
                self.world.flight_mut(call)?.way = Way::Lost;
                self.world.keep(Overdue { call, epoch: flight.epoch, answer: Some(done) });
                let text = format!("the answer to {} does not arrive in time", words::attempt(self.model, call, flight.epoch));
                self.say_by(call, text, true);
            }
            Move::Silence { call, ran } => {
                let epoch = self.queued(call)?.epoch;
                self.hand_out(call);
                self.world.book_mut(call.place).set_habit(call.side, Habit::Silent);
                let done = ran && self.work(call);
                self.world.flight_mut(call)?.way = Way::Lost;
                let what = if done { "is done, but no answer to any attempt comes back" } else { "is never done, and never answered" };
                self.say_by(call, format!("{} {what}", words::attempt(self.model, call, epoch)), true);
            }
            Move::NotSent(call) => {
                let epoch = self.queued(call)?.epoch;
                self.say_to(call, "cannot be connected to; the call waits".to_owned());
                let failure = failure(codes::NOT_SENT, "the participant cannot be connected to");
                self.tell(Input::NotSent { attempt: self.attempt(call, epoch), failure });
            }
            Move::Repeat(call) => {
                let done = self.world.book(call.place).answer(call.side)?;
                let epoch = self.world.state.steps[call.place.index()].progress(call.side.operation()).epoch;
                if epoch == 0 || self.world.flight(call).is_some() {
                    return None;
                }
                self.hear(call, epoch, done, "once more, ");
            }
            Move::Queued(call) => {
                self.queued(call)?;
                let (_, open) = Model::open(&self.world.state, call)?;
                self.pass_time(open.queue_deadline_ms?);
                self.say_to(call, format!("{} lies in its queue until its time there is over", call.name(&self.model.definition)));
                let input = self.timer();
                self.tell(input);
            }
            Move::Crash => self.crash(),
            Move::Cancel => {
                self.say(Who::Operator, Some(Who::Saga), "cancels the saga".to_owned(), is_fault);
                self.tell(Input::Operate { verb: Verb::Saga(SagaVerb::Cancel), by: By::default() });
            }
            Move::TimeOut => {
                self.pass_time(self.world.state.timeout_at_ms?);
                self.say(
                    Who::Time,
                    Some(Who::Saga),
                    "the saga's time is over: calls have waited in their queues until now".to_owned(),
                    is_fault,
                );
                let input = self.timer();
                self.tell(input);
                self.check_timeout();
            }
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

    /// An effect was just undone.
    fn check_undo(&mut self, step: usize) {
        let model = self.model;
        // What is optional is undone alone, before what rests on it begins, and behind the pivot as well.
        if model.definition.steps[step].optional && self.world.state.phase == Phase::Running {
            return;
        }
        let id = |index: usize| model.definition.steps[index].id.as_str();
        let stands = |index: usize| self.world.books.iter().any(|(place, book)| place.index() == index && book.stands());
        if !model.dependents[step].is_empty() {
            self.tried.note(Property::Order);
        }
        let has_undo = |index: usize| model.subject.definition.steps[index].compensation.is_some();
        if let Some(&other) = model.dependents[step].iter().find(|&&other| has_undo(other) && stands(other)) {
            let what = format!("`{}` is undone while `{}`, which rests on it, is in effect", id(step), id(other));
            self.wrong.push(Wrong { property: Property::Order, what });
        }
        let steps = &model.subject.definition.steps;
        let pivots = || (0..steps.len()).filter(|&other| steps[other].kind == StepKind::Pivot);
        if pivots().next().is_some() {
            self.tried.note(Property::Pivot);
        }
        if let Some(pivot) = pivots().find(|&pivot| stands(pivot)) {
            let what = format!("`{}` is undone, and the pivot `{}` is in effect", id(step), id(pivot));
            self.wrong.push(Wrong { property: Property::Pivot, what });
        }
    }

    fn hear(&mut self, call: Call, epoch: u32, done: bool, how: &str) {
        let said = if done { "success" } else { "a refusal" };
        let text = format!("{how}{said} for {} reaches the saga", words::attempt(self.model, call, epoch));
        self.say_by(call, text, !how.is_empty());
        let outcome = match done {
            true => CallOutcome::Succeeded { output: self.model.output(call.place) },
            false => CallOutcome::Refused { failure: failure("REFUSED", "the participant refused") },
        };
        self.tell(Input::Reply { attempt: self.attempt(call, epoch), outcome, note: None, branch_address: None });
    }

    fn signal(&mut self, place: Place, is_early: bool) -> Option<()> {
        let name = self.world.state.steps[place.index()].signal.clone()?;
        self.say(Who::Operator, Some(Who::Saga), format!("sends the signal `{name}`"), is_early);
        let payload = self.model.output(place);
        self.tell(Input::Signal(Box::new(Signal { name, id: None, payload, by: By::default() })));
        Some(())
    }

    fn arrive(&mut self, call: Call, epoch: u32, is_reply: bool) -> Option<()> {
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

    fn refuse(&mut self, call: Call) -> Option<()> {
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

    fn crash(&mut self) {
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

    fn wait(&mut self) -> Option<()> {
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
        self.note_time();
        let input = self.timer();
        self.tell(input);
        self.check_timeout();
        Some(())
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

    fn check_timeout(&mut self) {
        let state = &self.world.state;
        let is_over = state.timeout_at_ms.is_some_and(|at_ms| at_ms <= self.world.now_ms);
        if state.phase == Phase::Running && is_over {
            let what = "the saga's time is over before its pivot, and nothing follows from it".to_owned();
            self.wrong.push(Wrong { property: Property::Timeout, what });
        }
        if self.model.definition.timeout.is_some() {
            self.tried.note(Property::Timeout);
        }
    }

    /// Tells the instance, and puts what it orders on its way.
    fn tell(&mut self, input: Input) {
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
            if let Command::Call(command) = command {
                let call = Call::of(&command.call.attempt, &model.definition);
                self.send(call, command.call.attempt.epoch, command.call.arguments.as_str());
            }
        }
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

    /// Folding the events gives the same state.
    fn check_restart(&mut self, events: &[Recorded<SagaEvent>], state: &InstanceState) {
        let mut folded = self.world.state.as_ref().clone();
        let illegal = events.iter().find_map(|recorded| folded.apply(&recorded.event, recorded.at_ms).err());
        let what = match illegal {
            Some(illegal) => format!("its events cannot be read back: {illegal}"),
            None if folded != *state => "folding its events gives another state".to_owned(),
            None => return,
        };
        self.wrong.push(Wrong { property: Property::Restart, what });
    }

    fn check_expressions(&mut self, events: &[Recorded<SagaEvent>]) {
        let is_of_expressions = |failure: &Failure| {
            matches!(failure.code.as_str(), codes::EXPRESSION_FAILED | codes::PAYLOAD_TOO_LARGE | codes::CONDITION_FAILED)
        };
        for recorded in events {
            let failure = match &recorded.event {
                SagaEvent::StepCalled { .. } => {
                    self.tried.note(Property::Expressions);
                    None
                }
                SagaEvent::StepFailed { attempt, failure } if attempt.epoch == 0 && is_of_expressions(failure) => Some(failure),
                SagaEvent::StepCompensationFailed { attempt, failure } if attempt.epoch == 0 => Some(failure),
                SagaEvent::SagaCompleted { failure: Some(failure), .. } => Some(failure),
                _ => None,
            };
            if let Some(failure) = failure {
                self.wrong.push(Wrong { property: Property::Expressions, what: failure.message.clone() });
            }
        }
    }

    /// Messages that nothing can follow from any more are forgotten, once that is seen.
    fn forget_what_is_settled(&mut self) {
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
        let (step, book) = (&self.world.state.steps[call.place.index()], self.world.book(call.place));
        let is_live = step.live_operation() == Some(call.side.operation()) && !self.world.state.phase.is_at_rest();
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

    fn served(&self, call: Call, epoch: u32, done: bool) -> String {
        let attempt = words::attempt(self.model, call, epoch);
        let book = self.world.book(call.place);
        match (call.side, done) {
            (Side::Action, true) => format!("does {attempt}"),
            (Side::Undo, true) if book.ran => format!("does {attempt}: `{}` is undone", self.model.definition.steps[call.place.index()].id),
            (Side::Undo, true) => format!("does {attempt}: there is nothing to undo, and the action is barred"),
            (_, false) => format!("refuses {attempt}"),
        }
    }

    fn note_time(&mut self) {
        self.say(Who::Time, Some(Who::Saga), "time passes".to_owned(), false);
    }

    fn say_by(&mut self, call: Call, text: String, is_fault: bool) {
        if self.world.tape.is_some() {
            let service = self.model.called(call).service.clone();
            self.say(Who::Service(service), Some(Who::Saga), text, is_fault);
        }
    }

    fn say_to(&mut self, call: Call, text: String) {
        if self.world.tape.is_some() {
            let service = self.model.called(call).service.clone();
            self.say(Who::Saga, Some(Who::Service(service)), text, true);
        }
    }

    fn say(&mut self, from: Who, to: Option<Who>, text: String, is_fault: bool) {
        let at_ms = self.world.now_ms - START_MS;
        if let Some(tape) = &mut self.world.tape {
            tape.push(Line { at_ms, from, to, text, is_fault });
        }
    }
}

fn failure(code: &str, message: &str) -> Failure {
    Failure { code: code.to_owned(), message: message.to_owned() }
}
