//! The protocol's one function: what an input means for an instance.

use super::codes;
use super::due::{HandOut, UnseenCall};
use super::event::{RecordedEvent, SagaEvent};
use super::failures::bounded;
use super::planner::{Planner, call_command, millis};
use super::state::{InstanceState, Phase};
use super::step::{Attempt, Open};
use crate::definition::{Definition, RetryPolicy, Target};
use crate::expression::metered;
use sagamq_api::saga::{Call, CallOutcome, Failure, Operation, StepState};
use sagamq_api::{JsonText, StepId, TopicName};

/// What happened outside.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// The instance is to exist.
    Start {
        /// Its business key.
        key: String,
        /// How many instances the key has started, with this one.
        generation: u64,
        /// What it works on.
        input: JsonText,
    },
    /// A participant answered.
    Reply {
        /// The step.
        step: StepId,
        /// Action or compensation.
        operation: Operation,
        /// The attempt it answers.
        epoch: u32,
        /// What it says.
        outcome: CallOutcome,
        /// What must be told of an output that could not be kept.
        note: Option<Failure>,
    },
    /// The participant could not be reached, so nothing was sent; the call stays in its queue.
    NotSent {
        /// The call.
        call: UnseenCall,
        /// What went wrong.
        failure: Failure,
    },
    /// Time has passed.
    Timer {
        /// What is known of the calls that [`InstanceState::unseen_calls`] names. One that is missing may have been handed out.
        hand_outs: Vec<(UnseenCall, HandOut)>,
    },
    /// Somebody wants it undone.
    Cancel {
        /// Why, for the history.
        reason: String,
    },
}

/// What to do once the events are durable.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Call a participant.
    Call(Box<CallCommand>),
    /// The command of an attempt that is over must not reach a participant any more.
    Settle {
        /// The step.
        step: StepId,
        /// Action or compensation.
        operation: Operation,
        /// The attempt.
        epoch: u32,
        /// Where it was sent.
        target: Target,
        /// Whether the decision holds only if no participant has seen the command. If one has, decide again.
        unseen: bool,
    },
    /// The command record of an attempt goes to a worker again at a time that the worker asked for.
    Postpone {
        /// The step.
        step: StepId,
        /// Action or compensation.
        operation: Operation,
        /// The attempt.
        epoch: u32,
        /// The topic it was sent to.
        topic: TopicName,
        /// When, in milliseconds since 1970.
        due_ms: u64,
    },
}

/// A call and its way.
#[derive(Clone, Debug, PartialEq)]
pub struct CallCommand {
    /// How the participant is reached.
    pub target: Target,
    /// How often to try to reach it.
    pub retry: RetryPolicy,
    /// What it is called with.
    pub call: Call,
}

/// What an input leads to.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// What happened: to be written first, in this order.
    pub events: Vec<RecordedEvent>,
    /// What to do once the events are durable. A topic call and a settlement are written with the events.
    pub commands: Vec<Command>,
    /// The state after the events: what folding them gives as well.
    pub state: InstanceState,
    /// Whether the input was applied before.
    pub duplicate: bool,
}

/// Why an input changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// The reply is not of the current attempt, or the step is settled otherwise.
    #[error("the reply is of attempt {epoch} of {operation} `{step}`, which is over: {reason}")]
    Fenced {
        /// The step.
        step: StepId,
        /// Action or compensation.
        operation: Operation,
        /// The attempt of the reply.
        epoch: u32,
        /// Why it is over.
        reason: String,
    },
    /// The definition has no such step.
    #[error("the saga has no step `{step}`")]
    NoSuchStep {
        /// The step of the reply.
        step: StepId,
    },
    /// The instance passed its pivot.
    #[error("the saga has passed its pivot and only goes forward")]
    NotCancellable,
    /// The instance is at rest.
    #[error("the saga is {0:?} already")]
    AlreadyFinal(Phase),
    /// The instance exists.
    #[error("the saga is started already")]
    AlreadyStarted,
    /// The instance has no first event.
    #[error("the saga is not started")]
    NotStarted,
}

/// Decides what the input means. Pure: the same arguments, and the same numbers drawn from `jitter` (each in 0..=1), give the same
/// decision. All of its expressions together are bounded in steps and bytes; what takes more has no value.
///
/// # Errors
/// When the input changes nothing and its sender should know why.
pub fn decide(
    definition: &Definition,
    state: &InstanceState,
    input: Input,
    now_ms: u64,
    jitter: &mut dyn FnMut() -> f64,
) -> Result<Decision, Rejection> {
    metered(|| plan(definition, state, input, now_ms, jitter))
}

fn plan(
    definition: &Definition,
    state: &InstanceState,
    input: Input,
    now_ms: u64,
    jitter: &mut dyn FnMut() -> f64,
) -> Result<Decision, Rejection> {
    match (&input, state.phase) {
        (Input::Start { .. }, Phase::New) => {}
        (Input::Start { .. }, _) => return Err(Rejection::AlreadyStarted),
        (_, Phase::New) => return Err(Rejection::NotStarted),
        _ => {}
    }
    let mut planner = Planner::new(definition, state, now_ms, jitter);
    let duplicate = match input {
        Input::Start { key, generation, input } => {
            planner.start(key, generation, input);
            false
        }
        Input::Reply { step, operation, epoch, outcome, note } => planner.reply(&step, operation, epoch, outcome, note)?,
        Input::NotSent { call, failure } => planner.not_sent(&call, failure)?,
        Input::Timer { hand_outs } => {
            planner.time_passed(&hand_outs);
            false
        }
        Input::Cancel { reason } => planner.cancel(reason)?,
    };
    planner.advance();
    Ok(planner.finish(duplicate))
}

/// The calls in progress, as they were decided: what a participant that is called directly must be called with again after a crash.
/// Their arguments are those of the first attempt, byte by byte.
#[must_use]
pub fn open_calls(definition: &Definition, state: &InstanceState) -> Vec<CallCommand> {
    let live = state.steps.iter().enumerate().filter_map(|(index, step)| Some((index, step.live_operation()?)));
    live.filter_map(|(index, operation)| call_command(definition, state, index, operation)).collect()
}

impl Planner<'_> {
    fn start(&mut self, key: String, generation: u64, input: JsonText) {
        let timeout_at_ms = self.definition.timeout.map(|timeout| self.now_ms.saturating_add(millis(timeout)));
        let (saga, version) = (self.definition.name.clone(), self.definition.version);
        self.emit(SagaEvent::SagaStarted { saga, version, key, generation, input, timeout_at_ms });
    }

    fn reply(
        &mut self,
        step: &StepId,
        operation: Operation,
        epoch: u32,
        outcome: CallOutcome,
        note: Option<Failure>,
    ) -> Result<bool, Rejection> {
        let index = self.state.step_index(step).ok_or_else(|| Rejection::NoSuchStep { step: step.clone() })?;
        let status = &self.state.steps[index];
        let progress = status.progress(operation);
        let fenced = |reason: String| Rejection::Fenced { step: step.clone(), operation, epoch, reason };
        if epoch == 0 || epoch > progress.epoch {
            return Err(fenced(format!("the last attempt is {}", progress.epoch)));
        }
        let is_success = matches!(outcome, CallOutcome::Succeeded { .. });
        if is_success && operation == Operation::Compensation && status.state == StepState::CompensationFailed {
            self.undone_after_all(index, epoch);
            return Ok(false);
        }
        if self.state.phase.is_at_rest() || status.live_operation() != Some(operation) {
            let reason = format!("the step is {:?} and the saga {}", status.state, self.state.saga_state());
            return if self.is_known(index, operation, &outcome) { Ok(true) } else { Err(fenced(reason)) };
        }
        let is_current = epoch == progress.epoch;
        let is_open = is_current && progress.attempt.is_open();
        let outcome = within_bounds(outcome);
        match outcome {
            // All attempts have one key, so what an older one did, or never will do, holds for all of them.
            CallOutcome::Succeeded { .. } => self.on_outcome(index, operation, epoch, outcome, note.map(bounded)),
            // A refused attempt of what must succeed is tried again; only the current one's refusal is news.
            CallOutcome::Refused { .. } if !is_open && self.is_retried_when_refused(index, operation) => return Ok(true),
            CallOutcome::Refused { .. } => self.on_outcome(index, operation, epoch, outcome, None),
            // Doubt about an older attempt is none about the current one.
            CallOutcome::Ongoing { .. } | CallOutcome::Unknown { .. } if !is_current => {
                return Err(fenced(format!("the current attempt is {}", progress.epoch)));
            }
            // Before the next attempt a late word still ends the doubt, but late doubt is none the wiser.
            CallOutcome::Ongoing { .. } | CallOutcome::Unknown { .. } if !is_open => return Ok(true),
            CallOutcome::Ongoing { retry_after_ms } => {
                let is_news = progress.attempt.open().is_some_and(|open| !open.is_waiting);
                self.on_ongoing(index, operation, retry_after_ms);
                return Ok(!is_news);
            }
            CallOutcome::Unknown { .. } => self.on_outcome(index, operation, epoch, outcome, None),
        }
        Ok(false)
    }

    fn is_retried_when_refused(&self, index: usize, operation: Operation) -> bool {
        operation == Operation::Compensation || self.is_forward_only(index)
    }

    fn not_sent(&mut self, call: &UnseenCall, failure: Failure) -> Result<bool, Rejection> {
        let UnseenCall { step, operation, epoch } = call.clone();
        let index = self.state.step_index(&step).ok_or_else(|| Rejection::NoSuchStep { step: step.clone() })?;
        let status = &self.state.steps[index];
        let progress = status.progress(operation);
        let open = progress.attempt.open().filter(|_| progress.epoch == epoch && status.live_operation() == Some(operation));
        match open {
            Some(Open { is_waiting: false, is_handed_out: false, .. }) => {
                self.emit(SagaEvent::StepNotSent { step, operation, epoch, failure: bounded(failure) });
                Ok(false)
            }
            _ => Ok(true),
        }
    }

    fn time_passed(&mut self, hand_outs: &[(UnseenCall, HandOut)]) {
        self.look_at_calls(hand_outs);
        if self.state.phase == Phase::Running && self.state.timeout_at_ms.is_some_and(|at_ms| at_ms <= self.now_ms) {
            self.saga_time_is_over();
            // Calls that wait in their queues are taken out of them.
            self.look_at_calls(hand_outs);
        }
        for index in 0..self.state.steps.len() {
            if let Some(operation) = self.state.steps[index].live_operation()
                && let Attempt::Waiting { retry_at_ms } = self.state.steps[index].progress(operation).attempt
                && retry_at_ms <= self.now_ms
            {
                self.retry(index, operation);
            }
        }
    }

    fn look_at_calls(&mut self, hand_outs: &[(UnseenCall, HandOut)]) {
        for index in 0..self.state.steps.len() {
            let Some(operation) = self.state.steps[index].live_operation() else { continue };
            let progress = self.state.steps[index].progress(operation);
            let Some(open) = progress.attempt.open() else { continue };
            let is_withdrawn = operation == Operation::Action && self.state.is_withdrawing();
            if !open.is_due(self.now_ms, is_withdrawn) {
                continue;
            }
            let epoch = progress.epoch;
            let is_it = |call: &UnseenCall| call.epoch == epoch && call.operation == operation && call.step == self.state.steps[index].id;
            let known = hand_outs.iter().find(|(call, _)| is_it(call)).map_or(HandOut::Unknown, |(_, hand_out)| *hand_out);
            match known {
                HandOut::Never if !open.is_handed_out => self.look_at_queued(index, operation, open),
                HandOut::At(at_ms) if !open.is_handed_out => self.look_at_run(index, operation, open, at_ms.max(open.called_at_ms)),
                HandOut::Never | HandOut::At(_) | HandOut::Unknown => self.look_at_run(index, operation, open, open.called_at_ms),
            }
        }
    }

    /// A call that a participant has, or may have, since then.
    fn look_at_run(&mut self, index: usize, operation: Operation, open: Open, since_ms: u64) {
        let deadline_ms = if open.is_handed_out { open.deadline_ms } else { since_ms.saturating_add(open.timeout_ms) };
        let epoch = self.state.steps[index].progress(operation).epoch;
        if deadline_ms <= self.now_ms {
            let failure = Failure { code: codes::TIMEOUT.to_owned(), message: "no answer before the attempt's deadline".to_owned() };
            self.on_outcome(index, operation, epoch, CallOutcome::Unknown { failure, retry_after_ms: None }, None);
        } else if !open.is_handed_out {
            self.emit(SagaEvent::StepHandedOut { step: self.id(index), operation, epoch, deadline_ms });
        }
    }

    fn saga_time_is_over(&mut self) {
        if self.state.is_past_pivot() {
            self.emit(SagaEvent::SagaTimeoutPassed);
        } else {
            let message = "the saga had not passed its pivot when its timeout was over".to_owned();
            self.stop(Failure { code: codes::SAGA_TIMEOUT.to_owned(), message });
        }
    }

    fn retry(&mut self, index: usize, operation: Operation) {
        match operation {
            Operation::Action => self.retry_action(index),
            Operation::Compensation => self.retry_compensation(index),
        }
    }

    fn cancel(&mut self, reason: String) -> Result<bool, Rejection> {
        if self.state.phase.is_at_rest() {
            return Err(Rejection::AlreadyFinal(self.state.phase));
        }
        if self.state.phase == Phase::Compensating || self.state.stop.is_some() {
            return Ok(true);
        }
        if self.state.is_past_pivot() {
            return Err(Rejection::NotCancellable);
        }
        self.stop(Failure { code: codes::CANCELLED.to_owned(), message: reason });
        Ok(false)
    }
}

/// The outcome with what it says of a failure cut to what is kept.
fn within_bounds(outcome: CallOutcome) -> CallOutcome {
    match outcome {
        CallOutcome::Refused { failure } => CallOutcome::Refused { failure: bounded(failure) },
        CallOutcome::Unknown { failure, retry_after_ms } => CallOutcome::Unknown { failure: bounded(failure), retry_after_ms },
        CallOutcome::Succeeded { .. } | CallOutcome::Ongoing { .. } => outcome,
    }
}
