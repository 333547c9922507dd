//! The state of an instance: the fold of its events, and the one place that says which event may follow which.

use super::event::{RecordedEvent, SagaEvent};
use super::step::{Attempt, Progress, Settled, StepStatus};
use crate::definition::{Definition, StepKind};
use crate::expression::Outputs;
use sagamq_api::saga::{Failure, Operation, SagaState, StepFailure, StepState};
use sagamq_api::{JsonText, SagaName, StepId};
use uuid::Uuid;

/// Failures that an instance keeps in memory. The first half is never let go, of the rest the newest stay; the history has all.
pub const FAILURES_MAX: usize = 1_000;

/// Where an instance stands on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Before its first event.
    New,
    /// Forward.
    Running,
    /// Backward.
    Compensating,
    /// Every step succeeded.
    Completed,
    /// Every effect is undone.
    Compensated,
    /// Given up before anything took effect.
    Failed,
    /// Stuck until an operator looks at it.
    Blocked,
}

impl Phase {
    /// Whether nothing of the protocol's own will ever change it.
    #[must_use]
    pub const fn is_at_rest(self) -> bool {
        matches!(self, Self::Completed | Self::Compensated | Self::Failed | Self::Blocked)
    }
}

/// An event that cannot follow the events before it: the log is damaged, or was written by something else.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("event {sequence} ({event}) cannot follow: {reason}")]
pub struct IllegalEvent {
    /// Its place in the history, counted from 0.
    pub sequence: u64,
    /// The event, abbreviated.
    pub event: String,
    /// What forbids it.
    pub reason: String,
}

/// An instance.
#[derive(Clone, Debug, PartialEq)]
pub struct InstanceState {
    /// Its id.
    pub id: Uuid,
    /// Name of its definition.
    pub saga: SagaName,
    /// Version of its definition.
    pub version: u32,
    /// Its business key.
    pub key: String,
    /// How many instances the key has started, with this one.
    pub generation: u64,
    /// What it works on.
    pub input: JsonText,
    /// Where it stands.
    pub phase: Phase,
    /// Its steps, in the order of the definition.
    pub steps: Vec<StepStatus>,
    /// Why it is to be compensated once its pivot is known not to have succeeded.
    pub stop: Option<Failure>,
    /// Why it is compensated or blocked, or why it returned no output.
    pub failure: Option<Failure>,
    /// What went wrong, oldest first; at most [`FAILURES_MAX`].
    pub failures: Vec<StepFailure>,
    /// What it returned.
    pub output: Option<JsonText>,
    /// When it started, in milliseconds since 1970.
    pub started_at_ms: u64,
    /// When its last event happened, in milliseconds since 1970.
    pub updated_at_ms: u64,
    /// When its time is over, in milliseconds since 1970, if that can still change anything.
    pub timeout_at_ms: Option<u64>,
    /// Number of its events.
    pub events: u64,
}

impl InstanceState {
    /// An instance of the definition before its first event.
    #[must_use]
    pub fn new(id: Uuid, definition: &Definition) -> Self {
        Self {
            id,
            saga: definition.name.clone(),
            version: definition.version,
            key: String::new(),
            generation: 0,
            input: JsonText::null(),
            phase: Phase::New,
            steps: definition.steps.iter().map(StepStatus::new).collect(),
            stop: None,
            failure: None,
            failures: Vec::new(),
            output: None,
            started_at_ms: 0,
            updated_at_ms: 0,
            timeout_at_ms: None,
            events: 0,
        }
    }

    /// The state as the interface names it.
    #[must_use]
    pub fn saga_state(&self) -> SagaState {
        match self.phase {
            Phase::New => SagaState::Pending,
            Phase::Running if self.is_waiting() => SagaState::Waiting,
            Phase::Running => SagaState::Running,
            Phase::Compensating => SagaState::Compensating,
            Phase::Completed => SagaState::Completed,
            Phase::Compensated => SagaState::Compensated,
            Phase::Failed => SagaState::Failed,
            Phase::Blocked => SagaState::Blocked,
        }
    }

    /// Whether every step in progress waits for its retry or for a participant that works on.
    fn is_waiting(&self) -> bool {
        let mut live = self.steps.iter().filter(|step| step.state == StepState::InProgress).peekable();
        live.peek().is_some()
            && live.all(|step| match step.action.attempt {
                Attempt::Waiting { .. } => true,
                Attempt::Open { ongoing, .. } => ongoing,
                Attempt::None => false,
            })
    }

    /// Whether a pivot succeeded: from then on the instance only goes forward.
    #[must_use]
    pub fn is_past_pivot(&self) -> bool {
        self.steps.iter().any(|step| step.kind == StepKind::Pivot && step.state == StepState::Succeeded)
    }

    /// Whether a pivot is called or waits for another attempt.
    #[must_use]
    pub fn is_pivot_in_flight(&self) -> bool {
        self.steps.iter().any(|step| step.kind == StepKind::Pivot && step.state == StepState::InProgress)
    }

    /// When time alone changes the instance, in milliseconds since 1970: its next timer. Nothing else stores timers.
    #[must_use]
    pub fn next_due_ms(&self) -> Option<u64> {
        if self.phase.is_at_rest() {
            return None;
        }
        let timeout = self.timeout_at_ms.filter(|_| self.phase == Phase::Running);
        self.steps.iter().filter_map(StepStatus::due_ms).chain(timeout).min()
    }

    /// The index of a step.
    #[must_use]
    pub fn step_index(&self, id: &StepId) -> Option<usize> {
        self.steps.iter().position(|step| step.id == *id)
    }

    /// Applies the next event: the only way a state changes.
    ///
    /// # Errors
    /// When the event cannot follow those before it. The state is unchanged then.
    pub fn apply(&mut self, recorded: &RecordedEvent) -> Result<(), IllegalEvent> {
        self.transition(recorded).map_err(|reason| IllegalEvent {
            sequence: self.events,
            event: format!("{:?}", recorded.event).chars().take(120).collect(),
            reason,
        })?;
        self.events += 1;
        self.updated_at_ms = recorded.at_ms;
        Ok(())
    }

    fn transition(&mut self, recorded: &RecordedEvent) -> Result<(), String> {
        let at_ms = recorded.at_ms;
        match &recorded.event {
            SagaEvent::SagaStarted { saga, version, key, generation, input, timeout_at_ms } => {
                self.require_phase(&[Phase::New])?;
                require(*saga == self.saga && *version == self.version, || format!("it is of {saga} version {version}"))?;
                self.phase = Phase::Running;
                self.key.clone_from(key);
                self.generation = *generation;
                self.input = input.clone();
                self.timeout_at_ms = *timeout_at_ms;
                self.started_at_ms = at_ms;
            }
            SagaEvent::StepCalled { step, operation, epoch, deadline_ms } => self.on_called(step, *operation, *epoch, *deadline_ms)?,
            SagaEvent::StepOngoing { step, operation, epoch } => {
                let progress = self.live_progress(step, *operation, *epoch)?;
                let Attempt::Open { deadline_ms, .. } = progress.attempt else { return Err("the attempt is over".to_owned()) };
                progress.attempt = Attempt::Open { deadline_ms, ongoing: true };
            }
            SagaEvent::StepAttemptFailed { step, operation, epoch, failure, refused, retry_at_ms } => {
                let progress = self.live_progress(step, *operation, *epoch)?;
                progress.attempt = Attempt::Waiting { retry_at_ms: *retry_at_ms };
                progress.settled = Some(if *refused { Settled::Refused } else { Settled::Unknown });
                self.keep(step, *operation, *epoch, failure, at_ms);
            }
            SagaEvent::StepAttemptsExceeded { step, .. } => {
                let index = self.find(step)?;
                require(!self.steps[index].attempts_exceeded, || "it is recorded once a step".to_owned())?;
                self.steps[index].attempts_exceeded = true;
            }
            SagaEvent::StepSucceeded { step, epoch, output } => {
                let index = self.end_operation(step, Operation::Action, *epoch, StepState::Succeeded, Settled::Succeeded)?;
                self.steps[index].output = Some(output.clone());
                if self.steps[index].kind == StepKind::Pivot {
                    self.stop = None;
                }
            }
            SagaEvent::StepFailed { step, epoch, failure } => self.on_failed(step, *epoch, failure, at_ms)?,
            SagaEvent::StepUnknown { step, epoch, failure } => {
                self.end_operation(step, Operation::Action, *epoch, StepState::Unknown, Settled::Unknown)?;
                self.keep(step, Operation::Action, *epoch, failure, at_ms);
            }
            SagaEvent::StepCompensated { step, epoch } => {
                self.end_operation(step, Operation::Compensation, *epoch, StepState::Compensated, Settled::Succeeded)?;
            }
            SagaEvent::StepCompensationFailed { step, epoch, failure } => self.on_compensation_failed(step, *epoch, failure, at_ms)?,
            SagaEvent::SagaStopRequested { .. }
            | SagaEvent::SagaTimeoutPassed
            | SagaEvent::SagaCompensating { .. }
            | SagaEvent::SagaCompleted { .. }
            | SagaEvent::SagaCompensated
            | SagaEvent::SagaFailed
            | SagaEvent::SagaBlocked { .. } => self.saga_transition(&recorded.event)?,
        }
        Ok(())
    }

    fn saga_transition(&mut self, event: &SagaEvent) -> Result<(), String> {
        match event {
            SagaEvent::SagaStopRequested { failure } => {
                self.require_phase(&[Phase::Running])?;
                require(self.stop.is_none() && !self.is_past_pivot(), || "it is stopped already, or past its pivot".to_owned())?;
                self.stop = Some(failure.clone());
                self.timeout_at_ms = None;
            }
            SagaEvent::SagaTimeoutPassed => {
                self.require_phase(&[Phase::Running])?;
                self.timeout_at_ms = None;
            }
            SagaEvent::SagaCompensating { failure } => {
                self.require_phase(&[Phase::Running])?;
                require(!self.is_past_pivot() && !self.is_pivot_in_flight(), || "nothing is undone past the pivot".to_owned())?;
                self.phase = Phase::Compensating;
                self.failure = Some(failure.clone());
                self.timeout_at_ms = None;
            }
            SagaEvent::SagaCompleted { output, failure } => {
                self.require_phase(&[Phase::Running])?;
                let all = self.steps.iter().all(|step| matches!(step.state, StepState::Succeeded | StepState::Skipped));
                require(all, || "not every step succeeded".to_owned())?;
                self.phase = Phase::Completed;
                self.output.clone_from(output);
                self.failure.clone_from(failure);
            }
            SagaEvent::SagaCompensated | SagaEvent::SagaFailed => {
                self.require_phase(&[Phase::Compensating])?;
                let is_left = |step: &StepStatus| {
                    step.live_operation().is_some() || step.needs_undoing() || step.state == StepState::CompensationFailed
                };
                let undone = !self.steps.iter().any(is_left);
                require(undone, || "not every effect is undone".to_owned())?;
                self.phase = if *event == SagaEvent::SagaFailed { Phase::Failed } else { Phase::Compensated };
            }
            SagaEvent::SagaBlocked { failure } => {
                self.require_phase(&[Phase::Running, Phase::Compensating])?;
                self.phase = Phase::Blocked;
                self.failure.get_or_insert_with(|| failure.clone());
            }
            _ => unreachable!("transition() sends the events of the saga here, and no other"),
        }
        Ok(())
    }

    fn on_called(&mut self, step: &StepId, operation: Operation, epoch: u32, deadline_ms: u64) -> Result<(), String> {
        let phase = match operation {
            Operation::Action => Phase::Running,
            Operation::Compensation => Phase::Compensating,
        };
        self.require_phase(&[phase])?;
        let index = self.find(step)?;
        let status = &mut self.steps[index];
        let is_legal = match operation {
            Operation::Action => matches!(status.state, StepState::Scheduled | StepState::InProgress),
            Operation::Compensation => status.needs_undoing() || status.state == StepState::Compensating,
        };
        require(is_legal, || format!("the step is {:?}", status.state))?;
        let progress = status.progress_mut(operation);
        require(!progress.attempt.is_open() && epoch == progress.epoch + 1, || format!("attempt {} is the last", progress.epoch))?;
        *progress = Progress { epoch, attempt: Attempt::Open { deadline_ms, ongoing: false }, settled: None };
        status.state = match operation {
            Operation::Action => StepState::InProgress,
            Operation::Compensation => StepState::Compensating,
        };
        Ok(())
    }

    /// A refusal ends an action; so does an expression without a value, before the step was ever called.
    fn on_failed(&mut self, step: &StepId, epoch: u32, failure: &Failure, at_ms: u64) -> Result<(), String> {
        let index = self.find(step)?;
        if epoch == 0 {
            self.require_phase(&[Phase::Running])?;
            require(self.steps[index].state == StepState::Scheduled, || "the step was called".to_owned())?;
            self.steps[index].state = StepState::Failed;
        } else {
            self.end_operation(step, Operation::Action, epoch, StepState::Failed, Settled::Refused)?;
        }
        self.keep(step, Operation::Action, epoch, failure, at_ms);
        Ok(())
    }

    fn on_compensation_failed(&mut self, step: &StepId, epoch: u32, failure: &Failure, at_ms: u64) -> Result<(), String> {
        let index = self.find(step)?;
        if self.steps[index].needs_undoing() {
            self.require_phase(&[Phase::Compensating])?;
            require(epoch == 0, || "the compensation was not called".to_owned())?;
            self.steps[index].state = StepState::CompensationFailed;
        } else {
            self.end_operation(step, Operation::Compensation, epoch, StepState::CompensationFailed, Settled::Unknown)?;
        }
        self.keep(step, Operation::Compensation, epoch, failure, at_ms);
        Ok(())
    }

    fn end_operation(
        &mut self,
        step: &StepId,
        operation: Operation,
        epoch: u32,
        state: StepState,
        settled: Settled,
    ) -> Result<usize, String> {
        let progress = self.live_progress(step, operation, epoch)?;
        progress.attempt = Attempt::None;
        progress.settled = Some(settled);
        let index = self.find(step)?;
        self.steps[index].state = state;
        Ok(index)
    }

    /// The progress of an operation that is called or waits, at its current attempt.
    fn live_progress(&mut self, step: &StepId, operation: Operation, epoch: u32) -> Result<&mut Progress, String> {
        self.require_phase(&[Phase::Running, Phase::Compensating])?;
        let index = self.find(step)?;
        let status = &mut self.steps[index];
        require(status.live_operation() == Some(operation), || format!("the step is {:?}", status.state))?;
        let progress = status.progress_mut(operation);
        require(progress.epoch == epoch, || format!("attempt {} is the current one", progress.epoch))?;
        Ok(progress)
    }

    fn keep(&mut self, step: &StepId, operation: Operation, attempt: u32, failure: &Failure, at_ms: u64) {
        if self.failures.len() >= FAILURES_MAX {
            self.failures.remove(FAILURES_MAX / 2);
        }
        self.failures.push(StepFailure { step: step.clone(), operation, attempt, failure: failure.clone(), at_ms });
    }

    fn find(&self, step: &StepId) -> Result<usize, String> {
        self.step_index(step).ok_or_else(|| format!("there is no step {step}"))
    }

    fn require_phase(&self, legal: &[Phase]) -> Result<(), String> {
        require(legal.contains(&self.phase), || format!("the instance is {:?}", self.phase))
    }
}

fn require(holds: bool, reason: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(reason()) }
}

impl Outputs for InstanceState {
    fn output(&self, step: &StepId) -> Option<&JsonText> {
        self.steps.iter().find(|status| status.id == *step).and_then(|status| status.output.as_ref())
    }
}
