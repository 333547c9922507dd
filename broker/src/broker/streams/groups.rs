//! Stream groups: made by the member that joins first, grown by members that read more topics, deleted.

use super::error::StreamGroupError;
use crate::broker::Broker;
use crate::broker::queue::start_of;
use crate::broker::topics::{delete, put};
use crate::ids::GroupId;
use crate::shard::catalogue::CatalogueOp;
use crate::shard::commit::WriteError;
use crate::shard::input::Input;
use crate::shard::streams::request::{StreamError, StreamOp, StreamRequest};
use crate::storage::keys::MetaKey;
use crate::topic::{GroupStart, NextIds, StreamEntry, StreamGroup, StreamTopic, Topic, TopicKind, home_of};
use sagamq_api::audit::AuditOutcome;
use sagamq_api::queue::StartPosition;
use sagamq_api::{GroupName, Offset, TopicName};
use serde_json::json;
use std::sync::Arc;

impl Broker {
    /// The stream group of that name.
    pub(super) fn stream_group(&self, name: &GroupName) -> Result<Arc<StreamGroup>, StreamGroupError> {
        self.0.streams.get(name).ok_or_else(|| StreamGroupError::NotFound(name.clone()))
    }

    /// The stream group of that name, which reads these topics; made, or told of more topics, if need be.
    pub(super) async fn stream_group_reading(
        &self,
        name: &GroupName,
        topics: &[Arc<Topic>],
        start: StartPosition,
    ) -> Result<Arc<StreamGroup>, StreamGroupError> {
        if let Some(group) = self.0.streams.get(name)
            && topics.iter().all(|topic| group.reads(topic.id))
        {
            return Ok(group);
        }
        let (broker, name, topics) = (self.clone(), name.clone(), topics.to_vec());
        self.finish(async move { broker.read_topics(&name, &topics, start).await }).await
    }

    async fn read_topics(
        &self,
        name: &GroupName,
        topics: &[Arc<Topic>],
        start: StartPosition,
    ) -> Result<Arc<StreamGroup>, StreamGroupError> {
        let mut next_ids = self.0.catalog.changes.lock().await;
        let group = self.0.streams.get(name);
        let mut more = Vec::new();
        for topic in topics.iter().filter(|topic| group.as_ref().is_none_or(|group| !group.reads(topic.id))) {
            // It may have been deleted while this one waited for its turn.
            let topic = self.topic(&topic.name)?;
            if topic.kind == TopicKind::DeadLetters {
                return Err(StreamGroupError::OfDeadLetters(topic.name.clone()));
            }
            if topic.group(name).is_some() {
                return Err(StreamGroupError::QueueGroup { topic: topic.name.clone(), group: name.clone() });
            }
            let start = begin_of(&topic, start);
            more.push(StreamTopic::new(topic, start));
        }
        let (count, max) = (more.len() + group.as_ref().map_or(0, |group| group.topics().len()), self.0.config.streams.topics_max);
        if count > max {
            return Err(StreamGroupError::TopicsMax { group: name.clone(), topics: count, max });
        }
        self.require_room()?;
        let begin_series = |more: &[StreamTopic]| more.iter().for_each(|of| self.0.metrics.begin_stream(&of.topic.name, name));
        if let Some(group) = group {
            let note = self.note(AuditOutcome::Changed, &[("stream_group", name)]).after(&json!({ "topics_added": names_of(&more) }));
            self.write_meta(vec![put(MetaKey::StreamGroup(group.id), &group.entry(&more, None))], note).await?;
            begin_series(&more);
            group.add(more);
            return Ok(group);
        }
        let (home, max) = (home_of(name, self.shards()), self.0.config.streams.groups_max);
        if self.0.streams.count(home) >= max {
            return Err(StreamGroupError::GroupsMax { group: name.clone(), shard: home.0, max });
        }
        let id = GroupId(next_ids.group);
        let entry = StreamEntry { id: id.0, name: name.clone(), topics: Vec::new(), created_at_ms: self.0.clock.now_ms() };
        let group = StreamGroup::new(entry, self.shards(), |_| None).expect("it has no topics yet");
        let after = NextIds { group: next_ids.group + 1, ..*next_ids };
        let note = self.note(AuditOutcome::Created, &[("stream_group", name)]).after(&json!({ "topics": names_of(&more) }));
        self.write_meta(vec![put(MetaKey::StreamGroup(id), &group.entry(&more, None)), put(MetaKey::NextIds, &after)], note).await?;
        *next_ids = after;
        begin_series(&more);
        group.add(more);
        let group = Arc::new(group);
        self.0.shard(home).send(Input::Catalogue(CatalogueOp::AddStream { group: Arc::clone(&group) })).await?;
        self.0.streams.insert(Arc::clone(&group));
        Ok(group)
    }

    /// Deletes a stream group with its offsets.
    ///
    /// # Errors
    /// When there is no such group, it has members, or the write fails.
    pub async fn delete_stream_group(&self, name: &GroupName) -> Result<(), StreamGroupError> {
        let (broker, name) = (self.clone(), name.clone());
        self.finish(async move {
            let changes = broker.0.catalog.changes.lock().await;
            let group = broker.stream_group(&name)?;
            broker.0.stream(&group, |reply| StreamOp::Close { reply }).await.map_err(|error| StreamGroupError::of(&name, error))?;
            let note = broker.note(AuditOutcome::Deleted, &[("stream_group", &name)]);
            if let Err(error) = broker.write_meta(vec![delete(MetaKey::StreamGroup(group.id))], note).await {
                let open_again = Input::Stream(StreamRequest { group: group.id, op: StreamOp::OpenAgain });
                broker.0.shard(group.home).send(open_again).await?;
                return Err(error.into());
            }
            broker.0.streams.remove(&name);
            drop(changes);
            let remove = |reply| Input::Catalogue(CatalogueOp::RemoveStream { group: group.id, reply });
            broker.0.shard(group.home).ask(remove).await??;
            for topic in group.topics().into_values() {
                broker.0.metrics.forget_group(&topic.name, &name);
            }
            Ok(())
        })
        .await
    }

    /// Makes stream groups follow that a topic is deleted.
    pub(in crate::broker) async fn follow_topics(&self, groups: &[Arc<StreamGroup>]) -> Result<(), WriteError> {
        for group in groups {
            match self.0.stream(group, |reply| StreamOp::FollowTopics { reply }).await {
                Err(StreamError::Write(error)) => return Err(error),
                // One that is deleted has nothing to follow; the others are no answers to this.
                Ok(())
                | Err(StreamError::GroupDeleted | StreamError::HasMembers(_) | StreamError::Heartbeat(_) | StreamError::Fenced(_)) => {}
            }
        }
        Ok(())
    }

    /// The topics of these names, each once.
    pub(super) fn stream_topics(&self, names: &[TopicName]) -> Result<Vec<Arc<Topic>>, StreamGroupError> {
        let mut topics: Vec<Arc<Topic>> = Vec::with_capacity(names.len());
        for name in names {
            let topic = self.topic(name)?;
            if topics.iter().all(|other| other.id != topic.id) {
                topics.push(topic);
            }
        }
        Ok(topics)
    }
}

fn names_of(topics: &[StreamTopic]) -> Vec<&TopicName> {
    topics.iter().map(|of| &of.topic.name).collect()
}

/// Where a group begins in a topic that it reads from now on. What retention took before, it has not lost.
fn begin_of(topic: &Topic, start: StartPosition) -> GroupStart {
    let starts = || (0..topic.partitions.len()).map(|index| topic.partitions.offsets(index).log_start);
    match start_of(topic, start) {
        GroupStart::Earliest if starts().any(|log_start| log_start > Offset(0)) => GroupStart::At(starts().collect()),
        start => start,
    }
}
