//! What an event is counted as.

use super::SagaEvent;
use crate::protocol::occurrence::{AttemptEnd, Occurrence};
use sagamq_api::saga::Operation;

impl SagaEvent {
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
