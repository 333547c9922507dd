//! Replies of workers.

use super::door::Orchestrator;
use super::error::InstanceError;
use super::lane::{LaneInput, Undecided};
use crate::participant::Word;
use crate::protocol::Rejection;
use sagamq_api::saga::{CompleteCall, CompletedCall};

/// Why a reply to a call was not applied.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CallError {
    /// The instance cannot be told.
    #[error(transparent)]
    Instance(#[from] InstanceError),
    /// The reply changes nothing.
    #[error(transparent)]
    Rejected(#[from] Rejection),
}

impl From<Undecided> for CallError {
    fn from(error: Undecided) -> Self {
        match error {
            Undecided::Instance(error) => Self::Instance(error),
            Undecided::Rejected(rejection) => Self::Rejected(rejection),
        }
    }
}

impl Orchestrator {
    /// Applies a worker's reply: its command is settled, the events are written and the next commands sent, in one commit that is
    /// durable when this returns.
    ///
    /// # Errors
    /// When there is no such saga or step, or the reply is not of the current attempt.
    pub async fn complete(&self, call: CompleteCall) -> Result<CompletedCall, CallError> {
        let word = Word::from(call);
        Ok(self.lane(word.attempt.instance)?.ask(|reply| LaneInput::Complete { word, reply }).await?)
    }
}
