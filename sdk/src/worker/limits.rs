//! How the handler of a call is run: its time limit, its lease, its panic.
//!
//! A handler is cut off when the lease of its command is lost, and what it has returned never is: the reply needs no lease, and an outcome
//! that is known must not be thrown away.

use super::CallError;
use crate::consumer::{lease, panic_text};
use futures_util::FutureExt as _;
use sagamq_api::JsonText;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

/// The failure code of a call whose handler panicked.
pub(crate) const HANDLER_PANICKED: &str = "HANDLER_PANICKED";

/// The failure code of a call whose handler took longer than it may.
pub(crate) const HANDLER_TIMEOUT: &str = "HANDLER_TIMEOUT";

/// The bounds of a handler.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Limits {
    /// How long it may take.
    pub(super) timeout: Option<Duration>,
    /// Whether it goes on when the lease of its command is lost.
    pub(super) outlives_its_lease: bool,
}

impl Limits {
    /// Runs a handler to its end. `None`: it was cut off, because its command is somebody else's.
    pub(super) async fn run<F>(self, handler: impl FnOnce() -> F) -> Option<Result<JsonText, CallError>>
    where
        F: Future<Output = Result<JsonText, CallError>>,
    {
        let lease = lease();
        let handled = AssertUnwindSafe(async move { handler().await }).catch_unwind();
        let is_lost = async {
            match self.outlives_its_lease {
                true => std::future::pending().await,
                false => lease.lost.cancelled().await,
            }
        };
        let too_late = async {
            match self.timeout {
                Some(timeout) => tokio::time::sleep(timeout).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            handled = handled => Some(handled.unwrap_or_else(|panic| Err(CallError::unknown(HANDLER_PANICKED, panic_text(&*panic))))),
            () = is_lost => None,
            () = too_late => {
                let timeout_ms = self.timeout.unwrap_or_default().as_millis();
                Some(Err(CallError::unknown(HANDLER_TIMEOUT, format!("the handler did not finish within {timeout_ms} ms"))))
            }
        }
    }
}
