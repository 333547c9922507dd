//! What members of stream groups ask: heartbeats and commits.

use super::error::StreamGroupError;
use crate::broker::Broker;
use crate::broker::parameter::{ParameterError, in_range};
use crate::group::stream::{Answer, Assigned, Heartbeat, Join, Leave, TopicPartition};
use crate::ids::TopicId;
use crate::shard::streams::request::StreamOp;
use crate::topic::StreamGroup;
use sagamq_api::limits::{STREAM_OFFSETS_MAX, STREAM_SESSION_MS_MAX, STREAM_SESSION_MS_MIN};
use sagamq_api::stream::{
    StreamAssigned, StreamCommit, StreamCommitResponse, StreamHeartbeat, StreamHeartbeatResponse, StreamLeave, StreamOffset,
    StreamPartitions,
};
use sagamq_api::{GroupName, Offset, PartitionId, TopicName};
use std::collections::BTreeSet;
use std::sync::Arc;

impl Broker {
    /// A member joins, stays, hands back or leaves, and hears what it is to read. Durable when it returns.
    ///
    /// # Errors
    /// When the member was superseded, a bound is reached, a queue group has the name, there is no such topic, or the write fails.
    pub async fn stream_heartbeat(&self, name: &GroupName, request: &StreamHeartbeat) -> Result<StreamHeartbeatResponse, StreamGroupError> {
        check(request)?;
        let (group, heartbeat) = self.heartbeat_of(name, request).await?;
        let member = request.member_id.clone();
        let answer = self.0.stream(&group, |reply| StreamOp::Heartbeat { member, heartbeat, reply }).await;
        Ok(self.told(&group, answer.map_err(|error| StreamGroupError::of(name, error))?))
    }

    async fn heartbeat_of(&self, name: &GroupName, request: &StreamHeartbeat) -> Result<(Arc<StreamGroup>, Heartbeat), StreamGroupError> {
        let &StreamHeartbeat { epoch, start, .. } = request;
        if let Some(leave) = request.leave {
            let leave = match leave {
                StreamLeave::ForGood => Leave::ForGood,
                StreamLeave::ToReturn => Leave::ToReturn,
            };
            return Ok((self.stream_group(name)?, Heartbeat::Leave { epoch, leave }));
        }
        if epoch > 0 {
            // Only a join makes a group.
            self.stream_group(name)?;
        }
        let (group, topics) = match &request.topics {
            None => (self.stream_group(name)?, None),
            Some(names) => {
                let topics = self.stream_topics(names)?;
                let ids: BTreeSet<TopicId> = topics.iter().map(|topic| topic.id).collect();
                (self.stream_group_reading(name, &topics, start).await?, Some(ids))
            }
        };
        if epoch > 0 {
            let owned = owned(&group, &request.owned);
            return Ok((group, Heartbeat::Stay { epoch, owned, topics }));
        }
        let session_ms = request.session_ms.unwrap_or_else(|| self.0.config.streams.session_ms());
        let session_ms = in_range("session_ms", session_ms, STREAM_SESSION_MS_MIN, STREAM_SESSION_MS_MAX)?;
        let topics = topics.ok_or_else(|| ParameterError::new("`topics` is needed to join: name the topics that the member reads"))?;
        Ok((group, Heartbeat::Join(Join { topics, instance: request.instance_id.clone(), session_ms })))
    }

    fn told(&self, group: &StreamGroup, answer: Answer) -> StreamHeartbeatResponse {
        let Answer { epoch, assigned, awaited, session_ms } = answer;
        let topics = group.topics();
        // A topic that was deleted in between has nothing to read.
        let told = |assigned: &Assigned| {
            let of = assigned.partition;
            let topic = topics.get(&of.topic)?;
            let offset = position(group, of, assigned.offset, topic.partitions.offsets(of.partition.0 as usize).log_start);
            Some(StreamAssigned { topic: topic.name.clone(), partition: of.partition, epoch: assigned.epoch, offset })
        };
        let assigned = assigned.iter().filter_map(told).collect();
        StreamHeartbeatResponse { epoch, assigned, awaited, heartbeat_ms: self.0.config.streams.heartbeat_ms(session_ms), session_ms }
    }

    /// A member says how far it has come: all of it is stored, or nothing. Durable when it returns.
    ///
    /// # Errors
    /// When the member was superseded, holds one of the partitions not or under a later epoch, an offset lies behind the end of its
    /// partition, or the write fails.
    pub async fn stream_commit(&self, name: &GroupName, request: &StreamCommit) -> Result<StreamCommitResponse, StreamGroupError> {
        in_range("the number of `offsets`", request.offsets.len(), 1, STREAM_OFFSETS_MAX)?;
        let group = self.stream_group(name)?;
        let mut offsets = Vec::with_capacity(request.offsets.len());
        for StreamOffset { topic, partition, offset } in &request.offsets {
            offsets.push((self.stream_partition(&group, topic, *partition, *offset)?, *offset));
        }
        let (member, epoch, committed) = (request.member_id.clone(), request.epoch, offsets.len());
        let result = self.0.stream(&group, |reply| StreamOp::Commit { member, epoch, offsets, reply }).await;
        result.map_err(|error| StreamGroupError::of(name, error))?;
        Ok(StreamCommitResponse { committed })
    }

    /// A partition of one of the group's topics, in which this offset can be committed.
    pub(super) fn stream_partition(
        &self,
        group: &StreamGroup,
        name: &TopicName,
        partition: PartitionId,
        offset: Offset,
    ) -> Result<TopicPartition, StreamGroupError> {
        let topic = self.topic(name)?;
        if !group.reads(topic.id) {
            return Err(StreamGroupError::NotRead { group: group.name.clone(), topic: name.clone() });
        }
        let partitions = topic.partitions.len();
        if partition.0 as usize >= partitions {
            return Err(StreamGroupError::PartitionNotFound { topic: name.clone(), partition, partitions });
        }
        let end = topic.partitions.readable_end(partition.0 as usize);
        if offset > end {
            return Err(StreamGroupError::BehindEnd { topic: name.clone(), partition, offset, end });
        }
        Ok(TopicPartition { topic: topic.id, partition })
    }
}

/// What does not depend on the group.
fn check(request: &StreamHeartbeat) -> Result<(), ParameterError> {
    let StreamHeartbeat { epoch, topics, instance_id, session_ms, owned, leave, .. } = request;
    let is_join = *epoch == 0;
    let refused = [
        (is_join && leave.is_some(), "`leave` needs the member's `epoch`, which is never 0"),
        (is_join && !owned.is_empty(), "a member that joins owns nothing: leave `owned` out"),
        (!is_join && instance_id.is_some(), "`instance_id` is said with a join, whose `epoch` is 0"),
        (!is_join && session_ms.is_some(), "`session_ms` is said with a join, whose `epoch` is 0"),
        (topics.as_ref().is_some_and(Vec::is_empty), "`topics` is empty: name at least one, or leave it out to keep those of before"),
        (leave.is_some() && topics.is_some(), "a member that leaves reads no `topics`: leave them out"),
    ];
    match refused.into_iter().find(|(is_refused, _)| *is_refused) {
        Some((_, reason)) => Err(ParameterError::new(reason)),
        None => Ok(()),
    }
}

/// What a member says that it has. Of a topic that is gone it has nothing.
fn owned(group: &StreamGroup, owned: &[StreamPartitions]) -> BTreeSet<TopicPartition> {
    let of = |StreamPartitions { topic, partitions }: &StreamPartitions| {
        let id = group.topic(topic).map(|topic| topic.id);
        let all = id.into_iter().flat_map(|topic| partitions.iter().map(move |&partition| TopicPartition { topic, partition }));
        all.collect::<Vec<_>>()
    };
    owned.iter().flat_map(of).collect()
}

/// The next record to read: as it was committed, or where the group began; what is not there any more is left out.
pub(super) fn position(group: &StreamGroup, of: TopicPartition, committed: Option<Offset>, log_start: Offset) -> Offset {
    committed.or_else(|| group.start(of)).unwrap_or_default().max(log_start)
}
