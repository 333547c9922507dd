//! What an error of the storage says about what was asked: done for sure, not done for sure, or nobody knows.

use core::error::Error;
use core::time::Duration;
use object_store::client::{HttpError, HttpErrorKind};

/// The storage did not answer, or refuses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unanswered(pub String);

/// Within another error: nothing was stored by this request, and nothing will be.
#[derive(Debug, thiserror::Error)]
#[error("nothing was stored: {0}")]
pub(super) struct NothingStored(pub(super) std::io::Error);

/// What a request came to that did not succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// There is no such object.
    Absent,
    /// There is such an object already, or another one than the one named, or a request for it is under way.
    Exists,
    /// It did nothing. Another attempt may succeed.
    NotDone,
    /// It did nothing, and another attempt will do nothing either.
    Refused,
    /// It may have done what was asked, or may do it later.
    Unknown,
}

/// A request without success.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) outcome: Outcome,
    /// For people.
    pub(super) reason: String,
}

impl Failure {
    /// What an error says about a single request.
    pub(super) fn of(error: &object_store::Error) -> Self {
        use object_store::Error as E;
        let outcome = match error {
            E::NotFound { .. } => Outcome::Absent,
            // Amazon answers 409 to two writers of one key that meet; that comes as `AlreadyExists` before anything is there.
            E::AlreadyExists { .. } | E::Precondition { .. } | E::NotModified { .. } => Outcome::Exists,
            E::PermissionDenied { .. }
            | E::Unauthenticated { .. }
            | E::NotSupported { .. }
            | E::NotImplemented { .. }
            | E::InvalidPath { .. }
            | E::UnknownConfigurationKey { .. } => Outcome::Refused,
            _ if did_nothing(error) => Outcome::NotDone,
            _ => Outcome::Unknown,
        };
        Self { outcome, reason: error.to_string() }
    }

    /// No answer in time.
    pub(super) fn late(after: Duration) -> Self {
        Self { outcome: Outcome::Unknown, reason: format!("no answer within {after:?}") }
    }

    /// Whether another request would be answered alike.
    pub(super) fn is_final(&self) -> bool {
        self.outcome == Outcome::Refused
    }

    /// Whether there is no such object.
    pub(super) fn is_absence(&self) -> bool {
        self.outcome == Outcome::Absent
    }
}

/// Whether the request never reached the storage.
fn did_nothing(error: &object_store::Error) -> bool {
    let mut cause: Option<&(dyn Error + 'static)> = error.source();
    while let Some(error) = cause {
        // `HttpErrorKind::Request` is not among them: `object_store` also says so of an answer that broke off.
        if error.downcast_ref::<HttpError>().is_some_and(|error| error.kind() == HttpErrorKind::Connect) || error.is::<NothingStored>() {
            return true;
        }
        cause = error.source();
    }
    false
}
