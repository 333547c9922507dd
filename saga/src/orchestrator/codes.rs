//! The stable codes of refusals: what the interface answers with, and what the result of a repair says.

use super::error::InstanceError;
use crate::protocol::Rejection;
use crate::store::StoreError;
use sagamq_api::ErrorCode;
use sagamq_broker::WriteError;
use sagamq_broker::storage::StorageError;

/// Of an instance that cannot be asked.
pub(super) fn of_instance(error: &InstanceError) -> ErrorCode {
    match error {
        InstanceError::NotFound(_) | InstanceError::KeyNotFound { .. } => ErrorCode::SagaNotFound,
        InstanceError::Quarantined { .. } => ErrorCode::SagaQuarantined,
        InstanceError::Store(error) => match &**error {
            StoreError::Storage(StorageError::Io(_)) => ErrorCode::Internal,
            StoreError::Storage(StorageError::Corrupt(_)) | StoreError::Codec(_) | StoreError::History { .. } => ErrorCode::StorageCorrupt,
        },
        InstanceError::Write(error) => of_write(error),
    }
}

/// The code of what a lane could not write.
#[must_use]
pub fn of_write(error: &WriteError) -> ErrorCode {
    match error {
        WriteError::Failed(_) | WriteError::Stopped(_) => ErrorCode::WritesStopped,
        WriteError::DiskLow { .. } => ErrorCode::DiskLow,
        WriteError::ShuttingDown => ErrorCode::ShuttingDown,
        WriteError::Lost(_) => ErrorCode::Internal,
    }
}

/// The code of what a protocol refuses.
#[must_use]
pub fn of_rejection(rejection: &Rejection) -> ErrorCode {
    match rejection {
        Rejection::Fenced { .. } => ErrorCode::Fenced,
        Rejection::NoSuchStep { .. } | Rejection::NoStep(_) | Rejection::NoSuchBranch(_) => ErrorCode::InvalidRequest,
        Rejection::InvalidInput(_) => ErrorCode::InvalidSagaInput,
        Rejection::NoSuchSignal { .. } | Rejection::NoSignals => ErrorCode::UnknownSignal,
        Rejection::NotAwaited { .. } => ErrorCode::SignalNotAwaited,
        Rejection::SignalIdTaken(_) => ErrorCode::IdempotencyKeyReused,
        Rejection::SignalLimit { .. } => ErrorCode::SignalLimit,
        Rejection::Misfit(_) => ErrorCode::SagaInputMisfit,
        Rejection::NoTransaction => ErrorCode::TransactionNotFound,
        Rejection::HandedOver(_) => ErrorCode::SagaHandedOver,
        Rejection::EffectsStand(_) => ErrorCode::SagaEffectStands,
        Rejection::InDoubt(_) => ErrorCode::SagaEffectInDoubt,
        Rejection::NotDone(_) => ErrorCode::SagaStepNotDone,
        Rejection::NotCancellable
        | Rejection::NotNow { .. }
        | Rejection::OnlySagas(_)
        | Rejection::AlreadyFinal(_)
        | Rejection::Undecided
        | Rejection::BranchSettled(_) => ErrorCode::SagaStateConflict,
        Rejection::AlreadyStarted | Rejection::NotStarted => ErrorCode::Internal,
    }
}
