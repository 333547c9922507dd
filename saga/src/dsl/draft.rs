//! What could be read of a definition: every field that is right, with its place, and gaps where the report has a fault.

use super::given::Given;
use super::span::{At, Span};
use crate::definition::{InputSchema, Invariant, OnTimeout, Target};
use crate::expression::{Comparison, Reference, Template};
use core::time::Duration;
use sagamq_api::saga::Mode;
use sagamq_api::{SagaName, SignalName, StepId, TopicName};

/// A definition as it was read.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) name: Option<SagaName>,
    pub(crate) version: Option<u32>,
    /// `None`: it cannot be read, so the rules of no mode are asked.
    pub(crate) mode: Option<Mode>,
    pub(crate) input: Option<InputSchema>,
    pub(crate) key: Option<Values>,
    pub(crate) timeout: Option<At<Duration>>,
    pub(crate) defaults: Defaults,
    pub(crate) services: Vec<Service>,
    pub(crate) steps: Vec<Step>,
    pub(crate) output: Option<Values>,
    /// What must hold, with the place of its text.
    pub(crate) verify: Vec<At<Invariant>>,
}

/// What steps inherit.
#[derive(Debug, Default)]
pub(crate) struct Defaults {
    pub(crate) retry: Retry,
    pub(crate) compensate_retry: Retry,
    pub(crate) timeout: Option<At<Duration>>,
}

/// A declared participant.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) name: At<String>,
    pub(crate) target: Option<At<Target>>,
}

/// A step as it was read.
#[derive(Debug)]
pub(crate) struct Step {
    /// Where to point at when the step as a whole is meant: its id, or its begin.
    pub(crate) span: Span,
    pub(crate) id: Option<StepId>,
    pub(crate) call: Option<CallName>,
    /// Where it says that it starts a saga, and which, if that can be read.
    pub(crate) saga: Option<At<Option<SubSaga>>>,
    /// Where it says that it sleeps or waits, and how, if that can be read.
    pub(crate) idle: Option<At<Option<Idle>>>,
    pub(crate) with: Option<Values>,
    /// Where that stands, if it is given to a saga that the step starts.
    pub(crate) given: Option<Given>,
    pub(crate) after: Option<Vec<At<String>>>,
    pub(crate) timeout: Option<At<Duration>>,
    pub(crate) queue_timeout: Option<At<Duration>>,
    pub(crate) retry: Retry,
    pub(crate) retry_span: Option<Span>,
    pub(crate) compensate: Compensate,
    /// Where it says that it is the pivot.
    pub(crate) pivot: Option<Span>,
    pub(crate) when: Option<At<Values>>,
    pub(crate) each: Each,
    /// Where it says that the saga goes on without it.
    pub(crate) optional: Option<Span>,
    pub(crate) emit: Option<Emit>,
    pub(crate) lock: Option<Lock>,
}

/// The lock of a step, as it was read.
#[derive(Debug)]
pub(crate) struct Lock {
    pub(crate) span: Span,
    pub(crate) key: Option<Values>,
    pub(crate) timeout: Option<At<Duration>>,
}

impl Step {
    /// Whether it calls a participant forward.
    pub(crate) const fn calls(&self) -> bool {
        self.idle.is_none() && self.saga.is_none()
    }
}

/// The saga that a step starts.
#[derive(Debug)]
pub(crate) struct SubSaga {
    pub(crate) name: At<SagaName>,
    pub(crate) version: Option<u32>,
}

/// What is told, as it was read.
#[derive(Debug)]
pub(crate) struct Emit {
    pub(crate) span: Span,
    pub(crate) topic: Option<At<TopicName>>,
    pub(crate) key: Option<Values>,
    pub(crate) value: Option<Values>,
    pub(crate) headers: Vec<(String, Values)>,
}

impl Emit {
    /// Its values with expressions.
    pub(crate) fn values(&self) -> impl Iterator<Item = &Values> {
        self.key.iter().chain(&self.value).chain(self.headers.iter().map(|(_, value)| value))
    }
}

/// What a step does that calls nobody.
#[derive(Debug)]
pub(crate) enum Idle {
    /// It sleeps so long.
    For(Duration),
    /// It sleeps as long as this says.
    Given(Values),
    /// It sleeps until this time.
    Until(Values),
    /// It waits for a signal.
    WaitFor(WaitFor),
}

/// What a step waits for.
#[derive(Debug)]
pub(crate) struct WaitFor {
    pub(crate) signal: SignalName,
    pub(crate) timeout: Option<At<Duration>>,
    pub(crate) on_timeout: OnTimeout,
}

/// What a step says about its undo.
#[derive(Debug)]
pub(crate) enum Compensate {
    /// Nothing.
    Unsaid,
    /// That there is nothing to undo.
    Nothing,
    /// What undoes it.
    Call(Box<Compensation>),
}

/// An undo as it was read.
#[derive(Debug)]
pub(crate) struct Compensation {
    pub(crate) span: Span,
    pub(crate) call: Option<CallName>,
    pub(crate) with: Option<Values>,
    pub(crate) timeout: Option<At<Duration>>,
    pub(crate) retry: Retry,
    pub(crate) emit: Option<Emit>,
}

/// `service.operation`.
#[derive(Debug)]
pub(crate) struct CallName {
    pub(crate) service: At<String>,
    pub(crate) operation: String,
}

/// A value with expressions, and where what it refers to stands.
#[derive(Debug)]
pub(crate) struct Values {
    pub(crate) template: Template,
    pub(crate) references: Vec<At<Reference>>,
    pub(crate) comparisons: Vec<At<Comparison>>,
}

/// The fields of a retry policy that are given.
#[derive(Clone, Debug, Default)]
pub(crate) struct Retry {
    pub(crate) initial: Option<At<Duration>>,
    pub(crate) factor: Option<f64>,
    pub(crate) max: Option<At<Duration>>,
    pub(crate) attempts: Option<At<u32>>,
    pub(crate) never_on: Option<At<Vec<String>>>,
}

/// How a step fans out, as it was read; what cannot be read is a gap.
#[derive(Debug, Default)]
pub(crate) struct Each {
    /// Where it says what it fans out over, and what that is.
    pub(crate) items: Option<At<Option<Values>>>,
    /// Where it says how many at a time, and how many.
    pub(crate) max_parallel: Option<At<Option<u32>>>,
}

impl Each {
    /// What gives the list.
    pub(crate) fn values(&self) -> Option<&Values> {
        self.items.as_ref()?.value.as_ref()
    }
}
