//! What a handler says when it did not do its work.

use crate::transport::chain;
use std::error::Error;
use std::fmt;
use std::time::Duration;

/// Why a record was not handled, and what is to become of it.
///
/// Every error with `?` (each `std::error::Error`, `anyhow::Error`, `Box<dyn Error + Send + Sync>`, a text) becomes a
/// [`HandlerError::Retry`] by the topic's backoff: at the topic's delivery limit the record becomes a dead letter with the last reason. This type is therefore no `std::error::Error` itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HandlerError {
    /// Deliver the record again.
    Retry {
        /// After this time; `None`: by the topic's backoff.
        delay: Option<Duration>,
        /// Why; kept with the dead letter if this was the last delivery.
        reason: String,
    },
    /// Never deliver the record to this group again: it becomes a dead letter now.
    Terminate {
        /// Why; kept with the dead letter.
        reason: String,
    },
}

impl HandlerError {
    /// Deliver the record again, by the topic's backoff.
    #[must_use]
    pub fn retry(reason: impl Into<String>) -> Self {
        Self::Retry { delay: None, reason: reason.into() }
    }

    /// Deliver the record again after this time.
    #[must_use]
    pub fn retry_after(delay: Duration, reason: impl Into<String>) -> Self {
        Self::Retry { delay: Some(delay), reason: reason.into() }
    }

    /// Make the record a dead letter now: it can never be handled.
    #[must_use]
    pub fn terminate(reason: impl Into<String>) -> Self {
        Self::Terminate { reason: reason.into() }
    }
}

impl fmt::Display for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Retry { delay: None, reason } => write!(f, "retry: {reason}"),
            Self::Retry { delay: Some(delay), reason } => write!(f, "retry in {} ms: {reason}", delay.as_millis()),
            Self::Terminate { reason } => write!(f, "terminate: {reason}"),
        }
    }
}

impl<E: Into<Box<dyn Error + Send + Sync>>> From<E> for HandlerError {
    fn from(error: E) -> Self {
        Self::retry(chain(&*error.into()))
    }
}
