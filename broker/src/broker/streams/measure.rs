//! How far behind stream groups are, for the metrics. It is looked in the background, so that a scrape costs nothing.

use super::member::position;
use crate::broker::Broker;
use crate::group::stream::TopicPartition;
use crate::metrics::StreamFigures;
use crate::shard::streams::request::{StreamMeasure, StreamOp};
use crate::topic::{StreamGroup, Topic};
use core::cmp::Reverse;

/// Records of one group in one topic whose age is looked up at a time: each may cost the read of a batch.
const AGES_MAX: usize = 8;

impl Broker {
    /// Looks how far behind stream groups are, and shows that in the metrics. This happens by itself every 15 s. The lag in seconds is that of the
    /// partitions that are furthest behind in records.
    pub async fn measure_stream_groups(&self) {
        let figures = StreamFigures::default();
        for group in self.0.streams.all() {
            // One that was deleted meanwhile has no figures, and a broker that ends needs none.
            let Ok(measure) = self.0.stream(&group, |reply| StreamOp::Measure { reply }).await else { continue };
            figures.set_members(&group.name, measure.members);
            for topic in group.topics().into_values() {
                let (records, seconds) = self.stream_lag(&group, &topic, &measure).await;
                figures.set_lag(&group.name, &topic.name, records, seconds);
            }
        }
        self.0.metrics.streams.replace(figures);
    }

    async fn stream_lag(&self, group: &StreamGroup, topic: &Topic, measure: &StreamMeasure) -> (u64, f64) {
        let lag = |index: usize| {
            let of = TopicPartition { topic: topic.id, partition: topic.partitions.key(index).partition };
            let offset = position(group, of, measure.offsets.get(&of).copied(), topic.partitions.offsets(index).log_start);
            (topic.partitions.readable_end(index).0.saturating_sub(offset.0), index, offset)
        };
        let mut behind: Vec<_> = (0..topic.partitions.len()).map(lag).filter(|(records, ..)| *records > 0).collect();
        behind.sort_unstable_by_key(|&(records, ..)| Reverse(records));
        let records: u64 = behind.iter().map(|(records, ..)| records).sum();
        let mut seconds = 0.0_f64;
        for (_, index, offset) in behind.into_iter().take(AGES_MAX) {
            match self.age_seconds(topic.partitions.at(index), offset).await {
                Ok(age) => seconds = seconds.max(age),
                // Retention or a deletion was faster; of damage hears who reads it.
                Err(error) => tracing::debug!(topic = %topic.name, partition = index, %error, "the age of a record is not known"),
            }
        }
        (records, seconds)
    }
}
