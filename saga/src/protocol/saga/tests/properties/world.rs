//! The world of one run: the saga, its participants, the messages between them, and time.

use super::super::fixture::*;
use super::books::{Books, FATES, Fate};
use super::graph::{SIGNALS, random_definition};
use crate::definition::StepKind;
use crate::protocol::saga::{InstanceState, Phase, SagaEvent, open_calls};
use crate::protocol::{By, Command, HandOut, Input, Rejection, Verb};
use sagamq_api::JsonText;
use sagamq_api::saga::{AttemptId, Call, CallOutcome, SagaVerb};
use sagamq_broker::env::Random;
use serde_json::json;

#[derive(Clone, Debug, PartialEq)]
enum Message {
    Call(Box<Call>),
    Reply { call: Box<Call>, outcome: CallOutcome },
}

/// One run, with all that takes part in it.
pub(in crate::protocol::saga::tests) struct World {
    pub(super) run: Run,
    /// Of each step one, or one for each of its items.
    pub(super) books: Vec<Vec<Books>>,
    messages: Vec<Message>,
    pub(super) random: Random,
    chaos: f64,
    /// Words that come at any later time.
    late: Vec<(Call, CallOutcome)>,
    /// Calls that were handed out, with the time: the queue's marks.
    handed_out: Vec<(AttemptId, u64)>,
    /// Whether the participants are away: nothing is handed out.
    away: bool,
    /// How often an operator meddles.
    pub(super) meddling: f64,
    /// The instances that were rerun, with the books of what they have done themselves and not handed over.
    pub(super) past: Vec<(Run, Vec<Vec<Books>>)>,
    /// What was signalled: the names and the ids, which are the payloads too.
    pub(super) signalled: Vec<(&'static str, u64)>,
}

impl World {
    pub(in crate::protocol::saga::tests) fn new(steps: usize, has_pivot: bool, chaos: f64, meddling: f64, seed: u64) -> Self {
        let mut random = Random::from_seed(seed);
        let definition = random_definition(steps, has_pivot, &mut random);
        let books = definition.steps.iter().map(|step| Books::of(step, &mut random)).collect();
        let run = Run::start(definition);
        let (late, handed_out) = (Vec::new(), Vec::new());
        let mut world = Self {
            run,
            books,
            messages: Vec::new(),
            random,
            chaos,
            late,
            handed_out,
            away: false,
            meddling,
            past: Vec::new(),
            signalled: Vec::new(),
        };
        world.take_commands();
        world
    }

    pub(super) fn take_commands(&mut self) {
        let is_silent = self.run.state.is_paused() || self.run.state.phase == Phase::Terminated;
        for command in core::mem::take(&mut self.run.commands) {
            match command {
                Command::Call(command) => {
                    assert!(!is_silent, "nobody is called while it is paused, and never after it was terminated");
                    self.check_call(&command);
                    self.messages.push(Message::Call(Box::new(command.call)));
                }
                // Delivered again: the participants hold their books, so that is only another call.
                Command::Postpone { .. } | Command::Lock { .. } | Command::Tell(_) | Command::Relate(_) => {}
                Command::Settle { attempt, .. } => self.messages.retain(|message| match message {
                    Message::Call(call) => call.attempt != attempt,
                    Message::Reply { .. } => true,
                }),
            }
        }
    }

    /// One thing happens. Returns false when nothing can happen any more.
    pub(super) fn happen(&mut self) -> bool {
        if self.random.fraction() < 0.05 {
            self.restart();
        }
        if self.random.fraction() < 0.01 && self.run.input(Input::Operate { verb: Verb::Saga(SagaVerb::Cancel), by: By::default() }).is_ok()
        {
            self.take_commands();
        }
        if self.random.fraction() < self.meddling {
            self.meddle();
        }
        if self.random.fraction() < 0.02 {
            self.away = !self.away;
        }
        if self.random.fraction() < 0.1 {
            self.send_signal();
        }
        if self.random.fraction() < 0.1
            && let Some((call, outcome)) = self.late.pop()
        {
            self.messages.push(Message::Reply { call: Box::new(call), outcome });
        }
        let is_stuck = self.away && self.messages.iter().all(|message| matches!(message, Message::Call(_)));
        let ticks = self.messages.is_empty() || is_stuck || self.random.fraction() < 0.15;
        if ticks && let Some(look_ms) = self.next_look_ms() {
            self.run.now_ms = look_ms;
            self.look();
            return true;
        }
        if self.messages.is_empty() {
            self.messages.extend(self.late.pop().map(|(call, outcome)| Message::Reply { call: Box::new(call), outcome }));
            if self.messages.is_empty() && self.run.state.is_paused() {
                self.operate(SagaVerb::Resume);
                return true;
            }
            if self.messages.is_empty() && self.run.state.steps.iter().any(|step| step.action.attempt.is_asleep()) {
                // Nothing else can happen: somebody sends what it waits for, sooner or later.
                self.send_signal();
                return true;
            }
            return !self.messages.is_empty();
        }
        let at = usize::try_from(self.random.next_u64() % self.messages.len() as u64).expect("an index");
        match self.messages.swap_remove(at) {
            call @ Message::Call(_) if self.away => self.messages.push(call),
            Message::Call(call) => {
                self.handed_out.push((call.attempt.clone(), self.run.now_ms));
                self.deliver(&call);
            }
            Message::Reply { call, outcome } => self.answer(&call, outcome),
        }
        true
    }

    /// Somebody sends a signal, a new one or one that was sent before, to a saga that waits for it or not.
    fn send_signal(&mut self) {
        let random = &mut self.random;
        let again = random.next_u64().checked_rem(self.signalled.len() as u64).filter(|_| random.fraction() < 0.3);
        let known = again.and_then(|at| self.signalled.get(usize::try_from(at).expect("an index")).copied());
        let (name, number) = known.unwrap_or_else(|| (SIGNALS[usize::from(random.fraction() < 0.5)], self.signalled.len() as u64));
        let before = self.run.state.clone();
        let answer = self.run.signal(name, Some(&number.to_string()), json!(number));
        match answer {
            Ok(is_duplicate) => {
                assert_eq!(is_duplicate, known.is_some(), "it is the same by its id, whatever has become of the saga");
                if !is_duplicate {
                    self.signalled.push((name, number));
                }
                self.take_commands();
                let other = self.run.signal(name, Some(&number.to_string()), json!("another"));
                assert_eq!(other, Err(Rejection::SignalIdTaken(number.to_string())));
            }
            Err(rejection) => {
                assert!(known.is_none(), "what was taken is known: {rejection}");
                assert_eq!(self.run.state, before, "what is refused changes nothing");
            }
        }
    }

    /// When the lane would look at the instance.
    fn next_look_ms(&self) -> Option<u64> {
        let (state, now_ms) = (&self.run.state, self.run.now_ms);
        if state.is_due(now_ms) && self.run.history.last().is_none_or(|last| last.at_ms == now_ms) {
            return Some(now_ms);
        }
        state.next_look_ms(now_ms).map(|at_ms| at_ms.max(now_ms + 1))
    }

    /// Time passes, with what the queue's marks say.
    fn look(&mut self) {
        let known = |call: &AttemptId| {
            self.handed_out.iter().find(|(seen, _)| seen == call).map_or(HandOut::Never, |(_, at_ms)| HandOut::At(*at_ms))
        };
        let hand_outs = self
            .run
            .state
            .unseen_calls()
            .into_iter()
            .map(|call| {
                let hand_out = known(&call);
                (call, hand_out)
            })
            .collect();
        self.run.input(Input::Timer { hand_outs }).expect("time always passes");
        for command in &self.run.commands {
            if let Command::Settle { attempt, unseen: true, .. } = command {
                assert!(!self.handed_out.iter().any(|(seen, _)| seen == attempt), "what was handed out is not settled as unseen");
            }
        }
        self.take_commands();
    }

    fn deliver(&mut self, call: &Call) {
        let index = self.run.state.step_index(&call.attempt.step).expect("a step of the definition");
        let step = &self.run.definition.steps[index];
        let is_retriable = step.kind == StepKind::Retriable && !step.optional;
        let fate = if self.random.fraction() < self.chaos {
            FATES[usize::try_from(self.random.next_u64() % FATES.len() as u64).expect("an index")]
        } else {
            Fate::Answered
        };
        let mut reply = |outcome| self.messages.push(Message::Reply { call: Box::new(call.clone()), outcome });
        let books = &mut self.books[index][call.attempt.item.map_or(0, |item| item.0 as usize)];
        match fate {
            Fate::Answered => reply(books.act(call, is_retriable)),
            Fate::AnsweredTwice => {
                let outcome = books.act(call, is_retriable);
                reply(outcome.clone());
                reply(outcome);
            }
            Fate::LostBefore => {}
            Fate::LostAfter => drop(books.act(call, is_retriable)),
            Fate::UnknownBefore => reply(unknown()),
            Fate::UnknownAfter => {
                let _ = books.act(call, is_retriable);
                reply(unknown());
            }
            Fate::AnsweredLate => {
                reply(unknown());
                let outcome = books.act(call, is_retriable);
                self.late.push((call.clone(), outcome));
            }
            Fate::AnsweredAtLength => match books.act(call, is_retriable) {
                CallOutcome::Succeeded { .. } => reply(CallOutcome::Succeeded { output: JsonText::null() }),
                other => reply(other),
            },
            Fate::Ongoing => {
                reply(CallOutcome::Ongoing { retry_after_ms: None });
                reply(books.act(call, is_retriable));
            }
        }
    }

    fn answer(&mut self, call: &Call, outcome: CallOutcome) {
        let reply = Input::Reply { attempt: call.attempt.clone(), outcome, note: None, branch_address: None };
        let was_at_rest = self.run.state.phase.is_at_rest();
        let before = self.run.history.len();
        match self.run.input(reply.clone()) {
            Ok(_) => {
                let is_unblocked = self.run.history[before..].iter().any(|recorded| recorded.event == SagaEvent::SagaUnblocked);
                let is_quiet = self.run.commands.is_empty() && self.run.history.len() == before;
                assert!(!was_at_rest || is_quiet || is_unblocked, "nothing follows the end but the late success of what blocked");
                self.take_commands();
                let after = self.run.history.len();
                // At once again: applied already, or fenced because it started the next attempt; never applied twice.
                assert!(matches!(self.run.input(reply), Ok(true) | Err(Rejection::Fenced { .. })));
                assert_eq!(self.run.history.len(), after);
            }
            Err(Rejection::Fenced { .. }) => {}
            Err(other) => panic!("a reply was rejected: {other}"),
        }
    }

    /// A crash: the state is folded again, and calls in progress are made again.
    pub(super) fn restart(&mut self) {
        let mut folded = InstanceState::new(self.run.state.head.id, &self.run.definition);
        for event in &self.run.history {
            folded.apply(&event.event, event.at_ms).expect("a history can be replayed");
            folded.check().expect("no state of it is impossible");
        }
        assert_eq!(folded, self.run.state, "the fold is the state");
        self.check_sleeps();
        self.run.state = folded;
        for command in open_calls(&self.run.definition, &self.run.state) {
            // A command record is in its topic still; a call over HTTP that may have been sent is made again.
            let call = Message::Call(Box::new(command.call));
            if !self.messages.contains(&call) {
                self.messages.push(call);
            }
        }
    }

    pub(in crate::protocol::saga::tests) fn run_to_the_end(&mut self) {
        for round in 0..40_000 {
            // An outage ends at last.
            self.away = self.away && round < 2_000;
            if !self.happen() {
                break;
            }
        }
        assert!(self.run.state.phase.is_at_rest(), "the saga ends: {:?}", self.run.state);
        assert!(self.messages.is_empty(), "late messages were delivered as well");
        self.restart();
        self.check_books();
        if self.meddling > 0.0 && self.run.state.phase == Phase::Blocked {
            self.mend();
        }
    }

    /// Where the instance is; of reruns the last one.
    pub(in crate::protocol::saga::tests) const fn phase(&self) -> Phase {
        self.run.state.phase
    }
}
