//! What an event is counted as.

use super::SagaEvent;
use crate::protocol::occurrence::{AttemptEnd, EndedAttempt, Occurrence};
use sagamq_api::saga::Operation;

impl SagaEvent {
    /// The attempt that it ends, if it does.
    pub(in crate::protocol) fn ended(&self) -> Option<EndedAttempt<'_>> {
        let (attempt, end, failure) = match self {
            Self::StepSucceeded { attempt, .. } | Self::StepCompensated { attempt } => (attempt, AttemptEnd::Succeeded, None),
            Self::StepAttemptFailed { attempt, failure, refused: true, .. } | Self::StepFailed { attempt, failure } => {
                (attempt, AttemptEnd::Refused, Some(failure))
            }
            Self::StepAttemptFailed { attempt, failure, .. } | Self::StepUnknown { attempt, failure } => {
                (attempt, AttemptEnd::Unknown, Some(failure))
            }
            Self::StepCompensationFailed { attempt, failure } => (attempt, AttemptEnd::GivenUp, Some(failure)),
            _ => return None,
        };
        Some(EndedAttempt { attempt, end, failure })
    }

    /// What it is counted as, if it is.
    pub(in crate::protocol) fn occurrence(&self) -> Option<Occurrence> {
        match self {
            Self::SagaStarted { .. } => Some(Occurrence::Started),
            Self::SagaBlocked { .. } => Some(Occurrence::Blocked),
            Self::StepAttemptFailed { attempt, refused, .. } => {
                let end = if *refused { AttemptEnd::Refused } else { AttemptEnd::Unknown };
                Some(Occurrence::AttemptEnded(attempt.operation, end))
            }
            Self::StepSucceeded { .. } => Some(Occurrence::AttemptEnded(Operation::Action, AttemptEnd::Succeeded)),
            Self::StepFailed { .. } => Some(Occurrence::AttemptEnded(Operation::Action, AttemptEnd::Refused)),
            Self::StepUnknown { .. } => Some(Occurrence::AttemptEnded(Operation::Action, AttemptEnd::Unknown)),
            Self::StepCompensated { .. } => Some(Occurrence::AttemptEnded(Operation::Compensation, AttemptEnd::Succeeded)),
            Self::StepCompensationFailed { .. } => Some(Occurrence::AttemptEnded(Operation::Compensation, AttemptEnd::GivenUp)),
            Self::StepCondition { .. }
            | Self::StepFannedOut { .. }
            | Self::StepCalled { .. }
            | Self::StepHandedOut { .. }
            | Self::StepNotSent { .. }
            | Self::StepOngoing { .. }
            | Self::StepAsleep { .. }
            | Self::StepWoke { .. }
            | Self::LockAsked { .. }
            | Self::LockGranted { .. }
            | Self::LockBroken { .. }
            | Self::SignalReceived { .. }
            | Self::StepAttemptsExceeded { .. }
            | Self::SagaStopRequested { .. }
            | Self::SagaTimeoutPassed
            | Self::SagaUndoRequested { .. }
            | Self::SagaParentEnded
            | Self::SagaCompensating { .. }
            | Self::SagaCompleted { .. }
            | Self::SagaCompensated
            | Self::SagaFailed
            | Self::SagaUnblocked
            | Self::SagaPaused { .. }
            | Self::SagaResumed { .. }
            | Self::SagaTerminated { .. }
            | Self::SagaInputEdited { .. }
            | Self::SagaHandedOver { .. }
            | Self::SagaRerun { .. }
            | Self::StepCopied { .. }
            | Self::StepRetried { .. }
            | Self::StepSkipped { .. }
            | Self::StepResolved { .. } => None,
        }
    }
}
