//! When a process kills itself (`SIGKILL`): between an effect and its acknowledgement, and at any other moment.

use rustix::process::{Signal, getpid, kill_process};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// When the process ends itself.
#[derive(Clone)]
pub(crate) struct Fate(Option<Arc<AtomicU64>>);

impl Fate {
    /// As the number in this variable says; without one the process lives.
    pub(crate) fn of(variable: &str) -> Self {
        Self(std::env::var(variable).ok().map(|seed| Arc::new(AtomicU64::new(seed.parse().expect("a number")))))
    }

    /// The next number of a plain generator.
    fn next(&self) -> Option<u64> {
        let state = self.0.as_ref()?;
        let step = |state: u64| state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        Some(step(state.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |state| Some(step(state))).unwrap_or_default()) >> 33)
    }

    /// Here an effect is committed and nobody has heard of it.
    pub(crate) fn between(&self) {
        if self.next().is_some_and(|number| number % 25 == 0) {
            die();
        }
    }

    /// Somewhere in the middle, perhaps between the broker's answer and what the outbox makes of it.
    pub(crate) async fn anywhere(self) {
        let Some(number) = self.next() else { return std::future::pending().await };
        tokio::time::sleep(Duration::from_millis(200 + number % 1_500)).await;
        die();
    }
}

fn die() {
    kill_process(getpid(), Signal::KILL).expect("a process may kill itself");
}
