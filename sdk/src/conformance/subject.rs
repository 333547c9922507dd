//! The participant under test: how it is called.

use super::answer::{Answer, Outcome};
use super::profile::Profile;
use super::step::{Step, attempt};
use crate::transport::chain;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use sagamq_api::headers::{APPLICATION_JSON, saga as headers};
use sagamq_api::saga::{Call, Operation};
use std::sync::OnceLock;
use std::time::Duration;
use tokio::time::Instant;

/// How long a connection may take to be made, as the server waits.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How often a call whose outcome is unknown is made again before that is its outcome.
const ATTEMPTS: u32 = 3;

/// Pause before a call that goes on is asked for again, without a `Retry-After`, and before another attempt.
const PAUSE: Duration = Duration::from_millis(200);

/// Longest pause that a `Retry-After` gets.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Why there is nothing to judge.
#[derive(Debug, thiserror::Error)]
pub enum ConformanceError {
    /// The profile or the address cannot be used.
    #[error("{0}")]
    Invalid(String),
    /// Nobody answers.
    #[error("nobody answers at {url}: {reason}")]
    NoAnswer {
        /// The base URL of the participant.
        url: String,
        /// What the connection says.
        reason: String,
    },
}

/// The participant under test.
#[derive(Debug)]
pub(super) struct Subject {
    base: String,
    pub(super) profile: Profile,
    pub(super) http: reqwest::Client,
    /// By how much the probe changes with one effect; known once the first call was made.
    pub(super) unit: OnceLock<i64>,
}

impl Subject {
    pub(super) fn new(base: &str, profile: &Profile) -> Result<Self, ConformanceError> {
        let invalid = |message: String| ConformanceError::Invalid(message);
        let url = reqwest::Url::parse(base).map_err(|error| invalid(format!("`{base}` is no URL: {error}")))?;
        if !matches!(url.scheme(), "http" | "https") || url.query().is_some() || url.fragment().is_some() {
            return Err(invalid(format!("`{base}` is no base URL: http or https, without a query")));
        }
        let mut own = HeaderMap::new();
        for (name, value) in &profile.headers {
            let name: HeaderName = name.parse().map_err(|error| invalid(format!("header `{name}`: {error}")))?;
            let value = HeaderValue::from_str(value).map_err(|error| invalid(format!("header `{name}`: {error}")))?;
            own.insert(name, value);
        }
        let http = reqwest::Client::builder()
            .default_headers(own)
            // As the server calls.
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(Duration::from_millis(profile.timeout_ms.max(1)))
            .build()
            .map_err(|error| invalid(chain(&error)))?;
        Ok(Self { base: base.trim_end_matches('/').to_owned(), profile: profile.clone(), http, unit: OnceLock::new() })
    }

    /// Asks whether somebody answers at all. What is asked is no call, so nothing can come of it.
    pub(super) async fn is_there(&self) -> Result<(), ConformanceError> {
        match self.http.get(&self.base).send().await {
            Err(error) if error.is_connect() => Err(ConformanceError::NoAnswer { url: self.base.clone(), reason: chain(&error) }),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Makes a call once.
    pub(super) async fn call(&self, call: &Call) -> Answer {
        let body = serde_json::to_vec(call).expect("a call is JSON");
        self.post(&call.call, call_headers(call), body, call.attempt.operation).await
    }

    /// Sends this body where an operation is called.
    pub(super) async fn post(&self, name: &str, headers: HeaderMap, body: Vec<u8>, operation: Operation) -> Answer {
        let request = self.http.post(format!("{}/{name}", self.base)).headers(headers).body(body);
        match request.send().await {
            Ok(response) => Answer::read(response, operation).await,
            Err(error) => Answer::none(&error),
        }
    }

    /// Makes a call as the orchestrator does: asks again while it goes on, and makes further attempts while its outcome is unknown.
    pub(super) async fn settle(&self, call: &Call) -> Answer {
        let over = Instant::now() + Duration::from_millis(self.profile.timeout_ms);
        let mut call = call.clone();
        let last = call.attempt.epoch + ATTEMPTS - 1;
        loop {
            let answer = self.call(&call).await;
            match answer.outcome {
                Outcome::Succeeded | Outcome::Refused => return answer,
                Outcome::Unknown if call.attempt.epoch >= last => return answer,
                Outcome::Unknown => call = attempt(&call, call.attempt.epoch + 1),
                Outcome::Ongoing => {}
            }
            let pause = answer.retry_after().unwrap_or(PAUSE).min(PAUSE_MAX);
            if Instant::now() + pause >= over {
                return answer;
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// What the probe counts, if there is one.
    pub(super) async fn effects(&self, step: &Step) -> Option<Result<i64, String>> {
        match &self.profile.probe {
            Some(probe) => Some(super::probe::count(&self.http, probe, &step.key).await),
            None => None,
        }
    }
}

/// The headers of a call.
pub(super) fn call_headers(call: &Call) -> HeaderMap {
    let attempt = &call.attempt;
    let all = [
        (headers::INSTANCE, attempt.instance.to_string()),
        (headers::STEP, attempt.step.to_string()),
        (headers::OPERATION, attempt.operation.to_string()),
        (headers::EPOCH, attempt.epoch.to_string()),
        (headers::NAME, call.saga.to_string()),
        (headers::VERSION, call.version.to_string()),
        (headers::KEY, call.key.clone()),
        (headers::CALL, call.call.clone()),
        (headers::IDEMPOTENCY_KEY, call.idempotency_key.clone()),
        (headers::MUST_SUCCEED, call.must_succeed.to_string()),
        (headers::STARTED_AT, call.started_at_ms.to_string()),
        (headers::DEADLINE, call.deadline_ms.to_string()),
    ];
    let mut map = HeaderMap::new();
    map.insert(CONTENT_TYPE, HeaderValue::from_static(APPLICATION_JSON));
    for (name, value) in all {
        // The name of an operation comes from the profile and may hold what a header cannot; the body has it all the same.
        if let Ok(value) = HeaderValue::from_str(&value) {
            map.insert(HeaderName::from_static(name), value);
        }
    }
    map
}
