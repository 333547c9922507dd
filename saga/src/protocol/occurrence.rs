//! What an event means to those who count: the same words for every protocol.

use sagamq_api::saga::{Failure, Operation, StepAttempt};
use serde::{Deserialize, Serialize};

/// What happened, as far as it is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occurrence {
    /// An instance was started.
    Started,
    /// An operator has to look at it.
    Blocked,
    /// An attempt ended.
    AttemptEnded(Operation, AttemptEnd),
    /// A transaction was decided.
    Decided {
        /// To commit, or to roll back.
        commit: bool,
    },
    /// A branch let its locks go, as far as is known.
    BranchEnded {
        /// How.
        end: BranchEnd,
        /// How long it held them: from its first call until it said so, in milliseconds.
        held_ms: u64,
    },
    /// An operator said of a branch what was not decided.
    Heuristic(Heuristic),
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptEnd {
    /// With success.
    Succeeded,
    /// Refused by the participant, or it had no effect for another reason.
    Refused,
    /// Without a known outcome.
    Unknown,
    /// Without success, and no other attempt follows although there should be an effect.
    GivenUp,
}

/// An attempt that is over.
#[derive(Clone, Copy, Debug)]
pub struct EndedAttempt<'a> {
    /// Which one.
    pub attempt: &'a StepAttempt,
    /// How it ended.
    pub end: AttemptEnd,
    /// What went wrong, if something did.
    pub failure: Option<&'a Failure>,
}

/// How a branch ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BranchEnd {
    /// Committed.
    Committed,
    /// Rolled back.
    RolledBack,
    /// It had changed nothing.
    ReadOnly,
}

/// What became of a transaction that an operator had to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Heuristic {
    /// Nobody knows what became of a branch.
    Hazard,
    /// A branch came out otherwise than was decided.
    Mixed,
}
