//! A stream group in memory: which topics it has read, and where it began in them. All else of it is on its home shard.

use crate::group::stream::TopicPartition;
use crate::ids::{GroupId, ShardId, StreamKey, TopicId};
use crate::topic::catalog::Topic;
use crate::topic::entry::{GroupStart, StreamEntry, StreamTopicEntry};
use sagamq_api::partitioner::partition_of;
use sagamq_api::topic::TopicDurability;
use sagamq_api::{GroupName, Offset, TopicName};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// A stream group.
#[derive(Debug)]
pub(crate) struct StreamGroup {
    pub(crate) id: GroupId,
    pub(crate) name: GroupName,
    /// The shard that has its members and offsets.
    pub(crate) home: ShardId,
    pub(crate) created_at_ms: u64,
    topics: RwLock<BTreeMap<TopicId, StreamTopic>>,
}

/// A topic that a stream group has read.
#[derive(Clone, Debug)]
pub(crate) struct StreamTopic {
    pub(crate) topic: Arc<Topic>,
    start: GroupStart,
}

impl StreamTopic {
    pub(crate) fn new(topic: Arc<Topic>, start: GroupStart) -> Self {
        Self { topic, start }
    }
}

/// The home of a stream group among so many shards.
pub(crate) fn home_of(name: &GroupName, shards: u16) -> ShardId {
    ShardId::of(partition_of(name.as_str().as_bytes(), u32::from(shards)), shards)
}

impl StreamGroup {
    /// A group of so many shards, as the catalogue has it. `topic` finds its topics.
    pub(crate) fn new(entry: StreamEntry, shards: u16, topic: impl Fn(TopicId) -> Option<Arc<Topic>>) -> Result<Self, TopicId> {
        let mut topics = BTreeMap::new();
        for StreamTopicEntry { topic: id, start } in entry.topics {
            let found = topic(TopicId(id)).ok_or(TopicId(id))?;
            topics.insert(found.id, StreamTopic::new(found, start));
        }
        let home = home_of(&entry.name, shards);
        Ok(Self { id: GroupId(entry.id), name: entry.name, home, created_at_ms: entry.created_at_ms, topics: RwLock::new(topics) })
    }

    pub(crate) fn key(&self) -> StreamKey {
        StreamKey { shard: self.home, group: self.id }
    }

    /// What the catalogue stores of it, with these topics beside those that it has, and without this one.
    pub(crate) fn entry(&self, more: &[StreamTopic], without: Option<TopicId>) -> StreamEntry {
        let topics = self.read();
        let all = topics.values().chain(more).filter(|of| Some(of.topic.id) != without);
        let entry = |of: &StreamTopic| StreamTopicEntry { topic: of.topic.id.0, start: of.start.clone() };
        StreamEntry { id: self.id.0, name: self.name.clone(), topics: all.map(entry).collect(), created_at_ms: self.created_at_ms }
    }

    /// It reads these topics too.
    pub(crate) fn add(&self, more: Vec<StreamTopic>) {
        self.write().extend(more.into_iter().map(|of| (of.topic.id, of)));
    }

    /// The topic is deleted.
    pub(crate) fn remove(&self, topic: TopicId) {
        self.write().remove(&topic);
    }

    /// Whether it has read the topic.
    pub(crate) fn reads(&self, topic: TopicId) -> bool {
        self.read().contains_key(&topic)
    }

    /// Its topics, with their partitions.
    pub(crate) fn counts(&self) -> BTreeMap<TopicId, u32> {
        let count = |of: &StreamTopic| u32::try_from(of.topic.partitions.len()).expect("a topic's number of partitions is a u32");
        self.read().iter().map(|(&id, of)| (id, count(of))).collect()
    }

    /// Its topics by number.
    pub(crate) fn topics(&self) -> BTreeMap<TopicId, Arc<Topic>> {
        self.read().iter().map(|(&id, of)| (id, Arc::clone(&of.topic))).collect()
    }

    /// Those of its topics whose records need not be synced when they can be read.
    pub(crate) fn unsynced_topics(&self) -> BTreeSet<TopicId> {
        let is_unsynced = |of: &StreamTopic| of.topic.config().durability != TopicDurability::Sync;
        self.read().iter().filter(|(_, of)| is_unsynced(of)).map(|(&id, _)| id).collect()
    }

    /// Its topic of that name.
    pub(crate) fn topic(&self, name: &TopicName) -> Option<Arc<Topic>> {
        self.read().values().find(|of| of.topic.name == *name).map(|of| Arc::clone(&of.topic))
    }

    /// Where it begins in a partition of which nothing was committed. `None`: the topic is gone.
    pub(crate) fn start(&self, of: TopicPartition) -> Option<Offset> {
        self.read().get(&of.topic).map(|topic| topic.start.of(of.partition.0 as usize))
    }

    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<TopicId, StreamTopic>> {
        self.topics.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, BTreeMap<TopicId, StreamTopic>> {
        self.topics.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_home_of_a_group_does_not_drift() {
        let homes = ["billing", "a", "Zürich", "order-1"].map(|name| name.parse().map(|name: GroupName| home_of(&name, 16).0).ok());
        let hash = |name: &str| Some((xxhash_rust::xxh3::xxh3_64(name.as_bytes()) % 16) as u16);
        assert_eq!(homes, [hash("billing"), hash("a"), None, hash("order-1")]);
    }
}
