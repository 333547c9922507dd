//! Traces of the shop, where the environment says where to: with `OTEL_EXPORTER_OTLP_ENDPOINT`, every process exports what it does.

use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;
use sagamq_telemetry::opentelemetry::propagation::{Extractor, Injector};
use sagamq_telemetry::opentelemetry::trace::{FutureExt as _, SpanKind, Status, TraceContextExt as _, Tracer as _};
use sagamq_telemetry::opentelemetry::{KeyValue, global};
use sagamq_telemetry::{Installed, Settings, install};

/// Begins to export, if the environment says where to. `service` is what the process is called if it does not say that.
///
/// # Errors
/// What is wrong with the environment's variables.
pub fn begin(service: &'static str) -> Result<Option<Installed>, String> {
    let settings = Settings::from_environment().map_err(|faults| faults.to_string())?;
    settings.map(|settings| install(&settings, service, env!("CARGO_PKG_VERSION"))).transpose()
}

/// A request of a customer is a span, below that of who sends it. Calls of sagas are none here: the SDK makes a span of each.
pub(crate) async fn traced(request: Request, next: Next) -> Response {
    let method = request.method().to_string();
    let route = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str).to_owned();
    let parent = global::get_text_map_propagator(|propagator| propagator.extract(&Headers(&request)));
    let tracer = global::tracer(env!("CARGO_PKG_NAME"));
    let attributes = vec![KeyValue::new("http.request.method", method.clone()), KeyValue::new("http.route", route.clone())];
    let span = tracer.span_builder(format!("{method} {route}")).with_kind(SpanKind::Server).with_attributes(attributes);
    let context = parent.with_span(span.start_with_context(&tracer, &parent));
    let response = next.run(request).with_context(context.clone()).await;
    let status = response.status();
    context.span().set_attribute(KeyValue::new("http.response.status_code", i64::from(status.as_u16())));
    if status.is_server_error() {
        context.span().set_status(Status::error(status.as_u16().to_string()));
    }
    context.span().end();
    response
}

/// What a request to another system bears: the span in which it is made.
pub(crate) fn outgoing() -> HeaderMap {
    let mut headers = Outgoing(HeaderMap::new());
    global::get_text_map_propagator(|propagator| propagator.inject(&mut headers));
    headers.0
}

struct Outgoing(HeaderMap);

impl Injector for Outgoing {
    fn set(&mut self, key: &str, value: String) {
        if let (Ok(key), Ok(value)) = (HeaderName::from_bytes(key.as_bytes()), HeaderValue::from_str(&value)) {
            self.0.insert(key, value);
        }
    }
}

/// The headers of a request, for OpenTelemetry.
struct Headers<'a>(&'a Request);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.headers().get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.headers().keys().map(HeaderName::as_str).collect()
    }
}
