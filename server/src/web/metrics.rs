//! `/metrics` in the OpenMetrics text format, and the metrics of HTTP itself.

use crate::web::problem::ApiError;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use core::time::Duration;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use sagamq_api::ErrorCode;
use sagamq_api::routes::VERB_SEGMENT;
use std::collections::HashMap;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

const OPENMETRICS_TEXT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Labels of a finished request. The route is a template, so their number is bounded.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabel {
    route: Arc<str>,
    method: &'static str,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabel {
    route: Arc<str>,
    method: &'static str,
}

/// Counters and latencies of requests, by route.
#[derive(Clone, Debug)]
pub struct HttpMetrics {
    requests: Family<RequestLabel, Counter>,
    seconds: Family<RouteLabel, Histogram>,
    in_flight: Family<RouteLabel, Gauge>,
    /// By the template as the router has it; the methods of one are few. A plain lock: it is held for a look-up.
    routes: Arc<RwLock<HashMap<String, Vec<Arc<RouteMetrics>>>>>,
}

/// Those of one route and method, found once a request.
#[derive(Debug)]
pub(super) struct RouteMetrics {
    label: RouteLabel,
    seconds: Histogram,
    in_flight: Gauge,
    requests: Family<RequestLabel, Counter>,
    /// The counter of what nearly every request ends with.
    ok: OnceLock<Counter>,
}

impl HttpMetrics {
    /// Registers the metrics.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        // 0.25 ms to 32 s: a long poll of 20 s still has a bucket of its own.
        let histogram: fn() -> Histogram = || Histogram::new(exponential_buckets(0.000_25, 2.0, 18));
        let (requests, seconds, in_flight) = (Family::default(), Family::new_with_constructor(histogram), Family::default());
        registry.register("sagamq_http_requests", "Requests answered", requests.clone());
        registry.register(
            "sagamq_http_request_seconds",
            "Time from a request's head to its answer's, long polls included",
            seconds.clone(),
        );
        registry.register("sagamq_http_requests_in_flight", "Requests whose answer has not begun, long polls included", in_flight.clone());
        Self { requests, seconds, in_flight, routes: Arc::default() }
    }

    /// The metrics of a route.
    pub(super) fn of(&self, matched: &str, method: &'static str) -> Arc<RouteMetrics> {
        let find = |routes: &HashMap<String, Vec<Arc<RouteMetrics>>>| {
            routes.get(matched)?.iter().find(|metrics| metrics.label.method == method).cloned()
        };
        let known = find(&self.routes.read().unwrap_or_else(PoisonError::into_inner));
        known.unwrap_or_else(|| {
            let mut routes = self.routes.write().unwrap_or_else(PoisonError::into_inner);
            // Another request may have come first.
            find(&routes).unwrap_or_else(|| {
                let label = RouteLabel { route: matched.replace(VERB_SEGMENT, ":").into(), method };
                let seconds = self.seconds.get_or_create_owned(&label);
                let in_flight = self.in_flight.get_or_create_owned(&label);
                let made = Arc::new(RouteMetrics { label, seconds, in_flight, requests: self.requests.clone(), ok: OnceLock::new() });
                routes.entry(matched.to_owned()).or_default().push(Arc::clone(&made));
                made
            })
        })
    }
}

impl RouteMetrics {
    /// The route's template as clients know it.
    pub(super) fn route(&self) -> &str {
        &self.label.route
    }

    /// A request has come. [`Self::answered`] follows.
    pub(super) fn begun(&self) {
        self.in_flight.inc();
    }

    pub(super) fn answered(&self, status: u16, latency: Duration) {
        self.in_flight.dec();
        let counter = || {
            let RouteLabel { route, method } = self.label.clone();
            self.requests.get_or_create_owned(&RequestLabel { route, method, status })
        };
        if status == 200 {
            self.ok.get_or_init(counter).inc();
        } else {
            counter().inc();
        }
        self.seconds.observe(latency.as_secs_f64());
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
pub(crate) struct Doc;
