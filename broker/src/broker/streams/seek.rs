//! Setting how far a stream group has come.

use super::error::StreamGroupError;
use crate::broker::Broker;
use crate::broker::parameter::ParameterError;
use crate::broker::seek_target::SeekTarget;
use crate::group::stream::TopicPartition;
use crate::log::partition::Partition;
use crate::shard::streams::request::StreamOp;
use crate::topic::Topic;
use sagamq_api::audit::AuditOutcome;
use sagamq_api::stream::{SeekPosition, StreamOffset, StreamOffsetList, StreamSeek};
use sagamq_api::{GroupName, Offset, PartitionId};
use serde_json::json;
use std::sync::Arc;

/// Partitions of a seek that the audit log tells one by one.
const SOUGHT_TOLD_MAX: usize = 64;

impl Broker {
    /// Sets how far a group has come, and says where it stands then. Members that read there begin anew. Durable when it returns.
    ///
    /// # Errors
    /// When there is no such group, topic or partition, the offset lies outside of it, or the write fails.
    pub async fn stream_seek(&self, name: &GroupName, request: &StreamSeek) -> Result<StreamOffsetList, StreamGroupError> {
        if request.partition.is_some() && request.topic.is_none() {
            return Err(ParameterError::new("`partition` needs its `topic`").into());
        }
        let needed = request.partition.is_none().then_some("`topic` and `partition`");
        let to = SeekTarget::of(request.offset, request.timestamp_ms, request.position, needed)?;
        let group = self.stream_group(name)?;
        let topics: Vec<Arc<Topic>> = match &request.topic {
            Some(name) => {
                vec![group.topic(name).ok_or_else(|| StreamGroupError::NotRead { group: group.name.clone(), topic: name.clone() })?]
            }
            None => group.topics().into_values().collect(),
        };
        let (mut offsets, mut named) = (Vec::new(), Vec::new());
        for topic in topics {
            for partition in partitions(&topic, request.partition)? {
                let offset = self.seek_offset(&topic, partition, to).await?;
                offsets.push((TopicPartition { topic: topic.id, partition }, offset));
                named.push(StreamOffset { topic: topic.name.clone(), partition, offset });
            }
        }
        named.sort();
        let note = self.note(AuditOutcome::Done, &[("stream_group", name)]);
        // Of many partitions the first are told: an entry is small.
        let note = note.result(&json!({ "partitions": named.len(), "first": named.get(..named.len().min(SOUGHT_TOLD_MAX)) }));
        let result = self.0.stream(&group, |reply| StreamOp::Seek { offsets, note, reply }).await;
        result.map_err(|error| StreamGroupError::of(name, error))?;
        Ok(StreamOffsetList { offsets: named })
    }

    async fn seek_offset(&self, topic: &Topic, number: PartitionId, to: SeekTarget) -> Result<Offset, StreamGroupError> {
        let index = number.0 as usize;
        let (log_start, end) = (topic.partitions.offsets(index).log_start, topic.partitions.readable_end(index));
        match to {
            SeekTarget::Offset(offset) if offset > end => {
                Err(StreamGroupError::BehindEnd { topic: topic.name.clone(), partition: number, offset, end })
            }
            SeekTarget::Offset(offset) => Ok(offset.max(log_start)),
            SeekTarget::Position(SeekPosition::Start) => Ok(log_start),
            SeekTarget::Position(SeekPosition::End) => Ok(end),
            SeekTarget::Time(timestamp_ms) => {
                let partition: &Arc<Partition> = topic.partitions.at(index);
                Ok(self.offset_at(partition, timestamp_ms).await?)
            }
        }
    }
}

fn partitions(topic: &Topic, only: Option<PartitionId>) -> Result<Vec<PartitionId>, StreamGroupError> {
    let partitions = topic.partitions.len();
    match only {
        Some(partition) if partition.0 as usize >= partitions => {
            Err(StreamGroupError::PartitionNotFound { topic: topic.name.clone(), partition, partitions })
        }
        Some(partition) => Ok(vec![partition]),
        None => Ok((0..partitions).map(|index| topic.partitions.key(index).partition).collect()),
    }
}
