//! A receiver of OTLP over HTTP, for tests: it keeps what it gets, by name of the service that sent it.

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::post;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::metrics::v1::Metric;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A receiver that runs in this process.
#[derive(Clone, Debug)]
pub struct OtlpReceiver {
    address: SocketAddr,
    got: Arc<Mutex<Got>>,
}

#[derive(Debug, Default)]
struct Got {
    spans: Vec<GotSpan>,
    /// The last of each.
    metrics: BTreeMap<(String, String), Metric>,
    /// Requests that it refuses with a fault, until it is told otherwise.
    is_broken: bool,
    refused: usize,
}

/// A span, as it came.
#[derive(Clone, Debug, PartialEq)]
pub struct GotSpan {
    /// The service that sent it.
    pub service: String,
    /// The span.
    pub span: Span,
}

impl GotSpan {
    /// The text of an attribute; a number is its digits.
    #[must_use]
    pub fn attribute(&self, key: &str) -> Option<String> {
        text(&self.span.attributes, key)
    }

    /// Its trace, as it stands in `traceparent`.
    #[must_use]
    pub fn trace_id(&self) -> String {
        hex(&self.span.trace_id)
    }

    /// Its id, as it stands in `traceparent`.
    #[must_use]
    pub fn id(&self) -> String {
        hex(&self.span.span_id)
    }

    /// The id of the span above it; empty if there is none.
    #[must_use]
    pub fn parent(&self) -> String {
        hex(&self.span.parent_span_id)
    }
}

impl OtlpReceiver {
    /// Begins to receive.
    ///
    /// # Panics
    /// When there is no free port.
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let receiver = Self { address: listener.local_addr().expect("it is bound"), got: Arc::default() };
        let routes = Router::new().route("/v1/traces", post(traces)).route("/v1/metrics", post(metrics)).with_state(receiver.clone());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        receiver
    }

    /// What processes under test are told in their environment: where it is, and to send soon.
    #[must_use]
    pub fn variables(&self) -> [(&'static str, String); 3] {
        [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{}", self.address)),
            ("OTEL_BSP_SCHEDULE_DELAY", "50".to_owned()),
            ("OTEL_METRIC_EXPORT_INTERVAL", "200".to_owned()),
        ]
    }

    /// The spans that came, in the order in which they came.
    #[must_use]
    pub fn spans(&self) -> Vec<GotSpan> {
        self.lock().spans.clone()
    }

    /// What a service said last of a metric.
    #[must_use]
    pub fn metric(&self, service: &str, name: &str) -> Option<Metric> {
        self.lock().metrics.get(&(service.to_owned(), name.to_owned())).cloned()
    }

    /// From now on everything is answered with a fault, or nothing is any more.
    pub fn break_down(&self, is_broken: bool) {
        self.lock().is_broken = is_broken;
    }

    /// How many requests were answered with a fault.
    #[must_use]
    pub fn refused(&self) -> usize {
        self.lock().refused
    }

    fn lock(&self) -> MutexGuard<'_, Got> {
        self.got.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refuses(&self) -> bool {
        let mut got = self.lock();
        got.refused += usize::from(got.is_broken);
        got.is_broken
    }
}

async fn traces(State(receiver): State<OtlpReceiver>, body: Bytes) -> impl IntoResponse {
    if receiver.refuses() {
        return (StatusCode::INTERNAL_SERVER_ERROR, [(CONTENT_TYPE, "text/plain")], Vec::new());
    }
    let request = ExportTraceServiceRequest::decode(body).expect("the body is what OTLP says");
    let mut got = receiver.lock();
    for resource in request.resource_spans {
        let service = text(&resource.resource.unwrap_or_default().attributes, "service.name").unwrap_or_default();
        let spans = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
        got.spans.extend(spans.map(|span| GotSpan { service: service.clone(), span }));
    }
    (StatusCode::OK, [(CONTENT_TYPE, "application/x-protobuf")], ExportTraceServiceResponse::default().encode_to_vec())
}

async fn metrics(State(receiver): State<OtlpReceiver>, body: Bytes) -> impl IntoResponse {
    if receiver.refuses() {
        return StatusCode::INTERNAL_SERVER_ERROR;
    }
    let request = ExportMetricsServiceRequest::decode(body).expect("the body is what OTLP says");
    let mut got = receiver.lock();
    for resource in request.resource_metrics {
        let service = text(&resource.resource.unwrap_or_default().attributes, "service.name").unwrap_or_default();
        for metric in resource.scope_metrics.into_iter().flat_map(|scope| scope.metrics) {
            got.metrics.insert((service.clone(), metric.name.clone()), metric);
        }
    }
    StatusCode::OK
}

/// The text of an attribute; a number is its digits.
#[must_use]
pub fn text(attributes: &[KeyValue], key: &str) -> Option<String> {
    let AnyValue { value } = attributes.iter().find(|attribute| attribute.key == key)?.value.clone()?;
    match value? {
        Value::StringValue(text) => Some(text),
        Value::IntValue(number) => Some(number.to_string()),
        _ => None,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
