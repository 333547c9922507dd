//! A call to a participant: who is called, with what, and how often.

use crate::expression::Template;
use core::time::Duration;
use jiff::fmt::serde::unsigned_duration::friendly::compact;
use sagamq_api::{SagaName, TopicName};
use serde::{Deserialize, Serialize};

/// A call to a participant.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Call {
    /// The name of the service that is called.
    pub service: String,
    /// How it is reached.
    pub target: Target,
    /// The operation of the service, for example `reserve`.
    pub name: String,
    /// The arguments. An action's are over `input`, `steps` and `saga`; a compensation's also over `failure`.
    pub arguments: Template,
    /// How long one attempt may take, from the moment it is handed to the participant.
    #[serde(with = "compact::required")]
    pub timeout: Duration,
    /// What happens when an attempt does not succeed.
    pub retry: RetryPolicy,
}

impl Call {
    /// Why the service of an action cannot take part in two phases, if it cannot.
    pub(super) fn no_branch(&self) -> Option<String> {
        let Self { service, target, .. } = self;
        match target {
            Target::Topic(_) => Some(format!("{}: {LOCKS_WOULD_WAIT}", service_with_topic(service))),
            Target::Http(_) if service.len() > BRANCH_BYTES_MAX => Some(long_service_name(service)),
            Target::Http(_) => None,
            Target::Saga(saga) => Some(format!("the sub-saga `{}`: {LOCKS_WOULD_LAST}", saga.name)),
        }
    }

    /// The saga that it starts or undoes, if it calls no participant.
    #[must_use]
    pub const fn sub_saga(&self) -> Option<&SubSaga> {
        match &self.target {
            Target::Saga(saga) => Some(saga),
            Target::Topic(_) | Target::Http(_) => None,
        }
    }
}

/// Longest name of a service that takes part in two phases, in bytes: it is a part of the name of a prepared transaction, which has less than
/// 200 in PostgreSQL.
pub const BRANCH_BYTES_MAX: usize = 100;

/// Why a service with a topic takes no part in two phases.
pub(crate) const LOCKS_WOULD_WAIT: &str = "locks must not wait in a queue";

/// Why no step starts a saga in two phases.
pub(crate) const LOCKS_WOULD_LAST: &str = "what was called before holds its locks, and locks must not wait for a saga";

/// Why what a keyword says cannot be had in two phases.
pub(crate) fn only_in_sagas(step: &str, keyword: &str) -> String {
    format!("the step `{step}` has `{keyword}`, and in two phases all steps take effect or none does")
}

pub(crate) fn service_with_topic(service: &str) -> String {
    format!("the service `{service}` has a topic, and in two phases services are called over HTTP")
}

pub(crate) fn long_service_name(service: &str) -> String {
    let bytes = service.len();
    format!("the name of the service `{service}` has {bytes} bytes; in two phases at most {BRANCH_BYTES_MAX} are allowed")
}

/// How a participant is reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// Its command topic; its workers are the queue group `workers`.
    Topic(TopicName),
    /// Over HTTP: `POST {base}/{name}`.
    Http(HttpTarget),
    /// No participant: another saga is started, or undone.
    Saga(SubSaga),
}

/// The saga that a step starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SubSaga {
    /// Name of its definition.
    pub name: SagaName,
    /// Its version; `None`: one that new sagas take when it is started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u32>,
}

/// Who is called over HTTP. A base URL has no slash at its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HttpTarget {
    /// A service: at its own address, else at the one that the definition says.
    Service {
        /// Its name.
        name: String,
        /// What the definition says.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        default: Option<String>,
    },
    /// One worker of a service, and no other.
    Worker {
        /// The service's name.
        service: String,
        /// Where the worker is.
        base: String,
        /// Whether its branch was opened where a definition says: what calls to the service show is not shown to it.
        #[serde(default, skip_serializing_if = "core::ops::Not::not")]
        is_foreign: bool,
    },
}

/// When and how often a call is tried again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetryPolicy {
    /// Backoff after the first attempt.
    #[serde(with = "compact::required")]
    pub initial: Duration,
    /// Factor of each further backoff.
    pub factor: f64,
    /// Longest backoff.
    #[serde(with = "compact::required")]
    pub max: Duration,
    /// Attempts in all; then an action's outcome is unknown and a compensation blocks the saga.
    pub attempts: u32,
    /// Failure codes that are not worth another attempt.
    pub never_on: Vec<String>,
}

impl RetryPolicy {
    /// Default of an action: 200 ms, doubled up to 30 s, 10 attempts.
    #[must_use]
    pub fn action() -> Self {
        Self { initial: Duration::from_millis(200), factor: 2.0, max: Duration::from_secs(30), attempts: 10, never_on: Vec::new() }
    }

    /// Default of a compensation and of a step behind the pivot: 500 ms, doubled up to 60 s, 70 attempts.
    #[must_use]
    pub fn compensation() -> Self {
        Self { initial: Duration::from_millis(500), factor: 2.0, max: Duration::from_secs(60), attempts: 70, never_on: Vec::new() }
    }

    /// Default of telling a branch what was decided: 500 ms, doubled up to 5 s. It costs next to nothing, and locks may wait for it.
    #[must_use]
    pub fn decision() -> Self {
        Self { max: Duration::from_secs(5), ..Self::compensation() }
    }

    /// Default of starting and of undoing a sub-saga: what is not known of it is not found out by asking again.
    #[must_use]
    pub fn once() -> Self {
        Self { attempts: 1, ..Self::action() }
    }

    /// The same with another longest backoff.
    #[must_use]
    pub fn with_max(self, max: Duration) -> Self {
        Self { max, ..self }
    }

    /// The backoff before attempt `attempt + 1`, with full jitter: `jitter` in 0..=1 is the drawn share of the computed backoff.
    #[must_use]
    pub fn backoff(&self, attempt: u32, jitter: f64) -> Duration {
        let doublings = i32::try_from(attempt.saturating_sub(1)).unwrap_or(i32::MAX);
        let seconds = (self.initial.as_secs_f64() * self.factor.powi(doublings)).min(self.max.as_secs_f64());
        Duration::from_secs_f64(seconds.max(0.0) * jitter.clamp(0.0, 1.0))
    }
}

/// How long an attempt may take when the definition does not say.
pub const CALL_TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);
