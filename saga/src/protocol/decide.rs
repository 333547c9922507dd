//! The protocol's one function: what an input means for an instance.

use super::codes;
use super::event::{RecordedEvent, SagaEvent};
use super::planner::{Planner, call_command, millis};
use super::state::{InstanceState, Phase};
use super::step::Attempt;
use crate::definition::{Definition, Target};
use crate::expression::metered;
use sagamq_api::saga::{Call, CallOutcome, Failure, Operation};
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
    },
    /// Time has passed.
    Timer,
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
    /// The command record of an attempt that is over must not reach a worker any more.
    Settle {
        /// The step.
        step: StepId,
        /// Action or compensation.
        operation: Operation,
        /// The attempt.
        epoch: u32,
        /// The topic it was sent to.
        topic: TopicName,
    },
}

/// A call and its way.
#[derive(Clone, Debug, PartialEq)]
pub struct CallCommand {
    /// How the participant is reached.
    pub target: Target,
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
        Input::Reply { step, operation, epoch, outcome } => planner.reply(&step, operation, epoch, outcome)?,
        Input::Timer => {
            planner.time_passed();
            false
        }
        Input::Cancel { reason } => planner.cancel(reason)?,
    };
    planner.advance();
    Ok(planner.finish(duplicate))
}

/// The calls in progress, as they were decided: what a participant that is called directly must be called with again after a crash.
/// A call that cannot be rendered any more is left out; its deadline ends it.
#[must_use]
pub fn open_calls(definition: &Definition, state: &InstanceState) -> Vec<CallCommand> {
    let open = state.steps.iter().enumerate().filter_map(|(index, step)| {
        let operation = step.live_operation()?;
        let progress = step.progress(operation);
        let Attempt::Open { deadline_ms, .. } = progress.attempt else { return None };
        call_command(definition, state, index, operation, progress.epoch, deadline_ms).ok()
    });
    open.collect()
}

impl Planner<'_> {
    fn start(&mut self, key: String, generation: u64, input: JsonText) {
        let timeout_at_ms = self.definition.timeout.map(|timeout| self.now_ms.saturating_add(millis(timeout)));
        let (saga, version) = (self.definition.name.clone(), self.definition.version);
        self.emit(SagaEvent::SagaStarted { saga, version, key, generation, input, timeout_at_ms });
    }

    fn reply(&mut self, step: &StepId, operation: Operation, epoch: u32, outcome: CallOutcome) -> Result<bool, Rejection> {
        let index = self.state.step_index(step).ok_or_else(|| Rejection::NoSuchStep { step: step.clone() })?;
        let status = &self.state.steps[index];
        let progress = status.progress(operation);
        let fenced = |reason: String| Rejection::Fenced { step: step.clone(), operation, epoch, reason };
        if progress.epoch != epoch || epoch == 0 {
            return Err(fenced(format!("the current attempt is {}", progress.epoch)));
        }
        if self.is_duplicate(index, operation, &outcome) {
            return Ok(true);
        }
        if self.state.phase.is_at_rest() || status.live_operation() != Some(operation) {
            return Err(fenced(format!("the step is {:?} and the saga {}", status.state, self.state.saga_state())));
        }
        let is_open = progress.attempt.is_open();
        match outcome {
            CallOutcome::Ongoing { .. } if is_open => self.on_ongoing(index, operation),
            // Before the next attempt a late word still ends the doubt, but late doubt is none the wiser.
            CallOutcome::Ongoing { .. } | CallOutcome::Unknown { .. } if !is_open => return Ok(true),
            // A refused attempt of a step that must succeed is retried; a late success of it is news, a late refusal of an unknown one is not.
            CallOutcome::Refused { .. } if !is_open && self.is_retried_when_refused(index, operation) => return Ok(true),
            outcome => self.on_outcome(index, operation, outcome),
        }
        Ok(false)
    }

    fn is_retried_when_refused(&self, index: usize, operation: Operation) -> bool {
        operation == Operation::Compensation || self.is_forward_only(index)
    }

    fn time_passed(&mut self) {
        for index in 0..self.state.steps.len() {
            if let Some(operation) = self.state.steps[index].live_operation()
                && let Attempt::Open { deadline_ms, .. } = self.state.steps[index].progress(operation).attempt
                && deadline_ms <= self.now_ms
            {
                let failure = Failure { code: codes::TIMEOUT.to_owned(), message: "no answer before the attempt's deadline".to_owned() };
                self.on_outcome(index, operation, CallOutcome::Unknown { failure, retry_after_ms: None });
            }
        }
        if self.state.phase == Phase::Running && self.state.timeout_at_ms.is_some_and(|at_ms| at_ms <= self.now_ms) {
            self.saga_time_is_over();
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
