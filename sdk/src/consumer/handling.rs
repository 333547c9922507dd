//! How one handler is run: its time limit, its lease, its panic.

use super::lease_book::LeaseTokens;
use super::settler::Settlement;
use futures_util::FutureExt as _;
use std::any::Any;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

tokio::task_local! {
    static LEASE: LeaseTokens;
}

/// In a handler: the token that is cancelled when the lease of its record is lost, so that the record will be or is handled by somebody
/// else, and when the record was settled by somebody else, as the command of a saga's call is when the attempt is over. The second is heard of when the lease is extended, so at the
/// latest half a lease later. Take it at the handler's beginning; it can be given to tasks and threads that work for the handler, which do not end with it.
/// Outside of a handler the token is never cancelled.
///
/// ```
/// # async fn example() {
/// let lost = sagamq_sdk::lease_lost();
/// tokio::task::spawn_blocking(move || {
///     for _part in 0..100 {
///         if lost.is_cancelled() {
///             return;
///         }
///         // … one part of the work …
///     }
/// });
/// # }
/// ```
#[must_use]
pub fn lease_lost() -> CancellationToken {
    lease().over
}

/// In a handler: the tokens of its lease. Outside of a handler they are never cancelled.
pub(crate) fn lease() -> LeaseTokens {
    LEASE.try_with(Clone::clone).unwrap_or_default()
}

/// The bounds of a handler.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Handling {
    /// How long it may take.
    pub(crate) timeout: Option<Duration>,
    /// Whether it goes on when its lease is lost.
    pub(crate) outlives_its_lease: bool,
}

impl Handling {
    /// Runs a handler to its end, or cuts it off at an await.
    pub(super) async fn run<F>(self, handler: impl FnOnce() -> F, lease: LeaseTokens) -> Settlement
    where
        F: Future<Output = Settlement>,
    {
        let handled = AssertUnwindSafe(LEASE.scope(lease.clone(), async move { handler().await })).catch_unwind();
        let too_late = async {
            match self.timeout {
                Some(timeout) => tokio::time::sleep(timeout).await,
                None => std::future::pending().await,
            }
        };
        let is_lost = async {
            match self.outlives_its_lease {
                true => std::future::pending().await,
                false => lease.lost.cancelled().await,
            }
        };
        tokio::select! {
            biased;
            handled = handled => handled.unwrap_or_else(|panic| Settlement::Nack { delay: None, reason: panic_text(&*panic) }),
            // It is somebody else's now; there is nothing left to settle.
            () = is_lost => Settlement::Settled,
            () = too_late => {
                let timeout_ms = self.timeout.unwrap_or_default().as_millis();
                Settlement::Nack { delay: None, reason: format!("the handler did not finish within {timeout_ms} ms") }
            }
        }
    }
}

/// What a panic said.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> String {
    let said = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("the handler panicked: {}", said.unwrap_or("without a text"))
}
