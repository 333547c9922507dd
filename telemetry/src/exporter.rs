//! [`Exporter`]: sends spans that were made elsewhere, and metrics.

use crate::client::Client;
use crate::metrics::Pusher;
use crate::partial::SpanClient;
use crate::queue::{DroppedSpans, Queue, Queued};
use crate::settings::{Sampling, Settings};
use crate::told::Told;
use core::time::Duration;
use opentelemetry::trace::{SpanKind, TraceId};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::{Compression, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler, SamplingDecision, ShouldSample as _, SpanData, SpanProcessor as _,
};
use std::collections::HashMap;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long the last exports may take, at the end.
const FLUSH_MAX: Duration = Duration::from_secs(5);

/// Exports for one process; clones are the same one.
#[derive(Clone, Debug)]
pub struct Exporter(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    settings: Settings,
    resource: Resource,
    client: Client,
    spans: Option<Queued>,
    /// Of traces that begin here.
    sampler: Sampler,
    tasks: TaskTracker,
    ending: CancellationToken,
}

impl Exporter {
    /// Begins to export. `service` is what the program is called if the settings do not say it.
    ///
    /// # Errors
    /// What is wrong, as a sentence: the client for HTTP cannot be made.
    ///
    /// # Panics
    /// Outside of a runtime.
    pub fn start(settings: &Settings, service: &'static str, version: &'static str) -> Result<Self, String> {
        let client = Client::new(settings.timeout).map_err(|error| format!("no client for OTLP can be made: {error}"))?;
        let resource = resource(settings, service, version);
        let spans = processor(settings, &client, &resource)?;
        let sampler = of_roots(&settings.sampling);
        let (settings, tasks, ending) = (settings.clone(), TaskTracker::new(), CancellationToken::new());
        Ok(Self(Arc::new(Inner { settings, resource, client, spans, sampler, tasks, ending })))
    }

    /// Whether spans go anywhere.
    #[must_use]
    pub fn exports_spans(&self) -> bool {
        self.0.spans.is_some()
    }

    /// Whether a span of this trace is recorded; `parent` says whether the span above it is.
    #[must_use]
    pub fn samples(&self, parent: Option<bool>, trace_id: u128) -> bool {
        match parent {
            Some(is_sampled) if self.0.settings.sampling.is_parent_based => is_sampled,
            Some(_) | None => {
                let of_trace = TraceId::from_bytes(trace_id.to_be_bytes());
                let result = self.0.sampler.should_sample(None, of_trace, "", &SpanKind::Internal, &[], &[]);
                result.decision == SamplingDecision::RecordAndSample
            }
        }
    }

    /// Takes a span that is over. It never waits: one that is too much is dropped.
    pub fn record(&self, span: SpanData) {
        if let Some(spans) = &self.0.spans {
            spans.on_end(span);
        }
    }

    /// Spans that were not exported, if spans are exported at all.
    #[must_use]
    pub fn dropped_spans(&self) -> Option<DroppedSpans> {
        self.0.spans.as_ref().map(|spans| spans.queue().dropped())
    }

    /// What a span says of who made it.
    #[must_use]
    pub fn scope(version: &'static str) -> InstrumentationScope {
        InstrumentationScope::builder("sagamq").with_version(version).build()
    }

    /// Exports metrics from now on, in the interval of the settings. `text` gives them as `/metrics` shows them, in the OpenMetrics text format:
    /// both are the same numbers.
    pub fn export_metrics(&self, text: impl Fn() -> String + Send + Sync + 'static) {
        let Inner { settings, resource, client, tasks, ending, .. } = &*self.0;
        if let Some(endpoint) = &settings.metrics {
            let pusher = Pusher::new(settings, endpoint.clone(), resource, client.clone());
            tasks.spawn(pusher.run(Box::new(text), ending.clone()));
        }
    }

    /// Exports what is left, for a bounded time. What comes later is dropped.
    pub async fn shutdown(&self) {
        self.0.ending.cancel();
        let inner = Arc::clone(&self.0);
        let flushed = tokio::task::spawn_blocking(move || {
            if let Some(spans) = &inner.spans {
                // That it failed is told where it did.
                drop(spans.shutdown_with_timeout(FLUSH_MAX));
            }
        });
        self.0.tasks.close();
        // What takes longer is lost, and that is told by whoever sends it.
        drop(tokio::join!(flushed, tokio::time::timeout(FLUSH_MAX, self.0.tasks.wait())));
    }
}

/// What everything that is exported says of the program.
pub(crate) fn resource(settings: &Settings, service: &'static str, version: &'static str) -> Resource {
    let named = Resource::builder().build();
    let is_named = named.get(&"service.name".into()).is_some_and(|name| !name.as_str().starts_with("unknown_service"));
    let builder = Resource::builder().with_attribute(KeyValue::new("service.version", version));
    match &settings.service_name {
        Some(name) => builder.with_service_name(name.clone()),
        None if is_named => builder,
        None => builder.with_service_name(service),
    }
    .build()
}

/// What gathers spans and sends them from a thread of its own, if they are to be sent.
pub(crate) fn processor(settings: &Settings, client: &Client, resource: &Resource) -> Result<Option<Queued>, String> {
    let Some(endpoint) = &settings.traces else { return Ok(None) };
    let queue = Queue::new(settings.span_queue_max);
    let headers = settings.headers.iter().filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.to_owned())));
    let exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(SpanClient { client: client.clone(), queue: Arc::clone(&queue), told: Told::new("traces", endpoint) })
        .with_endpoint(endpoint.as_str())
        .with_timeout(settings.timeout)
        .with_headers(headers.collect::<HashMap<_, _>>());
    let exporter = if settings.gzip { exporter.with_compression(Compression::Gzip) } else { exporter };
    let exporter = exporter.build().map_err(|error| format!("spans cannot be exported: {error}"))?;
    let batches = BatchConfigBuilder::default()
        .with_max_queue_size(settings.span_queue_max)
        .with_max_export_batch_size(settings.span_batch_max.min(settings.span_queue_max))
        .with_scheduled_delay(settings.span_delay)
        .build();
    let telling = Telling { exporter, told: Told::new("traces", endpoint), queue: Arc::clone(&queue) };
    let mut processor = Queued::new(BatchSpanProcessor::new(telling, batches), queue);
    processor.set_resource(resource);
    Ok(Some(processor))
}

/// The sampler of OpenTelemetry that the settings name.
pub(crate) fn sampler(sampling: &Sampling) -> Sampler {
    let sampler = of_roots(sampling);
    if sampling.is_parent_based { Sampler::ParentBased(Box::new(sampler)) } else { sampler }
}

/// That of traces that begin here.
fn of_roots(sampling: &Sampling) -> Sampler {
    match sampling.per_million {
        0 => Sampler::AlwaysOff,
        1_000_000.. => Sampler::AlwaysOn,
        some => Sampler::TraceIdRatioBased(f64::from(some) / 1e6),
    }
}

/// An exporter whose failures are told once.
#[derive(Debug)]
struct Telling {
    exporter: SpanExporter,
    told: Told,
    queue: Arc<Queue>,
}

impl opentelemetry_sdk::trace::SpanExporter for Telling {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let count = batch.len();
        self.queue.leave(count);
        let exported = self.exporter.export(batch).await;
        if exported.is_err() {
            self.queue.failed(count);
        }
        self.told.of(exported.as_ref().map(|&()| ()));
        exported
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}
