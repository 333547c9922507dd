//! What a step does forward: it calls a participant, it sleeps, or it waits for a signal.

use super::call::Call;
use crate::expression::Template;
use core::time::Duration;
use jiff::fmt::serde::unsigned_duration::friendly::compact;
use sagamq_api::{SignalName, StepId};
use serde::{Deserialize, Serialize};

/// What a step does forward.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// It calls a participant.
    Call(Call),
    /// It calls nobody, and is over when it has slept.
    Sleep(Sleep),
    /// It calls nobody, and is over when the signal has come.
    WaitFor(WaitFor),
}

/// What a step waits for.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WaitFor {
    /// The name of the signal, whose payload is the step's output.
    pub signal: SignalName,
    /// How long it waits; `None`: as long as the saga may take.
    #[serde(with = "compact::optional", default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
    /// What it means when that time is over.
    pub on_timeout: OnTimeout,
}

/// What it means that a signal has not come in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnTimeout {
    /// The step failed, and the saga is undone.
    Fail,
    /// The step is over, with `null` as its output.
    Continue,
}

/// How long a step sleeps.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sleep {
    /// So long.
    For(#[serde(with = "compact::required")] Duration),
    /// As long as its value says: a duration as text.
    Given(Template),
    /// Until the time that its value says: RFC 3339, or milliseconds since 1970.
    Until(Template),
}

impl Action {
    /// The call, if it is one.
    #[must_use]
    pub const fn call(&self) -> Option<&Call> {
        match self {
            Self::Call(call) => Some(call),
            Self::Sleep(_) | Self::WaitFor(_) => None,
        }
    }

    /// The signal that it waits for, if it does.
    #[must_use]
    pub const fn signal(&self) -> Option<&SignalName> {
        match self {
            Self::WaitFor(wait) => Some(&wait.signal),
            Self::Call(_) | Self::Sleep(_) => None,
        }
    }

    /// The call, to change it.
    #[must_use]
    pub const fn call_mut(&mut self) -> Option<&mut Call> {
        match self {
            Self::Call(call) => Some(call),
            Self::Sleep(_) | Self::WaitFor(_) => None,
        }
    }

    /// What says how long it sleeps, if an expression does.
    pub(crate) const fn value(&self) -> Option<&Template> {
        match self {
            Self::Call(_) | Self::Sleep(Sleep::For(_)) | Self::WaitFor(_) => None,
            Self::Sleep(Sleep::Given(value) | Sleep::Until(value)) => Some(value),
        }
    }

    /// Why a step with it cannot be run in two phases, if it cannot.
    pub(super) fn no_branch(&self, step: &StepId) -> Option<String> {
        match self {
            Self::Call(call) => call.no_branch(),
            Self::Sleep(_) => Some(format!("`{step}` sleeps: {LOCKS_WOULD_SLEEP}")),
            Self::WaitFor(wait) => Some(format!("`{step}` waits for the signal `{}`: {LOCKS_WOULD_SLEEP}", wait.signal)),
        }
    }
}

/// Why no step sleeps or waits for a signal in two phases.
pub(crate) const LOCKS_WOULD_SLEEP: &str = "what was called before holds its locks, and locks must not wait";

impl From<Call> for Action {
    fn from(call: Call) -> Self {
        Self::Call(call)
    }
}
