//! The life of the server's parts: the committer's thread, the tasks of shards and lanes. The death of one is told to all.
//!
//! A part that panicked has left behind what nobody can vouch for, and a server without it looks ready and is not. So each part holds
//! a [`PartGuard`], which tells when it goes in any other way than by [`PartGuard::ended`]; the server is not ready from then on and
//! the process ends.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use tokio_util::sync::CancellationToken;

/// Whether all parts of the server live. Clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct Liveness(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// The first death; set once.
    death: OnceLock<String>,
    died: CancellationToken,
    /// A shutdown has begun: parts that are dropped with their runtime are no deaths any more, panics are.
    ending: AtomicBool,
}

/// Held by a part as long as it runs.
#[derive(Debug)]
#[must_use = "a guard that is dropped tells of a death"]
pub struct PartGuard {
    liveness: Liveness,
    part: String,
    has_ended: bool,
}

impl Liveness {
    /// A guard for a part. Make it behind everything by whose end others would notice the death: it has to be told before.
    pub fn guard(&self, part: impl Into<String>) -> PartGuard {
        PartGuard { liveness: self.clone(), part: part.into(), has_ended: false }
    }

    /// Which part died first, and how; `None` as long as all live.
    #[must_use]
    pub fn death(&self) -> Option<&str> {
        self.0.death.get().map(String::as_str)
    }

    /// Ends when a part has died; [`Liveness::death`] says which.
    pub async fn died(&self) {
        self.0.died.cancelled().await;
    }

    /// From now on a part may be dropped with its runtime.
    pub(crate) fn expect_end(&self) {
        self.0.ending.store(true, Ordering::Release);
    }

    fn tell(&self, part: &str, how: &str) {
        tracing::error!(part, "a part of the server {how}: the server is not ready any more and has to end");
        // Only the first counts: later ones follow from it.
        let _ = self.0.death.set(format!("{part} {how}"));
        self.0.died.cancel();
    }
}

impl PartGuard {
    /// The part ends as it should.
    pub fn ended(mut self) {
        self.has_ended = true;
    }
}

impl Drop for PartGuard {
    fn drop(&mut self) {
        if self.has_ended {
            return;
        }
        if std::thread::panicking() {
            self.liveness.tell(&self.part, "panicked");
        } else if !self.liveness.0.ending.load(Ordering::Acquire) {
            self.liveness.tell(&self.part, "ended unasked");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_that_was_asked_for_is_no_death_and_the_first_death_is_kept() {
        let liveness = Liveness::default();
        liveness.guard("shard 1").ended();
        assert_eq!(liveness.death(), None);
        drop(liveness.guard("shard 2"));
        drop(liveness.guard("shard 3"));
        assert_eq!(liveness.death(), Some("shard 2 ended unasked"));
    }

    #[test]
    fn in_a_shutdown_a_panic_is_a_death_and_being_dropped_is_not() {
        let liveness = Liveness::default();
        liveness.expect_end();
        drop(liveness.guard("shard 1"));
        assert_eq!(liveness.death(), None);
        let guard = liveness.guard("shard 2");
        std::thread::spawn(move || {
            let _guard = guard;
            panic!("as the test asks");
        })
        .join()
        .expect_err("it panicked");
        assert_eq!(liveness.death(), Some("shard 2 panicked"));
    }
}
