//! Metrics of records that wait for their time.

use super::TopicLabel;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// Metrics of records that wait for their time; clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct ScheduleMetrics {
    pub(crate) pending: Family<TopicLabel, Gauge>,
    pub(crate) fired: Family<TopicLabel, Counter>,
    pub(crate) cancelled: Family<TopicLabel, Counter>,
    pub(crate) lateness_seconds: Histogram,
}

impl Default for ScheduleMetrics {
    fn default() -> Self {
        let lateness_seconds = Histogram::new(exponential_buckets(0.001, 4.0, 12));
        Self { pending: Family::default(), fired: Family::default(), cancelled: Family::default(), lateness_seconds }
    }
}

impl ScheduleMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("sagamq_schedules_pending", "Records that wait for their time", self.pending.clone());
        registry.register("sagamq_schedules_fired", "Scheduled records that were appended when due", self.fired.clone());
        registry.register("sagamq_schedules_cancelled", "Scheduled records that were cancelled", self.cancelled.clone());
        let help = "How long after it was due a scheduled record was appended";
        registry.register("sagamq_schedules_lateness_seconds", help, self.lateness_seconds.clone());
    }

    pub(super) fn forget_topic(&self, label: &TopicLabel) {
        self.pending.remove(label);
        self.fired.remove(label);
        self.cancelled.remove(label);
    }
}
