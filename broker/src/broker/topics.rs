//! Topics: create, describe, list, delete. A change is durable when its method returns.

use crate::audit::Note;
use crate::broker::Broker;
use crate::ids::{GroupId, ShardId, TopicId};
use crate::shard::catalogue::CatalogueOp;
use crate::shard::commit::WriteError;
use crate::shard::input::Input;
use crate::storage::keys::MetaKey;
use crate::storage::{Family, Mutation};
use crate::topic::{NextIds, Topic, TopicEntry, TopicKind};
use futures_util::future::join_all;
use sagamq_api::audit::{AUDIT_TOPIC, AuditOutcome};
use sagamq_api::topic::{TopicConfig, TopicDescription, TopicDurability};
use sagamq_api::{GroupName, TopicName};
use serde::Serialize;
use serde_json::json;
use std::sync::Arc;

/// Why a topic was not made.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CreateTopicError {
    /// The configuration has faults; all of them.
    #[error("the topic's configuration is not valid: {}", .0.join("; "))]
    Config(Vec<String>),
    /// A topic of that name exists with another configuration.
    #[error("topic `{0}` exists with another configuration")]
    Exists(TopicName),
    /// The name is that of the audit log.
    #[error("the name `{0}` is kept for the audit log: choose another")]
    Reserved(TopicName),
    /// The durable write failed or is not tried any more.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// Why nothing was done with a topic.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TopicError {
    /// No such topic.
    #[error("there is no topic `{0}`")]
    NotFound(TopicName),
    /// It holds the dead letters of a group.
    #[error("topic `{0}` holds the dead letters of a group and goes with it: delete the group")]
    DeadLetters(TopicName),
    /// The embedder needs it.
    #[error("topic `{0}` is in use: a part of this server needs it and would not work without it")]
    Owned(TopicName),
    /// The embedder needs a topic whose records are synced before the answer.
    #[error("topic `{0}` has the durability `{1}`, but a part of this server needs it: give it `sync` first")]
    NotSynced(TopicName, TopicDurability),
    /// It is compacted, and every record is needed.
    #[error("topic `{0}` is compacted: this server needs every record of it; set its `cleanup_policy` to `delete`, or use another topic")]
    Compacted(TopicName),
    /// The durable write failed or is not tried any more.
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl Broker {
    /// Makes a topic. `false` beside the description: it was there with the same configuration.
    ///
    /// # Errors
    /// When the configuration is not valid, the name is taken, or the write fails.
    pub async fn create_topic(&self, name: &TopicName, config: TopicConfig) -> Result<(TopicDescription, bool), CreateTopicError> {
        let (broker, name) = (self.clone(), name.clone());
        self.finish(async move { broker.change_by_creating(&name, config).await }).await
    }

    async fn change_by_creating(&self, name: &TopicName, config: TopicConfig) -> Result<(TopicDescription, bool), CreateTopicError> {
        let faults = config.faults();
        if !faults.is_empty() {
            return Err(CreateTopicError::Config(faults));
        }
        if name.as_str() == AUDIT_TOPIC {
            return Err(CreateTopicError::Reserved(name.clone()));
        }
        let mut next_ids = self.0.catalog.changes.lock().await;
        if let Some(topic) = self.0.catalog.topic(name) {
            return match topic.config() == config {
                true => Ok((topic.describe(), false)),
                false => Err(CreateTopicError::Exists(name.clone())),
            };
        }
        self.require_room()?;
        let entry = self.new_topic(next_ids.topic, name, config, TopicKind::Plain);
        let after = NextIds { topic: next_ids.topic + 1, ..*next_ids };
        let note = self.note(AuditOutcome::Created, &[("topic", name)]).after(&entry.config);
        self.write_meta(vec![put(MetaKey::Topic(TopicId(entry.id)), &entry), put(MetaKey::NextIds, &after)], note).await?;
        *next_ids = after;
        let topic = self.add_topic(entry);
        Ok((topic.describe(), true))
    }

    /// Every topic, by name.
    #[must_use]
    pub fn topics(&self) -> Vec<TopicDescription> {
        self.0.catalog.topics().iter().map(|topic| topic.describe()).collect()
    }

    /// One topic.
    ///
    /// # Errors
    /// When there is none.
    pub fn describe_topic(&self, name: &TopicName) -> Result<TopicDescription, TopicError> {
        self.topic(name).map(|topic| topic.describe())
    }

    /// Deletes a topic with its records, its groups and their dead letters.
    ///
    /// # Errors
    /// When there is none, it belongs to a group, or the write fails.
    pub async fn delete_topic(&self, name: &TopicName) -> Result<(), TopicError> {
        let (broker, name) = (self.clone(), name.clone());
        self.finish(async move { broker.change_by_deleting(&name).await }).await
    }

    async fn change_by_deleting(&self, name: &TopicName) -> Result<(), TopicError> {
        let changes = self.0.catalog.changes.lock().await;
        let topic = self.topic(name)?;
        if topic.kind == TopicKind::DeadLetters {
            return Err(TopicError::DeadLetters(name.clone()));
        }
        let groups = topic.groups();
        if topic.is_owned() || groups.iter().any(|group| group.is_owned()) {
            return Err(TopicError::Owned(name.clone()));
        }
        let mut mutations = vec![delete(MetaKey::Topic(topic.id))];
        for group in &groups {
            mutations.push(delete(MetaKey::Group(group.id)));
            mutations.push(delete(MetaKey::Topic(group.dead_letters.id)));
        }
        let streams = self.0.streams.reading(topic.id);
        mutations.extend(streams.iter().map(|stream| put(MetaKey::StreamGroup(stream.id), &stream.entry(&[], Some(topic.id)))));
        // The catalogue's commit is the deletion; what follows gives the space back, and an open after a crash does the rest.
        let gone: Vec<&GroupName> = groups.iter().map(|group| &group.name).collect();
        let note = self.note(AuditOutcome::Deleted, &[("topic", name)]).before(&topic.config()).result(&json!({ "groups": gone }));
        self.write_meta(mutations, note).await?;
        self.0.catalog.remove(name);
        topic.close();
        streams.iter().for_each(|stream| stream.remove(topic.id));
        let mut topics = vec![topic.id];
        for group in &groups {
            let letters = &group.dead_letters;
            self.0.catalog.remove(&letters.name);
            letters.partitions.close();
            group.gone.cancel();
            topics.push(letters.id);
            topic.remove_group(group);
        }
        // Numbers are never used again, so a topic of the same name may be made while the shards still clear up.
        drop(changes);
        let ids: Vec<GroupId> = groups.iter().map(|group| group.id).collect();
        self.remove(&topics, topic.partitions.len(), &ids).await?;
        self.follow_topics(&streams).await?;
        for group in groups {
            self.0.metrics.forget_group(name, &group.name);
        }
        for stream in streams {
            self.0.metrics.forget_group(name, &stream.name);
        }
        self.0.metrics.forget_topic(name);
        Ok(())
    }

    /// Marks a topic as needed by the embedder: it cannot be deleted any more. Durable when it returns.
    ///
    /// # Errors
    /// When there is no such topic, it holds dead letters, its records are not synced before the answer, or the write fails.
    pub async fn own_topic(&self, name: &TopicName) -> Result<(), TopicError> {
        let (broker, name) = (self.clone(), name.clone());
        self.finish(async move {
            let _changes = broker.0.catalog.changes.lock().await;
            let topic = broker.topic(&name)?;
            if topic.kind == TopicKind::DeadLetters {
                return Err(TopicError::DeadLetters(name));
            }
            let durability = topic.config().durability;
            if durability != TopicDurability::Sync {
                return Err(TopicError::NotSynced(name, durability));
            }
            if topic.config.get().cleanup_policy.compacts() {
                return Err(TopicError::Compacted(name));
            }
            if !topic.is_owned() {
                let entry = TopicEntry { owned: true, ..topic.entry() };
                // It cannot be deleted or changed any more by those who own it otherwise.
                let note = broker.note(AuditOutcome::Changed, &[("topic", &name)]).after(&json!({ "owned_by_server": true }));
                broker.write_meta(vec![put(MetaKey::Topic(topic.id), &entry)], note).await?;
                topic.set_owned();
            }
            Ok(())
        })
        .await
    }

    /// Whether the embedder has made a topic its own, and a group of it if one is meant.
    #[must_use]
    pub fn is_owned(&self, name: &TopicName, group: Option<&GroupName>) -> bool {
        let topic = self.0.catalog.topic(name).filter(|topic| topic.is_owned());
        topic.is_some_and(|topic| group.is_none_or(|group| topic.group(group).is_some_and(|group| group.is_owned())))
    }

    /// The topics that the embedder has made its own, with a group of this name, by name.
    #[must_use]
    pub fn owned_topics(&self, group: &GroupName) -> Vec<TopicName> {
        let is_meant = |topic: &Topic| topic.is_owned() && topic.group(group).is_some_and(|group| group.is_owned());
        let mut names: Vec<_> = self.0.catalog.topics().iter().filter(|topic| is_meant(topic)).map(|topic| topic.name.clone()).collect();
        names.sort_unstable();
        names
    }

    /// The number of a topic: another one that has its name later has another.
    ///
    /// # Errors
    /// [`TopicError::NotFound`].
    pub fn topic_id(&self, name: &TopicName) -> Result<TopicId, TopicError> {
        Ok(self.topic(name)?.id)
    }

    pub(crate) fn topic(&self, name: &TopicName) -> Result<Arc<Topic>, TopicError> {
        self.0.catalog.topic(name).ok_or_else(|| TopicError::NotFound(name.clone()))
    }

    pub(super) fn new_topic(&self, id: u32, name: &TopicName, config: TopicConfig, kind: TopicKind) -> TopicEntry {
        let created_at_ms = self.0.clock.now_ms();
        TopicEntry { id, name: name.clone(), config, created_at_ms, kind, owned: false, growths: Vec::new(), keys_until_ms: 0 }
    }

    /// Puts a topic that is in the stored catalogue into memory. Its shards hear of it with its first records.
    pub(super) fn add_topic(&self, entry: TopicEntry) -> Arc<Topic> {
        let topic = Arc::new(Topic::new(entry, self.0.shards_count(), &self.0.tail_memory));
        self.0.catalog.insert(Arc::clone(&topic));
        topic
    }

    /// Writes keys of the catalogue, and who changed them, durably.
    pub(super) async fn write_meta(&self, mutations: Vec<Mutation>, note: Note) -> Result<(), WriteError> {
        self.0.shard(ShardId::CONTROL).ask(|reply| Input::Catalogue(CatalogueOp::Write { mutations, note, reply })).await?
    }

    /// Makes the shards forget topics of so many partitions, and groups, and deletes what they stored: one commit a shard, all at once.
    pub(super) async fn remove(&self, topics: &[TopicId], partitions: usize, groups: &[GroupId]) -> Result<(), WriteError> {
        let removals = self.0.shards_of(partitions).map(|shard| async move {
            let (topics, groups) = (topics.to_vec(), groups.to_vec());
            self.0.shard(shard).ask(|reply| Input::Catalogue(CatalogueOp::Remove { topics, groups, reply })).await?
        });
        // Each is asked, also when another one cannot do it.
        join_all(removals).await.into_iter().collect()
    }
}

pub(super) fn put(key: MetaKey, value: &impl Serialize) -> Mutation {
    let value = serde_json::to_vec(value).expect("entries of the catalogue have string keys only");
    Mutation::Put { family: Family::Meta, key: key.encode(), value: value.into() }
}

pub(super) fn delete(key: MetaKey) -> Mutation {
    Mutation::Delete { family: Family::Meta, key: key.encode() }
}
