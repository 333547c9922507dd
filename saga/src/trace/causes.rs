//! What is given on by an instance: which span its calls, its records and its sub-sagas are caused by.

use crate::protocol::{Head, Told};
use core::fmt;
use sagamq_api::TraceContext;
use sagamq_api::saga::AttemptId;
use sagamq_broker::spans::{Span, SpanKind, Tracer, Value};
use std::borrow::Cow;

/// The trace of an instance, if it belongs to one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Causes<'a> {
    head: &'a Head,
    started_by: Option<&'a TraceContext>,
    is_recorded: bool,
}

impl<'a> Causes<'a> {
    /// Of an instance with this head.
    pub(crate) fn of(tracer: &Tracer, head: &'a Head) -> Self {
        let started_by = head.trace.as_deref();
        Self { head, started_by, is_recorded: tracer.is_on() && started_by.is_some_and(TraceContext::is_sampled) }
    }

    /// Whether spans of the instance are recorded.
    pub(crate) const fn are_recorded(&self) -> bool {
        self.is_recorded
    }

    /// What started the instance.
    pub(super) const fn started_by(&self) -> Option<&'a TraceContext> {
        self.started_by
    }

    /// The instance as a whole.
    pub(crate) fn saga(&self) -> Option<TraceContext> {
        self.derived(&format_args!("saga {}", self.head.id))
    }

    /// What a participant, or a sub-saga, is called by.
    pub(crate) fn attempt(&self, attempt: &AttemptId) -> Option<TraceContext> {
        self.derived(attempt)
    }

    /// What a record is caused by that a step tells others.
    pub(crate) fn told(&self, told: &Told) -> Option<TraceContext> {
        self.derived(&format_args!("{} tells {} {}", told.attempt, told.topic, told.key))
    }

    /// That record's span.
    pub(crate) fn span_of_told(&self, told: &Told, at_ms: u64) -> Option<Span> {
        let (context, parent) = (self.told(told)?, self.attempt(&told.attempt)?);
        let mut attributes = self.attributes(&told.attempt);
        attributes.extend(sent_to(told.topic.as_str()));
        attributes.push(("messaging.message.id", Value::from(told.attempt.call().to_string())));
        Some(Span {
            context,
            parent_span_id: Some(parent.span_id()),
            is_parent_remote: false,
            kind: SpanKind::Producer,
            name: Cow::Owned(format!("send {}", told.topic)),
            start_ns: nanoseconds(at_ms),
            end_ns: nanoseconds(at_ms),
            attributes,
            links: Vec::new(),
            error: told.failed.is_some().then_some(Cow::Borrowed("emit_failed")),
        })
    }

    /// What every span of the instance says.
    pub(super) fn of_instance(&self) -> Vec<(&'static str, Value)> {
        let Head { id, saga, version, key, .. } = self.head;
        vec![
            ("sagamq.saga.name", Value::from(saga.to_string())),
            ("sagamq.saga.version", Value::from(*version)),
            ("sagamq.saga.id", Value::from(id.to_string())),
            ("sagamq.saga.key", Value::from(key.clone())),
        ]
    }

    /// What every span of an attempt says.
    pub(super) fn attributes(&self, attempt: &AttemptId) -> Vec<(&'static str, Value)> {
        let mut attributes = self.of_instance();
        attributes.push(("sagamq.saga.step", Value::from(attempt.step.to_string())));
        if let Some(item) = attempt.item {
            attributes.push(("sagamq.saga.item", Value::from(item.0)));
        }
        attributes.push(("sagamq.saga.operation", Value::from(attempt.operation.to_string())));
        attributes.push(("sagamq.saga.attempt", Value::from(attempt.epoch)));
        attributes
    }

    /// A span of the instance if they are recorded. If not, what came is given on: nobody will ever see a span of ours.
    fn derived(&self, about: &impl fmt::Display) -> Option<TraceContext> {
        let started_by = self.started_by?;
        Some(if self.is_recorded { started_by.derived(about) } else { started_by.clone() })
    }
}

/// What the span of a record says that is sent, by the semantic conventions for messaging.
pub(super) fn sent_to(topic: &str) -> [(&'static str, Value); 4] {
    [
        ("messaging.system", Value::from("sagamq")),
        ("messaging.operation.name", Value::from("send")),
        ("messaging.operation.type", Value::from("send")),
        ("messaging.destination.name", Value::from(topic.to_owned())),
    ]
}

/// A time of events as spans have it.
pub(super) const fn nanoseconds(ms: u64) -> u64 {
    ms.saturating_mul(1_000_000)
}
