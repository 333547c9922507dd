//! Transactions in doubt, of all lanes: how many there are and how old the oldest is, at the moment somebody asks.

use core::fmt;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use sagamq_broker::env::Clock;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use uuid::Uuid;

/// The register; clones are the same one.
#[derive(Clone)]
pub(super) struct Doubts {
    /// Since when, in milliseconds since 1970, and who.
    since: Arc<Mutex<BTreeSet<(u64, Uuid)>>>,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for Doubts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Doubts").field("since", &self.since).finish_non_exhaustive()
    }
}

impl Doubts {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { since: Arc::default(), clock }
    }

    /// A transaction came into doubt, is so since another time, or is no more.
    pub(super) fn set(&self, id: Uuid, before_ms: Option<u64>, after_ms: Option<u64>) {
        if before_ms == after_ms {
            return;
        }
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(before_ms) = before_ms {
            since.remove(&(before_ms, id));
        }
        if let Some(after_ms) = after_ms {
            since.insert((after_ms, id));
        }
    }

    /// How many there are, and for how long the oldest is, in milliseconds.
    fn now(&self) -> (usize, u64) {
        let since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        let oldest_ms = since.first().map_or(0, |&(since_ms, _)| self.clock.now_ms().saturating_sub(since_ms));
        (since.len(), oldest_ms)
    }
}

impl Collector for Doubts {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let (count, oldest_ms) = self.now();
        let count = ConstGauge::new(i64::try_from(count).expect("transactions in memory are countable"));
        let name = "sagamq_transactions_in_doubt";
        let help = "Transactions for which a service keeps locks until it hears the decision";
        count.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)?;
        #[expect(clippy::cast_precision_loss, reason = "an age in a gauge")]
        let oldest = ConstGauge::new(oldest_ms as f64 / 1_000.0);
        let name = "sagamq_transaction_in_doubt_oldest_seconds";
        let help = "How long the transaction is in doubt that is so for the longest time; 0 if none is";
        oldest.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::time::Duration;
    use prometheus_client::encoding::text::encode;
    use prometheus_client::registry::Registry;
    use sagamq_broker::env::ManualClock;

    #[test]
    fn they_are_counted_and_the_oldest_one_s_age_is_that_of_the_moment_somebody_asks() {
        let clock = ManualClock::at(10_000);
        let doubts = Doubts::new(Arc::new(clock.clone()));
        let [a, b] = [1, 2].map(Uuid::from_u128);
        assert_eq!(doubts.now(), (0, 0));
        doubts.set(a, None, Some(8_000));
        doubts.set(b, None, Some(9_000));
        doubts.set(b, Some(9_000), Some(9_000));
        clock.advance(Duration::from_secs(1));
        assert_eq!(doubts.now(), (2, 3_000));
        doubts.set(a, Some(8_000), None);
        assert_eq!(doubts.now(), (1, 2_000));
        let mut registry = Registry::default();
        registry.register_collector(Box::new(doubts));
        let mut text = String::new();
        encode(&mut text, &registry).expect("it is written");
        assert!(text.contains("sagamq_transactions_in_doubt 1\n"), "{text}");
        assert!(text.contains("sagamq_transaction_in_doubt_oldest_seconds 2.0\n"), "{text}");
    }
}
