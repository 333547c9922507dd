//! Queue groups: made by their first receive, owned by the embedder, deleted.

use super::find::FindGroupError;
use crate::broker::Broker;
use crate::broker::topics::{TopicError, delete, put};
use crate::ids::{GroupId, TopicId};
use crate::shard::catalogue::CatalogueOp;
use crate::shard::commit::WriteError;
use crate::shard::input::Input;
use crate::shard::queues::request::QueueError;
use crate::storage::keys::MetaKey;
use crate::topic::{Group, GroupEntry, GroupStart, NextIds, Topic, TopicKind};
use futures_util::future::try_join_all;
use sagamq_api::audit::AuditOutcome;
use sagamq_api::names::dead_letter_topic;
use sagamq_api::queue::StartPosition;
use sagamq_api::topic::TopicConfig;
use sagamq_api::{GroupName, NameError, Offset, TopicName};
use serde_json::json;
use std::sync::Arc;

/// Why a group was not made.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CreateGroupError {
    /// No such topic.
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// The group's dead-letter topic would have an illegal name.
    #[error("the group's dead-letter topic would have an illegal name: {0}; use shorter names")]
    DeadLetterName(#[from] NameError),
    /// A topic has the name that the group's dead-letter topic needs.
    #[error("a topic `{0}` exists already, but the group needs that name for its dead letters; use another group name")]
    DeadLetterTopicTaken(TopicName),
    /// The topic holds dead letters. They go with the group whose they are, so a group that reads them would lose its topic.
    #[error(
        "topic `{0}` holds the dead letters of a group, and no other group reads it: list, redrive or discard them through their group, or \
         read the topic by offset"
    )]
    OfDeadLetters(TopicName),
    /// A stream group has the name.
    #[error("`{group}` is a stream group of topic `{topic}`: read as its member, or use another name for a queue group")]
    StreamGroup {
        /// The topic.
        topic: TopicName,
        /// The group.
        group: GroupName,
    },
    /// The durable write failed or is not tried any more.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// Why a group was not marked as needed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum OwnGroupError {
    /// No such topic or group.
    #[error(transparent)]
    Find(#[from] FindGroupError),
    /// The durable write failed or is not tried any more.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// Why a group was not deleted.
#[derive(Clone, Debug, thiserror::Error)]
pub enum DeleteGroupError {
    /// No such topic or group.
    #[error(transparent)]
    Find(#[from] FindGroupError),
    /// Somebody uses it.
    #[error("group `{group}` of topic `{topic}` is in use: {reason}; stop its consumers first")]
    InUse {
        /// The topic.
        topic: TopicName,
        /// The group.
        group: GroupName,
        /// Who uses it.
        reason: &'static str,
    },
    /// The group's shard refused.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The durable write failed or is not tried any more.
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl Broker {
    /// Makes a group if there is none; durable when it returns.
    ///
    /// # Errors
    /// When there is no topic, the names are too long together, or the write fails.
    pub async fn ensure_group(&self, topic: &TopicName, group: &GroupName, start: StartPosition) -> Result<(), CreateGroupError> {
        self.group_or_new(&self.topic(topic)?, group, start).await.map(|_| ())
    }

    pub(super) async fn group_or_new(
        &self,
        topic: &Arc<Topic>,
        name: &GroupName,
        start: StartPosition,
    ) -> Result<Arc<Group>, CreateGroupError> {
        if let Some(group) = topic.group(name) {
            return Ok(group);
        }
        let (broker, topic, name) = (self.clone(), Arc::clone(topic), name.clone());
        self.finish(async move { broker.create_group(&topic, &name, start).await }).await
    }

    async fn create_group(&self, topic: &Arc<Topic>, name: &GroupName, start: StartPosition) -> Result<Arc<Group>, CreateGroupError> {
        let mut next_ids = self.0.catalog.changes.lock().await;
        // Somebody else may have made the group, or deleted the topic, while this one waited for its turn.
        if let Some(group) = topic.group(name) {
            return Ok(group);
        }
        if self.topic(&topic.name)?.id != topic.id {
            // Another one has the name now. The caller asked for the one that is gone.
            return Err(TopicError::NotFound(topic.name.clone()).into());
        }
        if topic.kind == TopicKind::DeadLetters {
            return Err(CreateGroupError::OfDeadLetters(topic.name.clone()));
        }
        if self.0.streams.get(name).is_some_and(|stream| stream.reads(topic.id)) {
            return Err(CreateGroupError::StreamGroup { topic: topic.name.clone(), group: name.clone() });
        }
        let letters_name = dead_letter_topic(&topic.name, name)?;
        if self.0.catalog.topic(&letters_name).is_some() {
            return Err(CreateGroupError::DeadLetterTopicTaken(letters_name));
        }
        self.require_room()?;
        let config = TopicConfig { partitions: topic.partitions.count(), delivery_limit: 0, ..TopicConfig::default() };
        let letters = self.new_topic(next_ids.topic, &letters_name, config, TopicKind::DeadLetters);
        let id = GroupId(next_ids.group);
        let entry = GroupEntry {
            id: id.0,
            name: name.clone(),
            topic: topic.id.0,
            start: start_of(topic, start),
            dead_letter_topic: letters.id,
            created_at_ms: self.0.clock.now_ms(),
            owned: false,
            paused: false,
        };
        let after = NextIds { topic: next_ids.topic + 1, group: next_ids.group + 1, ..*next_ids };
        let mutations =
            vec![put(MetaKey::Topic(TopicId(letters.id)), &letters), put(MetaKey::Group(id), &entry), put(MetaKey::NextIds, &after)];
        let note = self.note(AuditOutcome::Created, &[("topic", &topic.name), ("group", name)]);
        self.write_meta(mutations, note.after(&json!({ "start": entry.start }))).await?;
        *next_ids = after;
        let letters = self.add_topic(letters);
        let group = Arc::new(topic.new_group(entry, &letters));
        for shard in self.0.shards_of(group.queues().len()) {
            let add = CatalogueOp::AddGroup { group: Arc::clone(&group) };
            self.0.shard(shard).send(Input::Catalogue(add)).await?;
        }
        self.0.metrics.begin_group(&group.label);
        topic.add_group(Arc::clone(&group));
        Ok(group)
    }

    /// Marks a group as needed by the embedder: neither it nor its topic can be deleted any more. Durable when it returns.
    ///
    /// # Errors
    /// When there is no such group, or the write fails.
    pub async fn own_group(&self, topic: &TopicName, group: &GroupName) -> Result<(), OwnGroupError> {
        let (broker, topic, group) = (self.clone(), topic.clone(), group.clone());
        self.finish(async move {
            let _changes = broker.0.catalog.changes.lock().await;
            let (_, group) = broker.group(&topic, &group)?;
            if !group.is_owned() {
                let entry = GroupEntry { owned: true, ..group.entry() };
                let note = broker.note(AuditOutcome::Changed, &[("topic", &topic), ("group", &group.name)]);
                let note = note.after(&json!({ "owned_by_server": true }));
                broker.write_meta(vec![put(MetaKey::Group(group.id), &entry)], note).await?;
                group.set_owned();
            }
            Ok(())
        })
        .await
    }

    /// Deletes a group with its dead letters. Its receipts are never valid again. A group that consumers use is not deleted: their
    /// next receive would make it again, from its beginning.
    ///
    /// # Errors
    /// When there is no such group, a receive is under way, records are leased, the embedder needs it, or the write fails.
    pub async fn delete_group(&self, topic: &TopicName, group: &GroupName) -> Result<(), DeleteGroupError> {
        let (broker, topic, group) = (self.clone(), topic.clone(), group.clone());
        self.finish(async move {
            let changes = broker.0.catalog.changes.lock().await;
            let (topic, group) = broker.group(&topic, &group)?;
            broker.close_group(&topic, &group).await?;
            let letters = &group.dead_letters;
            let gone = vec![delete(MetaKey::Group(group.id)), delete(MetaKey::Topic(letters.id))];
            let note = broker.note(AuditOutcome::Deleted, &[("topic", &topic.name), ("group", &group.name)]);
            broker.write_meta(gone, note).await.inspect_err(|_| group.open_again())?;
            topic.remove_group(&group);
            broker.0.catalog.remove(&letters.name);
            letters.partitions.close();
            group.gone.cancel();
            drop(changes);
            broker.remove(&[letters.id], letters.partitions.len(), &[group.id]).await?;
            broker.0.metrics.forget_group(&topic.name, &group.name);
            Ok(())
        })
        .await
    }

    /// Lets no receive of the group begin any more, or says why it cannot be deleted.
    async fn close_group(&self, topic: &Topic, group: &Group) -> Result<(), DeleteGroupError> {
        let in_use = |reason| Err(DeleteGroupError::InUse { topic: topic.name.clone(), group: group.name.clone(), reason });
        if group.is_owned() {
            return in_use("a part of this server needs it");
        }
        if !group.close_if_idle() {
            return in_use("a receive is waiting");
        }
        // What is leased is due when the lease ends.
        let with_leases = group.queues().filter(|of| of.view().next_due_ms().is_some());
        let numbers = try_join_all(with_leases.map(|of| self.numbers(of))).await.inspect_err(|_| group.open_again())?;
        if numbers.iter().any(|of| of.in_flight > 0) {
            group.open_again();
            return in_use("records are leased");
        }
        Ok(())
    }
}

/// Where a group begins that is made now.
pub(in crate::broker) fn start_of(topic: &Topic, start: StartPosition) -> GroupStart {
    let ends = || (0..topic.partitions.len()).map(|index| topic.partitions.offsets(index).high_watermark);
    match start {
        // Nothing was ever stored: the oldest record will be the first.
        StartPosition::Latest if ends().all(|end| end == Offset(0)) => GroupStart::Earliest,
        StartPosition::Latest => GroupStart::At(ends().collect()),
        StartPosition::Earliest => GroupStart::Earliest,
    }
}
