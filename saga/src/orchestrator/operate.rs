//! What operators do to instances. [`Orchestrator::operate`] is the one door, for a person's verb as for many of them.

use super::bounds::{OutOfBounds, require_bounds};
use super::door::Orchestrator;
use super::error::InstanceError;
use super::lane::{LaneInput, Undecided};
use super::operated::Operated;
use crate::protocol::{By, Rejection, ResolvedOutcome, Verb};
use sagamq_api::audit::AuditOutcome;
use sagamq_api::limits::{ACTOR_BYTES_MAX, REASON_BYTES_MAX};
use sagamq_api::saga::{OperateSaga, SagaState, SagaVerb, StepOutcome};
use sagamq_api::transaction::{BranchOutcome, ResolveBranch};
use sagamq_broker::audit::Note;
use serde_json::json;
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
    /// A payload of the verb is too large or nests too deep.
    #[error("`{field}`: {error}")]
    OutOfBounds {
        /// Its field.
        field: &'static str,
        /// What is wrong.
        error: OutOfBounds,
    },
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
    /// Does what an operator wants to an instance. Durable when it returns; what follows from it goes on.
    ///
    /// # Errors
    /// When there is no such instance or step, the instance is in no state for the verb, or what comes with it does not fit.
    pub async fn operate(&self, id: Uuid, request: OperateSaga) -> Result<Operated, OperateError> {
        let (verb, by) = checked(request)?;
        let step = if let Verb::Saga(verb) = &verb { verb.step() } else { None };
        let note = step.iter().fold(self.note(AuditOutcome::Done, &[("id", &id)]), |note, step| note.on("step", step));
        self.tell_verb(id, verb, by, note).await
    }

    /// Writes down what an operator found out about a branch of a transaction. Durable when it returns.
    ///
    /// # Errors
    /// When there is no such transaction or branch, it is not decided, or what became of the branch is known.
    pub async fn resolve(&self, id: Uuid, request: ResolveBranch) -> Result<SagaState, OperateError> {
        let ResolveBranch { branch, outcome, actor, reason } = request;
        let said = outcome;
        let outcome = match outcome {
            BranchOutcome::Committed => ResolvedOutcome::Committed,
            BranchOutcome::RolledBack => ResolvedOutcome::RolledBack,
            BranchOutcome::Unknown => ResolvedOutcome::Unknown,
        };
        let by = by(Some(actor), Some(reason))?;
        if by.actor.is_none() {
            return Err(OperateError::NoActor);
        }
        let note = self.note(AuditOutcome::Done, &[("id", &id), ("branch", &branch)]).result(&json!({ "outcome": said }));
        Ok(self.tell_verb(id, Verb::ResolveBranch { branch, outcome }, by, note).await?.state)
    }

    async fn tell_verb(&self, id: Uuid, verb: Verb, by: By, note: Note) -> Result<Operated, OperateError> {
        let note = note.by(by.actor.as_deref(), by.reason.as_deref());
        Ok(self.lane(id)?.ask(|reply| LaneInput::Operate { id, verb, by, note, reply }).await?)
    }
}

/// What the protocol is told of a request.
pub(super) fn checked(request: OperateSaga) -> Result<(Verb, By), OperateError> {
    let OperateSaga { verb, reason, actor } = request;
    let payload = match &verb {
        SagaVerb::EditInput { input } | SagaVerb::Rerun { input: Some(input), .. } => Some(("input", input)),
        SagaVerb::Resolve { outcome: StepOutcome::Succeeded { output }, .. } => Some(("output", output)),
        SagaVerb::Cancel
        | SagaVerb::Pause
        | SagaVerb::Resume
        | SagaVerb::Terminate
        | SagaVerb::Retry { .. }
        | SagaVerb::Skip { .. }
        | SagaVerb::Resolve { .. }
        | SagaVerb::Rerun { input: None, .. } => None,
    };
    if let Some((field, payload)) = payload {
        require_bounds(payload).map_err(|error| OperateError::OutOfBounds { field, error })?;
    }
    Ok((Verb::Saga(verb), by(actor, reason)?))
}

/// Who and why, within bounds. What is empty is not said.
pub(super) fn by(actor: Option<String>, reason: Option<String>) -> Result<By, OperateError> {
    let said = |text: Option<String>| text.filter(|text| !text.is_empty());
    let (actor, reason) = (said(actor), said(reason));
    if let Some(bytes) = reason.as_ref().map(String::len).filter(|bytes| *bytes > REASON_BYTES_MAX) {
        return Err(OperateError::ReasonTooLong(bytes));
    }
    if let Some(bytes) = actor.as_ref().map(String::len).filter(|bytes| *bytes > ACTOR_BYTES_MAX) {
        return Err(OperateError::ActorTooLong(bytes));
    }
    Ok(By { actor, reason })
}
