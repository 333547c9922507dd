//! Where an instance and its steps stand.

#[cfg(feature = "json-schema")]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
#[cfg(feature = "openapi")]
use utoipa::ToSchema;

/// State of a saga instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
#[cfg_attr(feature = "json-schema", derive(JsonSchema))]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum SagaState {
    /// Accepted, no step is decided yet.
    Pending,
    /// Steps run.
    Running,
    /// A step waits for its retry or for a participant that works on.
    Waiting,
    /// An operator stopped it for now.
    Paused,
    /// Effects are being undone.
    Compensating,
    /// Every step succeeded, was left out, or was one that the saga goes on without. Final.
    Completed,
    /// Every effect is undone. Final.
    Compensated,
    /// Refused before any effect. Final.
    Failed,
    /// A compensation cannot finish without an operator.
    Blocked,
    /// An operator ended it without compensation. Final.
    Terminated,
    /// It is set aside, because its history cannot be read or a decision about it failed: it does not run until that is mended.
    Quarantined,
}

impl SagaState {
    /// Every state.
    pub const ALL: [Self; 11] = [
        Self::Pending,
        Self::Running,
        Self::Waiting,
        Self::Paused,
        Self::Compensating,
        Self::Completed,
        Self::Compensated,
        Self::Failed,
        Self::Blocked,
        Self::Terminated,
        Self::Quarantined,
    ];

    /// Whether nothing will ever change it.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Compensated | Self::Failed | Self::Terminated)
    }
}

impl SagaState {
    /// The state as it stands on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Running => "RUNNING",
            Self::Waiting => "WAITING",
            Self::Paused => "PAUSED",
            Self::Compensating => "COMPENSATING",
            Self::Completed => "COMPLETED",
            Self::Compensated => "COMPENSATED",
            Self::Failed => "FAILED",
            Self::Blocked => "BLOCKED",
            Self::Terminated => "TERMINATED",
            Self::Quarantined => "QUARANTINED",
        }
    }
}

impl core::fmt::Display for SagaState {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.pad(self.as_str())
    }
}

/// State of a step of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
#[cfg_attr(feature = "json-schema", derive(JsonSchema))]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum StepState {
    /// Its turn has not come.
    Scheduled,
    /// The action is called.
    InProgress,
    /// The action took effect.
    Succeeded,
    /// The participant refused: the action took no effect.
    Failed,
    /// The action may have taken effect: its attempts ran out without an answer.
    Unknown,
    /// It was left out: by an operator, or by its condition.
    Skipped,
    /// The compensation is called.
    Compensating,
    /// The effect is undone.
    Compensated,
    /// The attempts of the compensation ran out.
    CompensationFailed,
}
