//! What a participant says when it does not do what phase two asks of it.

/// It knows nothing of the branch, and sees no row that says it is committed: it was never opened here, was lost before it was prepared, was
/// forgotten, or its commit in one phase was refused before.
pub const BRANCH_UNKNOWN: &str = "BRANCH_UNKNOWN";

/// The branch was rolled back: a handler refused, or the coordinator said so.
pub const BRANCH_ROLLED_BACK: &str = "BRANCH_ROLLED_BACK";

/// The branch is committed.
pub const BRANCH_COMMITTED: &str = "BRANCH_COMMITTED";

/// The branch is prepared: it takes no more work, and only the vote's decision ends it.
pub const BRANCH_PREPARED: &str = "BRANCH_PREPARED";

/// The branch was rolled back because it heard nothing for too long before it was asked to prepare.
pub const BRANCH_EXPIRED: &str = "BRANCH_EXPIRED";

/// The resource manager failed, or the participant is stopping: what became of the branch is not known here.
pub const BRANCH_STORAGE: &str = "BRANCH_STORAGE";

/// Why a branch did not do what the coordinator asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BranchError {
    /// No, and asking again changes nothing: a vote against, or an anomaly that somebody has to look at.
    #[error("refused: {code}: {message}")]
    Refused {
        /// A stable code, for example [`BRANCH_UNKNOWN`].
        code: String,
        /// What happened, for people.
        message: String,
    },
    /// Nobody knows; it is asked for again.
    #[error("not known: {code}: {message}")]
    Unknown {
        /// A stable code, for example [`BRANCH_STORAGE`].
        code: String,
        /// What went wrong, for people.
        message: String,
    },
}

impl BranchError {
    /// A refusal.
    #[must_use]
    pub fn refused(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Refused { code: code.into(), message: message.into() }
    }

    /// An outcome that is not known.
    #[must_use]
    pub fn unknown(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Unknown { code: code.into(), message: message.into() }
    }

    /// The code.
    #[must_use]
    pub fn code(&self) -> &str {
        match self {
            Self::Refused { code, .. } | Self::Unknown { code, .. } => code,
        }
    }
}
