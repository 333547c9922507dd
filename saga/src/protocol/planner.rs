//! The working state of one decision: events are applied as they are decided, so that each rule sees what the rules before it did.

use super::codes;
use super::decide::{CallCommand, Command, Decision};
use super::event::{RecordedEvent, SagaEvent};
use super::id::lane_of;
use super::state::{InstanceState, Phase};
use super::step::Settled;
use crate::definition::{self, Definition, RetryPolicy, StepKind, Target};
use crate::expression::{Reference, RenderError, SagaScope, Scope, metered_until};
use core::time::Duration;
use sagamq_api::limits::SAGA_EVENTS_MAX;
use sagamq_api::saga::{Call, CallOutcome, Failure, Operation, StepState, call_key};
use sagamq_api::{JsonText, PartitionId, StepId};

/// Longest pause between two attempts, also one that a participant asks for: a wrong number must not put a saga to sleep for years.
const PAUSE_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Shortest wait that a participant can ask for: `Retry-After: 0` must not become a busy loop.
const ASKED_PAUSE_MIN: Duration = Duration::from_millis(100);

/// With each so many events the longest pause between two attempts doubles. A pause is then about 1/500 of an instance's age: a history
/// without an end (behind the pivot there is none) grows with the logarithm of time, and what is mended goes on in proportion.
const EVENTS_PER_DOUBLING: u64 = 1_000;

/// What the longest pause grows from at least, so that it grows for every policy.
const GROWN_PAUSE_MIN: Duration = Duration::from_secs(1);

pub(crate) struct Planner<'a> {
    pub(crate) definition: &'a Definition,
    pub(crate) state: InstanceState,
    pub(crate) now_ms: u64,
    jitter: &'a mut dyn FnMut() -> f64,
    events: Vec<RecordedEvent>,
    commands: Vec<Command>,
}

impl<'a> Planner<'a> {
    pub(crate) fn new(definition: &'a Definition, state: &InstanceState, now_ms: u64, jitter: &'a mut dyn FnMut() -> f64) -> Self {
        Self { definition, state: state.clone(), now_ms, jitter, events: Vec::new(), commands: Vec::new() }
    }

    pub(crate) fn finish(self, duplicate: bool) -> Decision {
        Decision { events: self.events, commands: self.commands, state: self.state, duplicate }
    }

    /// Decides an event: it is applied at once.
    pub(crate) fn emit(&mut self, event: SagaEvent) {
        let recorded = RecordedEvent { at_ms: self.now_ms, event };
        self.state.apply(&recorded).expect("the protocol decides legal events only");
        self.events.push(recorded);
    }

    pub(crate) fn id(&self, index: usize) -> StepId {
        self.state.steps[index].id.clone()
    }

    fn call_of(&self, index: usize, operation: Operation) -> &'a definition::Call {
        self.definition.steps[index].call(operation)
    }

    pub(crate) fn policy(&self, index: usize, operation: Operation) -> &'a RetryPolicy {
        &self.call_of(index, operation).retry
    }

    /// Starts the next attempt: writes the intent and orders the call. On an error nothing is decided.
    pub(crate) fn start_attempt(&mut self, index: usize, operation: Operation) -> Result<(), Failure> {
        let call = self.call_of(index, operation);
        let epoch = self.state.steps[index].progress(operation).epoch + 1;
        let deadline_ms = self.now_ms.saturating_add(millis(call.timeout));
        let queue_timeout = self.definition.steps[index].queue_timeout.filter(|_| operation == Operation::Action);
        let queue_deadline_ms = queue_timeout.map(|timeout| self.now_ms.saturating_add(millis(timeout)));
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
        self.emit(SagaEvent::StepCalled { step: self.id(index), operation, epoch, deadline_ms, queue_deadline_ms, arguments });
        let command = call_command(self.definition, &self.state, index, operation);
        self.commands.extend(command.map(|command| Command::Call(Box::new(command))));
        Ok(())
    }

    /// The attempt in progress is over: its command must not reach a participant any more.
    pub(crate) fn settle_command(&mut self, index: usize, operation: Operation) {
        self.settle(index, operation, false);
    }

    /// As [`Planner::settle_command`], if it was never handed out; else nothing of this decision may happen.
    pub(crate) fn settle_unseen_command(&mut self, index: usize, operation: Operation) {
        self.settle(index, operation, true);
    }

    fn settle(&mut self, index: usize, operation: Operation, unseen: bool) {
        let progress = self.state.steps[index].progress(operation);
        if progress.attempt.is_open() {
            let (step, epoch, target) = (self.id(index), progress.epoch, self.call_of(index, operation).target.clone());
            self.commands.push(Command::Settle { step, operation, epoch, target, unseen });
        }
    }

    /// The attempt failed and another one follows.
    pub(crate) fn retry_later(&mut self, index: usize, operation: Operation, failure: Failure, refused: bool, retry_after_ms: Option<u64>) {
        let epoch = self.state.steps[index].progress(operation).epoch;
        let backoff_ms = self.pause_ms(self.policy(index, operation), epoch, retry_after_ms);
        let retry_at_ms = self.now_ms.saturating_add(backoff_ms);
        self.settle_command(index, operation);
        self.emit(SagaEvent::StepAttemptFailed { step: self.id(index), operation, epoch, failure, refused, retry_at_ms });
    }

    fn pause_ms(&mut self, policy: &RetryPolicy, epoch: u32, asked_ms: Option<u64>) -> u64 {
        let doublings = u32::try_from(self.state.events / EVENTS_PER_DOUBLING).unwrap_or(u32::MAX);
        let grown =
            (doublings > 0).then(|| policy.max.max(GROWN_PAUSE_MIN).saturating_mul(1_u32.checked_shl(doublings).unwrap_or(u32::MAX)));
        let pause_ms = match (asked_ms, grown) {
            (Some(asked_ms), grown) => asked_ms.max(millis(grown.map_or(ASKED_PAUSE_MIN, |grown| grown / 2))),
            (None, None) => millis(policy.backoff(epoch, (self.jitter)())),
            (None, Some(grown)) => millis(policy.clone().with_max(grown.min(PAUSE_MAX)).backoff(epoch, (self.jitter)())),
        };
        pause_ms.min(millis(PAUSE_MAX))
    }

    /// Whether another attempt is allowed by the policy after this failure.
    pub(crate) fn may_retry(&self, index: usize, operation: Operation, failure: &Failure) -> bool {
        let policy = self.policy(index, operation);
        self.state.steps[index].progress(operation).epoch < policy.attempts && !policy.never_on.contains(&failure.code)
    }

    /// Does whatever can be done now, until nothing can.
    pub(crate) fn advance(&mut self) {
        loop {
            let before = self.events.len();
            match self.state.phase {
                Phase::Running => self.advance_forward(),
                Phase::Compensating => self.advance_compensation(),
                Phase::New | Phase::Completed | Phase::Compensated | Phase::Failed | Phase::Blocked => {}
            }
            if self.events.len() == before {
                return;
            }
        }
    }

    /// Events after which an instance that can be compensated must be: each effect still needs room for its compensation.
    pub(crate) fn has_too_many_events(&self) -> bool {
        let room = 4 * self.state.steps.len() as u64 + 16;
        self.state.events >= SAGA_EVENTS_MAX - room
    }

    /// The participants' word on an attempt, by operation.
    pub(crate) fn on_outcome(&mut self, index: usize, operation: Operation, epoch: u32, outcome: CallOutcome, note: Option<Failure>) {
        match operation {
            Operation::Action => self.on_action_outcome(index, epoch, outcome, note),
            Operation::Compensation => self.on_compensation_outcome(index, epoch, outcome),
        }
    }

    /// The participant works on; only its first word of this in an attempt is news. When it says so, it is asked again.
    pub(crate) fn on_ongoing(&mut self, index: usize, operation: Operation, retry_after_ms: Option<u64>) {
        let progress = self.state.steps[index].progress(operation);
        let Some(open) = progress.attempt.open() else { return };
        let epoch = progress.epoch;
        if !open.is_waiting {
            self.emit(SagaEvent::StepOngoing { step: self.id(index), operation, epoch });
        }
        if let (Some(asked_ms), Target::Topic(topic)) = (retry_after_ms, &self.call_of(index, operation).target) {
            let pause_ms = asked_ms.clamp(millis(ASKED_PAUSE_MIN), millis(PAUSE_MAX));
            let (step, topic, due_ms) = (self.id(index), topic.clone(), self.now_ms.saturating_add(pause_ms));
            self.commands.push(Command::Postpone { step, operation, epoch, topic, due_ms });
        }
    }

    /// Whether this is what the operation, or its last attempt, ended with.
    pub(crate) fn is_known(&self, index: usize, operation: Operation, outcome: &CallOutcome) -> bool {
        let said = match outcome {
            CallOutcome::Succeeded { .. } => Settled::Succeeded,
            CallOutcome::Refused { .. } => Settled::Refused,
            CallOutcome::Unknown { .. } => Settled::Unknown,
            CallOutcome::Ongoing { .. } => return false,
        };
        self.state.steps[index].progress(operation).settled == Some(said)
    }
}

pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn render_arguments(definition: &Definition, state: &InstanceState, index: usize, operation: Operation) -> Result<JsonText, Failure> {
    let step = &definition.steps[index];
    let instance = state.id.to_string();
    let saga = SagaScope { id: &instance, name: &state.saga, version: state.version, key: &state.key };
    let failure = state.failure.as_ref().filter(|_| operation == Operation::Compensation);
    let scope = Scope { input: &state.input, outputs: state, failure, saga: Some(saga) };
    let arguments = step.call(operation).arguments.render(&scope);
    arguments.map_err(|error| render_failure(&format!("the arguments of {operation} `{}`", step.id), &error))
}

/// The call of the attempt in progress, if there is one. The same state gives the same call, so it can be made again after a crash.
pub(crate) fn call_command(definition: &Definition, state: &InstanceState, index: usize, operation: Operation) -> Option<CallCommand> {
    let step = &definition.steps[index];
    let called = step.call(operation);
    let progress = state.steps[index].progress(operation);
    let open = progress.attempt.open()?;
    let action_output = match operation {
        Operation::Action => None,
        Operation::Compensation => state.steps[index].output.clone(),
    };
    let call = Call {
        instance: state.id,
        saga: state.saga.clone(),
        version: state.version,
        key: state.key.clone(),
        step: step.id.clone(),
        operation,
        call: called.name.clone(),
        epoch: progress.epoch,
        idempotency_key: call_key(state.id, &step.id, operation),
        must_succeed: operation == Operation::Compensation || step.kind == StepKind::Retriable || state.is_past_pivot(),
        started_at_ms: state.started_at_ms,
        deadline_ms: open.deadline_ms,
        timeout_ms: open.timeout_ms,
        arguments: progress.arguments.clone()?,
        action_output,
        reply_partition: PartitionId(u32::from(lane_of(state.id))),
    };
    Some(CallCommand { target: called.target.clone(), retry: called.retry.clone(), call })
}

/// Renders what the compensation of a step needs and is known before its action: all but the action's output and why the saga fails. What has
/// no value then would have none later, when the effect is there and only an operator could undo it.
fn check_compensation(definition: &Definition, state: &InstanceState, index: usize) -> Result<(), Failure> {
    let step = &definition.steps[index];
    let Some(compensation) = &step.compensation else { return Ok(()) };
    let instance = state.id.to_string();
    let saga = SagaScope { id: &instance, name: &state.saga, version: state.version, key: &state.key };
    let scope = Scope { input: &state.input, outputs: state, failure: None, saga: Some(saga) };
    let is_known = |reference: &Reference| match reference.root.as_str() {
        "failure" => false,
        // Of steps on other branches the output may be there later.
        "steps" => reference.path.first().is_some_and(|id| state.steps.iter().any(|other| other.id.as_str() == id && is_done(other.state))),
        _ => true,
    };
    let rendered = compensation.arguments.render_known(&scope, &is_known);
    rendered.map(drop).map_err(|error| render_failure(&format!("the arguments of {} `{}`", Operation::Compensation, step.id), &error))
}

/// The failure of what cannot be rendered.
pub(crate) fn render_failure(what: &str, error: &RenderError) -> Failure {
    let code = match error {
        RenderError::TooLarge => codes::PAYLOAD_TOO_LARGE,
        RenderError::Expression(_) | RenderError::Spent(_) | RenderError::TooDeep { .. } => codes::EXPRESSION_FAILED,
    };
    Failure { code: code.to_owned(), message: format!("{what}: {error}") }
}

/// Whether a step has succeeded or need not run.
pub(crate) fn is_done(state: StepState) -> bool {
    matches!(state, StepState::Succeeded | StepState::Skipped)
}
