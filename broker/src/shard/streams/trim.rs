//! What retention takes from a stream group. A log is cut on its own shard, which has none of the group's offsets; so it is counted here, at
//! the group's home, when retention says so, and before a commit, a seek or a look goes by what was there before.

use super::Stream;
use crate::group::stream::TopicPartition;
use crate::metrics::GroupLabel;
use crate::shard::core::Core;
use crate::topic::Topic;
use sagamq_api::Offset;

impl Stream {
    /// Counts what is gone in all partitions of all topics.
    pub(super) fn trim_all(&mut self, core: &Core) {
        for topic in self.group.topics().into_values() {
            for index in 0..topic.partitions.len() {
                let of = TopicPartition { topic: topic.id, partition: topic.partitions.key(index).partition };
                self.trim(core, &topic, of);
            }
        }
    }

    /// Counts what is gone in these partitions. The places there, none of them below the start of its log: what lies below is counted already.
    pub(super) fn trim_of(&mut self, core: &Core, places: Vec<(TopicPartition, Offset)>) -> Vec<(TopicPartition, Offset)> {
        let topics = self.group.topics();
        let place = |(of, offset): (TopicPartition, Offset)| match topics.get(&of.topic) {
            Some(topic) => (of, offset.max(self.trim(core, topic, of))),
            // It is deleted.
            None => (of, offset),
        };
        places.into_iter().map(place).collect()
    }

    /// Where the log of the partition begins.
    fn trim(&mut self, core: &Core, topic: &Topic, of: TopicPartition) -> Offset {
        let log_start = topic.partitions.offsets(of.partition.0 as usize).log_start;
        let Some(start) = self.group.start(of) else { return log_start };
        let unsettled = self.coordinator.trim(of, start, log_start);
        if unsettled > 0 {
            let label = GroupLabel { topic: topic.name.to_string(), group: self.group.name.to_string() };
            let partition = of.partition;
            tracing::warn!(topic = label.topic, group = label.group, %partition, unsettled, %log_start, "retention took records that were not committed");
            core.metrics.trimmed_unsettled_records.get_or_create(&label).inc_by(unsettled);
        }
        log_start
    }
}
