//! How far stream groups are, and who reads what.

use super::error::StreamGroupError;
use super::member::position;
use crate::broker::Broker;
use crate::group::stream::{Member, TopicPartition};
use crate::ids::TopicId;
use crate::shard::streams::request::{StreamLook, StreamOp};
use crate::topic::{StreamGroup, Topic};
use futures_util::future::try_join_all;
use sagamq_api::stream::{
    StreamGroupDescription, StreamGroupEntry, StreamGroupList, StreamMember, StreamOffset, StreamOffsetList, StreamPartitionDescription,
};
use sagamq_api::{GroupName, MemberId, Offset, TopicName};
use std::collections::BTreeMap;
use std::sync::Arc;

impl Broker {
    /// Every stream group, by name.
    #[must_use]
    pub fn stream_groups(&self) -> StreamGroupList {
        let entry = |group: Arc<StreamGroup>| {
            let mut topics: Vec<_> = group.topics().into_values().map(|topic| topic.name.clone()).collect();
            topics.sort();
            StreamGroupEntry { name: group.name.clone(), topics, created_at_ms: group.created_at_ms }
        };
        StreamGroupList { groups: self.0.streams.all().into_iter().map(entry).collect() }
    }

    /// The topics that a stream group has read.
    ///
    /// # Errors
    /// When there is no such group.
    pub fn stream_group_topics(&self, name: &GroupName) -> Result<Vec<TopicName>, StreamGroupError> {
        let group = self.0.streams.get(name).ok_or_else(|| StreamGroupError::NotFound(name.clone()))?;
        Ok(group.topics().into_values().map(|topic| topic.name.clone()).collect())
    }

    /// How far a stream group has come.
    ///
    /// # Errors
    /// When there is no such group.
    pub async fn stream_offsets(&self, name: &GroupName) -> Result<StreamOffsetList, StreamGroupError> {
        let (group, look) = self.look_at_stream(name).await?;
        let offset = |(topic, of): (Arc<Topic>, TopicPartition)| StreamOffset {
            offset: stands_at(&group, &topic, of, &look),
            partition: of.partition,
            topic: topic.name.clone(),
        };
        let mut offsets: Vec<_> = partitions(&group).map(offset).collect();
        offsets.sort();
        Ok(StreamOffsetList { offsets })
    }

    /// Members, and every partition with how far the group has come and who holds it.
    ///
    /// # Errors
    /// When there is no such group, or the age of a record cannot be read.
    pub async fn describe_stream_group(&self, name: &GroupName) -> Result<StreamGroupDescription, StreamGroupError> {
        let (group, look) = self.look_at_stream(name).await?;
        let topics = group.topics();
        let all: Vec<_> = partitions(&group).collect();
        let mut partitions = Vec::with_capacity(all.len());
        // A few at a time: the age of a record that is not in memory costs the read of its batch.
        for some in all.chunks(8) {
            let described = some.iter().map(|(topic, of)| self.describe_stream_partition(&group, topic, *of, &look));
            partitions.extend(try_join_all(described).await?);
        }
        partitions.sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
        Ok(StreamGroupDescription {
            name: group.name.clone(),
            epoch: look.state.assigned(),
            lag_records: partitions.iter().map(|of| of.lag_records).sum(),
            lag_seconds: partitions.iter().map(|of| of.lag_seconds).fold(0.0, f64::max),
            trimmed_unsettled: partitions.iter().map(|of| of.trimmed_unsettled).sum(),
            members: look.state.members().iter().map(|(id, member)| describe_member(id, member, &topics, &look)).collect(),
            partitions,
        })
    }

    async fn look_at_stream(&self, name: &GroupName) -> Result<(Arc<StreamGroup>, StreamLook), StreamGroupError> {
        let group = self.stream_group(name)?;
        let look = self.0.stream(&group, |reply| StreamOp::Look { reply }).await.map_err(|error| StreamGroupError::of(name, error))?;
        Ok((group, look))
    }

    async fn describe_stream_partition(
        &self,
        group: &StreamGroup,
        topic: &Topic,
        of: TopicPartition,
        look: &StreamLook,
    ) -> Result<StreamPartitionDescription, StreamGroupError> {
        let (index, offset) = (of.partition.0 as usize, stands_at(group, topic, of, look));
        let (committed, high_watermark) = (look.state.committed(of), topic.partitions.readable_end(index));
        let lag_records = high_watermark.0.saturating_sub(offset.0);
        let lag_seconds = if lag_records == 0 { 0.0 } else { self.age_seconds(topic.partitions.at(index), offset).await? };
        Ok(StreamPartitionDescription {
            topic: topic.name.clone(),
            partition: of.partition,
            offset,
            committed_at_ms: committed.map(|committed| committed.at_ms).filter(|&at_ms| at_ms > 0),
            high_watermark,
            lag_records,
            lag_seconds,
            trimmed_unsettled: committed.map_or(0, |committed| committed.trimmed),
            member_id: look.state.holder(of).cloned(),
        })
    }
}

/// Every partition of every topic that the group has read.
fn partitions(group: &StreamGroup) -> impl Iterator<Item = (Arc<Topic>, TopicPartition)> {
    group.topics().into_values().flat_map(|topic| {
        let of = |index| TopicPartition { topic: topic.id, partition: topic.partitions.key(index).partition };
        let all: Vec<_> = (0..topic.partitions.len()).map(|index| (Arc::clone(&topic), of(index))).collect();
        all
    })
}

fn stands_at(group: &StreamGroup, topic: &Topic, of: TopicPartition, look: &StreamLook) -> Offset {
    let log_start = topic.partitions.offsets(of.partition.0 as usize).log_start;
    position(group, of, look.state.committed(of).map(|committed| committed.offset), log_start)
}

fn describe_member(id: &MemberId, member: &Member, topics: &BTreeMap<TopicId, Arc<Topic>>, look: &StreamLook) -> StreamMember {
    let is_meant = |of: &TopicPartition| member.target().contains(of);
    let held = member.held().count();
    let revoked = member.held().filter(|of| !is_meant(of)).count();
    let mut names: Vec<_> = member.topics().iter().filter_map(|id| topics.get(id)).map(|topic| topic.name.clone()).collect();
    names.sort();
    StreamMember {
        member_id: id.clone(),
        instance_id: member.instance().cloned(),
        epoch: member.epoch(),
        away: member.is_away(),
        topics: names,
        held,
        revoked,
        awaited: member.target().len() - (held - revoked),
        session_left_ms: look.sessions_left_ms.get(id).copied().unwrap_or(0),
    }
}
