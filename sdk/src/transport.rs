//! The one place that speaks HTTP: connections, timeouts, request ids, retries, and what an answer means.
//!
//! A request is written once and sent as often as its retry policy allows, each time with the same bytes, the same idempotency
//! key and the same request id. An attempt whose outcome is unknown is remembered: if the attempts run out, the caller hears
//! "unknown", even if the last answer alone would read as "refused for now".

use crate::error::ClientError;
use crate::retry::RetryPolicy;
use bytes::Bytes;
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::{Method, Response, Url};
use sagamq_api::headers::{APPLICATION_JSON, IDEMPOTENCY_KEY, REQUEST_ID};
use sagamq_api::{ErrorCode, Problem};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;

/// How long a connection may take to be made: a host that does not answer within this is down.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How much of an answer that is no problem document is kept for the error's text.
const EXCERPT_CHARS: usize = 200;

/// Connections to one server.
#[derive(Debug)]
pub(crate) struct Transport {
    http: reqwest::Client,
    base: String,
    request_timeout: Duration,
}

/// A request, ready to be sent any number of times.
#[derive(Debug)]
pub(crate) struct Request {
    method: Method,
    path: String,
    query: Vec<(String, String)>,
    body: Option<(&'static str, Bytes)>,
    idempotency_key: Option<String>,
    wait: Duration,
    once: bool,
    done_before: Option<ErrorCode>,
}

impl Request {
    fn new(method: Method, path: impl Into<String>) -> Self {
        Self {
            method,
            path: path.into(),
            query: Vec::new(),
            body: None,
            idempotency_key: None,
            wait: Duration::ZERO,
            once: false,
            done_before: None,
        }
    }

    pub(crate) fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path)
    }

    pub(crate) fn delete(path: impl Into<String>) -> Self {
        Self::new(Method::DELETE, path)
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
        let value = serde_json::to_value(query)
            .map_err(|reason| ClientError::InvalidRequest { reason: format!("the query cannot be written: {reason}") })?;
        if let Value::Object(fields) = value {
            self.query.extend(fields.into_iter().filter_map(|(name, value)| match value {
                Value::Null => None,
                Value::String(text) => Some((name, text)),
                other => Some((name, other.to_string())),
            }));
        }
        Ok(self)
    }

    /// With a key under which the server executes it once.
    pub(crate) fn idempotency_key(mut self, key: impl Into<String>) -> Self {
        self.idempotency_key = Some(key.into());
        self
    }

    /// The server may hold the answer back for so long (long poll).
    pub(crate) fn wait_ms(mut self, wait_ms: Option<u64>) -> Self {
        self.wait = Duration::from_millis(wait_ms.unwrap_or(0));
        self
    }

    /// Not repeated once an attempt may have taken effect.
    pub(crate) fn once(mut self) -> Self {
        self.once = true;
        self
    }

    /// This code, after an attempt whose outcome is unknown, says that that attempt did the work.
    pub(crate) fn done_before(mut self, code: ErrorCode) -> Self {
        self.done_before = Some(code);
        self
    }
}

/// A failed attempt and what the server asked for.
struct Failure {
    error: ClientError,
    retry_after: Option<Duration>,
}

impl Transport {
    pub(crate) fn new(base: &str, request_timeout: Duration) -> Result<Self, ClientError> {
        let invalid = |reason: String| ClientError::InvalidUrl { url: base.to_owned(), reason };
        let url = Url::parse(base).map_err(|reason| invalid(reason.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(invalid(format!("the scheme is `{}`", url.scheme())));
        }
        if url.query().is_some() || url.fragment().is_some() || !url.username().is_empty() || url.password().is_some() {
            return Err(invalid("a query, a fragment or a user cannot be part of it".to_owned()));
        }
        let mut http = reqwest::Client::builder()
            .user_agent(concat!("sagamq-sdk/", env!("CARGO_PKG_VERSION")))
            // Small requests must not wait for Nagle's algorithm.
            .tcp_nodelay(true)
            .tcp_keepalive(Duration::from_secs(30))
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(Duration::from_secs(60))
            // A broker is reached directly; a proxy meant for browsers would cut long polls.
            .no_proxy()
            // The retries are ours: they carry the keys.
            .retry(reqwest::retry::never())
            .redirect(reqwest::redirect::Policy::none());
        if url.scheme() == "http" {
            // Without TLS the system's certificates are not needed: reading them takes time, and a slim container has none.
            http = http.tls_certs_only([]);
        }
        let http = http.build().map_err(|reason| invalid(chain(&reason)))?;
        Ok(Self { http, base: base.trim_end_matches('/').to_owned(), request_timeout })
    }

    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// Sends until there is an answer that stands, or the policy is spent; the answer's body is read as JSON.
    pub(crate) async fn json<T: DeserializeOwned>(&self, request: Request, policy: &RetryPolicy) -> Result<T, ClientError> {
        let url = format!("{}{}", self.base, request.path);
        let body = self.execute(request, policy).await?;
        serde_json::from_slice(&body).map_err(|source| ClientError::Decode { url, source: Arc::new(source) })
    }

    /// As [`Self::json`], for answers whose body says nothing more.
    pub(crate) async fn unit(&self, request: Request, policy: &RetryPolicy) -> Result<(), ClientError> {
        self.execute(request, policy).await.map(drop)
    }

    async fn execute(&self, request: Request, policy: &RetryPolicy) -> Result<Bytes, ClientError> {
        let request_id = Uuid::new_v4();
        let mut schedule = policy.schedule(request_id.as_u64_pair().1);
        let url = self.url(&request)?;
        let started = Instant::now();
        let mut unknown: Option<ClientError> = None;
        loop {
            let failure = match self.attempt(&request, url.clone(), request_id).await {
                Ok(body) => return Ok(body),
                Err(failure) => failure,
            };
            let Failure { error, retry_after } = failure;
            if unknown.is_some() && request.done_before.is_some() && error.code() == request.done_before {
                return Ok(Bytes::new());
            }
            let is_unknown = error.is_outcome_unknown();
            let stop = !error.is_retryable() || (is_unknown && request.once);
            let wait = if stop { None } else { schedule.after_failure(started.elapsed(), retry_after) };
            let Some(wait) = wait else {
                // A definite answer stands. One that only says "not now" does not undo what an earlier attempt may have done.
                let last = if error.is_retryable() && !is_unknown { unknown.unwrap_or(error) } else { error };
                return Err(with_attempts(last, schedule.failed().max(1)));
            };
            tracing::debug!(%request_id, method = %request.method, %url, %error, wait_ms = wait.as_millis(), "request is tried again");
            if is_unknown {
                unknown = Some(error);
            }
            tokio::time::sleep(wait).await;
        }
    }

    fn url(&self, request: &Request) -> Result<Url, ClientError> {
        let text = format!("{}{}", self.base, request.path);
        let mut url = Url::parse(&text).map_err(|reason| ClientError::InvalidUrl { url: text, reason: reason.to_string() })?;
        if !request.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&request.query);
        }
        Ok(url)
    }

    async fn attempt(&self, request: &Request, url: Url, request_id: Uuid) -> Result<Bytes, Failure> {
        let mut builder = self
            .http
            .request(request.method.clone(), url.clone())
            .timeout(self.request_timeout.saturating_add(request.wait))
            .header(REQUEST_ID, request_id.to_string());
        if let Some((content_type, body)) = &request.body {
            builder = builder.header(CONTENT_TYPE, *content_type).body(body.clone());
        }
        if let Some(key) = &request.idempotency_key {
            builder = builder.header(IDEMPOTENCY_KEY, key);
        }
        let lost = |source: reqwest::Error| Failure { error: transport_error(request, &url, request_id, source), retry_after: None };
        let response = builder.send().await.map_err(lost)?;
        if response.status().is_success() {
            return response.bytes().await.map_err(lost);
        }
        let retry_after = retry_after(&response);
        let status = response.status().as_u16();
        let body = response.bytes().await.map_err(lost)?;
        let error = match serde_json::from_slice::<Problem>(&body) {
            Ok(problem) => problem.into(),
            Err(_) => ClientError::UnexpectedAnswer { url: url.to_string(), status, body: excerpt(&body) },
        };
        Err(Failure { error, retry_after })
    }
}

fn transport_error(request: &Request, url: &Url, request_id: Uuid, source: reqwest::Error) -> ClientError {
    if source.is_builder() {
        // For example an idempotency key that cannot stand in a header.
        return ClientError::InvalidRequest { reason: chain(&source) };
    }
    ClientError::Transport {
        method: request.method.to_string(),
        url: url.to_string(),
        request_id: request_id.to_string(),
        attempts: 1,
        reason: chain(&source),
        // Without a connection nothing was sent. In every other case it may have been.
        outcome_unknown: !source.is_connect(),
        source: Arc::new(source.without_url()),
    }
}

fn with_attempts(error: ClientError, count: u32) -> ClientError {
    match error {
        ClientError::Transport { method, url, request_id, attempts: _, reason, outcome_unknown, source } => {
            ClientError::Transport { method, url, request_id, attempts: count, reason, outcome_unknown, source }
        }
        other => other,
    }
}

/// The error and its causes in one line: the outermost alone says only "error sending request".
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

fn excerpt(body: &[u8]) -> String {
    String::from_utf8_lossy(body).chars().take(EXCERPT_CHARS).collect()
}

fn retry_after(response: &Response) -> Option<Duration> {
    let seconds: f64 = response.headers().get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}
