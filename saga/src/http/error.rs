//! Errors of the orchestrator as problem documents: each has its code here, by a match that names every variant.

use crate::orchestrator::SagaError;
use crate::protocol::Rejection;
use crate::store::StoreError;
use sagamq_api::{ErrorCode, Problem};
use sagamq_broker::http::problem::ApiError;
use sagamq_broker::{CreateTopicError, EmbedError, TopicError, WriteError};

/// A [`SagaError`] on its way out.
pub(super) struct Refused(pub(super) SagaError);

impl From<SagaError> for Refused {
    fn from(error: SagaError) -> Self {
        Self(error)
    }
}

impl axum::response::IntoResponse for Refused {
    fn into_response(self) -> axum::response::Response {
        problem(self.0).into_response()
    }
}

fn problem(error: SagaError) -> ApiError {
    let detail = error.to_string();
    let code = match error {
        SagaError::InvalidDefinition(faults) => return Problem::new(ErrorCode::InvalidDefinition, detail).with_faults(faults).into(),
        SagaError::DefinitionTooLarge(_) | SagaError::PayloadTooLarge { .. } => ErrorCode::PayloadTooLarge,
        SagaError::VersionExists { .. } | SagaError::VersionUnreadable { .. } => ErrorCode::DefinitionVersionExists,
        SagaError::NotALaneTopic { .. } => ErrorCode::TopicExists,
        SagaError::Topic { reason, .. } => match &*reason {
            CreateTopicError::Config(_) => ErrorCode::Internal,
            CreateTopicError::Exists(_) => ErrorCode::TopicExists,
            CreateTopicError::Write(error) => of_write(error),
        },
        SagaError::Own { reason, .. } => return TopicError::clone(&reason).into(),
        SagaError::Group { .. } | SagaError::OwnGroup { .. } => ErrorCode::TopicExists,
        SagaError::DefinitionNotFound { .. } => ErrorCode::DefinitionNotFound,
        SagaError::InvalidInput(_) | SagaError::TooDeep { what: "the input", .. } => ErrorCode::InvalidSagaInput,
        SagaError::TooDeep { .. } => ErrorCode::InvalidRequest,
        SagaError::KeyConflict { .. } | SagaError::IdTaken { .. } => ErrorCode::SagaKeyConflict,
        SagaError::SagaNotFound(_) => ErrorCode::SagaNotFound,
        SagaError::Rejected(rejection) => of_rejection(&rejection),
        SagaError::ReasonTooLong(_) | SagaError::Parameter(_) => ErrorCode::InvalidRequest,
        SagaError::Quarantined { .. } => ErrorCode::SagaQuarantined,
        SagaError::DefinitionUnreadable { .. } => ErrorCode::StorageCorrupt,
        SagaError::Store(error) => match &*error {
            StoreError::Storage(error) => return error.clone().into(),
            StoreError::Codec(_) | StoreError::History { .. } => ErrorCode::StorageCorrupt,
        },
        SagaError::Write(error) => of_write(&error),
        SagaError::Embed(error) => match &*error {
            EmbedError::TopicNotFound(_) | EmbedError::NotALaneTopic { .. } | EmbedError::GroupNotFound { .. } | EmbedError::Encode(_) => {
                ErrorCode::Internal
            }
        },
        SagaError::DecisionPanicked => ErrorCode::Internal,
        SagaError::ShuttingDown => ErrorCode::ShuttingDown,
    };
    ApiError::new(code, detail)
}

fn of_write(error: &WriteError) -> ErrorCode {
    match error {
        WriteError::Failed(_) | WriteError::Stopped(_) => ErrorCode::WritesStopped,
        WriteError::ShuttingDown => ErrorCode::ShuttingDown,
        WriteError::Lost(_) => ErrorCode::Internal,
        WriteError::TopicDeleted => ErrorCode::TopicNotFound,
    }
}

fn of_rejection(rejection: &Rejection) -> ErrorCode {
    match rejection {
        Rejection::Fenced { .. } => ErrorCode::Fenced,
        Rejection::NoSuchStep { .. } => ErrorCode::InvalidRequest,
        Rejection::NotCancellable | Rejection::AlreadyFinal(_) => ErrorCode::SagaStateConflict,
        Rejection::AlreadyStarted | Rejection::NotStarted => ErrorCode::Internal,
    }
}
