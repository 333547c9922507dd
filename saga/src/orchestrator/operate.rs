//! What operators do to instances.

use super::door::Orchestrator;
use super::error::InstanceError;
use super::lane::{LaneInput, Undecided};
use crate::protocol::{Rejection, Verb};
use sagamq_api::limits::REASON_BYTES_MAX;
use sagamq_api::saga::{CancelSaga, SagaState};
use uuid::Uuid;

/// Why an operator's verb did nothing.
#[derive(Clone, Debug, thiserror::Error)]
pub enum OperateError {
    /// The reason is too long.
    #[error("`reason` has {0} bytes, at most {REASON_BYTES_MAX} are allowed")]
    ReasonTooLong(usize),
    /// The instance cannot be told.
    #[error(transparent)]
    Instance(#[from] InstanceError),
    /// The instance is in no state for it.
    #[error(transparent)]
    Rejected(#[from] Rejection),
}

impl From<Undecided> for OperateError {
    fn from(error: Undecided) -> Self {
        match error {
            Undecided::Instance(error) => Self::Instance(error),
            Undecided::Rejected(rejection) => Self::Rejected(rejection),
        }
    }
}

impl Orchestrator {
    /// Cancels a saga: what was done is undone. Durable when it returns; undoing goes on afterwards.
    ///
    /// # Errors
    /// When there is no such saga, or it is past its pivot or at its end.
    pub async fn cancel(&self, id: Uuid, request: CancelSaga) -> Result<SagaState, OperateError> {
        let reason = request.reason.unwrap_or_default();
        if reason.len() > REASON_BYTES_MAX {
            return Err(OperateError::ReasonTooLong(reason.len()));
        }
        self.operate(id, Verb::Cancel { reason }).await
    }

    async fn operate(&self, id: Uuid, verb: Verb) -> Result<SagaState, OperateError> {
        Ok(self.lane(id)?.ask(|reply| LaneInput::Operate { id, verb, reply }).await?)
    }
}
