//! How often a record is delivered and how long it waits in between. Comes from the topic's configuration.

/// Rules of redelivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueuePolicy {
    /// Deliveries before a record is a dead letter; 0 stands for "no limit".
    pub delivery_limit: u32,
    /// Bound of the wait after the first delivery, in milliseconds. It doubles at each delivery.
    pub backoff_initial_ms: u64,
    /// Largest bound of the wait, in milliseconds.
    pub backoff_max_ms: u64,
}

impl QueuePolicy {
    /// Whether a record that was delivered `attempt` times is not delivered again.
    #[must_use]
    pub fn is_exhausted(&self, attempt: u32) -> bool {
        self.delivery_limit > 0 && attempt >= self.delivery_limit
    }

    /// How long a record waits after its delivery number `attempt` (from 1), in milliseconds.
    ///
    /// Full jitter: evenly spread from nothing to the bound, so that records which failed together do not return together.
    /// `jitter` is in `0.0..1.0`; what lies outside is brought inside.
    #[must_use]
    pub fn backoff_ms(&self, attempt: u32, jitter: f64) -> u64 {
        let doublings = attempt.saturating_sub(1);
        let factor = 1_u64.checked_shl(doublings).unwrap_or(u64::MAX);
        let bound_ms = self.backoff_initial_ms.saturating_mul(factor).min(self.backoff_max_ms);
        let jitter = if jitter.is_finite() { jitter.clamp(0.0, 1.0) } else { 1.0 };
        // A wait is far below 2^53 ms, so the product is exact enough; the cast saturates.
        ((bound_ms as f64) * jitter) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: QueuePolicy = QueuePolicy { delivery_limit: 5, backoff_initial_ms: 1_000, backoff_max_ms: 300_000 };

    #[test]
    fn the_bound_doubles_up_to_the_cap() {
        assert_eq!(
            [1, 2, 3, 9, 10, 64, 65, u32::MAX].map(|attempt| POLICY.backoff_ms(attempt, 1.0)),
            [1_000, 2_000, 4_000, 256_000, 300_000, 300_000, 300_000, 300_000]
        );
        assert_eq!(POLICY.backoff_ms(0, 1.0), 1_000);
    }

    #[test]
    fn jitter_spreads_from_nothing_to_the_bound() {
        assert_eq!([0.0, 0.5, 1.0, -3.0, 7.0, f64::NAN].map(|jitter| POLICY.backoff_ms(2, jitter)), [0, 1_000, 2_000, 0, 2_000, 2_000]);
    }

    #[test]
    fn the_limit_counts_deliveries_and_zero_is_none() {
        assert!(!POLICY.is_exhausted(4));
        assert!(POLICY.is_exhausted(5));
        assert!(!QueuePolicy { delivery_limit: 0, ..POLICY }.is_exhausted(u32::MAX));
    }
}
