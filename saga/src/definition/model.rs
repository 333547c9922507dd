//! The types of a definition.

use crate::expression::Template;
use core::time::Duration;
use jiff::fmt::serde::unsigned_duration::friendly::compact;
use sagamq_api::saga::{Mode, Operation};
use sagamq_api::{SagaName, StepId, TopicName};
use serde::{Deserialize, Serialize};

/// A published saga: immutable under its name and version.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Definition {
    /// Name of the saga.
    pub name: SagaName,
    /// Version; a new text needs a new one.
    pub version: u32,
    /// How instances are run when a start does not say.
    #[serde(default)]
    pub mode: Mode,
    /// Why it cannot be run as a saga, if it is meant for two phases and cannot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_saga: Option<String>,
    /// How often a branch of a transaction is told the decision until it acknowledges it: a commit without end, whatever `attempts` says.
    #[serde(default = "RetryPolicy::decision")]
    pub decision_retry: RetryPolicy,
    /// The business key, over `input`: one instance a key.
    pub key: Template,
    /// How long an instance may take until its pivot; then what was done is compensated. After the pivot it goes on.
    #[serde(with = "compact::optional")]
    pub timeout: Option<Duration>,
    /// Steps in a topological order of `after`: the order of the text, as far as that is one.
    pub steps: Vec<Step>,
    /// What a completed instance returns, over `input` and `steps`.
    pub output: Option<Template>,
}

impl Definition {
    /// Every call of every step.
    pub fn calls(&self) -> impl Iterator<Item = &Call> {
        self.steps.iter().flat_map(|step| step.action.call().into_iter().chain(&step.compensation))
    }

    /// The topics that commands are sent to.
    pub fn topics(&self) -> impl Iterator<Item = TopicName> {
        self.calls().filter_map(|call| match &call.target {
            Target::Topic(topic) => Some(topic.clone()),
            Target::Http(_) => None,
        })
    }

    /// The base URLs that the definition says.
    pub fn http_bases(&self) -> impl Iterator<Item = &str> {
        self.calls().filter_map(|call| match &call.target {
            Target::Topic(_) => None,
            Target::Http(HttpTarget::Service { default, .. }) => default.as_deref(),
            Target::Http(HttpTarget::Worker(base)) => Some(base.as_str()),
        })
    }

    /// Why it cannot be run in a mode, if it cannot.
    #[must_use]
    pub fn forbids(&self, mode: Mode) -> Option<String> {
        match mode {
            Mode::Saga => self.no_saga.clone(),
            Mode::TwoPhase => self.steps.iter().find_map(Step::no_two_phases),
        }
    }

    /// Whether an expression of it may take more than a moment.
    #[must_use]
    pub fn is_long(&self) -> bool {
        let conditions = self.steps.iter().filter_map(|step| step.when.as_ref());
        self.calls().map(|call| &call.arguments).chain(conditions).chain(&self.output).any(Template::is_long)
    }
}

/// One step: an action and what undoes it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Id of the step.
    pub id: StepId,
    /// Indices of the steps that must have succeeded first. Without any `after:` in the text: the step before.
    pub after: Vec<usize>,
    /// Where the step stands relative to the pivot.
    pub kind: StepKind,
    /// What it does forward.
    pub action: Action,
    /// The semantic undo. `None`: the step has no effect to undo, or lies behind the pivot.
    pub compensation: Option<Call>,
    /// How long the action may wait to be handed to its participant; `None`: as long as the saga may take. Behind the pivot only of a step
    /// that the saga goes on without.
    #[serde(with = "compact::optional", default, skip_serializing_if = "Option::is_none")]
    pub queue_timeout: Option<Duration>,
    /// Whether the step is done at all: over `input`, `steps` and `saga`, asked once, when its turn has come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<Template>,
    /// Whether the saga goes on without it if it has no effect, and undoes it alone if that is not known.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub optional: bool,
}

impl Step {
    /// Whether its output may be absent although the saga went on behind it.
    #[must_use]
    pub const fn may_be_without_output(&self) -> bool {
        self.when.is_some() || self.optional
    }

    /// Why it cannot be run in two phases, if it cannot.
    fn no_two_phases(&self) -> Option<String> {
        let keyword =
            [("when", self.when.is_some()), ("optional", self.optional)].into_iter().find_map(|(name, is_there)| is_there.then_some(name));
        keyword.map(|keyword| only_in_sagas(self.id.as_str(), keyword)).or_else(|| self.action.no_branch())
    }

    /// What is called.
    ///
    /// # Panics
    /// When there is no compensation and one is asked for, or neither action nor compensation is.
    #[must_use]
    pub fn call(&self, operation: Operation) -> &Call {
        match operation {
            Operation::Action => self.action.call().expect("only a step that calls is called"),
            Operation::Compensation => self.compensation.as_ref().expect("only what has a compensation is compensated"),
            other => panic!("a step has no {other}"),
        }
    }

    /// The same, to change it.
    ///
    /// # Panics
    /// As [`Step::call`].
    #[must_use]
    pub fn call_mut(&mut self, operation: Operation) -> &mut Call {
        match operation {
            Operation::Action => self.action.call_mut().expect("only a step that calls is called"),
            Operation::Compensation => self.compensation.as_mut().expect("only what has a compensation is compensated"),
            other => panic!("a step has no {other}"),
        }
    }
}

/// What a step does forward.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// It calls a participant.
    Call(Call),
}

impl Action {
    /// The call, if it is one.
    #[must_use]
    pub const fn call(&self) -> Option<&Call> {
        match self {
            Self::Call(call) => Some(call),
        }
    }

    /// The same, to change it.
    #[must_use]
    pub const fn call_mut(&mut self) -> Option<&mut Call> {
        match self {
            Self::Call(call) => Some(call),
        }
    }

    /// Why it cannot take part in two phases, if it cannot.
    fn no_branch(&self) -> Option<String> {
        match self {
            Self::Call(call) => call.no_branch(),
        }
    }
}

impl From<Call> for Action {
    fn from(call: Call) -> Self {
        Self::Call(call)
    }
}

/// Where a step stands relative to the pivot (Richardson: compensatable, pivot, retriable).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepKind {
    /// Before the pivot, or in a saga without one: undone when the saga fails.
    Compensatable,
    /// The point of no return: once it succeeded, the saga only goes forward. Its unknown outcome is retried until it is known.
    Pivot,
    /// Behind the pivot: retried until it succeeds.
    Retriable,
}

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
    fn no_branch(&self) -> Option<String> {
        let Self { service, target, .. } = self;
        match target {
            Target::Topic(_) => Some(format!("{}: {LOCKS_WOULD_WAIT}", service_with_topic(service))),
            Target::Http(_) if service.len() > BRANCH_BYTES_MAX => Some(long_service_name(service)),
            Target::Http(_) => None,
        }
    }
}

/// Longest name of a service that takes part in two phases, in bytes: it is a part of the name of a prepared transaction, which has less than
/// 200 in PostgreSQL.
pub const BRANCH_BYTES_MAX: usize = 100;

/// Why a service with a topic takes no part in two phases.
pub(crate) const LOCKS_WOULD_WAIT: &str = "locks must not wait in a queue";

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
    Worker(String),
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
