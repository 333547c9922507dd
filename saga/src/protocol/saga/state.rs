//! The state of a saga: the fold of its events.

use super::step::{Attempt, StepStatus};
use crate::definition::{Definition, StepKind};
use crate::expression::Outputs;
use crate::protocol::failures::Failures;
use crate::protocol::head::Head;
use sagamq_api::saga::{Failure, Operation, SagaState, StepAttempt, StepState};
use sagamq_api::{JsonText, StepId};
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
    /// Given up, and there is nothing that a compensation would have to undo.
    Failed,
    /// Stuck until an operator looks at it.
    Blocked,
    /// Ended with effects that nobody undoes.
    Terminated,
}

impl Phase {
    /// Whether nothing of the protocol's own will ever change it.
    #[must_use]
    pub const fn is_at_rest(self) -> bool {
        self.is_final() || matches!(self, Self::Blocked)
    }

    /// Whether nothing will ever change it.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Compensated | Self::Failed | Self::Terminated)
    }
}

/// An instance.
#[derive(Clone, Debug, PartialEq)]
pub struct InstanceState {
    /// What every instance has.
    pub head: Head,
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
    /// When its time is over, in milliseconds since 1970, if that can still change anything.
    pub timeout_at_ms: Option<u64>,
    /// Since when an operator has it paused, in milliseconds since 1970.
    pub paused_at_ms: Option<u64>,
}

impl InstanceState {
    /// An instance of the definition before its first event.
    #[must_use]
    pub fn new(id: Uuid, definition: &Definition) -> Self {
        Self {
            head: Head::new(id, definition),
            phase: Phase::New,
            steps: definition.steps.iter().map(StepStatus::new).collect(),
            stop: None,
            failure: None,
            failures: Failures::default(),
            output: None,
            timeout_at_ms: None,
            paused_at_ms: None,
        }
    }

    /// The state as the interface names it.
    #[must_use]
    pub fn saga_state(&self) -> SagaState {
        match self.phase {
            _ if self.is_paused() => SagaState::Paused,
            Phase::New => SagaState::Pending,
            Phase::Running if self.is_waiting() => SagaState::Waiting,
            Phase::Running => SagaState::Running,
            Phase::Compensating => SagaState::Compensating,
            Phase::Completed => SagaState::Completed,
            Phase::Compensated => SagaState::Compensated,
            Phase::Failed => SagaState::Failed,
            Phase::Blocked => SagaState::Blocked,
            Phase::Terminated => SagaState::Terminated,
        }
    }

    /// Whether nobody is called until it is resumed.
    #[must_use]
    pub const fn is_paused(&self) -> bool {
        self.paused_at_ms.is_some()
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

    /// The index of the step that the attempt is of. No step fans out, so an item is of none; and no step votes.
    #[must_use]
    pub fn index_of(&self, attempt: &StepAttempt) -> Option<usize> {
        let is_own = attempt.item.is_none() && matches!(attempt.operation, Operation::Action | Operation::Compensation);
        self.step_index(&attempt.step).filter(|_| is_own)
    }

    /// Bytes of the payloads that expressions can see.
    pub(in crate::protocol) fn payload_bytes(&self) -> usize {
        self.head.input.len() + self.steps.iter().filter_map(|step| step.output.as_ref()).map(JsonText::len).sum::<usize>()
    }
}

impl Outputs for InstanceState {
    fn output(&self, step: &StepId) -> Option<&JsonText> {
        self.steps.iter().find(|status| status.id == *step).and_then(|status| status.output.as_ref())
    }
}
