//! What every resource manager must be able to do to take part in two-phase commit.

use super::error::BranchError;
use super::id::BranchId;
use crate::worker::CallError;
use sagamq_api::JsonText;
use sagamq_api::saga::Call;
use std::future::Future;
use std::pin::Pin;

/// What a manager is asked for, on its way. It goes on if it is dropped, or it changes nothing.
pub type Branching<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// How a branch votes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vote {
    /// It is prepared: it survives a crash, keeps its locks, and can be committed by anybody.
    Yes,
    /// It has changed nothing, has let its locks go, and need not hear the decision.
    ReadOnly,
}

impl Vote {
    /// The vote as it stands on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::ReadOnly => "read_only",
        }
    }
}

/// A branch that has voted yes and has not heard the decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InDoubt {
    /// Which branch.
    pub id: BranchId,
    /// When it was prepared, in milliseconds since 1970, by the clock of this machine or of the database.
    pub prepared_at_ms: u64,
}

/// A resource manager with local transactions that can be prepared: what is common to all of them.
///
/// Each verb may be repeated, and may come while the same or another one for the branch is running. What is promised when it returns `Ok` is on
/// disk.
pub trait BranchManager: Send + Sync + 'static {
    /// Runs one action in the branch of the call's transaction, and opens the branch if this is its first call.
    ///
    /// The branch is opened by a call before which none of its actions was done (`actions_done` of its transaction is 0), and by no other: a
    /// branch that has done another number has lost some, and refuses with [`BRANCH_UNKNOWN`](super::BRANCH_UNKNOWN).
    ///
    /// A repetition of a call with the same idempotency key gives the remembered answer; with other arguments it is refused. When an action
    /// does not succeed, the branch is rolled back at once: nothing of it takes effect any more, so the answer is a refusal whatever the
    /// handler said. A call without a transaction is refused and not run.
    fn work(&self, call: Call) -> Branching<'_, Result<JsonText, CallError>>;

    /// Votes. When this returns [`Vote::Yes`], the branch can be committed whatever happens here. A branch that is prepared says yes again.
    ///
    /// `actions_done` is how many actions of the branch the coordinator knows to be done. An open branch that has done another number has
    /// lost some, to a crash: it is rolled back and refuses with [`BRANCH_UNKNOWN`](super::BRANCH_UNKNOWN).
    fn prepare<'a>(&'a self, branch: &'a BranchId, actions_done: u32) -> Branching<'a, Result<Vote, BranchError>>;

    /// Commits a prepared branch. An unknown one is committed only if the row is visible that the branch's own transaction has written, else
    /// it is refused with [`BRANCH_UNKNOWN`](super::BRANCH_UNKNOWN).
    fn commit<'a>(&'a self, branch: &'a BranchId) -> Branching<'a, Result<(), BranchError>>;

    /// Rolls a branch back, prepared or not. Of an unknown one there is nothing to undo: this is success, unless its row is visible; then it
    /// is refused with [`BRANCH_COMMITTED`](super::BRANCH_COMMITTED).
    fn rollback<'a>(&'a self, branch: &'a BranchId) -> Branching<'a, Result<(), BranchError>>;

    /// Commits a branch that is not prepared: its answer is the transaction's outcome. `actions_done` is that of [`Self::prepare`]. Of an
    /// unknown branch it says what [`Self::commit`] says. A refusal aborts the transaction, so it is on disk before it is told: whatever
    /// older call comes late then, the branch is neither opened anew nor committed.
    fn commit_one_phase<'a>(&'a self, branch: &'a BranchId, actions_done: u32) -> Branching<'a, Result<(), BranchError>>;

    /// Every branch that is prepared here, of whatever coordinator.
    fn in_doubt(&self) -> Branching<'_, Result<Vec<InDoubt>, BranchError>>;
}
