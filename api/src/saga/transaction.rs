//! How an instance that runs in two phases stands.

use core::fmt;
use serde::{Deserialize, Serialize};
#[cfg(feature = "openapi")]
use utoipa::ToSchema;

/// How a transaction stands, beside what every instance has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct TransactionStatus {
    /// State of the protocol.
    pub state: TransactionState,
    /// What was decided.
    pub outcome: Outcome,
    /// Branches that keep locks until they hear the decision, or may, and have not acknowledged it.
    pub branches_in_doubt: u32,
    /// Since when the first of these is in doubt, in milliseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub in_doubt_since_ms: Option<u64>,
    /// Branches that have lost what they prepared, or did the opposite of what was decided: an operator has to look at them.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub branches_disagreeing: u32,
    /// How it came out, if an operator said of a branch what was not decided.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub heuristic: Option<Heuristic>,
}

/// What most transactions have none of is left out of their stored rows.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
const fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// State of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum TransactionState {
    /// Its actions are called.
    Active,
    /// Its branches are asked for their votes.
    Preparing,
    /// Its only branch is told to commit without a vote, and its answer is the outcome.
    OnePhase,
    /// It is committed for good; its branches are told.
    Committing,
    /// It is committed, and every branch has acknowledged it. Final.
    Committed,
    /// It is rolled back for good; its branches are told.
    Aborting,
    /// It is rolled back. Final.
    Aborted,
    /// Its only branch had the decision, and an operator said that nobody knows what it did. Final.
    Unknown,
}

impl TransactionState {
    /// Every state.
    pub const ALL: [Self; 8] =
        [Self::Active, Self::Preparing, Self::OnePhase, Self::Committing, Self::Committed, Self::Aborting, Self::Aborted, Self::Unknown];

    /// The state as it stands on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "ACTIVE",
            Self::Preparing => "PREPARING",
            Self::OnePhase => "ONE_PHASE",
            Self::Committing => "COMMITTING",
            Self::Committed => "COMMITTED",
            Self::Aborting => "ABORTING",
            Self::Aborted => "ABORTED",
            Self::Unknown => "UNKNOWN",
        }
    }

    /// Whether nothing will ever change it.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Committed | Self::Aborted | Self::Unknown)
    }
}

impl fmt::Display for TransactionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What was decided about a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// To commit. It never changes.
    Committed,
    /// To roll back. It never changes.
    RolledBack,
    /// Nothing yet: keep the locks, and ask again.
    Undecided,
}

impl Outcome {
    /// The outcome as it stands on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Committed => "committed",
            Self::RolledBack => "rolled_back",
            Self::Undecided => "undecided",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// How a transaction came out of which an operator said otherwise than was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Heuristic {
    /// A branch came out otherwise than was decided.
    Mixed,
    /// Nobody knows what became of a branch.
    Hazard,
}

impl Heuristic {
    /// Every one.
    pub const ALL: [Self; 2] = [Self::Mixed, Self::Hazard];

    /// As it stands on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Mixed => "MIXED",
            Self::Hazard => "HAZARD",
        }
    }
}

impl fmt::Display for Heuristic {
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
        for state in TransactionState::ALL {
            assert_eq!(written(serde_json::to_value(state)), state.to_string());
        }
        for heuristic in Heuristic::ALL {
            assert_eq!(written(serde_json::to_value(heuristic)), heuristic.to_string());
        }
    }
}
