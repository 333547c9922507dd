//! One action of a transaction, as the fold of its events, and what an attempt of any of its calls is doing.

use crate::definition;
use sagamq_api::saga::StepState;
use sagamq_api::{JsonText, StepId};

/// An action: it is called once, within its branch.
#[derive(Clone, Debug, PartialEq)]
pub struct Action {
    /// Id of its step.
    pub id: StepId,
    /// The index of its branch.
    pub branch: usize,
    /// Where it stands: scheduled, in progress, succeeded, failed or unknown.
    pub state: StepState,
    /// The attempt, if it was called.
    pub epoch: u32,
    /// The attempt in progress.
    pub open: Option<Open>,
    /// The arguments, while it is called.
    pub arguments: Option<JsonText>,
    /// What it returned.
    pub output: Option<JsonText>,
}

/// What an attempt is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Attempt {
    /// There is none, or it is over.
    #[default]
    None,
    /// The participant is called.
    Open(Open),
    /// It is over and the next one waits.
    Waiting {
        /// When the next one is due, in milliseconds since 1970.
        retry_at_ms: u64,
    },
}

/// An attempt in progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Open {
    /// How long it may take, in milliseconds.
    pub timeout_ms: u64,
    /// When it is given up, in milliseconds since 1970.
    pub deadline_ms: u64,
    /// Whether the participant could not be reached.
    pub is_unsent: bool,
}

impl Attempt {
    /// The attempt in progress.
    #[must_use]
    pub const fn open(self) -> Option<Open> {
        match self {
            Self::Open(open) => Some(open),
            Self::None | Self::Waiting { .. } => None,
        }
    }

    /// When time alone changes it, in milliseconds since 1970.
    #[must_use]
    pub const fn due_ms(self) -> Option<u64> {
        match self {
            Self::None => None,
            Self::Open(open) => Some(open.deadline_ms),
            Self::Waiting { retry_at_ms } => Some(retry_at_ms),
        }
    }
}

impl Action {
    pub(super) fn new(step: &definition::Step, branch: usize) -> Self {
        Self { id: step.id.clone(), branch, state: StepState::Scheduled, epoch: 0, open: None, arguments: None, output: None }
    }
}
