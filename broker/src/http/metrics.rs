//! `/metrics` in the OpenMetrics text format, and the metrics of HTTP itself.

use crate::http::problem::ApiError;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use core::time::Duration;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use sagamq_api::ErrorCode;
use std::sync::Arc;

const OPENMETRICS_TEXT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Labels of a finished request. The route is a template, so their number is bounded.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabel {
    route: String,
    method: &'static str,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabel {
    route: String,
    method: &'static str,
}

/// Counters and latencies of requests, by route.
#[derive(Clone, Debug)]
pub struct HttpMetrics {
    requests: Family<RequestLabel, Counter>,
    seconds: Family<RouteLabel, Histogram>,
}

impl HttpMetrics {
    /// Registers the metrics.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        // 0.25 ms to 32 s: a long poll of 20 s still has a bucket of its own.
        let histogram: fn() -> Histogram = || Histogram::new(exponential_buckets(0.000_25, 2.0, 18));
        let (requests, seconds) = (Family::default(), Family::new_with_constructor(histogram));
        registry.register("sagamq_http_requests", "Requests answered", requests.clone());
        registry.register(
            "sagamq_http_request_seconds",
            "Time from a request's head to its answer's, long polls included",
            seconds.clone(),
        );
        Self { requests, seconds }
    }

    pub(super) fn answered(&self, route: &str, method: &'static str, status: u16, latency: Duration) {
        self.requests.get_or_create(&RequestLabel { route: route.to_owned(), method, status }).inc();
        self.seconds.get_or_create(&RouteLabel { route: route.to_owned(), method }).observe(latency.as_secs_f64());
    }
}

/// Metrics of the whole process, in the OpenMetrics text format.
#[utoipa::path(get, path = "/metrics", operation_id = "getMetrics", tag = "operation", responses((status = 200, description = "The metrics", content_type = "application/openmetrics-text", body = String)))]
pub(super) async fn metrics(State(registry): State<Arc<Registry>>) -> Response {
    let mut text = String::new();
    match encode(&mut text, &registry) {
        Ok(()) => ([(CONTENT_TYPE, OPENMETRICS_TEXT)], text).into_response(),
        Err(error) => ApiError::new(ErrorCode::Internal, format!("the metrics cannot be written: {error}")).into_response(),
    }
}

/// What the OpenAPI description takes from here.
#[derive(utoipa::OpenApi)]
#[openapi(paths(metrics))]
pub(super) struct Doc;
