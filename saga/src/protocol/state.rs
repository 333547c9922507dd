//! The state of an instance: the fold of its events, and the one place that says which event may follow which.

use super::event::{RecordedEvent, SagaEvent};
use super::failures::Failures;
use super::step::{Attempt, Open, Progress, Settled, StepStatus};
use crate::definition::{Definition, StepKind};
use crate::expression::Outputs;
use sagamq_api::saga::{Failure, Operation, SagaState, StepFailure, StepState};
use sagamq_api::{JsonText, SagaName, StepId};
use uuid::Uuid;

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
    /// What went wrong, oldest first, within bounds.
    pub failures: Failures,
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
            failures: Failures::default(),
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
                Attempt::Open(open) => open.is_waiting,
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
            SagaEvent::StepCalled { step, operation, epoch, deadline_ms, queue_deadline_ms, arguments } => {
                let open = Open {
                    called_at_ms: at_ms,
                    timeout_ms: deadline_ms.saturating_sub(at_ms),
                    deadline_ms: *deadline_ms,
                    queue_deadline_ms: *queue_deadline_ms,
                    is_handed_out: false,
                    is_waiting: false,
                };
                self.on_called(step, *operation, *epoch, open, arguments.as_ref())?;
            }
            SagaEvent::StepHandedOut { step, operation, epoch, deadline_ms } => {
                let open = self.open_attempt(step, *operation, *epoch)?;
                require(!open.is_handed_out, || "it is recorded once an attempt".to_owned())?;
                (open.deadline_ms, open.is_handed_out, open.is_waiting) = (*deadline_ms, true, false);
            }
            SagaEvent::StepNotSent { step, operation, epoch, failure } => {
                self.open_attempt(step, *operation, *epoch)?.is_waiting = true;
                self.keep(step, *operation, *epoch, failure, at_ms);
            }
            SagaEvent::StepOngoing { step, operation, epoch } => {
                let open = self.open_attempt(step, *operation, *epoch)?;
                open.is_waiting = true;
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
            SagaEvent::StepSucceeded { step, epoch, output, note } => {
                let index = self.end_by_word(step, Operation::Action, *epoch, StepState::Succeeded, Settled::Succeeded)?;
                self.steps[index].output = Some(output.clone());
                if self.steps[index].kind == StepKind::Pivot {
                    self.stop = None;
                }
                if let Some(note) = note {
                    self.keep(step, Operation::Action, *epoch, note, at_ms);
                }
            }
            SagaEvent::StepFailed { step, epoch, failure } => self.on_failed(step, *epoch, failure, at_ms)?,
            SagaEvent::StepUnknown { step, epoch, failure } => {
                self.end_operation(step, Operation::Action, *epoch, StepState::Unknown, Settled::Unknown)?;
                self.keep(step, Operation::Action, *epoch, failure, at_ms);
            }
            SagaEvent::StepCompensated { step, epoch } => {
                self.on_compensated(step, *epoch)?;
            }
            SagaEvent::StepCompensationFailed { step, epoch, failure } => self.on_compensation_failed(step, *epoch, failure, at_ms)?,
            SagaEvent::SagaStopRequested { .. }
            | SagaEvent::SagaTimeoutPassed
            | SagaEvent::SagaCompensating { .. }
            | SagaEvent::SagaCompleted { .. }
            | SagaEvent::SagaCompensated
            | SagaEvent::SagaFailed
            | SagaEvent::SagaUnblocked
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
            SagaEvent::SagaUnblocked => {
                self.require_phase(&[Phase::Blocked])?;
                let has_failed = self.steps.iter().any(|step| step.state == StepState::CompensationFailed);
                require(has_failed, || "no compensation blocks it".to_owned())?;
                self.phase = Phase::Compensating;
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

    fn on_called(
        &mut self,
        step: &StepId,
        operation: Operation,
        epoch: u32,
        open: Open,
        arguments: Option<&JsonText>,
    ) -> Result<(), String> {
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
        let arguments = arguments.cloned().or_else(|| progress.arguments.take());
        require(arguments.is_some(), || "the arguments are missing".to_owned())?;
        *progress = Progress { epoch, attempt: Attempt::Open(open), settled: None, arguments };
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
            self.end_by_word(step, Operation::Action, epoch, StepState::Failed, Settled::Refused)?;
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

    /// A compensation that was given up may turn out to have succeeded.
    fn on_compensated(&mut self, step: &StepId, epoch: u32) -> Result<(), String> {
        let index = self.find(step)?;
        let status = &mut self.steps[index];
        if status.state != StepState::CompensationFailed {
            self.end_by_word(step, Operation::Compensation, epoch, StepState::Compensated, Settled::Succeeded)?;
            return Ok(());
        }
        let is_known = (1..=status.compensation.epoch).contains(&epoch);
        require(self.phase == Phase::Compensating && is_known, || "the instance is at rest, or there was no such attempt".to_owned())?;
        status.state = StepState::Compensated;
        status.compensation.settled = Some(Settled::Succeeded);
        Ok(())
    }

    /// A participant's last word, on the current attempt or an older one: all of them have one key, so what is said of one holds for all.
    fn end_by_word(
        &mut self,
        step: &StepId,
        operation: Operation,
        epoch: u32,
        state: StepState,
        settled: Settled,
    ) -> Result<usize, String> {
        let index = self.find(step)?;
        let current = self.steps[index].progress(operation).epoch;
        require((1..=current).contains(&epoch), || format!("attempt {current} is the current one"))?;
        self.end_operation(step, operation, current, state, settled)
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
        progress.arguments = None;
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

    fn open_attempt(&mut self, step: &StepId, operation: Operation, epoch: u32) -> Result<&mut Open, String> {
        match &mut self.live_progress(step, operation, epoch)?.attempt {
            Attempt::Open(open) => Ok(open),
            Attempt::None | Attempt::Waiting { .. } => Err("the attempt is over".to_owned()),
        }
    }

    fn keep(&mut self, step: &StepId, operation: Operation, attempt: u32, failure: &Failure, at_ms: u64) {
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
