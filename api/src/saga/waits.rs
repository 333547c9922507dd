//! Why an instance that is not at its end does not move right now.

use super::{Failure, Operation};
use crate::ids::ItemIndex;
use crate::names::StepId;
use serde::{Deserialize, Serialize};
#[cfg(feature = "openapi")]
use utoipa::ToSchema;

/// What an instance waits for. Of several things, a listing shows the one that most needs somebody's help: the codes are in that order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum WaitCode {
    /// It is set aside: its history cannot be read, or a decision about it failed.
    SetAside,
    /// An operator has to look at it.
    Blocked,
    /// An operator stopped it for now.
    Paused,
    /// The participant cannot be reached; nothing was sent, and it is tried on.
    ParticipantUnreachable,
    /// An attempt failed, and the next one has its time.
    RetryWaits,
    /// The call is held back by a bound of its service: `held_by` says which.
    HeldBack,
    /// The call lies in its queue: no worker has taken it, or it has no place at its service yet.
    InQueue,
    /// The participant said that it works on.
    ParticipantWorks,
    /// The participant has the call and has not answered yet.
    Called,
    /// A sub-saga runs, or is being undone.
    SubSaga,
    /// A step waits for a lock that another saga holds.
    AwaitsLock,
    /// A step sleeps: nobody is called until its time is over.
    Sleeps,
    /// A step waits for a signal that somebody sends.
    AwaitsSignal,
}

/// Why an instance does not move right now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct Waits {
    /// Stable code.
    pub code: WaitCode,
    /// The same as a sentence, with times in UTC.
    pub message: String,
    /// The step it is about.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub step: Option<StepId>,
    /// Which item of it, if it fans out.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub item: Option<ItemIndex>,
    /// What is called.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub operation: Option<Operation>,
    /// The attempt that is in progress or was the last one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub attempt: Option<u32>,
    /// Since when it is so, in milliseconds since 1970, if that is known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub since_ms: Option<u64>,
    /// When it is tried again, the attempt or the wait is given up, or a step has slept, in milliseconds since 1970; absent if nothing
    /// happens by itself.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub next_at_ms: Option<u64>,
    /// What went wrong last.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub failure: Option<Failure>,
    /// What holds the call back, if a bound of its service does.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub held_by: Option<HeldBy>,
}

/// What holds a call back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct HeldBy {
    /// The service; of one worker of a transaction, its base URL.
    pub service: String,
    /// Which of its bounds.
    pub bound: ServiceBound,
    /// What the bound is set to.
    pub limit: u64,
}

/// A bound on how much of a service is asked, by the name under which it is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum ServiceBound {
    /// Its breaker is open: too many calls in a row had no answer.
    BreakAfter,
    /// As many calls as it bears run already.
    MaxInFlight,
    /// As many calls as it bears in a second have begun.
    CallsPerSecond,
    /// As many calls as the server makes to one address run already; a setting of the server.
    ParticipantCallsMax,
}

impl ServiceBound {
    /// The name under which it is set.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BreakAfter => "break_after",
            Self::MaxInFlight => "max_in_flight",
            Self::CallsPerSecond => "calls_per_second",
            Self::ParticipantCallsMax => "participant_calls_max",
        }
    }
}

impl core::fmt::Display for ServiceBound {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.pad(self.as_str())
    }
}

impl WaitCode {
    /// Every one.
    pub const ALL: [Self; 13] = [
        Self::SetAside,
        Self::Blocked,
        Self::Paused,
        Self::ParticipantUnreachable,
        Self::RetryWaits,
        Self::HeldBack,
        Self::InQueue,
        Self::ParticipantWorks,
        Self::Called,
        Self::SubSaga,
        Self::AwaitsLock,
        Self::Sleeps,
        Self::AwaitsSignal,
    ];

    /// The code as it stands on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SetAside => "SET_ASIDE",
            Self::Blocked => "BLOCKED",
            Self::Paused => "PAUSED",
            Self::ParticipantUnreachable => "PARTICIPANT_UNREACHABLE",
            Self::RetryWaits => "RETRY_WAITS",
            Self::HeldBack => "HELD_BACK",
            Self::InQueue => "IN_QUEUE",
            Self::ParticipantWorks => "PARTICIPANT_WORKS",
            Self::Called => "CALLED",
            Self::SubSaga => "SUB_SAGA",
            Self::AwaitsLock => "AWAITS_LOCK",
            Self::Sleeps => "SLEEPS",
            Self::AwaitsSignal => "AWAITS_SIGNAL",
        }
    }
}

impl core::fmt::Display for WaitCode {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.pad(self.as_str())
    }
}
