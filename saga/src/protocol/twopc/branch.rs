//! One branch of a transaction, as the fold of its events: all that is done at one service.

use super::action::Attempt;
use crate::definition::{HttpTarget, Target};
use crate::protocol::decision::ResolvedOutcome;
use sagamq_api::saga::{Failure, Operation};
use serde::{Deserialize, Serialize};

/// Attempts in a row at the worker that has a branch open of which nothing could be sent; then its service is told as well.
const UNREACHED_MAX: u32 = 3;

/// A branch of a transaction.
#[derive(Clone, Debug, PartialEq)]
pub struct Branch {
    /// Its name: that of the service.
    pub name: String,
    /// Its steps, as indices of the transaction's, in the order in which they run.
    pub steps: Vec<usize>,
    /// How the service is reached.
    pub target: Target,
    /// Base URL of the worker that has it open, if that said so.
    pub address: Option<String>,
    /// Whether that was said where a definition says that the service is.
    pub is_foreign: bool,
    /// Where it stands.
    pub state: BranchState,
    /// How it voted, as far as that was heard.
    pub voted: Option<Vote>,
    /// What it is told about its end: to commit, to roll back, or to commit in one phase.
    pub told: Option<Operation>,
    /// How far the call for its vote is.
    pub vote: Progress,
    /// How far the call that ends it is.
    pub ending: Progress,
    /// Whether the current attempt to end it goes to its service, and not to the worker that has it open.
    pub is_detour: bool,
    /// The first attempt to end it that went there.
    pub first_detour: Option<u32>,
    /// Attempts in a row to end it that did not reach the worker that has it open.
    pub unreached: u32,
    /// When its first action was called, in milliseconds since 1970: from then on it may hold locks.
    pub called_at_ms: Option<u64>,
    /// Since when it cannot end by itself, in milliseconds since 1970, if that is so now.
    pub in_doubt_since_ms: Option<u64>,
    /// Why it refused, was not heard, or disagrees.
    pub failure: Option<Failure>,
    /// What it said that did not fit: each kind once.
    pub contradictions: Vec<Contradiction>,
}

/// Where a branch stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BranchState {
    /// It was never called.
    Unopened,
    /// It was called and may hold locks; nothing of it survives its worker.
    Active,
    /// It voted for the commit, survives a crash, and waits for the decision.
    Prepared,
    /// It has changed nothing, and has let its locks go.
    ReadOnly,
    /// It is committed.
    Committed,
    /// It is rolled back.
    RolledBack,
    /// It was told to roll back again and again and did not acknowledge it: it asks.
    Unacknowledged,
    /// It says that it has lost what it prepared, or has done the opposite of what was decided.
    Disagrees,
    /// An operator said what became of it.
    Resolved(ResolvedOutcome),
}

/// What a branch says when it is asked for its vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Vote {
    /// It can be committed whatever happens.
    Yes,
    /// It has changed nothing, and is done.
    ReadOnly,
    /// It has rolled back.
    No,
}

/// What does not fit to what a branch said before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Contradiction {
    /// It voted after the decision.
    LateVote,
    /// It voted otherwise before.
    ChangedVote,
    /// It said before, or an operator said of it, that it ended otherwise.
    ChangedEnd,
}

/// How far one of a branch's calls is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The current or last attempt, counted from 1; 0 if there was none.
    pub epoch: u32,
    /// What that attempt is doing.
    pub attempt: Attempt,
}

impl BranchState {
    /// Whether nothing is asked or told it any more.
    #[must_use]
    pub const fn is_ended(self) -> bool {
        match self {
            Self::Unopened | Self::ReadOnly | Self::Committed | Self::RolledBack | Self::Unacknowledged | Self::Resolved(_) => true,
            Self::Active | Self::Prepared | Self::Disagrees => false,
        }
    }
}

impl Branch {
    pub(super) fn new(name: String, target: Target) -> Self {
        Self {
            name,
            steps: Vec::new(),
            target,
            address: None,
            is_foreign: false,
            state: BranchState::Unopened,
            voted: None,
            told: None,
            vote: Progress::default(),
            ending: Progress::default(),
            is_detour: false,
            first_detour: None,
            unreached: 0,
            called_at_ms: None,
            in_doubt_since_ms: None,
            failure: None,
            contradictions: Vec::new(),
        }
    }

    /// Where its calls go.
    #[must_use]
    pub fn way(&self) -> Target {
        match &self.address {
            Some(address) if !self.is_detour => {
                let (service, base, is_foreign) = (self.name.clone(), address.clone(), self.is_foreign);
                Target::Http(HttpTarget::Worker { service, base, is_foreign })
            }
            _ => self.target.clone(),
        }
    }

    /// Whether another worker of its service may end it with this operation, should the one that has it open be gone. A rollback need not be
    /// told elsewhere: who is not reached asks.
    pub(super) fn has_detour(&self, operation: Operation) -> bool {
        self.address.is_some() && matches!(operation, Operation::Commit | Operation::CommitOnePhase)
    }

    /// Whether the next attempt at the operation goes to its service: when nothing could be sent to its worker for some attempts, service and
    /// worker are told in turn.
    pub(super) fn takes_detour(&self, operation: Operation) -> bool {
        self.has_detour(operation) && self.unreached.checked_sub(UNREACHED_MAX).is_some_and(|further| further.is_multiple_of(2))
    }

    /// Whether an answer to this attempt to end it is certainly of the worker that has it open.
    pub(super) fn is_answer_of_its_worker(&self, epoch: u32) -> bool {
        self.first_detour.is_none_or(|first| epoch < first) || (epoch == self.ending.epoch && !self.is_detour)
    }

    /// Whether it can neither commit nor roll back by itself.
    #[must_use]
    pub const fn is_in_doubt(&self) -> bool {
        self.in_doubt_since_ms.is_some()
    }

    /// Its first step, whose name its votes and its end are called by.
    pub(super) fn first_step(&self) -> usize {
        *self.steps.first().expect("a branch has the step that it was made for")
    }

    /// How far the operation is; nothing for one that the branch is not called with.
    pub(super) fn progress(&self, operation: Operation) -> Progress {
        match operation {
            Operation::Prepare => self.vote,
            operation if self.told == Some(operation) => self.ending,
            _ => Progress::default(),
        }
    }

    /// What it is called with now, or will be when a pause is over.
    #[must_use]
    pub fn live(&self) -> Option<(Operation, Progress)> {
        let is_live = |progress: Progress| progress.attempt != Attempt::None;
        match self.told {
            Some(operation) if is_live(self.ending) => Some((operation, self.ending)),
            None if is_live(self.vote) => Some((Operation::Prepare, self.vote)),
            _ => None,
        }
    }

    /// How long it has held its locks by now, in milliseconds.
    pub(super) fn held_ms(&self, now_ms: u64) -> u64 {
        self.called_at_ms.map_or(0, |since_ms| now_ms.saturating_sub(since_ms))
    }
}
