//! The one place that speaks HTTP: connections, timeouts, request ids, retries, and what an answer means.
//!
//! A request is written once and sent as often as its retry policy allows, each time with the same bytes, the same idempotency
//! key and the same request id. An attempt whose outcome is unknown is remembered: whatever a later attempt is told, by the server
//! or by something in between, the caller hears "unknown" unless that later attempt succeeds.

mod request;
mod servers;
mod settings;

pub(crate) use request::Request;
pub(crate) use settings::Settings;

use crate::error::ClientError;
use crate::retry::{RetryPolicy, RetrySchedule};
use crate::trace;
use bytes::Bytes;
use request::Repeat;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use reqwest::{Response, Url};
use sagamq_api::headers::{ACTIVE_NODE, IDEMPOTENCY_KEY, REQUEST_ID, TRACEPARENT, TRACESTATE};
use sagamq_api::{ErrorCode, Problem};
use serde::de::DeserializeOwned;
use servers::Servers;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use uuid::{Builder, Uuid};

/// How much of an answer that is no problem document is kept for the error's text.
const EXCERPT_CHARS: usize = 200;

/// Connections to one server, or to those of one broker.
#[derive(Debug)]
pub(crate) struct Transport {
    http: reqwest::Client,
    servers: Servers,
    settings: Settings,
}

/// An answer that is no error.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// A failed attempt and what the server asked for.
struct Failure {
    error: ClientError,
    retry_after: Option<Duration>,
}

impl Transport {
    pub(crate) fn new(base: &str, settings: Settings) -> Result<Self, ClientError> {
        let servers = Servers::parse(base)?;
        Ok(Self { http: settings.http_client(servers.any_tls())?, servers, settings })
    }

    /// The server that is asked.
    pub(crate) fn base(&self) -> &str {
        self.servers.asked()
    }

    /// How long one attempt may take beyond the long poll it asked for.
    pub(crate) fn request_timeout(&self) -> Duration {
        self.settings.request_timeout
    }

    /// Sends until there is an answer that stands, or the policy is spent; the answer's body is read as JSON.
    pub(crate) async fn json<T: DeserializeOwned>(&self, request: Request, policy: &RetryPolicy) -> Result<T, ClientError> {
        let (path, key) = (request.path.clone(), request.idempotency_key.clone());
        let body = self.bytes(request, policy).await?;
        serde_json::from_slice(&body).map_err(|source| match key {
            Some(key) => in_doubt(self.unreadable(&path, source), Some(key)),
            None => self.unreadable(&path, source),
        })
    }

    /// As [`Self::json`], for answers whose body says nothing more.
    pub(crate) async fn unit(&self, request: Request, policy: &RetryPolicy) -> Result<(), ClientError> {
        self.bytes(request, policy).await.map(drop)
    }

    /// The error of an answer that cannot be read.
    pub(crate) fn unreadable(&self, path: &str, source: serde_json::Error) -> ClientError {
        ClientError::Decode { url: format!("{}{path}", self.base()), source: Arc::new(source) }
    }

    /// As [`Self::json`], with the answer's body as it is.
    pub(crate) async fn bytes(&self, request: Request, policy: &RetryPolicy) -> Result<Bytes, ClientError> {
        self.answer(request, policy).await.map(|answer| answer.body)
    }

    /// As [`Self::bytes`], with the answer's headers.
    pub(crate) async fn answer(&self, request: Request, policy: &RetryPolicy) -> Result<Answer, ClientError> {
        // It only names the request in logs, so the system is not asked for each.
        let request_id = Builder::from_random_bytes(rand::random()).into_uuid();
        let mut schedule = policy.schedule(request_id.as_u64_pair().1);
        let started = Instant::now();
        // Whether an attempt may have taken effect.
        let mut is_open = false;
        loop {
            let server = self.base();
            let url = url(server, &request)?;
            let Failure { error, mut retry_after } = match self.attempt(&request, &url, request_id).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            if self.servers.learn(server, &error) {
                // That was about the one that is not asked any more.
                retry_after = None;
            }
            if is_open && request.done_before.is_some() && error.code() == request.done_before {
                return Ok(Answer::default());
            }
            is_open |= request.has_effects() && error.is_outcome_unknown();
            let wait = if may_repeat(&request, &error) { schedule.after_failure(started.elapsed(), retry_after) } else { None };
            let Some(wait) = wait else {
                return Err(last_word(error, is_open, request.idempotency_key, &schedule));
            };
            tracing::debug!(%request_id, method = %request.method, %url, %error, wait_ms = wait.as_millis(), "request is tried again");
            tokio::time::sleep(wait).await;
        }
    }

    async fn attempt(&self, request: &Request, url: &Url, request_id: Uuid) -> Result<Answer, Failure> {
        let mut builder = self
            .http
            .request(request.method.clone(), url.clone())
            .timeout(self.settings.request_timeout.saturating_add(request.wait))
            .header(REQUEST_ID, &*request_id.hyphenated().encode_lower(&mut Uuid::encode_buffer()));
        if let Some((name, value)) = self.settings.authorization().await.map_err(|error| Failure { error, retry_after: None })? {
            builder = builder.header(name, value);
        }
        if let Some((content_type, body)) = &request.body {
            builder = builder.header(CONTENT_TYPE, *content_type).body(body.clone());
        }
        if let Some(media_type) = request.accept {
            builder = builder.header(ACCEPT, media_type);
        }
        if let Some(key) = &request.idempotency_key {
            builder = builder.header(IDEMPOTENCY_KEY, key);
        }
        if let Some(current) = trace::current() {
            builder = builder.header(TRACEPARENT, current.traceparent());
            if let Some(state) = current.tracestate() {
                builder = builder.header(TRACESTATE, state);
            }
        }
        let lost = |source: reqwest::Error| Failure { error: transport_error(request, url, request_id, source), retry_after: None };
        let mut response = builder.send().await.map_err(lost)?;
        if response.status().is_success() {
            let headers = std::mem::take(response.headers_mut());
            if let Some(active) = headers.get(ACTIVE_NODE).and_then(|url| url.to_str().ok()) {
                self.servers.passed_on_to(active);
            }
            return Ok(Answer { headers, body: response.bytes().await.map_err(lost)? });
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

fn url(server: &str, request: &Request) -> Result<Url, ClientError> {
    let text = format!("{server}{}", request.path);
    let mut url = Url::parse(&text).map_err(|reason| ClientError::InvalidUrl { url: text, reason: reason.to_string() })?;
    url.set_query(request.query.as_deref());
    Ok(url)
}

/// Whether another attempt can help and does no harm.
fn may_repeat(request: &Request, error: &ClientError) -> bool {
    if request.stops_at.is_some() && error.code() == request.stops_at {
        return false;
    }
    match request.repeat {
        Repeat::Harmless => error.is_retryable(),
        // A fault inside the server says nothing about the next attempt, and the server knows what the first one did.
        Repeat::Recognised => error.is_retryable() || error.code() == Some(ErrorCode::Internal),
        Repeat::Never => error.is_retryable() && !error.is_outcome_unknown(),
    }
}

/// What the caller hears when there is no further attempt.
fn last_word(error: ClientError, is_open: bool, idempotency_key: Option<String>, schedule: &RetrySchedule) -> ClientError {
    let error = match error {
        ClientError::Transport { method, url, request_id, attempts: _, reason, outcome_unknown, source } => {
            let (attempts, outcome_unknown) = (schedule.failed().max(1), outcome_unknown || is_open);
            ClientError::Transport { method, url, request_id, attempts, reason, outcome_unknown, source }
        }
        other => other,
    };
    let hides_the_doubt = !error.is_outcome_unknown();
    if is_open && (hides_the_doubt || idempotency_key.is_some()) { in_doubt(error, idempotency_key) } else { error }
}

fn in_doubt(error: ClientError, idempotency_key: Option<String>) -> ClientError {
    ClientError::InDoubt { error: Box::new(error), idempotency_key }
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

/// The error and its causes in one line: the outermost alone says only "error sending request".
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
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
