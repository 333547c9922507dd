//! Replies of workers.

use super::door::Orchestrator;
use super::error::InstanceError;
use super::lane::{LaneInput, Undecided};
use crate::definition::Target;
use crate::participant::Word;
use crate::protocol::Rejection;
use sagamq_api::saga::{AttemptId, CompleteCall, CompletedCall, Operation};
use sagamq_api::{SagaName, TopicName};

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

/// Who does what a call asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Called {
    /// The workers of this topic.
    Workers(TopicName),
    /// Somebody else: a participant that is called over HTTP, another saga, or nobody.
    Other,
    /// There is no such step.
    Nothing,
}

impl Orchestrator {
    /// The definition that a call is of, and who does it: as it is now, by the version that its instance runs.
    ///
    /// # Errors
    /// When there is no such instance, or its history is damaged.
    pub async fn called(&self, attempt: &AttemptId) -> Result<(SagaName, Called), InstanceError> {
        let meant = self.lane(attempt.instance)?.ask(|reply| LaneInput::Addressee { attempt: Box::new(attempt.clone()), reply }).await;
        // A lane that writes nothing any more says no more of it than the name does.
        let summary = self.instance(meant.unwrap_or(attempt.instance)).await?.summary();
        // Without its definition nothing becomes of a reply.
        let Ok(definition) = self.0.definitions.compiled(&summary.saga, summary.version) else { return Ok((summary.saga, Called::Other)) };
        let Some(step) = definition.steps.iter().find(|step| step.id == attempt.step) else { return Ok((summary.saga, Called::Nothing)) };
        let call = if attempt.operation == Operation::Compensation { step.compensation.as_ref() } else { step.action.call() };
        let called = match call.map(|call| &call.target) {
            Some(Target::Topic(topic)) => Called::Workers(topic.clone()),
            Some(Target::Http(_) | Target::Saga(_)) | None => Called::Other,
        };
        Ok((summary.saga, called))
    }

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
