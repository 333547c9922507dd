//! An answer of the participant, read as the orchestrator reads it.
//!
//! | answer | outcome |
//! |---|---|
//! | 2xx but 202; 410 to a compensation | succeeded; the body is the output |
//! | 409 | refused |
//! | 202, 425 | ongoing |
//! | anything else, no answer, an answer that is cut off | unknown |

use reqwest::StatusCode;
use reqwest::header::RETRY_AFTER;
use sagamq_api::JsonText;
use sagamq_api::limits::SAGA_PAYLOAD_BYTES_MAX;
use sagamq_api::saga::Operation;
use serde_json::Value;
use std::fmt;
use std::time::Duration;

/// So many characters of a body are told.
const TOLD_CHARS: usize = 100;

/// What an answer means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Succeeded,
    Refused,
    Ongoing,
    Unknown,
}

/// An answer, or that there was none.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) outcome: Outcome,
    /// `None`: there was no answer, and `trouble` says why.
    pub(super) status: Option<StatusCode>,
    pub(super) body: Vec<u8>,
    /// The header as it stands.
    pub(super) retry_after: Option<String>,
    trouble: Option<String>,
}

impl Answer {
    /// Nobody answered.
    pub(super) fn none(error: &reqwest::Error) -> Self {
        let trouble = Some(crate::transport::chain(error));
        Self { outcome: Outcome::Unknown, status: None, body: Vec::new(), retry_after: None, trouble }
    }

    /// Reads an answer; of an output so much that it can be seen whether it is too large.
    pub(super) async fn read(mut response: reqwest::Response, operation: Operation) -> Self {
        let status = response.status();
        let retry_after = response.headers().get(RETRY_AFTER).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        let mut body = Vec::new();
        let mut trouble = None;
        while body.len() <= SAGA_PAYLOAD_BYTES_MAX {
            match response.chunk().await {
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                Ok(None) => break,
                Err(error) => {
                    trouble = Some(format!("cut off: {}", crate::transport::chain(&error)));
                    break;
                }
            }
        }
        let outcome = match status {
            StatusCode::ACCEPTED | StatusCode::TOO_EARLY => Outcome::Ongoing,
            _ if trouble.is_some() => Outcome::Unknown,
            StatusCode::GONE if operation == Operation::Compensation => Outcome::Succeeded,
            StatusCode::CONFLICT => Outcome::Refused,
            status if status.is_success() => Outcome::Succeeded,
            _ => Outcome::Unknown,
        };
        Self { outcome, status: Some(status), body, retry_after, trouble }
    }

    pub(super) fn is(&self, outcome: Outcome) -> bool {
        self.outcome == outcome
    }

    /// When to ask again, if the header says so in the one form that counts: whole seconds.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        self.retry_after.as_deref().and_then(|text| text.trim().parse().ok()).map(Duration::from_secs)
    }

    /// Whether another answer has the same output: the same JSON, else the same bytes.
    pub(super) fn has_output_of(&self, other: &Self) -> bool {
        match (serde_json::from_slice::<Value>(&self.body), serde_json::from_slice::<Value>(&other.body)) {
            (Ok(own), Ok(others)) => own == others,
            _ => self.body == other.body,
        }
    }

    /// The output as the orchestrator keeps it: JSON, else text, and nothing is `null`.
    pub(super) fn output(&self) -> JsonText {
        if self.body.is_empty() {
            return JsonText::null();
        }
        JsonText::parse(&self.body)
            .unwrap_or_else(|_| JsonText::of(&*String::from_utf8_lossy(&self.body)).unwrap_or_else(|_| JsonText::null()))
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.status, &self.trouble) {
            (Some(status), None) => write!(f, "{}", status.as_u16())?,
            (Some(status), Some(trouble)) => write!(f, "{} ({trouble})", status.as_u16())?,
            (None, trouble) => write!(f, "no answer ({})", trouble.as_deref().unwrap_or_default())?,
        }
        let text = String::from_utf8_lossy(&self.body);
        let text = text.trim();
        if text.is_empty() {
            return Ok(());
        }
        let told: String = text.chars().take(TOLD_CHARS).map(|c| if c.is_control() { ' ' } else { c }).collect();
        let rest = if text.chars().count() > TOLD_CHARS { "…" } else { "" };
        write!(f, " {told}{rest}")
    }
}
