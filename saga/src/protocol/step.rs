//! One step of an instance, as the fold of its events.

use crate::definition::{self, StepKind};
use sagamq_api::saga::{Operation, StepState};
use sagamq_api::{JsonText, StepId};

/// A step of an instance.
#[derive(Clone, Debug, PartialEq)]
pub struct StepStatus {
    /// Its id.
    pub id: StepId,
    /// Where it stands relative to the pivot.
    pub kind: StepKind,
    /// Whether it has an effect that a compensation undoes.
    pub has_compensation: bool,
    /// Its state.
    pub state: StepState,
    /// How far its action is.
    pub action: Progress,
    /// How far its compensation is.
    pub compensation: Progress,
    /// What the action returned.
    pub output: Option<JsonText>,
    /// Whether its attempts ran out although it must be retried.
    pub attempts_exceeded: bool,
}

/// How far one operation of a step is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The current or last attempt, counted from 1; 0 if there was none.
    pub epoch: u32,
    /// What that attempt is doing.
    pub attempt: Attempt,
    /// How that attempt ended, as far as a reply said so: what a duplicate of it would say.
    pub settled: Option<Settled>,
}

/// What an attempt is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Attempt {
    /// There is none, or it is over.
    #[default]
    None,
    /// The participant is called.
    Open {
        /// When it is given up, in milliseconds since 1970.
        deadline_ms: u64,
        /// Whether the participant said that it works on.
        ongoing: bool,
    },
    /// It is over and the next one waits.
    Waiting {
        /// When the next one is due, in milliseconds since 1970.
        retry_at_ms: u64,
    },
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// With success.
    Succeeded,
    /// Refused by the participant.
    Refused,
    /// Without a known outcome.
    Unknown,
}

impl Attempt {
    /// Whether the participant is called now.
    #[must_use]
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Open { .. })
    }

    /// When time alone changes it, in milliseconds since 1970.
    #[must_use]
    pub const fn due_ms(self) -> Option<u64> {
        match self {
            Self::None => None,
            Self::Open { deadline_ms, .. } => Some(deadline_ms),
            Self::Waiting { retry_at_ms } => Some(retry_at_ms),
        }
    }
}

impl StepStatus {
    pub(crate) fn new(step: &definition::Step) -> Self {
        Self {
            id: step.id.clone(),
            kind: step.kind,
            has_compensation: step.compensation.is_some(),
            state: StepState::Scheduled,
            action: Progress::default(),
            compensation: Progress::default(),
            output: None,
            attempts_exceeded: false,
        }
    }

    /// The progress of one operation.
    #[must_use]
    pub fn progress(&self, operation: Operation) -> &Progress {
        match operation {
            Operation::Action => &self.action,
            Operation::Compensation => &self.compensation,
        }
    }

    pub(crate) fn progress_mut(&mut self, operation: Operation) -> &mut Progress {
        match operation {
            Operation::Action => &mut self.action,
            Operation::Compensation => &mut self.compensation,
        }
    }

    /// The operation that is called or waits for its next attempt, if one does.
    #[must_use]
    pub fn live_operation(&self) -> Option<Operation> {
        match self.state {
            StepState::InProgress => Some(Operation::Action),
            StepState::Compensating => Some(Operation::Compensation),
            StepState::Scheduled
            | StepState::Succeeded
            | StepState::Failed
            | StepState::Unknown
            | StepState::Skipped
            | StepState::Compensated
            | StepState::CompensationFailed => None,
        }
    }

    /// When time alone changes the step, in milliseconds since 1970.
    #[must_use]
    pub fn due_ms(&self) -> Option<u64> {
        self.live_operation().and_then(|operation| self.progress(operation).attempt.due_ms())
    }

    /// Whether the action may have had an effect that is not undone and has a compensation.
    #[must_use]
    pub fn needs_undoing(&self) -> bool {
        self.has_compensation && matches!(self.state, StepState::Succeeded | StepState::Unknown)
    }
}
