//! W3C trace context: what the client gives on, and the spans of handlers.
//!
//! The spans are OpenTelemetry's: they go where the program sends them by [`opentelemetry::global::set_tracer_provider`], and nowhere if it does not.
//! Either way what came is given on: what a handler sends, calls and produces is caused by what it handles.
//!
//! - A request bears the span in which it is made. So do records that are produced, and those that an outbox takes.
//! - A handler of a [`Consumer`](crate::Consumer), of a [`SagaWorker`](crate::SagaWorker) and of a participant over HTTP runs in a span of its own,
//!   below the one that its record or call bears. Tasks that it spawns belong to it if they are given
//!   [`opentelemetry::Context::current`], and what it does on a thread that blocks, if it is [`carried`] there.
//! - [`StreamConsumer::process`](crate::StreamConsumer::process) does the same with the records of a batch.
//! - Who reads records in another way goes on with [`of_record`].

use opentelemetry::trace::{
    FutureExt as _, SpanContext, SpanId, SpanKind, Status, TraceContextExt as _, TraceFlags, TraceId, TraceState, Tracer as _,
};
use opentelemetry::{Context, InstrumentationScope, KeyValue, global};
use sagamq_api::TraceContext;
use sagamq_api::queue::Delivery;
use sagamq_api::record::{ConsumedRecord, Headers};
use sagamq_api::saga::Call;
use sagamq_api::{GroupName, TopicName};
use std::future::Future;
use std::num::{NonZeroU64, NonZeroU128};
use uuid::Uuid;

/// The context of what is caused by a record with these headers; an empty one if they say nothing of that. To handle the record in a span:
/// make one with it as the parent, or run the handler `with_context`.
#[must_use]
pub fn of_record(headers: &Headers) -> Context {
    context(TraceContext::of_record(headers).as_ref())
}

/// The same work, in the span in which this is called: for a thread that blocks, as in `spawn_blocking(carried(move || …))`.
pub fn carried<T>(work: impl FnOnce() -> T) -> impl FnOnce() -> T {
    let context = Context::current();
    move || {
        let _entered = context.attach();
        work()
    }
}

/// The span in which this is called, if it is called in one.
pub(crate) fn current() -> Option<TraceContext> {
    Context::map_current(|context| {
        if !context.has_active_span() {
            return None;
        }
        let span = context.span();
        let span = span.span_context();
        let trace_id = NonZeroU128::new(u128::from_be_bytes(span.trace_id().to_bytes()))?;
        let span_id = NonZeroU64::new(u64::from_be_bytes(span.span_id().to_bytes()))?;
        let state = span.trace_state().header();
        let context = TraceContext::new(trace_id, span_id, span.is_sampled());
        Some(if state.is_empty() { context } else { context.with_state(&state) })
    })
}

/// Notes in a record in which span it is made, unless it says itself what caused it.
pub(crate) fn note(headers: &mut Headers) {
    if let Some(current) = current() {
        current.put_if_absent(headers);
    }
}

/// How many attributes a span of a handler has at the most.
const ATTRIBUTES: usize = 16;

/// A span that a handler runs in.
#[derive(Debug)]
pub(crate) struct HandlerSpan(Context);

impl HandlerSpan {
    /// Of a record that a group has leased.
    pub(crate) fn record(topic: &TopicName, group: &GroupName, delivery: &Delivery) -> Self {
        let record = &delivery.record;
        let mut attributes = Vec::with_capacity(ATTRIBUTES);
        attributes.extend(of_messaging(topic, group));
        attributes.extend(of_place(record));
        attributes.push(KeyValue::new("sagamq.delivery.attempt", i64::from(delivery.attempt)));
        let parent = TraceContext::of_record(&record.headers);
        Self::begin(SpanKind::Consumer, ["process ", topic.as_str()].concat(), parent.as_ref(), attributes)
    }

    /// Of a record that a member of a stream group has read.
    pub(crate) fn stream_record(topic: &TopicName, group: &GroupName, record: &ConsumedRecord) -> Self {
        let mut attributes = Vec::with_capacity(ATTRIBUTES);
        attributes.extend(of_messaging(topic, group));
        attributes.extend(of_place(record));
        let parent = TraceContext::of_record(&record.headers);
        Self::begin(SpanKind::Consumer, ["process ", topic.as_str()].concat(), parent.as_ref(), attributes)
    }

    /// Of a call that came through a topic.
    pub(crate) fn command(topic: &TopicName, group: &GroupName, delivery: &Delivery, call: &Call) -> Self {
        let mut attributes = Vec::with_capacity(ATTRIBUTES);
        attributes.extend(of_messaging(topic, group));
        attributes.push(KeyValue::new("messaging.message.id", call.idempotency_key.clone()));
        attributes.extend(of_call(call));
        let parent = TraceContext::of_record(&delivery.record.headers);
        Self::begin(SpanKind::Consumer, ["process ", topic.as_str()].concat(), parent.as_ref(), attributes)
    }

    /// Of a call over HTTP.
    #[cfg(feature = "participant")]
    pub(crate) fn request(headers: &axum::http::HeaderMap, call: &Call) -> Self {
        use sagamq_api::headers::{TRACEPARENT, TRACESTATE};
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let parent = text(TRACEPARENT).and_then(|parent| TraceContext::parse(parent, text(TRACESTATE)).ok());
        let route = format!("/{}", call.call);
        let mut attributes = vec![KeyValue::new("http.request.method", "POST"), KeyValue::new("http.route", route.clone())];
        attributes.extend(of_call(call));
        Self::begin(SpanKind::Server, format!("POST {route}"), parent.as_ref(), attributes)
    }

    fn begin(kind: SpanKind, name: String, parent: Option<&TraceContext>, attributes: Vec<KeyValue>) -> Self {
        let parent = context(parent);
        let scope = InstrumentationScope::builder("sagamq-sdk").with_version(env!("CARGO_PKG_VERSION")).build();
        let tracer = global::tracer_with_scope(scope);
        let span = tracer.span_builder(name).with_kind(kind).with_attributes(attributes).start_with_context(&tracer, &parent);
        Self(parent.with_span(span))
    }

    /// Calls the handler in it.
    pub(crate) fn enter<T>(&self, call: impl FnOnce() -> T) -> T {
        let _entered = self.0.clone().attach();
        call()
    }

    /// Runs the handler in it.
    pub(crate) fn run<F: Future>(&self, handler: F) -> impl Future<Output = F::Output> + use<F> {
        handler.with_context(self.0.clone())
    }

    /// The handler is done; `failed` is the code of what went wrong, if something did.
    pub(crate) fn end(self, outcome: &'static str, failed: Option<&str>) {
        let span = self.0.span();
        span.set_attribute(KeyValue::new("sagamq.outcome", outcome));
        if let Some(code) = failed {
            span.set_attribute(KeyValue::new("error.type", code.to_owned()));
            span.set_status(Status::error(code.to_owned()));
        }
        span.end();
    }
}

/// What is below that span, which is another process's.
fn context(parent: Option<&TraceContext>) -> Context {
    let Some(parent) = parent else { return Context::new() };
    let flags = if parent.is_sampled() { TraceFlags::SAMPLED } else { TraceFlags::default() };
    let state = parent.tracestate().and_then(|state| state.parse::<TraceState>().ok()).unwrap_or_default();
    let (trace_id, span_id) = (TraceId::from_bytes(parent.trace_id().to_be_bytes()), SpanId::from_bytes(parent.span_id().to_be_bytes()));
    Context::new().with_remote_span_context(SpanContext::new(trace_id, span_id, flags, true, state))
}

/// By the semantic conventions for messaging.
fn of_messaging(topic: &TopicName, group: &GroupName) -> [KeyValue; 5] {
    [
        KeyValue::new("messaging.system", "sagamq"),
        KeyValue::new("messaging.operation.name", "process"),
        KeyValue::new("messaging.operation.type", "process"),
        KeyValue::new("messaging.destination.name", topic.as_str().to_owned()),
        KeyValue::new("messaging.consumer.group.name", group.as_str().to_owned()),
    ]
}

fn of_place(record: &ConsumedRecord) -> [KeyValue; 2] {
    [
        KeyValue::new("messaging.destination.partition.id", record.partition.to_string()),
        KeyValue::new("messaging.message.id", format!("{}/{}", record.partition, record.offset)),
    ]
}

fn of_call(call: &Call) -> impl Iterator<Item = KeyValue> {
    let attempt = &call.attempt;
    let item = attempt.item.map(|item| KeyValue::new("sagamq.saga.item", i64::from(item.0)));
    [
        KeyValue::new("sagamq.saga.name", call.saga.as_str().to_owned()),
        KeyValue::new("sagamq.saga.version", i64::from(call.version)),
        KeyValue::new("sagamq.saga.id", attempt.instance.hyphenated().encode_lower(&mut Uuid::encode_buffer()).to_owned()),
        KeyValue::new("sagamq.saga.key", call.key.clone()),
        KeyValue::new("sagamq.saga.step", attempt.step.as_str().to_owned()),
        KeyValue::new("sagamq.saga.operation", attempt.operation.as_str()),
        KeyValue::new("sagamq.saga.attempt", i64::from(attempt.epoch)),
        KeyValue::new("sagamq.saga.call", call.call.clone()),
    ]
    .into_iter()
    .chain(item)
}
