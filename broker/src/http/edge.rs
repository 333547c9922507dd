//! What every request passes, whatever its route: verbs are rewritten, the request gets an id, is logged and counted, pages that may not
//! ask are refused, a panic becomes a problem, and so does a route that does not exist.
//!
//! It is one service around each route and not a stack of layers: a layer of a router costs some allocations a request.

use crate::http::access::{Caller, Gate};
use crate::http::admission::{Admission, Ticket};
use crate::http::config::HttpConfig;
use crate::http::guard::Guard;
use crate::http::gzip::{Zipped, may_answer, zipping};
use crate::http::metrics::{HttpMetrics, RouteMetrics};
use crate::http::problem::{ApiError, of_panic, with_request_id};
use crate::http::quota::{Meter, Quota};
use crate::http::request_id::RequestIds;
use axum::Router;
use axum::body::Body;
use axum::extract::{MatchedPath, Request};
use axum::http::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::uri::PathAndQuery;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use core::convert::Infallible;
use core::panic::AssertUnwindSafe;
use core::pin::Pin;
use core::task::{Context, Poll};
use futures_util::future::Either;
use futures_util::{FutureExt as _, TryFutureExt as _};
use sagamq_api::headers::{CLIENT_ID, HIGH_WATERMARK, IDEMPOTENCY_KEY, LAST_EVENT_ID, LOG_START_OFFSET, NEXT_OFFSET, REQUEST_ID};
use sagamq_api::{ErrorCode, routes};
use std::sync::Arc;
use std::time::Instant;
use tower::{Layer, Service};
use tower_http::compression::Compression;
use tower_http::cors::{AllowOrigin, CorsLayer};
use tracing::field::Empty;
use tracing::{Instrument as _, Span};

/// Route label of a request that has none.
const NO_ROUTE: &str = "none";

/// Status label of a request whose client did not wait for the answer. Never sent; the number is nginx's.
const CLIENT_WENT_AWAY: u16 = 499;

/// The whole server: all routes, and what they have in common. Clones are the same one.
#[derive(Clone, Debug)]
pub struct Application {
    routes: Router,
}

/// The path as the client sent it, if it was rewritten.
#[derive(Clone, Debug)]
struct RequestedPath(String);

/// What all routes share.
#[derive(Debug)]
struct Shared {
    metrics: HttpMetrics,
    guard: Guard,
    gate: Gate,
    admission: Arc<Admission>,
    quota: Option<Quota>,
    ids: RequestIds,
}

/// Makes an [`Edge`] around each route.
#[derive(Clone)]
struct EdgeLayer(Arc<Shared>);

/// A route with what every request passes.
#[derive(Clone)]
struct Edge<S> {
    route: S,
    /// The same for clients that take compressed answers.
    zipping: Compression<S, Zipped>,
    shared: Arc<Shared>,
}

impl Application {
    /// Wraps all routes of the server, merged: nothing may be added outside of it.
    pub(super) fn of(routes: Router, metrics: HttpMetrics, config: &HttpConfig) -> Self {
        let all = routes.fallback(route_not_found).method_not_allowed_fallback(method_not_allowed);
        // Pages of listed origins ask before they send, and may read the answers.
        let all = if config.allow_origins.is_empty() { all } else { all.layer(cors(&config.allow_origins)) };
        let (guard, admission) = (Guard::new(config), Arc::new(Admission::new(config)));
        Self {
            routes: all.layer(EdgeLayer(Arc::new(Shared {
                metrics,
                guard,
                gate: Gate::new(config.authentication.clone()),
                admission,
                quota: config.quota.clone(),
                ids: RequestIds::default(),
            }))),
        }
    }
}

impl Service<Request<Body>> for Application {
    type Response = Response;
    type Error = Infallible;
    type Future = <Router as Service<Request<Body>>>::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Service::<Request<Body>>::poll_ready(&mut self.routes, context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        // A router matches before its own layers run, so what changes the path has to stand in front of it.
        rewrite_verb(&mut request);
        self.routes.call(request)
    }
}

fn cors(origins: &[String]) -> CorsLayer {
    let origins = origins.iter().filter_map(|origin| HeaderValue::from_str(origin.trim_end_matches('/')).ok());
    CorsLayer::new()
        .allow_origin(AllowOrigin::list(origins))
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
        .allow_headers([
            CONTENT_TYPE,
            CONTENT_ENCODING,
            AUTHORIZATION,
            HeaderName::from_static(IDEMPOTENCY_KEY),
            HeaderName::from_static(REQUEST_ID),
            HeaderName::from_static(CLIENT_ID),
            HeaderName::from_static(LAST_EVENT_ID),
        ])
        .expose_headers(
            [RETRY_AFTER]
                .into_iter()
                .chain([REQUEST_ID, NEXT_OFFSET, LOG_START_OFFSET, HIGH_WATERMARK].map(HeaderName::from_static))
                .collect::<Vec<_>>(),
        )
}

fn rewrite_verb(request: &mut Request) {
    let Some(path) = routes::for_router(request.uri().path()) else { return };
    let requested = request.uri().path().to_owned();
    let path_and_query = match request.uri().query() {
        Some(query) => format!("{path}?{query}"),
        None => path,
    };
    let mut parts = request.uri().clone().into_parts();
    parts.path_and_query = PathAndQuery::try_from(path_and_query).ok();
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
    request.extensions_mut().insert(RequestedPath(requested));
}

impl<S: Clone> Layer<S> for EdgeLayer {
    type Service = Edge<S>;

    fn layer(&self, route: S) -> Edge<S> {
        Edge { zipping: zipping(route.clone()), route, shared: Arc::clone(&self.0) }
    }
}

impl<S> Service<Request> for Edge<S>
where
    S: Service<Request, Response = Response, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.route.poll_ready(context)
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        let (id, observed) = observe(&self.shared, &request);
        let span = observed.span.clone();
        let checked = self.shared.guard.check(request.method(), request.uri(), request.headers());
        let admitted = checked.and_then(|()| admit(&self.shared, &observed, &mut request));
        let answer = admitted.map(|(meter, caller)| {
            let ticket = Ticket::new(&self.shared.admission, meter);
            request.extensions_mut().insert(ticket.clone());
            let answer = if may_answer(request.headers()) {
                Either::Left(self.zipping.call(request).map_ok(|response| response.map(Body::new)))
            } else {
                Either::Right(self.route.call(request))
            };
            (answer, ticket, caller)
        });
        Box::pin(async move {
            // The whole of it: what is dropped at the end is what tells.
            let mut observed = observed;
            let response = match answer {
                Err(refusal) => refusal.into_response(),
                Ok((answer, ticket, caller)) => {
                    let answer = AssertUnwindSafe(answer.instrument(span)).catch_unwind();
                    let response = match caller.unless_cut_off(answer).await {
                        Ok(Ok(Ok(response))) => response,
                        Ok(Err(panic)) => observed.span.in_scope(|| of_panic(panic)),
                        Err(refusal) => refusal.into_response(),
                    };
                    response.map(|body| ticket.answered(caller.until_cut_off(body)))
                }
            };
            observed.status = response.status().as_u16();
            observed.is_told_once = response.extensions().get::<ApiError>().is_some_and(ApiError::is_disk_low);
            let mut response = with_request_id(response, &id);
            response.headers_mut().insert(HeaderName::from_static(REQUEST_ID), id);
            if response.status() == StatusCode::UNAUTHORIZED {
                response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"sagamq\""));
            }
            Ok(response)
        })
    }
}

/// Finds out who asks, charges the request to him, and refuses it if he may not. Whoever does not say who he is pays as well.
fn admit(shared: &Shared, observed: &Observed, request: &mut Request) -> Result<(Option<Meter>, Caller), ApiError> {
    let caller = shared.gate.identify(request);
    if let Ok(caller) = &caller {
        if let Some(principal) = caller.principal() {
            observed.span.record("principal", principal);
        }
        request.extensions_mut().insert(caller.clone());
    }
    let meter = charge(shared, observed.metrics.route(), request)?;
    let caller = caller?;
    shared.gate.admit(&caller, request)?;
    Ok((meter, caller))
}

/// Charges the request to its client, if clients have quotas.
fn charge(shared: &Shared, route: &str, request: &Request) -> Result<Option<Meter>, ApiError> {
    shared.quota.as_ref().map_or(Ok(None), |quota| quota.begin(route, request, shared.gate.asks_for_keys()))
}

/// Gives the request its id, and begins to observe it.
fn observe(shared: &Shared, request: &Request) -> (HeaderValue, Observed) {
    let id = shared.ids.of(request.headers());
    let method = method_label(request.method());
    let route = request.extensions().get::<MatchedPath>().map_or(NO_ROUTE, MatchedPath::as_str);
    let metrics = shared.metrics.of(route, method);
    let span = tracing::info_span!(
        "request",
        request_id = id.to_str().unwrap_or_default(),
        method,
        path = requested_path(request),
        principal = Empty
    );
    (id, Observed { metrics, span, started: start_timer(), status: CLIENT_WENT_AWAY, is_told_once: false })
}

/// A request under observation. It is logged and counted when this is dropped, so also if its client went away and the server
/// gave up on it.
struct Observed {
    metrics: Arc<RouteMetrics>,
    span: Span,
    started: Instant,
    status: u16,
    /// Whether the log says already why requests like this one are refused.
    is_told_once: bool,
}

impl Drop for Observed {
    fn drop(&mut self) {
        let latency = self.started.elapsed();
        let (route, status, latency_ms) = (self.metrics.route(), self.status, latency.as_micros() as f64 / 1_000.0);
        self.metrics.answered(status, latency);
        let _in_span = self.span.enter();
        match status {
            CLIENT_WENT_AWAY => tracing::info!(route, latency_ms, "the client went away before it was answered"),
            500.. if !self.is_told_once => tracing::warn!(route, status, latency_ms, "answered"),
            _ if matches!(route, routes::HEALTHZ | routes::READYZ | routes::METRICS) => {
                tracing::trace!(route, status, latency_ms, "answered");
            }
            // A line a request would cost more than many a request; the metrics count them all.
            _ => tracing::debug!(route, status, latency_ms, "answered"),
        }
    }
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
