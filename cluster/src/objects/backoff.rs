//! Pauses between requests: short at first, twice as long each time, never all alike, and not for ever.

use core::time::Duration;
use tokio::time::Instant;

const FIRST: Duration = Duration::from_millis(20);
const LONGEST: Duration = Duration::from_secs(2);

/// The pauses of one call.
#[derive(Debug)]
pub(super) struct Backoff {
    until: Instant,
    next: Duration,
}

impl Backoff {
    /// For a call that may take so long.
    pub(super) fn new(call: Duration) -> Self {
        Self { until: Instant::now() + call, next: FIRST }
    }

    /// Waits. False if time is up, without waiting.
    pub(super) async fn pause(&mut self) -> bool {
        // Writers that met at one key must not meet again: between half and the whole of it.
        let pause = self.next.mul_f64(0.5 + 0.5 * rand::random::<f64>());
        if Instant::now() + pause >= self.until {
            return false;
        }
        tokio::time::sleep(pause).await;
        self.next = (self.next * 2).min(LONGEST);
        true
    }
}
