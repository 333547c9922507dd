//! Gauges of queue groups and of topics, as they were when it was looked last. All are replaced at once: what is deleted is gone with the next
//! look.

use super::{GroupLabel, TopicLabel};
use core::fmt;
use core::sync::atomic::AtomicU64;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use sagamq_api::TopicName;
use std::sync::{Arc, Mutex, PoisonError};

/// All queue groups and topics at one look.
#[derive(Clone, Debug, Default)]
pub(crate) struct QueueFigures {
    lag_records: Family<GroupLabel, Gauge>,
    lag_seconds: Family<GroupLabel, Gauge<f64, AtomicU64>>,
    in_flight: Family<GroupLabel, Gauge>,
    hottest: Family<TopicLabel, Gauge<f64, AtomicU64>>,
}

/// How far behind a queue group is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct QueueLag {
    /// Records that are not settled.
    pub(crate) records: u64,
    /// Age of the oldest of these that was looked at.
    pub(crate) seconds: f64,
    /// Records that are leased.
    pub(crate) in_flight: u64,
}

impl QueueFigures {
    /// A group is so far behind.
    pub(crate) fn set_lag(&self, group: &GroupLabel, lag: QueueLag) {
        let gauge = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        self.lag_records.get_or_create(group).set(gauge(lag.records));
        self.lag_seconds.get_or_create(group).set(lag.seconds);
        self.in_flight.get_or_create(group).set(gauge(lag.in_flight));
    }

    /// So much of what a topic gets goes to one of its partitions.
    pub(crate) fn set_hottest(&self, topic: &TopicName, share: f64) {
        self.hottest.get_or_create(&TopicLabel { topic: topic.to_string() }).set(share);
    }
}

/// The figures of the last look; clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct QueueGauges(Arc<Mutex<QueueFigures>>);

impl QueueGauges {
    pub(crate) fn replace(&self, figures: QueueFigures) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = figures;
    }
}

impl Collector for QueueGauges {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let figures = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (name, help) = ("sagamq_queue_lag_records", "Records that a queue group has not settled");
        figures.lag_records.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)?;
        let (name, help) = ("sagamq_queue_lag_seconds", "Age of the oldest record that a queue group has not settled");
        figures.lag_seconds.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)?;
        let (name, help) = ("sagamq_queue_in_flight_records", "Records that are leased to consumers of a queue group");
        figures.in_flight.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)?;
        let (name, help) = ("sagamq_hottest_partition_ratio", "Share of a topic's new records that its busiest partition gets");
        figures.hottest.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)
    }
}
