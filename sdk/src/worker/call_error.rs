//! What a participant says when a call did not succeed.

use crate::transport::chain;
use sagamq_api::JsonText;
use sagamq_api::saga::{CallOutcome, Failure};
use serde::Serialize;
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

/// The code of an error that came with `?`.
const HANDLER_ERROR: &str = "HANDLER_ERROR";

/// Why a call has no output. The difference between the first two is the one that matters in a saga: see each.
///
/// Every error with `?` (each `std::error::Error`, `anyhow::Error`, `Box<dyn Error + Send + Sync>`, a text) becomes
/// [`CallError::Unknown`] with the code `HANDLER_ERROR`, because an error of a database or of a
/// connection does not say that nothing happened. A database's lock that was not had in time has the code `LOCK_TIMEOUT`, a circle of waiting
/// transactions `DEADLOCK`, a serialisation failure `SERIALIZATION_FAILURE`. This type is therefore no `std::error::Error` itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallError {
    /// A business refusal: the call took no effect and never will under its idempotency key. The saga compensates.
    Refused(Failure),
    /// The call may or may not have taken effect. The saga calls again with the same idempotency key.
    Unknown {
        /// What went wrong.
        failure: Failure,
        /// When to call again; `None`: by the definition's backoff.
        retry_after: Option<Duration>,
    },
    /// The participant works on. The saga keeps the attempt open until its deadline.
    Ongoing {
        /// When to ask again.
        retry_after: Option<Duration>,
    },
}

impl CallError {
    /// A business refusal with a stable code, for example `OUT_OF_STOCK`.
    #[must_use]
    pub fn refused(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Refused(Failure { code: code.into(), message: message.into() })
    }

    /// An outcome that is not known, with a stable code, for example `DATABASE_TIMEOUT`.
    #[must_use]
    pub fn unknown(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Unknown { failure: Failure { code: code.into(), message: message.into() }, retry_after: None }
    }

    /// The work goes on.
    #[must_use]
    pub fn ongoing(retry_after: Option<Duration>) -> Self {
        Self::Ongoing { retry_after }
    }

    /// The failure, if there is one.
    #[must_use]
    pub fn failure(&self) -> Option<&Failure> {
        match self {
            Self::Refused(failure) | Self::Unknown { failure, .. } => Some(failure),
            Self::Ongoing { .. } => None,
        }
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(failure) => write!(f, "refused: {}: {}", failure.code, failure.message),
            Self::Unknown { failure, .. } => write!(f, "outcome unknown: {}: {}", failure.code, failure.message),
            Self::Ongoing { .. } => f.write_str("ongoing"),
        }
    }
}

impl<E: Into<Box<dyn Error + Send + Sync>>> From<E> for CallError {
    fn from(error: E) -> Self {
        let error = error.into();
        Self::unknown(code_of(&*error), chain(&*error))
    }
}

/// The code of an error of which nothing else is known: whether it was a lock that was not had is worth one of its own.
fn code_of(error: &(dyn Error + 'static)) -> &'static str {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(code) = lock_code(error) {
            return code;
        }
        cause = error.source();
    }
    HANDLER_ERROR
}

/// What a database says that was in the way of another transaction.
#[cfg_attr(not(any(feature = "rocksdb", feature = "postgres")), expect(unused_variables, reason = "no database is known"))]
fn lock_code(error: &(dyn Error + 'static)) -> Option<&'static str> {
    #[cfg(feature = "rocksdb")]
    if let Some(error) = error.downcast_ref::<rocksdb::Error>() {
        return match error.kind() {
            rocksdb::ErrorKind::TimedOut => Some("LOCK_TIMEOUT"),
            rocksdb::ErrorKind::Busy => Some("DEADLOCK"),
            _ => None,
        };
    }
    #[cfg(feature = "postgres")]
    if let Some(error) = error.downcast_ref::<tokio_postgres::Error>() {
        use tokio_postgres::error::SqlState;
        return match error.code() {
            Some(&SqlState::LOCK_NOT_AVAILABLE) => Some("LOCK_TIMEOUT"),
            Some(&SqlState::T_R_DEADLOCK_DETECTED) => Some("DEADLOCK"),
            Some(&SqlState::T_R_SERIALIZATION_FAILURE) => Some("SERIALIZATION_FAILURE"),
            _ => None,
        };
    }
    None
}

/// What a handler or a barrier's business returned, as its text.
pub(crate) fn output_text(output: &(impl Serialize + ?Sized)) -> Result<JsonText, CallError> {
    JsonText::of(output).map_err(|error| CallError::unknown("OUTPUT_UNREADABLE", format!("the output cannot be sent: {error}")))
}

/// What a handler will have returned, as the text that is sent.
pub(crate) type Handled = Pin<Box<dyn Future<Output = Result<JsonText, CallError>> + Send>>;

/// The handler that was called with what it returns made text.
pub(crate) fn handled<F, O>(handling: F) -> Handled
where
    F: Future<Output = Result<O, CallError>> + Send + 'static,
    O: Serialize + Send,
{
    Box::pin(async move { output_text(&handling.await?) })
}

/// How spans name the outcome.
pub(crate) const fn outcome_of(result: &Result<JsonText, CallError>) -> &'static str {
    match result {
        Ok(_) => "succeeded",
        Err(CallError::Refused(_)) => "refused",
        Err(CallError::Unknown { .. }) => "unknown",
        Err(CallError::Ongoing { .. }) => "ongoing",
    }
}

/// The reply for a handler's result.
pub(super) fn outcome(result: Result<JsonText, CallError>) -> CallOutcome {
    let millis = |wait: Option<Duration>| wait.map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
    match result {
        Ok(output) => CallOutcome::Succeeded { output },
        Err(CallError::Refused(failure)) => CallOutcome::Refused { failure },
        Err(CallError::Unknown { failure, retry_after }) => CallOutcome::Unknown { failure, retry_after_ms: millis(retry_after) },
        Err(CallError::Ongoing { retry_after }) => CallOutcome::Ongoing { retry_after_ms: millis(retry_after) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_with_a_question_mark_is_an_unknown_outcome_and_never_a_refusal() {
        fn handler() -> Result<JsonText, CallError> {
            Ok(serde_json::from_str("{")?)
        }
        assert!(matches!(outcome(handler()), CallOutcome::Unknown { failure, .. } if failure.code == "HANDLER_ERROR"));
        fn boxed() -> Result<JsonText, CallError> {
            let inner = std::io::Error::other("the cause");
            Err::<(), Box<dyn Error + Send + Sync>>(Box::new(std::io::Error::other(inner)))?;
            Ok(JsonText::null())
        }
        assert!(matches!(outcome(boxed()), CallOutcome::Unknown { failure, .. } if failure.message.contains("the cause")));
        fn anyhow() -> Result<JsonText, CallError> {
            Err(anyhow::anyhow!("the cause").context("what was tried"))?;
            Ok(JsonText::null())
        }
        let CallOutcome::Unknown { failure, .. } = outcome(anyhow()) else { panic!("never a refusal") };
        assert_eq!(failure.message, "what was tried: the cause");
    }
}
