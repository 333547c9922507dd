//! What every request passes, whatever its route: verbs are rewritten, the request gets an id, is logged and counted, a panic
//! becomes a problem, and so does a route that does not exist.

use crate::http::admission::{Admission, admit};
use crate::http::config::HttpConfig;
use crate::http::guard::{Guard, refuse_pages};
use crate::http::metrics::HttpMetrics;
use crate::http::problem::{ApiError, of_panic, with_request_id};
use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::uri::PathAndQuery;
use axum::http::{HeaderName, HeaderValue, Method, Uri};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use sagamq_api::headers::{IDEMPOTENCY_KEY, REQUEST_ID};
use sagamq_api::{ErrorCode, routes};
use std::sync::Arc;
use std::time::Instant;
use tower::Layer as _;
use tower::util::MapRequestLayer;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::{AllowOrigin, CorsLayer};
use tracing::{Instrument as _, Span};
use uuid::Uuid;

/// Longest id of a request that is taken from a client, in bytes; it ends up in every line of the log.
const REQUEST_ID_BYTES_MAX: usize = 128;

/// Route label of a request that has none.
const NO_ROUTE: &str = "none";

/// Status label of a request whose client did not wait for the answer. Never sent; the number is nginx's.
const CLIENT_WENT_AWAY: u16 = 499;

/// The path as the client sent it.
#[derive(Clone, Debug)]
struct RequestedPath(String);

/// Wraps all routes of the server, merged: nothing may be added outside of it.
pub(super) fn wrap(routes: Router, metrics: HttpMetrics, config: &HttpConfig) -> Router {
    let guarded = routes
        .fallback(route_not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(CatchPanicLayer::custom(of_panic))
        .layer(from_fn_with_state(Arc::new(Admission::new(config)), admit));
    // Pages of listed origins ask before they send, and may read the answers.
    let shared = if config.allow_origins.is_empty() { guarded } else { guarded.layer(cors(&config.allow_origins)) };
    let observed = shared.layer(from_fn_with_state(Arc::new(Guard::new(config)), refuse_pages)).layer(from_fn_with_state(metrics, observe));
    // A router matches before its own layers run, so what changes the path has to stand in front of it.
    let rewrite: fn(Request) -> Request = rewrite_verb;
    Router::new().fallback_service(MapRequestLayer::new(rewrite).layer(observed))
}

fn cors(origins: &[String]) -> CorsLayer {
    let origins = origins.iter().filter_map(|origin| HeaderValue::from_str(origin.trim_end_matches('/')).ok());
    CorsLayer::new()
        .allow_origin(AllowOrigin::list(origins))
        .allow_methods([Method::GET, Method::POST, Method::DELETE])
        .allow_headers([CONTENT_TYPE, HeaderName::from_static(IDEMPOTENCY_KEY), HeaderName::from_static(REQUEST_ID)])
        .expose_headers([RETRY_AFTER, HeaderName::from_static(REQUEST_ID)])
}

fn rewrite_verb(mut request: Request) -> Request {
    let requested = request.uri().path().to_owned();
    if let Some(path) = routes::for_router(&requested) {
        let path_and_query = match request.uri().query() {
            Some(query) => format!("{path}?{query}"),
            None => path,
        };
        let mut parts = request.uri().clone().into_parts();
        parts.path_and_query = PathAndQuery::try_from(path_and_query).ok();
        if let Ok(uri) = Uri::from_parts(parts) {
            *request.uri_mut() = uri;
        }
    }
    request.extensions_mut().insert(RequestedPath(requested));
    request
}

/// Gives the request its id, and logs and counts its answer.
async fn observe(State(metrics): State<HttpMetrics>, request: Request, next: Next) -> Response {
    let request_id = request_id(&request);
    let method = method_label(request.method());
    let route =
        request.extensions().get::<MatchedPath>().map_or(NO_ROUTE.to_owned(), |path| path.as_str().replace(routes::VERB_SEGMENT, ":"));
    let span = tracing::info_span!("request", request_id, method, path = requested_path(&request));
    let mut observed = Observed { metrics, route, method, span: span.clone(), started: start_timer(), status: CLIENT_WENT_AWAY };
    let response = next.run(request).instrument(span).await;
    observed.status = response.status().as_u16();
    let mut response = with_request_id(response, &request_id);
    if let Ok(value) = HeaderValue::from_str(&request_id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    response
}

/// A request under observation. It is logged and counted when this is dropped, so also if its client went away and the server
/// gave up on it.
struct Observed {
    metrics: HttpMetrics,
    route: String,
    method: &'static str,
    span: Span,
    started: Instant,
    status: u16,
}

impl Drop for Observed {
    fn drop(&mut self) {
        let latency = self.started.elapsed();
        let (route, status, latency_ms) = (self.route.as_str(), self.status, latency.as_micros() as f64 / 1_000.0);
        self.metrics.answered(route, self.method, status, latency);
        let _in_span = self.span.enter();
        match status {
            CLIENT_WENT_AWAY => tracing::info!(route, latency_ms, "the client went away before it was answered"),
            500.. => tracing::warn!(route, status, latency_ms, "answered"),
            _ if matches!(route, routes::HEALTHZ | routes::READYZ | routes::METRICS) => {
                tracing::trace!(route, status, latency_ms, "answered");
            }
            // A line a request would cost more than many a request; the metrics count them all.
            _ => tracing::debug!(route, status, latency_ms, "answered"),
        }
    }
}

/// The client's id if it is short visible ASCII, else a new one: it must not be able to forge lines of the log.
fn request_id(request: &Request) -> String {
    let given = request.headers().get(REQUEST_ID).and_then(|id| id.to_str().ok());
    let is_usable = |id: &&str| (1..=REQUEST_ID_BYTES_MAX).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic());
    // An id only has to differ from others: nothing that is stored depends on it, so no seed has to repeat it.
    given.filter(is_usable).map_or_else(|| Uuid::new_v4().to_string(), str::to_owned)
}

/// The method as a label. Clients may send any word, labels must stay few.
fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

#[expect(clippy::disallowed_methods, reason = "a latency for the log and a histogram decides nothing")]
fn start_timer() -> Instant {
    Instant::now()
}

async fn route_not_found(request: Request) -> ApiError {
    let detail = format!("there is no route {}: {} lists all of them", requested_path(&request), routes::OPENAPI);
    ApiError::new(ErrorCode::RouteNotFound, detail)
}

async fn method_not_allowed(request: Request) -> ApiError {
    let detail =
        format!("{} does not take {}; the header `allow` says what it takes", requested_path(&request), method_label(request.method()));
    ApiError::new(ErrorCode::MethodNotAllowed, detail)
}

fn requested_path(request: &Request) -> &str {
    request.extensions().get::<RequestedPath>().map_or_else(|| request.uri().path(), |path| &path.0)
}
