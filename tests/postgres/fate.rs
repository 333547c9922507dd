//! When a process kills itself (`SIGKILL`): between an effect and its acknowledgement, and at any other moment.

use rustix::process::{Signal, getpid, kill_process};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Notify;

/// A process that has had nothing to do for so long dies all the same.
const UNEMPLOYED: Duration = Duration::from_secs(5);

/// When the process ends itself.
#[derive(Clone)]
pub(crate) struct Fate(Option<Arc<Lot>>);

struct Lot {
    seed: u64,
    state: AtomicU64,
    /// Told when the process has something to do.
    works: Notify,
}

impl Fate {
    /// As the number in this variable says; without one the process lives.
    pub(crate) fn of(variable: &str) -> Self {
        let lot = |seed| Lot { seed, state: AtomicU64::new(seed), works: Notify::new() };
        Self(std::env::var(variable).ok().map(|seed| Arc::new(lot(seed.parse().expect("a number")))))
    }

    /// The process has something to do: see [`Fate::anywhere`].
    pub(crate) fn works(&self) {
        if let Some(lot) = &self.0 {
            lot.works.notify_one();
        }
    }

    /// The next number of a plain generator.
    fn next(&self) -> Option<u64> {
        let state = &self.0.as_ref()?.state;
        let step = |state: u64| state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        Some(step(state.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |state| Some(step(state))).unwrap_or_default()) >> 33)
    }

    /// Here an effect is committed and nobody has heard of it.
    pub(crate) fn between(&self) {
        if self.next().is_some_and(|number| number % 25 == 0) {
            die();
        }
    }

    /// Somewhere in the middle, perhaps between the broker's answer and what the outbox makes of it: every third process by the time
    /// since its start, and the others since they have begun to work, however long that took on a busy machine.
    pub(crate) async fn anywhere(self) {
        let (Some(lot), Some(number)) = (&self.0, self.next()) else { return std::future::pending().await };
        if lot.seed % 3 != 1 {
            let _ = tokio::time::timeout(UNEMPLOYED, lot.works.notified()).await;
        }
        tokio::time::sleep(Duration::from_millis(200 + number % 1_500)).await;
        die();
    }
}

fn die() {
    kill_process(getpid(), Signal::KILL).expect("a process may kill itself");
}
