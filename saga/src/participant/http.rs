//! Participants that are called over HTTP: `POST {base}/{call}` with the call as JSON.
//!
//! | answer | outcome |
//! |---|---|
//! | 2xx but 202, and 410 | succeeded; the body is the output |
//! | 409 | refused; the body may be `{code, message}` or a problem document |
//! | 202, 425 | ongoing; asked again after `Retry-After` (1 s without) under the same key and epoch |
//! | anything else, and no answer | unknown; `Retry-After` wins over the backoff |
//!
//! A call is made after the commit that decided it, and again after a crash: the key makes it the same call.

use super::topic::{call_headers, succeeded};
use crate::definition::Target;
use crate::protocol::CallCommand;
use core::time::Duration;
use http::header::RETRY_AFTER;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use sagamq_api::limits::{REASON_BYTES_MAX, SAGA_PAYLOAD_BYTES_MAX};
use sagamq_api::saga::{Call, CallOutcome, Failure};
use sagamq_broker::env::Clock;
use serde::Deserialize;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// How long to wait before a participant that works on is asked again, if it does not say.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// Shortest wait before a participant is asked again: `Retry-After: 0` must not become a busy loop.
const ASK_AGAIN_MIN: Duration = Duration::from_millis(50);

/// Most bytes of an answer that is no success; more is not read.
const FAILURE_BYTES_MAX: usize = 64 * 1024;

/// Calls HTTP participants; clones share the connections and the bound on calls at a time.
#[derive(Clone, Debug)]
pub(crate) struct HttpParticipants {
    client: reqwest::Client,
    /// The bound on calls at a time. A participant that works on holds no place while it is left alone.
    places: Arc<Semaphore>,
    clock: Arc<ClockRef>,
}

/// The clock, with a `Debug` that says nothing.
pub(crate) struct ClockRef(pub(crate) Arc<dyn Clock>);

impl core::fmt::Debug for ClockRef {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Clock")
    }
}

impl HttpParticipants {
    pub(crate) fn new(calls_max: usize, clock: Arc<dyn Clock>) -> Result<Self, reqwest::Error> {
        // A redirect could turn the POST into a GET that succeeds without any effect; participants are called where they are.
        let builder = || reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
        let client = match builder().build() {
            Ok(client) => client,
            // A machine without certificates, as a small container is: participants over plain HTTP must work there all the same.
            Err(error) => {
                tracing::warn!(%error, "no certificates are found: participants over https cannot be called");
                builder().tls_certs_only([]).build()?
            }
        };
        Ok(Self { client, places: Arc::new(Semaphore::new(calls_max)), clock: Arc::new(ClockRef(clock)) })
    }

    /// Calls until the participant has a word other than "ongoing", or the attempt's deadline is over. `report` hears of every
    /// outcome; after the deadline it hears nothing, because the attempt's timer speaks then.
    pub(crate) async fn perform<F: Future<Output = ()>>(&self, command: &CallCommand, report: impl Fn(CallOutcome) -> F) {
        let Target::Http(base) = &command.target else { return };
        let url = format!("{base}/{}", command.call.call);
        let body: bytes::Bytes = serde_json::to_vec(&command.call).expect("a call is JSON").into();
        let headers = request_headers(&command.call);
        while let Some(left) = self.time_left(&command.call) {
            // Waiting for a place ends with the deadline too: the attempt is then unknown, though nothing was sent.
            let Ok(Ok(place)) = tokio::time::timeout(left, self.places.acquire()).await else { return };
            let Some(left) = self.time_left(&command.call) else { return };
            let request = self.client.post(&url).headers(headers.clone()).body(body.clone()).timeout(left);
            let outcome = outcome_of(request.send().await).await;
            drop(place);
            let CallOutcome::Ongoing { retry_after_ms } = outcome else { return report(outcome).await };
            report(CallOutcome::Ongoing { retry_after_ms }).await;
            let pause = retry_after_ms.map_or(ASK_AGAIN, Duration::from_millis).max(ASK_AGAIN_MIN);
            tokio::time::sleep(pause.min(left)).await;
        }
    }

    fn time_left(&self, call: &Call) -> Option<Duration> {
        let left_ms = call.deadline_ms.saturating_sub(self.clock.0.now_ms());
        (left_ms > 0).then(|| Duration::from_millis(left_ms))
    }
}

fn request_headers(call: &Call) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static(sagamq_api::headers::APPLICATION_JSON));
    for (name, value) in call_headers(call) {
        // A business key may hold what a header cannot; the body has it all the same.
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    headers
}

async fn outcome_of(sent: Result<reqwest::Response, reqwest::Error>) -> CallOutcome {
    let mut response = match sent {
        Ok(response) => response,
        Err(error) => return unknown("NO_ANSWER", describe(&error), None),
    };
    let (status, retry_after_ms) = (response.status(), retry_after_ms(response.headers()));
    let is_success = (status.is_success() && status != StatusCode::ACCEPTED) || status == StatusCode::GONE;
    let bound = if is_success { SAGA_PAYLOAD_BYTES_MAX + 1 } else { FAILURE_BYTES_MAX };
    let mut body = Vec::new();
    while body.len() < bound {
        match response.chunk().await {
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => break,
            Err(error) if is_success || status == StatusCode::CONFLICT => {
                return unknown("ANSWER_CUT_OFF", describe(&error), retry_after_ms);
            }
            Err(_) => break,
        }
    }
    match status {
        _ if is_success => succeeded(&body),
        StatusCode::CONFLICT => CallOutcome::Refused { failure: failure_of(&body, "REFUSED") },
        StatusCode::ACCEPTED | StatusCode::TOO_EARLY => CallOutcome::Ongoing { retry_after_ms },
        status => CallOutcome::Unknown { failure: failure_of(&body, &format!("HTTP_{}", status.as_u16())), retry_after_ms },
    }
}

fn unknown(code: &str, message: String, retry_after_ms: Option<u64>) -> CallOutcome {
    CallOutcome::Unknown { failure: Failure { code: code.to_owned(), message }, retry_after_ms }
}

/// An error with its causes: the outermost alone only says that sending failed.
fn describe(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = core::error::Error::source(error);
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text.chars().take(REASON_BYTES_MAX).collect()
}

/// What a participant says about a failure: `{code, message}`, a problem document, or any text.
fn failure_of(body: &[u8], default_code: &str) -> Failure {
    #[derive(Deserialize)]
    struct Said {
        code: Option<String>,
        message: Option<String>,
        detail: Option<String>,
        title: Option<String>,
    }
    let message_of = |text: String| text.chars().take(REASON_BYTES_MAX).collect::<String>();
    match serde_json::from_slice::<Said>(body) {
        Ok(said) => Failure {
            code: said.code.unwrap_or_else(|| default_code.to_owned()),
            message: message_of(said.message.or(said.detail).or(said.title).unwrap_or_default()),
        },
        Err(_) => Failure { code: default_code.to_owned(), message: message_of(String::from_utf8_lossy(body).into_owned()) },
    }
}

/// `Retry-After` in seconds; the form with a date is not used between services.
fn retry_after_ms(headers: &HeaderMap) -> Option<u64> {
    let seconds: u64 = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(seconds.saturating_mul(1_000))
}
