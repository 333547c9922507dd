//! Errors of the orchestrator as problem documents: each has its code here, by matches that name every variant.

use crate::web::problem::ApiError;
use sagamq_api::{ErrorCode, Problem};
use sagamq_broker::{CreateTopicError, TopicError};
use sagamq_saga::orchestrator::{
    ActivateError, BreakError, CallError, CompletionError, DefinitionError, HistoryError, IncidentError, InstanceError, LaneTopicError,
    LockError, NotTaken, OperateError, OutOfBounds, OutcomeError, PublishError, QueryError, RepairError, RetentionError, ServiceError,
    SignalError, StartError, StartRepairError, TransactionError, VersionsError, WaitTooLong, of_rejection, of_write,
};
use sagamq_saga::protocol::Rejection;
use sagamq_saga::store::StoreError;

impl From<CompletionError> for ApiError {
    fn from(error: CompletionError) -> Self {
        Self::invalid(error.to_string())
    }
}

impl From<PublishError> for ApiError {
    fn from(error: PublishError) -> Self {
        let detail = error.to_string();
        let code = match error {
            PublishError::InvalidDefinition(faults) => {
                return Problem::new(ErrorCode::InvalidDefinition, detail).with_faults(faults).into();
            }
            PublishError::TooLarge(_) => ErrorCode::PayloadTooLarge,
            PublishError::VersionExists { .. } | PublishError::VersionUnreadable { .. } => ErrorCode::DefinitionVersionExists,
            PublishError::HostNotAllowed(_) | PublishError::ServiceNotAllowed(_) => ErrorCode::InvalidRequest,
            PublishError::Broken { .. } => ErrorCode::VerificationFailed,
            PublishError::NotVerified(_) => ErrorCode::VerificationIncomplete,
            PublishError::Topic(error) => return error.into(),
            PublishError::Store(error) => return of_store(&error, detail),
            PublishError::Write(error) => of_write(&error),
        };
        Self::new(code, detail)
    }
}

impl From<LaneTopicError> for ApiError {
    fn from(error: LaneTopicError) -> Self {
        let detail = error.to_string();
        let code = match error {
            LaneTopicError::NotALaneTopic { .. } | LaneTopicError::Group { .. } | LaneTopicError::OwnGroup { .. } => ErrorCode::TopicExists,
            LaneTopicError::Create { reason, .. } => match &*reason {
                CreateTopicError::Config(_) => ErrorCode::Internal,
                CreateTopicError::Reserved(_) => ErrorCode::InvalidRequest,
                CreateTopicError::Exists(_) => ErrorCode::TopicExists,
                CreateTopicError::Write(error) => of_write(error),
            },
            LaneTopicError::Own { reason, .. } => return TopicError::clone(&reason).into(),
        };
        Self::new(code, detail)
    }
}

impl From<DefinitionError> for ApiError {
    fn from(error: DefinitionError) -> Self {
        let code = match error {
            DefinitionError::NotFound { .. } => ErrorCode::DefinitionNotFound,
            DefinitionError::Unreadable { .. } => ErrorCode::StorageCorrupt,
        };
        Self::new(code, error.to_string())
    }
}

impl From<ActivateError> for ApiError {
    fn from(error: ActivateError) -> Self {
        let detail = error.to_string();
        let code = match error {
            ActivateError::Definition(error) => return error.into(),
            ActivateError::Percent(_)
            | ActivateError::SameVersion(_)
            | ActivateError::ReasonTooLong(_)
            | ActivateError::ActorTooLong(_) => ErrorCode::InvalidRequest,
            ActivateError::Write(error) => of_write(&error),
        };
        Self::new(code, detail)
    }
}

impl From<StartError> for ApiError {
    fn from(error: StartError) -> Self {
        let detail = error.to_string();
        let code = match error {
            StartError::Definition(error) => return error.into(),
            StartError::Misfit { misfit, .. } => {
                return Problem::new(ErrorCode::SagaInputMisfit, detail).with_pointer(misfit.pointer).into();
            }
            StartError::InvalidInput(_) => ErrorCode::InvalidSagaInput,
            StartError::OutOfBounds(error) => of_bounds(error),
            StartError::ModeNotPossible { .. } => ErrorCode::ModeNotPossible,
            StartError::ServiceWithoutAddress { .. } => ErrorCode::ServiceWithoutAddress,
            StartError::KeyConflict { .. } | StartError::ModeConflict { .. } | StartError::IdTaken { .. } => ErrorCode::SagaKeyConflict,
            StartError::OpenLimit { .. } => ErrorCode::SagaOpenLimit,
            StartError::Panicked => ErrorCode::Internal,
            StartError::Rejected(rejection) => return rejected(&rejection),
            StartError::Instance(error) => return error.into(),
        };
        Self::new(code, detail)
    }
}

impl From<LockError> for ApiError {
    fn from(error: LockError) -> Self {
        match error {
            LockError::Query(error) => error.into(),
            LockError::Lane(error) => error.into(),
        }
    }
}

impl From<BreakError> for ApiError {
    fn from(error: BreakError) -> Self {
        let detail = error.to_string();
        let code = match error {
            BreakError::NoReason => ErrorCode::InvalidRequest,
            BreakError::Refused(error) => return error.into(),
            BreakError::Lane(NotTaken::NotHeld(_) | NotTaken::OtherToken { .. }) => ErrorCode::LockNotHeld,
            BreakError::Lane(NotTaken::Write(error)) => of_write(&error),
        };
        Self::new(code, detail)
    }
}

impl From<ServiceError> for ApiError {
    fn from(error: ServiceError) -> Self {
        let code = match &error {
            ServiceError::NotFound(_) => ErrorCode::ServiceNotFound,
            ServiceError::Endpoints(_)
            | ServiceError::Url { .. }
            | ServiceError::Twice(_)
            | ServiceError::HostNotAllowed(_)
            | ServiceError::EjectAfter(_)
            | ServiceError::EjectMs(_)
            | ServiceError::Bound { .. }
            | ServiceError::BreakMs(_)
            | ServiceError::Headers(_)
            | ServiceError::Header { .. }
            | ServiceError::NotByName(_)
            | ServiceError::InTheClear(_)
            | ServiceError::NoCertificate
            | ServiceError::NoTls(_)
            | ServiceError::Definitions(_)
            | ServiceError::Pattern(_)
            | ServiceError::TooMany => ErrorCode::InvalidRequest,
            ServiceError::Write(error) => of_write(error),
        };
        Self::new(code, error.to_string())
    }
}

impl From<CallError> for ApiError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Instance(error) => error.into(),
            CallError::Rejected(rejection) => rejected(&rejection),
        }
    }
}

impl From<OperateError> for ApiError {
    fn from(error: OperateError) -> Self {
        match error {
            OperateError::ReasonTooLong(_) | OperateError::ActorTooLong(_) | OperateError::NoActor => {
                Self::new(ErrorCode::InvalidRequest, error.to_string())
            }
            OperateError::OutOfBounds { error: bounds, .. } => Self::new(of_bounds(bounds), error.to_string()),
            OperateError::Instance(error) => error.into(),
            OperateError::Rejected(rejection) => rejected(&rejection),
        }
    }
}

impl From<SignalError> for ApiError {
    fn from(error: SignalError) -> Self {
        match error {
            SignalError::IdLength(_) | SignalError::TwoIds => Self::new(ErrorCode::InvalidRequest, error.to_string()),
            SignalError::Refused(refused) => refused.into(),
        }
    }
}

impl From<QueryError> for ApiError {
    fn from(error: QueryError) -> Self {
        let detail = error.to_string();
        match error {
            QueryError::Parameter(_) => Self::new(ErrorCode::InvalidRequest, detail),
            QueryError::Store(error) => of_store(&error, detail),
        }
    }
}

impl From<OutcomeError> for ApiError {
    fn from(error: OutcomeError) -> Self {
        let detail = error.to_string();
        match error {
            OutcomeError::WrongCluster { .. } => Self::new(ErrorCode::WrongCluster, detail),
            // Not "not found": that would read as if nothing was known, which means a rollback.
            OutcomeError::NoLane { .. } | OutcomeError::Saga(_) => Self::new(ErrorCode::InvalidRequest, detail),
            OutcomeError::Instance(error) => error.into(),
        }
    }
}

impl From<TransactionError> for ApiError {
    fn from(error: TransactionError) -> Self {
        match error {
            TransactionError::Saga(_) | TransactionError::Instance(InstanceError::NotFound(_)) => {
                Self::new(ErrorCode::TransactionNotFound, error.to_string())
            }
            TransactionError::Instance(error) => error.into(),
            TransactionError::Query(error) => error.into(),
            TransactionError::History(HistoryError::Instance(InstanceError::NotFound(id))) => {
                TransactionError::Instance(InstanceError::NotFound(id)).into()
            }
            TransactionError::History(error) => error.into(),
        }
    }
}

impl From<RetentionError> for ApiError {
    fn from(error: RetentionError) -> Self {
        let code = match &error {
            RetentionError::Invalid(_) => ErrorCode::InvalidRequest,
            RetentionError::NoDefinition(_) => ErrorCode::DefinitionNotFound,
            RetentionError::Write(error) => of_write(error),
        };
        Self::new(code, error.to_string())
    }
}

impl From<VersionsError> for ApiError {
    fn from(error: VersionsError) -> Self {
        match error {
            VersionsError::Definition(error) => error.into(),
            VersionsError::Store(error) => {
                let detail = error.to_string();
                of_store(&error, detail)
            }
        }
    }
}

impl From<HistoryError> for ApiError {
    fn from(error: HistoryError) -> Self {
        match error {
            HistoryError::Limit(_) => Self::new(ErrorCode::InvalidRequest, error.to_string()),
            HistoryError::Instance(error) => error.into(),
        }
    }
}

impl From<IncidentError> for ApiError {
    fn from(error: IncidentError) -> Self {
        match error {
            IncidentError::Query(error) => error.into(),
            IncidentError::Lane(error) => error.into(),
        }
    }
}

impl From<WaitTooLong> for ApiError {
    fn from(error: WaitTooLong) -> Self {
        Self::new(ErrorCode::InvalidRequest, error.to_string())
    }
}

impl From<InstanceError> for ApiError {
    fn from(error: InstanceError) -> Self {
        let detail = error.to_string();
        let code = match error {
            InstanceError::NotFound(_) | InstanceError::KeyNotFound { .. } => ErrorCode::SagaNotFound,
            InstanceError::Quarantined { .. } => ErrorCode::SagaQuarantined,
            InstanceError::Store(error) => return of_store(&error, detail),
            InstanceError::Write(error) => of_write(&error),
        };
        Self::new(code, detail)
    }
}

impl From<RepairError> for ApiError {
    fn from(error: RepairError) -> Self {
        let detail = error.to_string();
        let code = match error {
            RepairError::Bad(_) => ErrorCode::InvalidRequest,
            RepairError::NotFound(_) => ErrorCode::RepairNotFound,
            RepairError::KeyConflict { .. } => ErrorCode::RepairKeyConflict,
            RepairError::TooManyOpen => ErrorCode::TooManyRepairs,
            RepairError::Refused(_) => ErrorCode::RepairStateConflict,
            RepairError::Store(error) => return of_store(&error, detail),
            RepairError::Write(error) => of_write(&error),
        };
        Self::new(code, detail)
    }
}

impl From<StartRepairError> for ApiError {
    fn from(error: StartRepairError) -> Self {
        match error {
            StartRepairError::Verb(verb) => verb.into(),
            StartRepairError::NoSuchSaga(_) => Self::new(ErrorCode::SagaNotFound, error.to_string()),
            StartRepairError::PreviewLimit(_) => Self::new(ErrorCode::InvalidRequest, error.to_string()),
            StartRepairError::Query(error) => error.into(),
            StartRepairError::Instance(error) => error.into(),
            StartRepairError::Repair(error) => error.into(),
        }
    }
}

/// What a protocol refuses, with the place where an input does not fit.
fn rejected(rejection: &Rejection) -> ApiError {
    let problem = Problem::new(of_rejection(rejection), rejection.to_string());
    match rejection {
        Rejection::Misfit(misfit) => problem.with_pointer(misfit.pointer.clone()).into(),
        _ => problem.into(),
    }
}

fn of_store(error: &StoreError, detail: String) -> ApiError {
    match error {
        StoreError::Storage(error) => error.clone().into(),
        StoreError::Codec(_) | StoreError::History { .. } => ApiError::new(ErrorCode::StorageCorrupt, detail),
    }
}

fn of_bounds(error: OutOfBounds) -> ErrorCode {
    match error {
        OutOfBounds::TooLarge { .. } => ErrorCode::PayloadTooLarge,
        OutOfBounds::TooDeep { .. } => ErrorCode::InvalidSagaInput,
    }
}
