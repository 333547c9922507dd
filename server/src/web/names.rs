//! Names of headers that are looked for in every request, made once: a name that is given as text is checked and written anew each time.

use axum::http::HeaderName;
use sagamq_api::headers;

pub(super) static REQUEST_ID: HeaderName = HeaderName::from_static(headers::REQUEST_ID);
pub(super) static TRACEPARENT: HeaderName = HeaderName::from_static(headers::TRACEPARENT);
pub(super) static TRACESTATE: HeaderName = HeaderName::from_static(headers::TRACESTATE);
pub(super) static IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static(headers::IDEMPOTENCY_KEY);
/// Whether a page of the same origin, of the same site or of another one makes the request; sent by browsers only.
pub(super) static SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
