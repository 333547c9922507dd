//! Messages between lanes that wait: how many there are and how old the oldest is, at the moment somebody asks.

use core::fmt;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use sagamq_broker::env::Clock;
use sagamq_broker::{Broker, Inbox};
use std::sync::Arc;

/// The inboxes of all lanes.
pub(crate) struct MessagesWaiting {
    inboxes: Vec<Inbox>,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for MessagesWaiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MessagesWaiting").field("inboxes", &self.inboxes.len()).finish_non_exhaustive()
    }
}

impl MessagesWaiting {
    pub(crate) fn of(broker: &Broker) -> Self {
        Self { inboxes: (0..broker.shards()).map(|lane| broker.embedder(lane).inbox()).collect(), clock: broker.clock() }
    }

    /// How many there are, and for how long the oldest waits, in milliseconds.
    fn now(&self) -> (u64, u64) {
        let (mut count, mut oldest_ms) = (0, None);
        for inbox in &self.inboxes {
            for (from, waiting) in inbox.waiting() {
                count += waiting;
                // What cannot be read is told where it is delivered.
                let first_ms = inbox.read(from, 0, 0).ok().and_then(|found| found.first().map(|message| message.sent_at_ms));
                oldest_ms = oldest_ms.into_iter().chain(first_ms).min();
            }
        }
        (count, oldest_ms.map_or(0, |oldest_ms| self.clock.now_ms().saturating_sub(oldest_ms)))
    }
}

impl Collector for MessagesWaiting {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let (count, oldest_ms) = self.now();
        let count = ConstGauge::new(i64::try_from(count).unwrap_or(i64::MAX));
        let (name, help) = ("sagamq_lane_messages_waiting", "Messages between lanes that were not taken yet");
        count.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)?;
        #[expect(clippy::cast_precision_loss, reason = "an age in a gauge")]
        let oldest = ConstGauge::new(oldest_ms as f64 / 1_000.0);
        let name = "sagamq_lane_message_oldest_seconds";
        let help = "How long the message waits that waits for the longest time; 0 if none does";
        oldest.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::time::Duration;
    use prometheus_client::encoding::text::encode;
    use prometheus_client::registry::Registry;
    use sagamq_broker::BrokerConfig;
    use sagamq_broker::env::{ManualClock, Random};
    use sagamq_broker::storage::memory::MemoryStorage;

    #[tokio::test]
    async fn what_waits_is_counted_with_the_age_of_the_oldest() {
        let clock = ManualClock::at(10_000);
        let config = BrokerConfig { shards: 2, ..BrokerConfig::default() };
        let storage = Arc::new(MemoryStorage::new());
        let broker = Broker::open(storage, config, Arc::new(clock.clone()), Random::from_seed(7), &mut Registry::default()).expect("opens");
        let waiting = MessagesWaiting::of(&broker);
        assert_eq!(waiting.now(), (0, 0));
        for to in [0, 1] {
            let mut commit = broker.embedder(0).begin();
            commit.send(to, b"hi".to_vec());
            broker.embedder(0).submit(commit).await.expect("taken").durable().await.expect("durable");
            clock.advance(Duration::from_secs(1));
        }
        assert_eq!(waiting.now(), (2, 2_000));
        let mut commit = broker.embedder(0).begin();
        commit.take(0, 1);
        broker.embedder(0).submit(commit).await.expect("the next").durable().await.expect("durable");
        assert_eq!(waiting.now(), (1, 1_000));
        let mut registry = Registry::default();
        registry.register_collector(Box::new(waiting));
        let mut text = String::new();
        encode(&mut text, &registry).expect("it is written");
        assert!(text.contains("sagamq_lane_messages_waiting 1\n") && text.contains("sagamq_lane_message_oldest_seconds 1.0\n"), "{text}");
        broker.shutdown().await;
    }
}
