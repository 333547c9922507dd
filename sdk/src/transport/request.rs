//! A request, ready to be sent any number of times.

use crate::error::ClientError;
use bytes::Bytes;
use reqwest::Method;
use sagamq_api::ErrorCode;
use sagamq_api::headers::APPLICATION_JSON;
use serde::Serialize;
use std::time::Duration;

/// A request: written once, sent as often as its retry policy allows.
#[derive(Debug)]
pub(crate) struct Request {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) query: Option<String>,
    pub(super) body: Option<(&'static str, Bytes)>,
    pub(super) accept: Option<&'static str>,
    pub(super) idempotency_key: Option<String>,
    pub(super) wait: Duration,
    pub(super) repeat: Repeat,
    pub(super) done_before: Option<ErrorCode>,
    pub(super) stops_at: Option<ErrorCode>,
}

/// What the server does with a request that it gets again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repeat {
    /// Nothing more, or nothing that does harm.
    Harmless,
    /// It recognises the request and gives the first answer: also a fault inside the server is worth another attempt.
    Recognised,
    /// It does it twice: not repeated once an attempt may have taken effect.
    Never,
}

impl Request {
    fn new(method: Method, path: impl Into<String>) -> Self {
        Self {
            method,
            path: path.into(),
            query: None,
            body: None,
            accept: None,
            idempotency_key: None,
            wait: Duration::ZERO,
            repeat: Repeat::Harmless,
            done_before: None,
            stops_at: None,
        }
    }

    pub(crate) fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path)
    }

    pub(crate) fn delete(path: impl Into<String>) -> Self {
        Self::new(Method::DELETE, path)
    }

    pub(crate) fn put(path: impl Into<String>) -> Self {
        Self::new(Method::PUT, path)
    }

    pub(crate) fn patch(path: impl Into<String>) -> Self {
        Self::new(Method::PATCH, path)
    }

    pub(crate) fn post(path: impl Into<String>) -> Self {
        Self::new(Method::POST, path)
    }

    /// With a body in JSON.
    pub(crate) fn json(self, body: &impl Serialize) -> Result<Self, ClientError> {
        let bytes = serde_json::to_vec(body)
            .map_err(|reason| ClientError::InvalidRequest { reason: format!("the body cannot be written as JSON: {reason}") })?;
        Ok(self.bytes(APPLICATION_JSON, bytes.into()))
    }

    /// With a body of any kind.
    pub(crate) fn bytes(mut self, content_type: &'static str, body: Bytes) -> Self {
        self.body = Some((content_type, body));
        self
    }

    /// With the fields of a flat structure as query parameters; absent ones are left out.
    pub(crate) fn query(mut self, query: &impl Serialize) -> Result<Self, ClientError> {
        let query = serde_urlencoded::to_string(query)
            .map_err(|reason| ClientError::InvalidRequest { reason: format!("the query cannot be written: {reason}") })?;
        self.query = (!query.is_empty()).then_some(query);
        Ok(self)
    }

    /// Asks for an answer of this media type.
    pub(crate) fn accept(mut self, media_type: &'static str) -> Self {
        self.accept = Some(media_type);
        self
    }

    /// With a key under which the server executes it once.
    pub(crate) fn idempotency_key(mut self, key: impl Into<String>) -> Self {
        self.idempotency_key = Some(key.into());
        self.recognised()
    }

    /// The server recognises it when it comes again, by something in it.
    pub(crate) fn recognised(mut self) -> Self {
        self.repeat = Repeat::Recognised;
        self
    }

    /// Not repeated once an attempt may have taken effect.
    pub(crate) fn once(mut self) -> Self {
        self.repeat = Repeat::Never;
        self
    }

    /// The server may hold the answer back for so long (long poll).
    pub(crate) fn wait_ms(mut self, wait_ms: Option<u64>) -> Self {
        self.wait = Duration::from_millis(wait_ms.unwrap_or(0));
        self
    }

    /// This code, after an attempt whose outcome is unknown, says that that attempt did the work.
    pub(crate) fn done_before(mut self, code: ErrorCode) -> Self {
        self.done_before = Some(code);
        self
    }

    /// This code is answered to the caller at once, who knows another way.
    pub(crate) fn stops_at(mut self, code: Option<ErrorCode>) -> Self {
        self.stops_at = code;
        self
    }

    /// Whether it can change anything: what only reads is never in doubt.
    pub(super) fn has_effects(&self) -> bool {
        self.method != Method::GET
    }
}
