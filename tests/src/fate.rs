//! When a process of the tests kills itself (`SIGKILL`): by chance from a seed, at the places that it names and at any other moment.

use rustix::process::{Signal, getpid, kill_process};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Notify;

/// A number that decides when the process kills itself; absent: never.
pub const SEED: &str = "SAGAMQ_TEST_KILL_SEED";

/// A process that has had nothing to do for so long dies all the same.
const UNEMPLOYED: Duration = Duration::from_secs(5);

/// When the process ends itself.
#[derive(Clone, Debug)]
pub struct Fate(Option<Arc<Lot>>);

#[derive(Debug)]
struct Lot {
    seed: u64,
    state: AtomicU64,
    /// Told when the process has something to do.
    works: Notify,
}

impl Fate {
    /// That of this process.
    ///
    /// # Panics
    /// When the seed is no number.
    #[must_use]
    pub fn of_this_process() -> Self {
        let lot = |seed| Lot { seed, state: AtomicU64::new(seed), works: Notify::new() };
        Self(std::env::var(SEED).ok().map(|seed| Arc::new(lot(seed.parse().expect("a number")))))
    }

    /// The process has something to do: see [`Fate::anywhere`].
    pub fn works(&self) {
        if let Some(lot) = &self.0 {
            lot.works.notify_one();
        }
    }

    /// The next number of a plain generator.
    fn next(&self) -> Option<u64> {
        let step = |state: u64| state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let before = self.0.as_ref()?.state.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |state| Some(step(state)));
        Some(step(before.expect("there is always a next number")) >> 33)
    }

    /// A place where it matters: one in so many times the process dies here.
    ///
    /// # Panics
    /// When the system does not let a process kill itself.
    pub fn one_in(&self, times: u64) {
        if self.next().is_some_and(|number| number % times == 0) {
            die();
        }
    }

    /// Dies within a second or so, wherever that is: every third process after its start, and the others after they have begun to work,
    /// however long that took on a busy machine.
    ///
    /// # Panics
    /// As [`Fate::one_in`].
    pub async fn anywhere(self) {
        let (Some(lot), Some(number)) = (&self.0, self.next()) else { return std::future::pending().await };
        if lot.seed % 3 != 1 {
            let _ = tokio::time::timeout(UNEMPLOYED, lot.works.notified()).await;
        }
        tokio::time::sleep(Duration::from_millis(100 + number % 1_000)).await;
        die();
    }
}

fn die() {
    kill_process(getpid(), Signal::KILL).expect("a process may kill itself");
}
