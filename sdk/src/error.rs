//! What can go wrong with a request, and the two questions a caller has about it: may the same request be repeated, and may it
//! have taken effect already.

use sagamq_api::saga::SagaState;
use sagamq_api::{ErrorCode, Problem};
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// Why a request did not succeed. When it arrives, the client's [`RetryPolicy`](crate::RetryPolicy) is spent already.
///
/// Cheap to clone, because one failed batch is the failure of each of its records.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ClientError {
    /// The server said so: a problem document with a stable code.
    #[error("{0}")]
    Problem(Box<Problem>),
    /// There was no answer: refused connection, broken connection, timeout. Whether the request took effect is unknown, unless
    /// no attempt ever reached the server.
    #[error("no answer to {method} {url} after {attempts} attempt(s): {reason}{}", if *.outcome_unknown { "; the request may have taken effect" } else { "; the request was not sent" })]
    Transport {
        /// Method of the request.
        method: String,
        /// Address of the request.
        url: String,
        /// The request's id, as it stands in the server's log.
        request_id: String,
        /// How often it was tried.
        attempts: u32,
        /// What the last attempt died of.
        reason: String,
        /// Whether an attempt may have reached the server.
        outcome_unknown: bool,
        /// The error of the HTTP client.
        #[source]
        source: Arc<reqwest::Error>,
    },
    /// Something that is no SagaMQ server answered, for example a proxy: an error status without a problem document.
    #[error("{url} answered {status} without a problem document: {body}")]
    UnexpectedAnswer {
        /// Address of the request.
        url: String,
        /// Status of the answer.
        status: u16,
        /// The first bytes of its body.
        body: String,
    },
    /// Nobody knows whether the request took effect: an attempt may have, and no later one said what came of it. What is inside is the
    /// answer of the last attempt, for example the refusal of a proxy.
    #[error("{error}; an attempt may have taken effect{}", idempotency_key.as_ref().map(|key| format!(" (idempotency key {key})")).unwrap_or_default())]
    InDoubt {
        /// What the last attempt ended with.
        error: Box<ClientError>,
        /// The idempotency key of the request, given or drawn: with it, the same request can be repeated and has its effect once.
        idempotency_key: Option<String>,
    },
    /// The request succeeded, its answer cannot be read. Server and client may be of different versions.
    #[error("the answer of {url} cannot be read: {source}")]
    Decode {
        /// Address of the request.
        url: String,
        /// What the decoder says.
        #[source]
        source: Arc<serde_json::Error>,
    },
    /// The address of the server is no `http://` or `https://` URL, or the HTTP client cannot be made for it.
    #[error("`{url}` is not an address of a server: {reason}; give one like http://127.0.0.1:7070")]
    InvalidUrl {
        /// What was given.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The client cannot be made: a header or a certificate cannot be used.
    #[error("the client cannot be made: {reason}")]
    InvalidSettings {
        /// What is wrong.
        reason: String,
    },
    /// There was no value for the `authorization` header: the request was not sent.
    #[error("the request was not sent: its authorization could not be had: {reason}")]
    Credentials {
        /// What the provider says.
        reason: String,
    },
    /// The request was refused before it was sent.
    #[error("the request was not sent: {reason}")]
    InvalidRequest {
        /// What is wrong with it.
        reason: String,
    },
    /// The record waited in the producer's buffer until its time was over; it was not sent.
    #[error("the record was not sent: it waited {} ms in the buffer", waited.as_millis())]
    Expired {
        /// How long it waited.
        waited: Duration,
    },
    /// Not all records were settled in the time that was given. Each one's sender still learns what becomes of it.
    #[error("records are still on their way after {} ms", waited.as_millis())]
    FlushElapsed {
        /// How long the call waited.
        waited: Duration,
    },
    /// The producer was closed; the record was not sent.
    #[error("the producer is closed; the record was not sent")]
    Closed,
    /// The task that sends was gone before it told what came of this: its runtime ended, as at the end of `main`, or it panicked. What it had
    /// in its hands may have been sent.
    #[error("the task that sends ended before it told what came of this, as it does when its runtime ends")]
    Abandoned,
    /// The saga did not come to an end in the time that was given. It goes on without the caller.
    #[error("saga {id} is {} after {} ms of waiting; it goes on", state.map_or_else(|| "not heard of".to_owned(), |state| state.to_string()), waited.as_millis())]
    WaitElapsed {
        /// Id of the instance.
        id: Uuid,
        /// Its state when it was asked last; none if no answer came in time.
        state: Option<SagaState>,
        /// How long the call waited.
        waited: Duration,
    },
}

impl ClientError {
    /// The server's code, if the server answered with one.
    #[must_use]
    pub fn code(&self) -> Option<ErrorCode> {
        match self.last() {
            Self::Problem(problem) => Some(problem.code),
            _ => None,
        }
    }

    /// How many partitions the topic has, if the server refused a request that was made for another number.
    pub(crate) fn partitions(&self) -> Option<u32> {
        match self.last() {
            Self::Problem(problem) => problem.partitions,
            _ => None,
        }
    }

    /// Whether the very same request may succeed later, without anybody changing it.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self.last() {
            // The document's own flags, not the table's: a newer server knows codes that this client does not.
            Self::Problem(problem) => problem.retryable,
            Self::Transport { .. }
            | Self::Credentials { .. }
            | Self::WaitElapsed { .. }
            | Self::Expired { .. }
            | Self::FlushElapsed { .. } => true,
            Self::UnexpectedAnswer { status, .. } => matches!(status, 408 | 429 | 502..=504),
            Self::Decode { .. }
            | Self::InvalidUrl { .. }
            | Self::InvalidSettings { .. }
            | Self::InvalidRequest { .. }
            | Self::InDoubt { .. }
            | Self::Abandoned
            | Self::Closed => false,
        }
    }

    /// Whether the request may have taken effect. Such an error is never a failure: repeat the request with the same
    /// [`idempotency_key`](Self::idempotency_key), or look.
    #[must_use]
    pub fn is_outcome_unknown(&self) -> bool {
        match self {
            Self::Problem(problem) => problem.outcome_unknown,
            Self::Transport { outcome_unknown, .. } => *outcome_unknown,
            Self::UnexpectedAnswer { status, .. } => *status >= 500,
            Self::InDoubt { .. } | Self::Decode { .. } | Self::WaitElapsed { .. } | Self::FlushElapsed { .. } | Self::Abandoned => true,
            Self::InvalidUrl { .. }
            | Self::InvalidSettings { .. }
            | Self::InvalidRequest { .. }
            | Self::Credentials { .. }
            | Self::Expired { .. }
            | Self::Closed => false,
        }
    }

    /// The idempotency key, given or drawn, of a request of unknown outcome: the same request with this key has its effect once.
    #[must_use]
    pub fn idempotency_key(&self) -> Option<&str> {
        match self {
            Self::InDoubt { idempotency_key, .. } => idempotency_key.as_deref(),
            _ => None,
        }
    }

    /// What the last attempt ended with: the error itself, or what is in doubt.
    #[must_use]
    pub fn last(&self) -> &Self {
        match self {
            Self::InDoubt { error, .. } => error.last(),
            other => other,
        }
    }

    /// If the outcome is unknown: the same with this idempotency key, or with none.
    pub(crate) fn with_key(&self, idempotency_key: Option<String>) -> Self {
        match self {
            Self::InDoubt { error, .. } => Self::InDoubt { error: error.clone(), idempotency_key },
            other if other.is_outcome_unknown() => Self::InDoubt { error: Box::new(other.clone()), idempotency_key },
            other => other.clone(),
        }
    }
}

impl From<Problem> for ClientError {
    fn from(problem: Problem) -> Self {
        Self::Problem(Box::new(problem))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_s_flags_win_over_the_table_because_it_may_be_newer() {
        let json =
            r#"{"type":"x","title":"x","status":503,"code":"FROM_THE_FUTURE","detail":"d","retryable":true,"outcome_unknown":false}"#;
        let error = ClientError::from(serde_json::from_str::<Problem>(json).expect("a problem"));
        assert_eq!(error.code(), Some(ErrorCode::UnknownCode));
        assert!(error.is_retryable());
        assert!(!error.is_outcome_unknown());
    }

    #[test]
    fn a_proxy_that_fails_leaves_the_outcome_unknown_and_one_that_refuses_does_not() {
        let answer = |status| ClientError::UnexpectedAnswer { url: String::new(), status, body: String::new() };
        assert!(answer(502).is_retryable() && answer(502).is_outcome_unknown());
        assert!(answer(429).is_retryable() && !answer(429).is_outcome_unknown());
        assert!(!answer(403).is_retryable() && !answer(403).is_outcome_unknown());
    }
}
