//! Pages of listed origins: they ask before they send, and may read the answers.

use axum::Router;
use axum::extract::{MatchedPath, Request};
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_REQUEST_HEADERS, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method};
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use sagamq_api::cloud_event::CloudEvent;
use sagamq_api::headers::{
    CLIENT_ID, HIGH_WATERMARK, IDEMPOTENCY_KEY, LAST_EVENT_ID, LOG_START_OFFSET, NEXT_OFFSET, REQUEST_ID, TRACEPARENT, TRACESTATE,
};
use sagamq_api::routes;
use tower_http::cors::{AllowOrigin, CorsLayer};

/// The routes for pages of these origins as well; of none, as they are.
pub(super) fn around(all: Router, origins: &[String]) -> Router {
    if origins.is_empty() { all } else { all.layer(cors(origins)).layer(from_fn(attributes_allowed)) }
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
            HeaderName::from_static(TRACEPARENT),
            HeaderName::from_static(TRACESTATE),
        ])
        .expose_headers(
            [RETRY_AFTER]
                .into_iter()
                .chain([REQUEST_ID, NEXT_OFFSET, LOG_START_OFFSET, HIGH_WATERMARK].map(HeaderName::from_static))
                .collect::<Vec<_>>(),
        )
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
