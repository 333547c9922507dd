//! What operators do to instances.

use super::door::Orchestrator;
use super::error::InstanceError;
use super::lane::{LaneInput, Undecided};
use crate::protocol::{Rejection, ResolvedOutcome, Verb};
use sagamq_api::limits::{ACTOR_BYTES_MAX, REASON_BYTES_MAX};
use sagamq_api::saga::{CancelSaga, SagaState};
use sagamq_api::transaction::{BranchOutcome, ResolveBranch};
use uuid::Uuid;

/// Why an operator's verb did nothing.
#[derive(Clone, Debug, thiserror::Error)]
pub enum OperateError {
    /// The reason is too long.
    #[error("`reason` has {0} bytes, at most {REASON_BYTES_MAX} are allowed")]
    ReasonTooLong(usize),
    /// The name of who acts is too long.
    #[error("`actor` has {0} bytes, at most {ACTOR_BYTES_MAX} are allowed")]
    ActorTooLong(usize),
    /// Nobody says who acts.
    #[error("`actor` is empty: what an operator says of a branch is written down with who says it")]
    NoActor,
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

fn require_bound(reason: &str) -> Result<(), OperateError> {
    if reason.len() > REASON_BYTES_MAX { Err(OperateError::ReasonTooLong(reason.len())) } else { Ok(()) }
}

impl Orchestrator {
    /// Cancels a saga or a transaction: what was done is undone. Durable when it returns; undoing goes on afterwards.
    ///
    /// # Errors
    /// When there is no such saga, or it is past its pivot or its decision, or at its end.
    pub async fn cancel(&self, id: Uuid, request: CancelSaga) -> Result<SagaState, OperateError> {
        let reason = request.reason.unwrap_or_default();
        require_bound(&reason)?;
        self.operate(id, Verb::Cancel { reason }, request.actor).await
    }

    /// Writes down what an operator found out about a branch of a transaction. Durable when it returns.
    ///
    /// # Errors
    /// When there is no such transaction or branch, it is not decided, or what became of the branch is known.
    pub async fn resolve(&self, id: Uuid, request: ResolveBranch) -> Result<SagaState, OperateError> {
        let ResolveBranch { branch, outcome, actor, reason } = request;
        let outcome = match outcome {
            BranchOutcome::Committed => ResolvedOutcome::Committed,
            BranchOutcome::RolledBack => ResolvedOutcome::RolledBack,
            BranchOutcome::Unknown => ResolvedOutcome::Unknown,
        };
        require_bound(&reason)?;
        if actor.is_empty() {
            return Err(OperateError::NoActor);
        }
        self.operate(id, Verb::ResolveBranch { branch, outcome, reason }, Some(actor)).await
    }

    async fn operate(&self, id: Uuid, verb: Verb, actor: Option<String>) -> Result<SagaState, OperateError> {
        if let Some(bytes) = actor.as_ref().map(String::len).filter(|bytes| *bytes > ACTOR_BYTES_MAX) {
            return Err(OperateError::ActorTooLong(bytes));
        }
        let actor = actor.filter(|actor| !actor.is_empty());
        Ok(self.lane(id)?.ask(|reply| LaneInput::Operate { id, verb, actor, reply }).await?)
    }
}
