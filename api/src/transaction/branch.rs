//! Where the branches of a transaction stand.

use core::fmt;
use serde::{Deserialize, Serialize};
#[cfg(feature = "openapi")]
use utoipa::ToSchema;

/// State of a branch: of all that a transaction does at one service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum BranchState {
    /// It was never called.
    Unopened,
    /// It was called and may hold locks; nothing of it survives its worker.
    Active,
    /// It is asked for its vote, and may have prepared.
    Preparing,
    /// It has prepared: it keeps its locks until it hears the decision.
    Prepared,
    /// It has changed nothing, has let its locks go, and hears no more.
    ReadOnly,
    /// It is told to commit, and has not said that it did.
    Committing,
    /// It is committed.
    Committed,
    /// It is told to roll back, and has not said that it did.
    RollingBack,
    /// It is rolled back.
    RolledBack,
    /// It was told to roll back again and again and never acknowledged it: it asks.
    Unacknowledged,
    /// It says that it has lost what it prepared, or did the opposite of the decision: an operator has to look.
    Disagrees,
    /// An operator said what became of it.
    Resolved,
}

impl BranchState {
    /// Every state.
    pub const ALL: [Self; 12] = [
        Self::Unopened,
        Self::Active,
        Self::Preparing,
        Self::Prepared,
        Self::ReadOnly,
        Self::Committing,
        Self::Committed,
        Self::RollingBack,
        Self::RolledBack,
        Self::Unacknowledged,
        Self::Disagrees,
        Self::Resolved,
    ];

    /// The state as it stands on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unopened => "UNOPENED",
            Self::Active => "ACTIVE",
            Self::Preparing => "PREPARING",
            Self::Prepared => "PREPARED",
            Self::ReadOnly => "READ_ONLY",
            Self::Committing => "COMMITTING",
            Self::Committed => "COMMITTED",
            Self::RollingBack => "ROLLING_BACK",
            Self::RolledBack => "ROLLED_BACK",
            Self::Unacknowledged => "UNACKNOWLEDGED",
            Self::Disagrees => "DISAGREES",
            Self::Resolved => "RESOLVED",
        }
    }
}

impl fmt::Display for BranchState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What an operator says became of a branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum BranchOutcome {
    /// It was committed.
    Committed,
    /// It was rolled back, or never did anything.
    RolledBack,
    /// Nobody knows, and nobody will.
    Unknown,
}

impl BranchOutcome {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::Committed, Self::RolledBack, Self::Unknown];

    /// As it stands on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Committed => "committed",
            Self::RolledBack => "rolled_back",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for BranchOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What a branch said that does not go with what it said before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Contradiction {
    /// It voted after the decision.
    LateVote,
    /// It voted otherwise before.
    ChangedVote,
    /// It said before, or an operator said of it, that it ended otherwise.
    ChangedEnd,
}

impl Contradiction {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::LateVote, Self::ChangedVote, Self::ChangedEnd];

    /// As it stands on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::LateVote => "late_vote",
            Self::ChangedVote => "changed_vote",
            Self::ChangedEnd => "changed_end",
        }
    }
}

impl fmt::Display for Contradiction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_shown_as_they_are_written() {
        let written = |value: serde_json::Result<serde_json::Value>| value.expect("JSON").as_str().expect("text").to_owned();
        for outcome in BranchOutcome::ALL {
            assert_eq!(written(serde_json::to_value(outcome)), outcome.to_string());
        }
        for contradiction in Contradiction::ALL {
            assert_eq!(written(serde_json::to_value(contradiction)), contradiction.to_string());
        }
        for state in BranchState::ALL {
            assert_eq!(written(serde_json::to_value(state)), state.to_string());
        }
    }
}
