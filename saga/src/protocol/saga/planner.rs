//! The working state of one decision: events are applied as they are decided, so that each rule sees what the rules before it did.

use super::call::{call_command, check_compensation, render_arguments};
use super::event::SagaEvent;
use super::place::Place;
use super::state::InstanceState;
use crate::definition::{self, Definition, RetryPolicy};
use crate::expression::metered_until;
use crate::protocol::codes;
use crate::protocol::decision::{Command, Decision, Recorded};
use crate::protocol::pause::{ASKED_PAUSE_MIN, PAUSE_MAX, millis, pause_ms};
use core::time::Duration;
use sagamq_api::limits::SAGA_EVENTS_MAX;
use sagamq_api::saga::{AttemptId, Failure, Operation, StepAttempt, StepState};

pub(super) struct Planner<'a> {
    pub(super) definition: &'a Definition,
    pub(super) state: InstanceState,
    pub(super) now_ms: u64,
    pub(super) jitter: &'a mut dyn FnMut() -> f64,
    pub(super) events: Vec<Recorded<SagaEvent>>,
    pub(super) commands: Vec<Command>,
    /// The steps that fan out.
    fans: Vec<usize>,
    /// Those of them that have succeeded with this decision, or were undone, as a whole.
    pub(super) wholes: Vec<(usize, Operation)>,
    /// The rerun that is decided with it.
    pub(super) next: Option<Box<Decision<InstanceState, SagaEvent>>>,
}

impl<'a> Planner<'a> {
    pub(super) fn new(definition: &'a Definition, state: &InstanceState, now_ms: u64, jitter: &'a mut dyn FnMut() -> f64) -> Self {
        let (events, commands, wholes) = (Vec::new(), Vec::new(), Vec::new());
        let fans = (0..state.steps.len()).filter(|index| state.steps[*index].max_parallel.is_some()).collect();
        Self { definition, state: state.clone(), now_ms, jitter, events, commands, fans, wholes, next: None }
    }

    pub(super) fn finish(self, duplicate: bool) -> Decision<InstanceState, SagaEvent> {
        Decision { events: self.events, commands: self.commands, state: self.state, duplicate, forced: true, next: self.next }
    }

    /// Decides an event: it is applied at once.
    pub(super) fn emit(&mut self, event: SagaEvent) {
        let before: Vec<StepState> = self.fans.iter().map(|index| self.state.steps[*index].state).collect();
        self.state.apply(&event, self.now_ms).expect("the protocol decides legal events only, and none leads to an impossible state");
        // What was taken over, or is to be undone once more, is as it was when it was told.
        let was_told = matches!(event, SagaEvent::StepCopied { .. } | SagaEvent::StepRetried { .. });
        for (index, before) in self.fans.iter().zip(before).filter(|_| !was_told) {
            match self.state.steps[*index].state {
                after if after == before => {}
                StepState::Succeeded => self.wholes.push((*index, Operation::Action)),
                StepState::Compensated => self.wholes.push((*index, Operation::Compensation)),
                _ => {}
            }
        }
        self.events.push(Recorded { at_ms: self.now_ms, event });
    }

    /// The current or last attempt of an operation; epoch 0 if there was none.
    pub(super) fn attempt(&self, place: Place, operation: Operation) -> StepAttempt {
        self.state.attempt_at(place, operation)
    }

    /// The same, as those outside name it.
    pub(super) fn attempt_id(&self, place: Place, operation: Operation) -> AttemptId {
        self.attempt(place, operation).of(self.state.caller(place.step, operation))
    }

    /// The attempt that a participant's last word answers: the current one or an older one.
    pub(super) fn answered(&self, place: Place, operation: Operation, epoch: u32) -> StepAttempt {
        StepAttempt { epoch, ..self.attempt(place, operation) }
    }

    /// The time that is this much later than now, in milliseconds since 1970.
    pub(super) fn after(&self, pause: Duration) -> u64 {
        self.now_ms.saturating_add(millis(pause))
    }

    fn call_of(&self, place: Place, operation: Operation) -> &'a definition::Call {
        self.definition.steps[place.step].call(operation)
    }

    pub(super) fn policy(&self, place: Place, operation: Operation) -> &'a RetryPolicy {
        &self.call_of(place, operation).retry
    }

    /// What an operator did in place of a sub-saga, or of items, that nobody ever asked for is not undone by asking somebody.
    fn require_called(&self, place: Place, compensation: &definition::Call) -> Result<(), Failure> {
        let has_items = self.state.steps[place.step].max_parallel.is_some();
        let has_child = || compensation.sub_saga().is_none() || self.state.child_call(place.step).is_some();
        let was_called = if has_items { place.item.is_some() } else { has_child() };
        if was_called {
            return Ok(());
        }
        let message = "an operator said that it was done when nothing had been called for it, so it is undone by hand".to_owned();
        Err(Failure { code: codes::DONE_BY_HAND.to_owned(), message })
    }

    /// Starts the next attempt: writes the intent and orders the call. On an error nothing is decided.
    pub(super) fn start_attempt(&mut self, place: Place, operation: Operation) -> Result<(), Failure> {
        let call = self.call_of(place, operation);
        let last = self.attempt(place, operation);
        let attempt = StepAttempt { epoch: last.epoch + 1, ..last };
        if operation == Operation::Compensation {
            self.require_called(place, call)?;
        }
        // A sub-saga takes as long as it takes.
        let deadline_ms = if call.sub_saga().is_some() { u64::MAX } else { self.after(call.timeout) };
        let queue_timeout = self.definition.steps[place.step].queue_timeout.filter(|_| operation == Operation::Action);
        let queue_deadline_ms = queue_timeout.map(|timeout| self.after(timeout));
        let render = || render_arguments(self.definition, &self.state, place, operation);
        let arguments = match self.state.at(place).progress(operation).arguments {
            Some(_) => None,
            None if operation == Operation::Action => {
                check_compensation(self.definition, &self.state, place)?;
                Some(render()?)
            }
            // What is begun must not fail because of what else is decided with it: it has a budget of its own, and no time that others use up.
            None => Some(metered_until(None, render)?),
        };
        self.emit(SagaEvent::StepCalled { attempt, deadline_ms, queue_deadline_ms, arguments });
        let command = call_command(self.definition, &self.state, place, operation);
        self.commands.extend(command.map(|command| Command::Call(Box::new(command))));
        Ok(())
    }

    /// The attempt in progress is over: its command must not reach a participant any more.
    pub(super) fn settle_command(&mut self, place: Place, operation: Operation) {
        self.settle(place, operation, false);
    }

    /// As [`Planner::settle_command`], if it was never handed out; else nothing of this decision may happen.
    pub(super) fn settle_unseen_command(&mut self, place: Place, operation: Operation) {
        self.settle(place, operation, true);
    }

    fn settle(&mut self, place: Place, operation: Operation, unseen: bool) {
        if self.state.at(place).progress(operation).attempt.is_open() {
            let target = self.call_of(place, operation).target.clone();
            self.commands.push(Command::Settle { attempt: self.attempt_id(place, operation), target, unseen });
        }
    }

    /// The attempt failed and another one follows.
    pub(super) fn retry_later(&mut self, place: Place, operation: Operation, failure: Failure, refused: bool, retry_after_ms: Option<u64>) {
        let attempt = self.attempt(place, operation);
        let spent = self.state.at(place).progress(operation).spent();
        let backoff_ms = pause_ms(self.policy(place, operation), spent, self.state.head.events, retry_after_ms, self.jitter);
        let retry_at_ms = self.now_ms.saturating_add(backoff_ms);
        self.settle_command(place, operation);
        self.emit(SagaEvent::StepAttemptFailed { attempt, failure, refused, retry_at_ms });
    }

    /// The attempt failed, and another one follows only if an operator wants it: it is in doubt, and another one would be another effect.
    pub(super) fn hold(&mut self, place: Place, operation: Operation, failure: Failure) {
        let attempt = self.attempt(place, operation);
        self.settle_command(place, operation);
        self.emit(SagaEvent::StepAttemptFailed { attempt, failure, refused: false, retry_at_ms: u64::MAX });
    }

    /// Whether another attempt is allowed by the policy after this failure.
    pub(super) fn may_retry(&self, place: Place, operation: Operation, failure: &Failure) -> bool {
        let policy = self.policy(place, operation);
        self.state.at(place).progress(operation).spent() < policy.attempts && !policy.never_on.contains(&failure.code)
    }

    /// Events after which an instance that can be compensated must be: each effect still needs room for its compensation.
    pub(super) fn has_too_many_events(&self) -> bool {
        self.state.head.events + self.room_to_undo() >= SAGA_EVENTS_MAX
    }

    /// Events that are kept free for undoing: an item's compensation is called and done, a step's may fail once as well.
    pub(super) fn room_to_undo(&self) -> u64 {
        let steps = &self.state.steps;
        let items = steps.iter().filter(|step| step.has_compensation).filter_map(|step| step.fan.as_ref()).map(|fan| fan.len() as u64);
        4 * steps.len() as u64 + 16 + 2 * items.sum::<u64>()
    }

    /// The participant works on; only its first word of this in an attempt is news. When it says so, it is asked again.
    pub(super) fn on_ongoing(&mut self, place: Place, operation: Operation, retry_after_ms: Option<u64>) {
        let Some(open) = self.state.at(place).progress(operation).attempt.open() else { return };
        if !open.is_waiting {
            self.emit(SagaEvent::StepOngoing { attempt: self.attempt(place, operation) });
        }
        if let Some(asked_ms) = retry_after_ms {
            let due_ms = self.now_ms.saturating_add(asked_ms.clamp(millis(ASKED_PAUSE_MIN), millis(PAUSE_MAX)));
            let (attempt, target) = (self.attempt_id(place, operation), self.call_of(place, operation).target.clone());
            self.commands.push(Command::Postpone { attempt, target, due_ms });
        }
    }
}
