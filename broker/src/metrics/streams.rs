//! Gauges of stream groups, as they were when it was looked last. All are replaced at once: what is deleted is gone with the next look.

use core::fmt;
use core::sync::atomic::AtomicU64;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use sagamq_api::{GroupName, TopicName};
use std::sync::{Arc, Mutex, PoisonError};

/// Label of what is said of a stream group.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StreamLabel {
    group: String,
}

/// Label of what is said of a stream group in one of its topics.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LagLabel {
    topic: String,
    group: String,
}

/// All stream groups at one look.
#[derive(Clone, Debug, Default)]
pub(crate) struct StreamFigures {
    members: Family<StreamLabel, Gauge>,
    lag_records: Family<LagLabel, Gauge>,
    lag_seconds: Family<LagLabel, Gauge<f64, AtomicU64>>,
}

impl StreamFigures {
    /// A group has so many members.
    pub(crate) fn set_members(&self, group: &GroupName, members: usize) {
        let label = StreamLabel { group: group.to_string() };
        self.members.get_or_create(&label).set(i64::try_from(members).unwrap_or(i64::MAX));
    }

    /// A group is so far behind in a topic.
    pub(crate) fn set_lag(&self, group: &GroupName, topic: &TopicName, records: u64, seconds: f64) {
        let label = LagLabel { topic: topic.to_string(), group: group.to_string() };
        self.lag_records.get_or_create(&label).set(i64::try_from(records).unwrap_or(i64::MAX));
        self.lag_seconds.get_or_create(&label).set(seconds);
    }
}

/// The figures of the last look; clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct StreamGauges(Arc<Mutex<StreamFigures>>);

impl StreamGauges {
    pub(crate) fn replace(&self, figures: StreamFigures) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = figures;
    }
}

impl Collector for StreamGauges {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let figures = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (name, help) = ("sagamq_stream_group_members", "Members of a stream group");
        figures.members.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)?;
        let (name, help) = ("sagamq_stream_lag_records", "Records that a stream group has not committed");
        figures.lag_records.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)?;
        let (name, help) = ("sagamq_stream_lag_seconds", "Age of the oldest record that a stream group has not committed");
        figures.lag_seconds.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)
    }
}
