//! What a call is to its service: work, which may wait, or a decision, which others wait for.

use sagamq_api::saga::Operation;

/// What a call is to its service, as far as places go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    /// It may wait for locks.
    Work,
    /// It lets locks go: were it to wait behind work that waits for them, nothing would go on.
    Decision,
}

impl Kind {
    pub(super) const fn of(operation: Operation) -> Self {
        match operation {
            Operation::Action | Operation::Compensation => Self::Work,
            Operation::Prepare | Operation::Commit | Operation::Rollback | Operation::CommitOnePhase => Self::Decision,
        }
    }
}
