//! What every request passes, whatever its route: verbs are rewritten, the request gets an id, is logged and counted, pages that may not
//! ask are refused, a panic becomes a problem, and so does a route that does not exist.
//!
//! It is one service around each route and not a stack of layers: a layer of a router costs some allocations a request.

use crate::web::access::{Caller, Gate};
use crate::web::admission::{Admission, Ticket};
use crate::web::cause::{Cause, Traced, trace};
use crate::web::config::HttpConfig;
use crate::web::cors;
use crate::web::guard::Guard;
use crate::web::gzip::{may_answer, zipping};
use crate::web::lease::InLease;
use crate::web::metrics::{HttpMetrics, RouteMetrics};
use crate::web::names;
use crate::web::pass::{Proofs, is_of_nodes};
use crate::web::problem::{ApiError, of_panic, with_request_id};
use crate::web::quota::{Meter, Quota};
use crate::web::refusals::{Asked, Audit};
use crate::web::request_id::RequestIds;
use axum::Router;
use axum::body::Body;
use axum::extract::{MatchedPath, Request};
use axum::http::header::WWW_AUTHENTICATE;
use axum::http::uri::PathAndQuery;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use core::convert::Infallible;
use core::panic::AssertUnwindSafe;
use core::pin::Pin;
use core::task::{Context, Poll};
use futures_util::future::Either;
use futures_util::{FutureExt as _, TryFutureExt as _};
use sagamq_api::headers::{NODE_REFUSED, PASSED_ON};
use sagamq_api::{ErrorCode, routes};
use sagamq_broker::spans::Tracer;
use sagamq_cluster::node::Lease;
use std::sync::Arc;
use std::time::Instant;
use tower::{Layer, Service};
use tracing::field::Empty;
use tracing::{Instrument as _, Span};

/// Route label of a request that has none.
const NO_ROUTE: &str = "none";

/// Status label of a request whose client did not wait for the answer. Never sent; the number is nginx's.
const CLIENT_WENT_AWAY: u16 = 499;

/// As much of a path as the log and a span tell: their memory is bounded by their number.
const PATH_BYTES_SHOWN: usize = 1_024;

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
    audit: Option<Audit>,
    tracer: Tracer,
    ids: RequestIds,
    /// Of a node of a cluster: until when it knows that it is the active one.
    lease: Option<Lease>,
    /// Of a node of a cluster: by what it knows the requests that others pass on.
    proofs: Option<Proofs>,
}

/// Makes an [`Edge`] around each route.
#[derive(Clone)]
struct EdgeLayer(Arc<Shared>);

/// A route with what every request passes.
#[derive(Clone)]
struct Edge<S> {
    route: S,
    shared: Arc<Shared>,
}

impl Application {
    /// Wraps all routes of the server, merged: nothing may be added outside of it.
    pub(super) fn of(routes: Router, metrics: HttpMetrics, config: &HttpConfig) -> Self {
        let all = routes.fallback(route_not_found).method_not_allowed_fallback(method_not_allowed);
        let all = cors::around(all, &config.allow_origins);
        let origins = &config.allow_origins;
        let (guard, admission) = (Guard::new(config), Arc::new(Admission::new(config)));
        Self {
            routes: cors::told(
                all.layer(EdgeLayer(Arc::new(Shared {
                    metrics,
                    guard,
                    gate: Gate::new(config.authentication.clone()),
                    admission,
                    quota: config.quota.clone(),
                    audit: config.audit.clone(),
                    tracer: config.tracer.clone(),
                    ids: RequestIds::default(),
                    lease: config.lease.clone(),
                    proofs: config.proofs.clone(),
                }))),
                origins,
            ),
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
        Edge { route, shared: Arc::clone(&self.0) }
    }
}

impl<S> Service<Request> for Edge<S>
where
    S: Service<Request, Response = Response, Error = Infallible> + Clone,
    S::Future: Send + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.route.poll_ready(context)
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        // Whom it comes from is known only when it is known who passes it on.
        let passed_on = passed_on(&self.shared, &mut request);
        let (id, mut observed) = observe(&self.shared, &mut request);
        let span = observed.span.clone();
        let checked = passed_on.and_then(|is_passed_on| match is_passed_on {
            // The other node has looked.
            true => Ok(()),
            false => self.shared.guard.check(request.method(), request.uri(), request.headers()),
        });
        let checked = checked.and_then(|()| InLease::begin(self.shared.lease.as_ref(), request.uri()));
        let admitted = checked.and_then(|in_lease| match admit(&self.shared, &mut observed, &mut request) {
            Ok((meter, caller)) => Ok((meter, caller, in_lease)),
            // Which keys there are may be overtaken as well.
            Err(refusal) => Err(in_lease.refused(refusal)),
        });
        let answer = admitted.map(|(meter, caller, in_lease)| {
            let ticket = Ticket::new(&self.shared.admission, meter);
            request.extensions_mut().insert(ticket.clone());
            let answer = if may_answer(request.headers()) {
                Either::Left(zipping(self.route.clone()).call(request).map_ok(|response| response.map(Body::new)))
            } else {
                Either::Right(self.route.call(request))
            };
            (answer, ticket, caller, in_lease)
        });
        let shared = Arc::clone(&self.shared);
        Box::pin(async move {
            // The whole of it: what is dropped at the end is what tells.
            let mut observed = observed;
            let response = match answer {
                Err(refusal) => refusal.into_response(),
                Ok((answer, ticket, caller, in_lease)) => {
                    let answer = AssertUnwindSafe(answer.instrument(span)).catch_unwind();
                    let response = match caller.unless_cut_off(answer).await {
                        Ok(Ok(Ok(response))) => response,
                        Ok(Err(panic)) => observed.span.in_scope(|| of_panic(panic)),
                        Err(refusal) => refusal.into_response(),
                    };
                    in_lease.answered(response).map(|body| ticket.answered(caller.until_cut_off(body)))
                }
            };
            observed.status = response.status().as_u16();
            observed.is_told_once = response.extensions().get::<ApiError>().is_some_and(ApiError::is_told_once);
            if let (401 | 403, Some(audit), Some(asked)) = (observed.status, &shared.audit, observed.asked)
                && let Some(code) = response.extensions().get::<ApiError>().map(ApiError::code)
            {
                audit.refused(asked, observed.caller.as_ref().and_then(Caller::principal), &id, code).await;
            }
            let refused = response.extensions().get::<ApiError>().map(ApiError::code).filter(|code| is_of_nodes(*code));
            let mut response = with_request_id(response, &id);
            if let Some(code) = refused {
                response.headers_mut().insert(HeaderName::from_static(NODE_REFUSED), HeaderValue::from_static(code.as_str()));
            }
            response.headers_mut().insert(&names::REQUEST_ID, id);
            if response.status() == StatusCode::UNAUTHORIZED {
                response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"sagamq\""));
            }
            Ok(response)
        })
    }
}

/// Whether a node of the cluster passes the request on; then it comes from whom that node says.
fn passed_on(shared: &Shared, request: &mut Request) -> Result<bool, ApiError> {
    let Some(proofs) = &shared.proofs else { return Ok(false) };
    if !request.headers().contains_key(PASSED_ON) {
        return Ok(false);
    }
    let target = requested_target(request);
    proofs.take(request, &target).map(|()| true)
}

/// Finds out who asks, charges the request to him, and refuses it if he may not. Whoever does not say who he is pays as well.
fn admit(shared: &Shared, observed: &mut Observed, request: &mut Request) -> Result<(Option<Meter>, Caller), ApiError> {
    let caller = shared.gate.identify(request);
    if let Ok(caller) = &caller {
        if let Some(principal) = caller.principal() {
            observed.span.record("principal", principal);
        }
        if let Some(act) = observed.asked.and_then(|asked| Audit::act(asked, caller.principal(), &observed.id)) {
            request.extensions_mut().insert(act);
        }
        request.extensions_mut().insert(caller.clone());
        observed.caller = Some(caller.clone());
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
fn observe(shared: &Shared, request: &mut Request) -> (HeaderValue, Observed) {
    let id = shared.ids.of(request.headers());
    if shared.proofs.is_some() {
        // So it has the same one wherever it is passed on to.
        request.headers_mut().insert(&names::REQUEST_ID, id.clone());
    }
    let method = method_label(request.method());
    let route = request.extensions().get::<MatchedPath>().map_or(NO_ROUTE, MatchedPath::as_str);
    let metrics = shared.metrics.of(route, method);
    let span = tracing::info_span!(
        "request",
        request_id = id.to_str().unwrap_or_default(),
        method,
        path = shown_path(request),
        trace_id = Empty,
        principal = Empty
    );
    metrics.begun();
    let traced = trace(&shared.tracer, metrics.route(), method, shown_path, request);
    if let Some(Cause(Some(cause))) = request.extensions().get() {
        span.record("trace_id", format_args!("{:032x}", cause.trace_id()));
    }
    let asked = shared.audit.as_ref().map(|_| Audit::asked(request, shared.gate.operation(request)));
    let (started, status) = (start_timer(), CLIENT_WENT_AWAY);
    let asks_for_keys = shared.gate.asks_for_keys();
    let observed =
        Observed { metrics, span, traced, started, status, is_told_once: false, id: id.clone(), asked, asks_for_keys, caller: None };
    (id, observed)
}

/// A request under observation. It is logged and counted when this is dropped, so also if its client went away and the server
/// gave up on it.
struct Observed {
    metrics: Arc<RouteMetrics>,
    span: Span,
    /// The request as a span, if it is one.
    traced: Option<Box<Traced>>,
    started: Instant,
    status: u16,
    /// Whether the log says already why requests like this one are refused.
    is_told_once: bool,
    id: HeaderValue,
    /// What it asks for, if the audit log is kept.
    asked: Option<Asked>,
    /// Whether keys are asked for.
    asks_for_keys: bool,
    /// Who asks, if that was found out.
    caller: Option<Caller>,
}

impl Observed {
    /// Whether its span is told. Where keys are asked for, whoever shows none says nothing to the operator's traces: he could write into those of
    /// others, and what waits to be exported is bounded.
    fn is_traced(&self) -> bool {
        !self.asks_for_keys || self.caller.as_ref().is_some_and(|caller| caller.principal().is_some())
    }
}

impl Drop for Observed {
    fn drop(&mut self) {
        let latency = self.started.elapsed();
        let (route, status, latency_ms) = (self.metrics.route(), self.status, latency.as_micros() as f64 / 1_000.0);
        self.metrics.answered(status, latency);
        if let Some(traced) = self.traced.take().filter(|_| self.is_traced()) {
            traced.end(route, status);
        }
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

/// Path and query as the client sent them.
pub(super) fn requested_target(request: &Request) -> String {
    let path = requested_path(request);
    request.uri().query().map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"))
}

/// The path as the client sent it, or the beginning of it.
fn shown_path(request: &Request) -> &str {
    let path = requested_path(request);
    &path[..path.floor_char_boundary(PATH_BYTES_SHOWN)]
}

/// The path as the client sent it.
fn requested_path(request: &Request) -> &str {
    request.extensions().get::<RequestedPath>().map_or_else(|| request.uri().path(), |path| &path.0)
}
