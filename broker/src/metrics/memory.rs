//! What the larger parts of the server's memory hold. Whoever sees its memory grow can see which part it is.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// A part of the memory.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PartLabel {
    part: &'static str,
}

/// Bytes by part, as of the last look.
#[derive(Clone, Debug, Default)]
pub(crate) struct MemoryGauges(Family<PartLabel, Gauge>);

impl MemoryGauges {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("sagamq_memory_bytes", "Bytes that parts of the memory hold", self.0.clone());
    }

    pub(crate) fn set(&self, part: &'static str, bytes: u64) {
        self.0.get_or_create(&PartLabel { part }).set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }
}
