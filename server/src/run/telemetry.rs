//! Brings the server's spans to OpenTelemetry's exporter, under the ids that they have.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::registry::Registry;
use sagamq_api::TraceContext;
use sagamq_broker::env::{Clock, Random};
use sagamq_broker::spans::{Span, SpanKind, SpanSink, Tracer, Value};
use sagamq_telemetry::opentelemetry::trace::{Link, SpanContext, SpanId, Status, TraceFlags, TraceId, TraceState};
use sagamq_telemetry::opentelemetry::{self, InstrumentationScope, KeyValue};
use sagamq_telemetry::opentelemetry_sdk::trace::{SpanData, SpanLinks};
use sagamq_telemetry::{DroppedSpans, Exporter, Settings};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

/// What the server is called, if nobody says something else.
const SERVICE: &str = "sagamq";

/// The version that spans and metrics say.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Begins to export, if the settings say where to.
pub(super) fn start(settings: Option<&Settings>) -> Result<Option<Exporter>, String> {
    settings.map(|settings| Exporter::start(settings, SERVICE, VERSION)).transpose()
}

/// Shows how many spans were not exported, if spans are.
pub(super) fn register(exporter: &Exporter, registry: &mut Registry) {
    if exporter.exports_spans() {
        registry.register_collector(Box::new(Dropped(exporter.clone())));
    }
}

#[derive(Debug)]
struct Dropped(Exporter);

impl Collector for Dropped {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let Some(DroppedSpans { queue_full, export_failed, rejected }) = self.0.dropped_spans() else { return Ok(()) };
        let help = "Spans that were not exported: too many waited already, their export failed, or the receiver did not take them";
        let mut of_reasons = encoder.encode_descriptor("sagamq_dropped_spans", help, None, MetricType::Counter)?;
        for (reason, count) in [("queue_full", queue_full), ("export_failed", export_failed), ("rejected", rejected)] {
            ConstCounter::new(count).encode(of_reasons.encode_family(&[("reason", reason)])?)?;
        }
        Ok(())
    }
}

/// Where the spans of the server go; nowhere without an exporter of spans.
pub(super) fn tracer(exporter: Option<&Exporter>, clock: Arc<dyn Clock>, random: Random) -> Tracer {
    match exporter.filter(|exporter| exporter.exports_spans()) {
        Some(exporter) => Tracer::new(Arc::new(Sink { exporter: exporter.clone(), scope: Exporter::scope(VERSION) }), clock, random),
        None => Tracer::default(),
    }
}

struct Sink {
    exporter: Exporter,
    scope: InstrumentationScope,
}

impl SpanSink for Sink {
    fn samples(&self, parent: Option<&TraceContext>, trace_id: u128) -> bool {
        self.exporter.samples(parent.map(TraceContext::is_sampled), trace_id)
    }

    fn record(&self, span: Span) {
        self.exporter.record(data_of(span, &self.scope));
    }
}

fn data_of(span: Span, scope: &InstrumentationScope) -> SpanData {
    let Span { context, parent_span_id, is_parent_remote, kind, name, start_ns, end_ns, attributes, links, error } = span;
    let mut linked = SpanLinks::default();
    linked.links = links.iter().map(|link| Link::with_context(context_of(link))).collect();
    let time = |ns| UNIX_EPOCH + Duration::from_nanos(ns);
    SpanData {
        span_context: context_of(&context),
        parent_span_id: parent_span_id.map_or(SpanId::INVALID, |id| SpanId::from_bytes(id.to_be_bytes())),
        parent_span_is_remote: is_parent_remote && parent_span_id.is_some(),
        span_kind: match kind {
            SpanKind::Internal => opentelemetry::trace::SpanKind::Internal,
            SpanKind::Server => opentelemetry::trace::SpanKind::Server,
            SpanKind::Client => opentelemetry::trace::SpanKind::Client,
            SpanKind::Producer => opentelemetry::trace::SpanKind::Producer,
        },
        name,
        start_time: time(start_ns),
        end_time: time(end_ns.max(start_ns)),
        attributes: attributes.into_iter().map(attribute).collect(),
        dropped_attributes_count: 0,
        events: Default::default(),
        links: linked,
        status: error.map_or(Status::Unset, |code| Status::Error { description: code }),
        instrumentation_scope: scope.clone(),
    }
}

fn context_of(context: &TraceContext) -> SpanContext {
    let flags = if context.is_sampled() { TraceFlags::SAMPLED } else { TraceFlags::default() };
    let state = context.tracestate().and_then(|state| state.parse::<TraceState>().ok()).unwrap_or_default();
    let (trace_id, span_id) = (context.trace_id().to_be_bytes(), context.span_id().to_be_bytes());
    SpanContext::new(TraceId::from_bytes(trace_id), SpanId::from_bytes(span_id), flags, false, state)
}

fn attribute((key, value): (&'static str, Value)) -> KeyValue {
    match value {
        Value::Text(text) => KeyValue::new(key, text),
        Value::Number(number) => KeyValue::new(key, number),
    }
}
