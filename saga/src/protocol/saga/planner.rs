//! The working state of one decision: events are applied as they are decided, so that each rule sees what the rules before it did.

use super::call::{call_command, check_compensation, render_arguments};
use super::event::SagaEvent;
use super::state::InstanceState;
use crate::definition::{self, Definition, RetryPolicy};
use crate::expression::metered_until;
use crate::protocol::decision::{Command, Decision, Recorded};
use crate::protocol::pause::{ASKED_PAUSE_MIN, PAUSE_MAX, millis, pause_ms};
use core::time::Duration;
use sagamq_api::limits::SAGA_EVENTS_MAX;
use sagamq_api::saga::{AttemptId, Failure, Operation, StepAttempt};

pub(super) struct Planner<'a> {
    pub(super) definition: &'a Definition,
    pub(super) state: InstanceState,
    pub(super) now_ms: u64,
    pub(super) jitter: &'a mut dyn FnMut() -> f64,
    pub(super) events: Vec<Recorded<SagaEvent>>,
    pub(super) commands: Vec<Command>,
    /// The rerun that is decided with it.
    pub(super) next: Option<Box<Decision<InstanceState, SagaEvent>>>,
}

impl<'a> Planner<'a> {
    pub(super) fn new(definition: &'a Definition, state: &InstanceState, now_ms: u64, jitter: &'a mut dyn FnMut() -> f64) -> Self {
        Self { definition, state: state.clone(), now_ms, jitter, events: Vec::new(), commands: Vec::new(), next: None }
    }

    pub(super) fn finish(self, duplicate: bool) -> Decision<InstanceState, SagaEvent> {
        Decision { events: self.events, commands: self.commands, state: self.state, duplicate, forced: true, next: self.next }
    }

    /// Decides an event: it is applied at once.
    pub(super) fn emit(&mut self, event: SagaEvent) {
        self.state.apply(&event, self.now_ms).expect("the protocol decides legal events only, and none leads to an impossible state");
        self.events.push(Recorded { at_ms: self.now_ms, event });
    }

    /// The current or last attempt of an operation; epoch 0 if there was none.
    pub(super) fn attempt(&self, index: usize, operation: Operation) -> StepAttempt {
        let step = &self.state.steps[index];
        StepAttempt { step: step.id.clone(), item: None, operation, epoch: step.progress(operation).epoch }
    }

    /// The same, as those outside name it.
    pub(super) fn attempt_id(&self, index: usize, operation: Operation) -> AttemptId {
        self.attempt(index, operation).of(self.state.caller(index, operation))
    }

    /// The attempt that a participant's last word answers: the current one or an older one.
    pub(super) fn answered(&self, index: usize, operation: Operation, epoch: u32) -> StepAttempt {
        StepAttempt { epoch, ..self.attempt(index, operation) }
    }

    /// The time that is this much later than now, in milliseconds since 1970.
    pub(super) fn after(&self, pause: Duration) -> u64 {
        self.now_ms.saturating_add(millis(pause))
    }

    fn call_of(&self, index: usize, operation: Operation) -> &'a definition::Call {
        self.definition.steps[index].call(operation)
    }

    pub(super) fn policy(&self, index: usize, operation: Operation) -> &'a RetryPolicy {
        &self.call_of(index, operation).retry
    }

    /// Starts the next attempt: writes the intent and orders the call. On an error nothing is decided.
    pub(super) fn start_attempt(&mut self, index: usize, operation: Operation) -> Result<(), Failure> {
        let call = self.call_of(index, operation);
        let last = self.attempt(index, operation);
        let attempt = StepAttempt { epoch: last.epoch + 1, ..last };
        // A sub-saga takes as long as it takes.
        let deadline_ms = if call.sub_saga().is_some() { u64::MAX } else { self.after(call.timeout) };
        let queue_timeout = self.definition.steps[index].queue_timeout.filter(|_| operation == Operation::Action);
        let queue_deadline_ms = queue_timeout.map(|timeout| self.after(timeout));
        let render = || render_arguments(self.definition, &self.state, index, operation);
        let arguments = match self.state.steps[index].progress(operation).arguments {
            Some(_) => None,
            None if operation == Operation::Action => {
                check_compensation(self.definition, &self.state, index)?;
                Some(render()?)
            }
            // What is begun must not fail because of what else is decided with it: it has a budget of its own.
            None => Some(metered_until(None, render)?),
        };
        self.emit(SagaEvent::StepCalled { attempt, deadline_ms, queue_deadline_ms, arguments });
        let command = call_command(self.definition, &self.state, index, operation);
        self.commands.extend(command.map(|command| Command::Call(Box::new(command))));
        Ok(())
    }

    /// The attempt in progress is over: its command must not reach a participant any more.
    pub(super) fn settle_command(&mut self, index: usize, operation: Operation) {
        self.settle(index, operation, false);
    }

    /// As [`Planner::settle_command`], if it was never handed out; else nothing of this decision may happen.
    pub(super) fn settle_unseen_command(&mut self, index: usize, operation: Operation) {
        self.settle(index, operation, true);
    }

    fn settle(&mut self, index: usize, operation: Operation, unseen: bool) {
        if self.state.steps[index].progress(operation).attempt.is_open() {
            let target = self.call_of(index, operation).target.clone();
            self.commands.push(Command::Settle { attempt: self.attempt_id(index, operation), target, unseen });
        }
    }

    /// The attempt failed and another one follows.
    pub(super) fn retry_later(&mut self, index: usize, operation: Operation, failure: Failure, refused: bool, retry_after_ms: Option<u64>) {
        let attempt = self.attempt(index, operation);
        let spent = self.state.steps[index].progress(operation).spent();
        let backoff_ms = pause_ms(self.policy(index, operation), spent, self.state.head.events, retry_after_ms, self.jitter);
        let retry_at_ms = self.now_ms.saturating_add(backoff_ms);
        self.settle_command(index, operation);
        self.emit(SagaEvent::StepAttemptFailed { attempt, failure, refused, retry_at_ms });
    }

    /// The attempt failed, and another one follows only if an operator wants it: it is in doubt, and another one would be another effect.
    pub(super) fn hold(&mut self, index: usize, operation: Operation, failure: Failure) {
        let attempt = self.attempt(index, operation);
        self.settle_command(index, operation);
        self.emit(SagaEvent::StepAttemptFailed { attempt, failure, refused: false, retry_at_ms: u64::MAX });
    }

    /// Whether another attempt is allowed by the policy after this failure.
    pub(super) fn may_retry(&self, index: usize, operation: Operation, failure: &Failure) -> bool {
        let policy = self.policy(index, operation);
        self.state.steps[index].progress(operation).spent() < policy.attempts && !policy.never_on.contains(&failure.code)
    }

    /// Events after which an instance that can be compensated must be: each effect still needs room for its compensation.
    pub(super) fn has_too_many_events(&self) -> bool {
        let room = 4 * self.state.steps.len() as u64 + 16;
        self.state.head.events >= SAGA_EVENTS_MAX - room
    }

    /// The participant works on; only its first word of this in an attempt is news. When it says so, it is asked again.
    pub(super) fn on_ongoing(&mut self, index: usize, operation: Operation, retry_after_ms: Option<u64>) {
        let Some(open) = self.state.steps[index].progress(operation).attempt.open() else { return };
        if !open.is_waiting {
            self.emit(SagaEvent::StepOngoing { attempt: self.attempt(index, operation) });
        }
        if let Some(asked_ms) = retry_after_ms {
            let due_ms = self.now_ms.saturating_add(asked_ms.clamp(millis(ASKED_PAUSE_MIN), millis(PAUSE_MAX)));
            let (attempt, target) = (self.attempt_id(index, operation), self.call_of(index, operation).target.clone());
            self.commands.push(Command::Postpone { attempt, target, due_ms });
        }
    }
}
