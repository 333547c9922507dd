//! What the owner of the branches is asked for.

use crate::branch::error::BranchError;
use crate::branch::id::BranchId;
use crate::branch::manager::{InDoubt, Vote};
use crate::worker::CallError;
use sagamq_api::JsonText;
use sagamq_api::saga::Call;
use tokio::sync::oneshot;

/// Where an answer goes. Whoever does not wait any more is no error.
pub(super) type Reply<T> = oneshot::Sender<T>;

/// A message to the owner.
pub(super) enum Request {
    /// A verb for a branch.
    Ask { id: BranchId, verb: Verb },
    /// Every prepared branch.
    InDoubt(Reply<Vec<InDoubt>>),
    /// A worker has finished.
    Wake,
    /// The last handle is gone.
    Close,
}

/// What is to be done with a branch.
pub(super) enum Verb {
    Work { call: Box<Call>, reply: Reply<Result<JsonText, CallError>> },
    Prepare { actions_done: u32, reply: Reply<Result<Vote, BranchError>> },
    Commit { reply: Reply<Result<(), BranchError>> },
    Rollback { reply: Reply<Result<(), BranchError>> },
    CommitOnePhase { actions_done: u32, reply: Reply<Result<(), BranchError>> },
}

/// An answer that is ready, and where it goes.
pub(super) enum Answer {
    Work(Reply<Result<JsonText, CallError>>, Result<JsonText, CallError>),
    Vote(Reply<Result<Vote, BranchError>>, Result<Vote, BranchError>),
    End(Reply<Result<(), BranchError>>, Result<(), BranchError>),
}

impl Answer {
    pub(super) fn send(self) {
        match self {
            Self::Work(reply, answer) => drop(reply.send(answer)),
            Self::Vote(reply, answer) => drop(reply.send(answer)),
            Self::End(reply, answer) => drop(reply.send(answer)),
        }
    }
}

impl Verb {
    /// The answer that this cannot be done. For work, nothing of the branch takes effect when it is refused.
    pub(super) fn answer(self, error: BranchError) -> Answer {
        match self {
            Self::Work { reply, .. } => Answer::Work(
                reply,
                Err(match error {
                    BranchError::Refused { code, message } => CallError::refused(code, message),
                    BranchError::Unknown { code, message } => CallError::unknown(code, message),
                }),
            ),
            Self::Prepare { reply, .. } => Answer::Vote(reply, Err(error)),
            Self::Commit { reply } | Self::Rollback { reply } | Self::CommitOnePhase { reply, .. } => Answer::End(reply, Err(error)),
        }
    }
}
