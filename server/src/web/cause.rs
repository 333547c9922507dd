//! The span that a request is caused by, or that it is: what is done because of the request is caused by that.
//!
//! A request brings it in `traceparent` and `tracestate`. Where the server makes spans, the request is one of them, and that one counts.

use crate::web::names;
use axum::extract::{FromRequestParts, Request};
use axum::http::header::GetAll;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue};
use core::convert::Infallible;
use sagamq_api::headers::cloud_event;
use sagamq_api::{TraceContext, routes};
use sagamq_broker::spans::{Begun, Span, SpanKind, Tracer, Value};
use std::borrow::Cow;
use std::sync::Arc;

/// Where requests to a topic begin.
const OF_TOPIC: &str = "/v1/topics/{topic}";

/// What is asked over and over and brings nothing about by itself: no trace begins with it.
const UPKEEP: [&str; 8] = [":receive", ":ack", ":nack", ":extend", "{group}:terminate", ":heartbeat", "{group}:commit", ":complete"];

/// What a request is caused by, or is; nothing if it belongs to no trace.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cause(pub(crate) Option<Arc<TraceContext>>);

impl<S: Sync> FromRequestParts<S> for Cause {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.get::<Self>().cloned().unwrap_or_default())
    }
}

/// A request that is a span.
#[derive(Debug)]
pub(super) struct Traced {
    tracer: Tracer,
    begun: Begun,
    method: &'static str,
    path: String,
    topic: Option<String>,
}

/// Notes what caused the request, and begins its span if it is to be one.
pub(super) fn trace(
    tracer: &Tracer,
    route: &str,
    method: &'static str,
    path: fn(&Request) -> &str,
    request: &mut Request,
) -> Option<Box<Traced>> {
    let parent = brought(route, request.headers());
    let begun = match &parent {
        Some(parent) => tracer.begin(Some(parent)),
        None if tracer.is_on() && begins_a_trace(route, method) => tracer.begin(None),
        None => None,
    };
    let cause = begun.as_ref().map(|begun| begun.context.clone()).or(parent)?;
    let traced = begun.map(|begun| {
        let path = path(request);
        let topic = route.starts_with(OF_TOPIC).then(|| path.split('/').nth(3)).flatten();
        let topic = topic.and_then(|topic| topic.split(':').next()).map(str::to_owned);
        Box::new(Traced { tracer: tracer.clone(), begun, method, path: path.to_owned(), topic })
    });
    request.extensions_mut().insert(Cause(Some(Arc::new(cause))));
    traced
}

/// What the headers say: of the request itself, or else of the event that is in them.
fn brought(route: &str, headers: &HeaderMap) -> Option<TraceContext> {
    if route == routes::EVENTS && !headers.contains_key(&names::TRACEPARENT) {
        return said(&headers.get_all(cloud_event::CE_TRACEPARENT), &headers.get_all(cloud_event::CE_TRACESTATE));
    }
    said(&headers.get_all(&names::TRACEPARENT), &headers.get_all(&names::TRACESTATE))
}

/// Of two `traceparent` nobody knows which is meant; of more `tracestate` each is a part.
fn said(parents: &GetAll<'_, HeaderValue>, states: &GetAll<'_, HeaderValue>) -> Option<TraceContext> {
    let mut parents = parents.iter();
    let (parent, None) = (parents.next()?, parents.next()) else { return None };
    let states: Vec<&str> = states.iter().filter_map(|state| state.to_str().ok()).collect();
    TraceContext::parse(parent.to_str().ok()?, (!states.is_empty()).then(|| states.join(",")).as_deref()).ok()
}

/// Whether a request that belongs to no trace may begin one: not if it only looks, or polls.
fn begins_a_trace(route: &str, method: &str) -> bool {
    !matches!(method, "GET" | "HEAD" | "OPTIONS") && route.starts_with('/') && !UPKEEP.iter().any(|upkeep| route.ends_with(upkeep))
}

impl Traced {
    /// The request is over. A status of 499 was never sent: the client went away.
    pub(super) fn end(self, route: &str, status: u16) {
        let Self { tracer, begun, method, path, topic } = self;
        let (start_ns, end_ns) = begun.times_ns();
        let mut attributes = vec![
            ("http.request.method", Value::from(method)),
            ("http.route", Value::from(route.to_owned())),
            ("url.path", Value::from(path)),
            ("http.response.status_code", Value::from(status)),
        ];
        if let Some(topic) = topic {
            attributes.push(("messaging.system", Value::from("sagamq")));
            attributes.push(("messaging.destination.name", Value::from(topic)));
        }
        // What the client did wrong is no error of the server.
        let error = (status >= 500).then(|| status.to_string());
        if let Some(error) = &error {
            attributes.push(("error.type", Value::from(error.clone())));
        }
        tracer.record(Span {
            parent_span_id: begun.parent_span_id,
            is_parent_remote: true,
            kind: SpanKind::Server,
            name: Cow::Owned(format!("{method} {route}")),
            start_ns,
            end_ns,
            attributes,
            links: Vec::new(),
            error: error.map(Cow::Owned),
            context: begun.context,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderName;
    use sagamq_api::headers::{TRACEPARENT, TRACESTATE};
    use sagamq_api::routes;

    #[test]
    fn what_only_looks_or_polls_begins_no_trace() {
        for (method, route) in [("POST", routes::SAGAS), ("POST", routes::RECORDS), ("DELETE", routes::TOPIC)] {
            assert!(begins_a_trace(route, method), "{method} {route}");
        }
        let verb = |route: &str, verb: &str| format!("{route}:{verb}");
        let (receive, heartbeat) = (verb(routes::GROUP, "receive"), verb(routes::STREAM_GROUP, "heartbeat"));
        for (method, route) in [("GET", routes::SAGA), ("POST", &*receive), ("POST", &*heartbeat), ("POST", "none")] {
            assert!(!begins_a_trace(route, method), "{method} {route}");
        }
    }

    #[test]
    fn the_headers_are_read_as_the_recommendation_says() {
        const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let headers = |parents: &[&'static str], states: &[&'static str]| {
            let named = |name: &'static str, values: &[&'static str]| {
                values.iter().map(move |&value| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect::<Vec<_>>()
            };
            let mut headers = HeaderMap::new();
            for (name, value) in named(TRACEPARENT, parents).into_iter().chain(named(TRACESTATE, states)) {
                headers.append(name, value);
            }
            headers
        };
        let read = brought("/v1/sagas", &headers(&[PARENT], &["a=1", "b=2"])).expect("a parent");
        assert_eq!((read.traceparent().as_str(), read.tracestate()), (PARENT, Some("a=1,b=2")));
        assert_eq!(brought("/v1/sagas", &headers(&[PARENT, PARENT], &[])), None, "nobody knows which");
        assert_eq!(brought("/v1/sagas", &headers(&[], &["a=1"])), None);
        assert_eq!(brought("/v1/sagas", &headers(&["nonsense"], &[])), None);
    }
}
