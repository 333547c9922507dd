//! Metrics of producers that count their records.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Bytes that are kept of a producer in a partition, about.
const KNOWN_BYTES: u64 = 320;

/// Why a batch was refused.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ReasonLabel {
    pub(crate) reason: &'static str,
}

/// Metrics of producers that count their records; clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct ProducerMetrics {
    pub(crate) known: Gauge,
    pub(crate) waiting: Gauge,
    pub(crate) duplicates: Counter,
    pub(crate) refused: Family<ReasonLabel, Counter>,
}

impl ProducerMetrics {
    /// Bytes that are kept of all of them, about.
    pub(crate) fn bytes(&self) -> u64 {
        u64::try_from(self.known.get()).unwrap_or(0) * KNOWN_BYTES
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("sagamq_producers", "Producers that partitions know, each counted once a partition", self.known.clone());
        registry.register("sagamq_producer_waiting_batches", "Batches that wait for one that comes before them", self.waiting.clone());
        let help = "Batches answered with the offset of an earlier one by producer and sequence";
        registry.register("sagamq_producer_duplicate_batches", help, self.duplicates.clone());
        let help = "Batches refused by producer and sequence, by reason";
        registry.register("sagamq_producer_refused_batches", help, self.refused.clone());
    }
}
