//! Pages of listed origins: they ask before they send, and may read the answers.

use axum::Router;
use axum::extract::{MatchedPath, Request};
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_REQUEST_HEADERS,
    AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, ORIGIN, RETRY_AFTER, VARY,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method};
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use sagamq_api::cloud_event::CloudEvent;
use sagamq_api::headers::{
    CLIENT_ID, HIGH_WATERMARK, IDEMPOTENCY_KEY, LAST_EVENT_ID, LOG_START_OFFSET, NEXT_OFFSET, REQUEST_ID, TRACEPARENT, TRACESTATE,
};
use sagamq_api::routes;
use std::sync::Arc;
use tower_http::cors::{AllowOrigin, CorsLayer};

/// The routes for pages of these origins as well; of none, as they are.
pub(super) fn around(all: Router, origins: &[String]) -> Router {
    if origins.is_empty() { all } else { all.layer(cors(origins)).layer(from_fn(attributes_allowed)) }
}

/// All routes with what stands around them, for pages of these origins as well: what is refused before a route is asked they may read too.
pub(super) fn told(all: Router, origins: &[String]) -> Router {
    if origins.is_empty() {
        return all;
    }
    let listed: Arc<[HeaderValue]> = values(origins).collect();
    all.layer(from_fn(move |request: Request, next: Next| readable(Arc::clone(&listed), request, next)))
}

async fn readable(listed: Arc<[HeaderValue]>, request: Request, next: Next) -> Response {
    let origin = request.headers().get(ORIGIN).filter(|origin| listed.contains(origin)).cloned();
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    if let Some(origin) = origin.filter(|_| !headers.contains_key(ACCESS_CONTROL_ALLOW_ORIGIN)) {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        let names = exposed().iter().map(HeaderName::as_str).collect::<Vec<_>>().join(",");
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::try_from(names).expect("names of headers, divided by commas"));
        headers.append(VARY, HeaderValue::from_static("origin"));
    }
    response
}

fn values(origins: &[String]) -> impl Iterator<Item = HeaderValue> {
    origins.iter().filter_map(|origin| HeaderValue::from_str(origin.trim_end_matches('/')).ok())
}

/// What pages may read of the headers of an answer.
fn exposed() -> [HeaderName; 5] {
    let [id, next, start, high] = [REQUEST_ID, NEXT_OFFSET, LOG_START_OFFSET, HIGH_WATERMARK].map(HeaderName::from_static);
    [RETRY_AFTER, id, next, start, high]
}

fn cors(origins: &[String]) -> CorsLayer {
    CorsLayer::new()
        .allow_origin(AllowOrigin::list(values(origins)))
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
        .allow_headers([
            CONTENT_TYPE,
            CONTENT_ENCODING,
            AUTHORIZATION,
            HeaderName::from_static(IDEMPOTENCY_KEY),
            HeaderName::from_static(REQUEST_ID),
            HeaderName::from_static(CLIENT_ID),
            HeaderName::from_static(LAST_EVENT_ID),
            HeaderName::from_static(TRACEPARENT),
            HeaderName::from_static(TRACESTATE),
        ])
        .expose_headers(exposed())
}

/// Pages may send the attributes of an event, each a header: which there are, the sender says, so those that a page asks for are allowed.
async fn attributes_allowed(request: Request, next: Next) -> Response {
    let is_for_events = request.extensions().get::<MatchedPath>().is_some_and(|path| path.as_str() == routes::EVENTS);
    let asked = if is_for_events && request.method() == Method::OPTIONS { attributes_asked_for(request.headers()) } else { String::new() };
    let mut response = next.run(request).await;
    if let Some(allowed) = response.headers_mut().get_mut(ACCESS_CONTROL_ALLOW_HEADERS).filter(|_| !asked.is_empty()) {
        let all = format!("{},{asked}", allowed.to_str().unwrap_or_default());
        *allowed = HeaderValue::try_from(all).expect("names of headers, divided by commas");
    }
    response
}

fn attributes_asked_for(headers: &HeaderMap) -> String {
    let lists = headers.get_all(ACCESS_CONTROL_REQUEST_HEADERS).iter().filter_map(|list| list.to_str().ok());
    let names = lists.flat_map(|list| list.split(',')).map(|name| name.trim().to_ascii_lowercase());
    names.filter(|name| CloudEvent::is_legal_attribute_header(name)).collect::<Vec<_>>().join(",")
}
