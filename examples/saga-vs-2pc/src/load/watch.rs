//! How a client looks for the end of a transaction. There is no time in what it sees, so its looks do not blur what is measured: times are
//! those of the coordinator's events.

use super::{LoadError, Started};
use sagamq_api::saga::{SagaDescription, SagaState};
use sagamq_sdk::Client;
use std::time::Duration;
use tokio::time::Instant;

/// Shortest and longest pause between two looks.
const SHORTEST: Duration = Duration::from_millis(1);
const LONGEST: Duration = Duration::from_millis(500);

/// When a client looks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Watch {
    first: Duration,
    /// By how much pauses grow.
    growth: f64,
    pause: Duration,
}

impl Watch {
    /// Seldom: when the end came does not matter to anybody who waits.
    pub(super) fn lazy() -> Self {
        Self { first: Duration::from_millis(60), growth: 1.5, pause: Duration::from_millis(40) }
    }

    /// Often: the next transaction begins with it.
    pub(super) fn eager() -> Self {
        Self { first: Duration::from_millis(4), growth: 1.3, pause: Duration::from_millis(2) }
    }

    /// As before, for transactions that take about as long as this one did, or shorter.
    pub(super) fn learn(self, took: Duration) -> Self {
        let known = self.first.mul_f64(0.75) + took.mul_f64(0.9 * 0.25);
        let first = known.clamp(SHORTEST, Duration::from_millis(200));
        Self { first, pause: first.mul_f64(0.15).max(SHORTEST), ..self }
    }

    pub(super) async fn to_end(self, client: &Client, started: &Started, limit: Instant) -> Result<SagaDescription, LoadError> {
        let began = Instant::now();
        tokio::time::sleep(self.first).await;
        let mut pause = self.pause;
        loop {
            let description = client.sagas().get(started.id).await?;
            let state = description.summary.state;
            if state.is_final() || state == SagaState::Blocked {
                return Ok(description);
            }
            if Instant::now() > limit {
                return Err(LoadError::Endless { key: started.key.clone(), id: started.id, state, waited: began.elapsed() });
            }
            tokio::time::sleep(pause).await;
            pause = pause.mul_f64(self.growth).min(LONGEST);
        }
    }
}
