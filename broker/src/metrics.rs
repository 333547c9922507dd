//! Metrics of the broker: names with the unit last, no label that grows with the data.

mod disk;
mod memory;
mod producers;
mod queues;
mod schedules;
mod streams;

pub(crate) use disk::DiskGauges;
pub(crate) use memory::MemoryGauges;
pub(crate) use producers::{ProducerMetrics, ReasonLabel};
pub(crate) use queues::{QueueFigures, QueueGauges, QueueLag};
pub(crate) use schedules::ScheduleMetrics;
pub(crate) use streams::{StreamFigures, StreamGauges};

use crate::storage::Durability;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use sagamq_api::{GroupName, TopicName};
use std::sync::atomic::AtomicU64;
use std::time::Instant;

/// Label of everything that is counted by topic. Topics are made by operators, so their number is bounded.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct TopicLabel {
    pub(crate) topic: String,
}

/// Label of everything that is counted by group.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct GroupLabel {
    pub(crate) topic: String,
    pub(crate) group: String,
}

/// Whether a write was synced.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct SyncLabel {
    synced: &'static str,
}

/// Counters and histograms of one broker.
#[derive(Debug)]
pub(crate) struct Metrics {
    pub(crate) produced_records: Family<TopicLabel, Counter>,
    pub(crate) produced_bytes: Family<TopicLabel, Counter>,
    pub(crate) duplicate_records: Family<TopicLabel, Counter>,
    pub(crate) delivered_records: Family<GroupLabel, Counter>,
    pub(crate) redelivered_records: Family<GroupLabel, Counter>,
    pub(crate) acknowledged_records: Family<GroupLabel, Counter>,
    pub(crate) dead_letter_records: Family<GroupLabel, Counter>,
    pub(crate) redriven_records: Family<GroupLabel, Counter>,
    pub(crate) discarded_records: Family<GroupLabel, Counter>,
    pub(crate) trimmed_records: Family<TopicLabel, Counter>,
    pub(crate) trimmed_unsettled_records: Family<GroupLabel, Counter>,
    pub(crate) compacted_records: Family<TopicLabel, Counter>,
    pub(crate) compacted_bytes: Family<TopicLabel, Counter>,
    pub(crate) streams: StreamGauges,
    pub(crate) disk: DiskGauges,
    pub(crate) memory: MemoryGauges,
    pub(crate) queues: QueueGauges,
    pub(crate) schedules: ScheduleMetrics,
    pub(crate) producers: ProducerMetrics,
    pub(crate) rejected_produce_requests: Counter,
    pub(crate) rejected_read_requests: Counter,
    pub(crate) staged_bytes: Gauge,
    pub(crate) staged_bytes_max: Gauge,
    /// Shards that write no more.
    pub(crate) stopped_shards: Gauge,
    commit_seconds: Family<SyncLabel, Histogram>,
    pub(crate) commit_waited: Counter<f64, AtomicU64>,
    commit_bytes: Histogram,
}

/// What is counted of the records that a topic gets.
#[derive(Clone, Debug)]
pub(crate) struct TopicCounters {
    pub(crate) produced_records: Counter,
    pub(crate) produced_bytes: Counter,
}

impl Metrics {
    /// The counters of a topic. They count for nobody once the topic is forgotten.
    pub(crate) fn of_topic(&self, topic: &str) -> TopicCounters {
        let label = TopicLabel { topic: topic.to_owned() };
        let [produced_records, produced_bytes] = [&self.produced_records, &self.produced_bytes].map(|of| of.get_or_create_owned(&label));
        TopicCounters { produced_records, produced_bytes }
    }

    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            produced_records: Family::default(),
            produced_bytes: Family::default(),
            duplicate_records: Family::default(),
            delivered_records: Family::default(),
            redelivered_records: Family::default(),
            acknowledged_records: Family::default(),
            dead_letter_records: Family::default(),
            redriven_records: Family::default(),
            discarded_records: Family::default(),
            trimmed_records: Family::default(),
            trimmed_unsettled_records: Family::default(),
            compacted_records: Family::default(),
            compacted_bytes: Family::default(),
            streams: StreamGauges::default(),
            disk: DiskGauges::default(),
            memory: MemoryGauges::default(),
            queues: QueueGauges::default(),
            schedules: ScheduleMetrics::default(),
            producers: ProducerMetrics::default(),
            rejected_produce_requests: Counter::default(),
            rejected_read_requests: Counter::default(),
            staged_bytes: Gauge::default(),
            staged_bytes_max: Gauge::default(),
            stopped_shards: Gauge::default(),
            commit_seconds: Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.000_05, 2.0, 18))),
            commit_waited: Counter::default(),
            commit_bytes: Histogram::new(exponential_buckets(64.0, 4.0, 10)),
        };
        let m = &metrics;
        registry.register("sagamq_produced_records", "Records stored", m.produced_records.clone());
        registry.register("sagamq_produced_bytes", "Bytes of record batches stored", m.produced_bytes.clone());
        registry.register("sagamq_duplicate_records", "Records answered with an earlier one's offset", m.duplicate_records.clone());
        registry.register("sagamq_delivered_records", "Records leased to consumers of queue groups", m.delivered_records.clone());
        registry.register("sagamq_redelivered_records", "Of the delivered, those not for the first time", m.redelivered_records.clone());
        registry.register("sagamq_acknowledged_records", "Records acknowledged by queue groups", m.acknowledged_records.clone());
        registry.register("sagamq_dead_letter_records", "Records moved to a dead-letter topic", m.dead_letter_records.clone());
        registry.register("sagamq_redriven_records", "Dead letters delivered again to their group", m.redriven_records.clone());
        registry.register("sagamq_discarded_records", "Dead letters discarded", m.discarded_records.clone());
        registry.register("sagamq_trimmed_records", "Records taken by retention", m.trimmed_records.clone());
        let help = "Records taken by retention before the group had settled them";
        registry.register("sagamq_trimmed_unsettled_records", help, m.trimmed_unsettled_records.clone());
        registry.register("sagamq_compacted_records", "Records that a newer one of their key replaced", m.compacted_records.clone());
        registry.register("sagamq_compacted_bytes", "Bytes that compaction gave back", m.compacted_bytes.clone());
        registry.register_collector(Box::new(m.streams.clone()));
        registry.register_collector(Box::new(m.queues.clone()));
        m.disk.register(registry);
        m.memory.register(registry);
        m.schedules.register(registry);
        m.producers.register(registry);
        registry.register("sagamq_rejected_produce_requests", "Produce requests answered with 429", m.rejected_produce_requests.clone());
        registry.register("sagamq_rejected_read_requests", "Receives and reads answered with 429", m.rejected_read_requests.clone());
        registry.register("sagamq_staged_bytes", "Bytes accepted that are not durable yet", m.staged_bytes.clone());
        registry.register("sagamq_staged_bytes_max", "Bytes that may be accepted and not durable yet", m.staged_bytes_max.clone());
        registry.register("sagamq_stopped_shards", "Shards that write no more until a restart", m.stopped_shards.clone());
        registry.register("sagamq_commit_seconds", "Time of one group commit", m.commit_seconds.clone());
        let help = "Time that group commits waited for those whom the one before had answered";
        registry.register("sagamq_commit_waited_seconds", help, m.commit_waited.clone());
        registry.register("sagamq_commit_bytes", "Bytes of one group commit", m.commit_bytes.clone());
        metrics
    }

    /// Shows what alarms look at of a group from its beginning: how a counter grew is seen only from its second value on.
    pub(crate) fn begin_group(&self, label: &GroupLabel) {
        for family in [&self.delivered_records, &self.dead_letter_records, &self.trimmed_unsettled_records] {
            drop(family.get_or_create(label));
        }
    }

    /// The same of a stream group in one of its topics.
    pub(crate) fn begin_stream(&self, topic: &TopicName, group: &GroupName) {
        let label = GroupLabel { topic: topic.to_string(), group: group.to_string() };
        drop(self.trimmed_unsettled_records.get_or_create(&label));
    }

    /// Removes the series of a topic that was deleted.
    pub(crate) fn forget_topic(&self, topic: &TopicName) {
        let label = TopicLabel { topic: topic.to_string() };
        let compacted = [&self.compacted_records, &self.compacted_bytes];
        for family in
            [&self.produced_records, &self.produced_bytes, &self.duplicate_records, &self.trimmed_records].into_iter().chain(compacted)
        {
            family.remove(&label);
        }
        self.schedules.forget_topic(&label);
    }

    /// Removes the series of a group that was deleted.
    pub(crate) fn forget_group(&self, topic: &TopicName, group: &GroupName) {
        let label = GroupLabel { topic: topic.to_string(), group: group.to_string() };
        let settled = [&self.acknowledged_records, &self.dead_letter_records, &self.redriven_records, &self.discarded_records];
        let settled = settled.into_iter().chain([&self.trimmed_unsettled_records]);
        for family in [&self.delivered_records, &self.redelivered_records].into_iter().chain(settled) {
            family.remove(&label);
        }
    }

    #[expect(clippy::disallowed_methods, reason = "a duration for a histogram decides nothing")]
    pub(crate) fn start_timer(&self) -> Instant {
        Instant::now()
    }

    pub(crate) fn committed(&self, bytes: usize, durability: Durability, started: Instant) {
        let synced = if durability == Durability::Synced { "true" } else { "false" };
        self.commit_seconds.get_or_create(&SyncLabel { synced }).observe(started.elapsed().as_secs_f64());
        self.commit_bytes.observe(u32::try_from(bytes).map_or(f64::from(u32::MAX), f64::from));
    }
}
