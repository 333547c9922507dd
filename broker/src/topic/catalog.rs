//! The catalogue in memory: topics by name, each with its partitions and groups. Changes go through the broker, one at a time.

use crate::ids::TopicId;
use crate::log::offsets::LogOffsets;
use crate::log::partition::Partition;
use crate::log::tail::TailMemory;
use crate::topic::entry::{GroupEntry, NextIds, TopicEntry, TopicKind};
use crate::topic::group::{DeadLetterTopic, Group};
use crate::topic::growth::{Growth, Growths};
use crate::topic::hot_keys::HotKeys;
use crate::topic::live_config::LiveConfig;
use crate::topic::partitions::Partitions;
use sagamq_api::topic::{HotKey, PartitionDescription, TopicConfig, TopicDescription};
use sagamq_api::{GroupName, PartitionId, TopicName, limits};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use tokio::sync::{Mutex, OwnedRwLockReadGuard, OwnedRwLockWriteGuard};

/// As long as it is held the number of the topic's partitions stays as it is.
pub(crate) type Dealing = OwnedRwLockReadGuard<()>;

/// A topic and everything that belongs to it.
#[derive(Debug)]
pub(crate) struct Topic {
    pub(crate) id: TopicId,
    pub(crate) name: TopicName,
    pub(crate) config: LiveConfig,
    pub(crate) created_at_ms: u64,
    pub(crate) kind: TopicKind,
    pub(crate) partitions: Arc<Partitions>,
    /// What it was before partitions were added.
    pub(crate) growths: Growths,
    keys_until_ms: AtomicU64,
    /// Whoever deals records to the partitions reads it until they are stored; whoever adds partitions writes it.
    dealing: Arc<tokio::sync::RwLock<()>>,
    /// The record keys that it gets most of.
    pub(crate) hot_keys: HotKeys,
    owned: AtomicBool,
    groups: RwLock<BTreeMap<GroupName, Arc<Group>>>,
}

impl Topic {
    /// A topic among so many shards.
    pub(crate) fn new(entry: TopicEntry, shards: u16, tail_memory: &TailMemory) -> Self {
        let id = TopicId(entry.id);
        Self {
            id,
            partitions: Arc::new(Partitions::new(id, entry.config.partitions, shards, tail_memory)),
            name: entry.name,
            config: LiveConfig::new(entry.config),
            created_at_ms: entry.created_at_ms,
            kind: entry.kind,
            growths: Growths::new(entry.growths),
            keys_until_ms: AtomicU64::new(entry.keys_until_ms),
            dealing: Arc::default(),
            hot_keys: HotKeys::default(),
            owned: AtomicBool::new(entry.owned),
            groups: RwLock::default(),
        }
    }

    /// What a group needs of the topic that takes its dead letters.
    fn as_dead_letters(&self) -> DeadLetterTopic {
        DeadLetterTopic { id: self.id, name: self.name.clone(), partitions: Arc::clone(&self.partitions) }
    }

    /// What the catalogue stores of it.
    pub(crate) fn entry(&self) -> TopicEntry {
        TopicEntry {
            id: self.id.0,
            name: self.name.clone(),
            config: self.config(),
            created_at_ms: self.created_at_ms,
            kind: self.kind,
            owned: self.is_owned(),
            growths: self.growths.get().to_vec(),
            keys_until_ms: self.keys_until_ms(),
        }
    }

    /// Until when idempotency keys may count that were stored while the window was longer.
    pub(crate) fn keys_until_ms(&self) -> u64 {
        self.keys_until_ms.load(Ordering::Acquire)
    }

    pub(crate) fn keep_keys_until(&self, at_ms: u64) {
        self.keys_until_ms.store(at_ms, Ordering::Release);
    }

    /// Begins to deal records to the partitions. What is held goes with the records until they are stored.
    pub(crate) async fn deal(&self) -> Dealing {
        Arc::clone(&self.dealing).read_owned().await
    }

    /// Waits until all that was dealt is stored. As long as it is held nothing is dealt.
    pub(crate) async fn stop_dealing(&self) -> OwnedRwLockWriteGuard<()> {
        Arc::clone(&self.dealing).write_owned().await
    }

    /// What it was before partitions were added is known better now.
    pub(crate) fn remember(&self, growths: Vec<Growth>) {
        self.growths.set(growths);
        self.groups().iter().for_each(|group| group.look_at_gates());
    }

    /// There are so many partitions from now on. Nothing is being dealt, and each group has room for them.
    pub(crate) fn grow(&self, config: TopicConfig, growths: Vec<Growth>) {
        self.growths.set(growths);
        self.partitions.grow(config.partitions);
        self.configure(config);
    }

    /// A copy of its configuration, as it is now.
    pub(crate) fn config(&self) -> TopicConfig {
        TopicConfig::clone(&self.config.get())
    }

    /// Its configuration is this one from now on. The number of its partitions is the same.
    pub(crate) fn configure(&self, config: TopicConfig) {
        assert_eq!(config.partitions as usize, self.partitions.len(), "the number of partitions is no part of a change");
        let is_ordering_new = self.config.get().ordering != config.ordering;
        self.config.set(config);
        if is_ordering_new {
            // What waited for others of its key may be free now, also where nothing else happens.
            self.groups().iter().for_each(|group| group.look_at_gates());
        }
    }

    /// Whether the embedder needs it.
    pub(crate) fn is_owned(&self) -> bool {
        self.owned.load(Ordering::Acquire)
    }

    pub(crate) fn set_owned(&self) {
        self.owned.store(true, Ordering::Release);
    }

    pub(crate) fn partition(&self, partition: PartitionId) -> Option<&Arc<Partition>> {
        ((partition.0 as usize) < self.partitions.len()).then(|| self.partitions.at(partition.0 as usize))
    }

    pub(crate) fn group(&self, name: &GroupName) -> Option<Arc<Group>> {
        self.groups.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    pub(crate) fn groups(&self) -> Vec<Arc<Group>> {
        self.groups.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// A group of this topic, which begins in each partition where its entry says. Nothing else of it need be stored.
    pub(crate) fn new_group(&self, entry: GroupEntry, dead_letters: &Self) -> Group {
        Group::new(entry, &self.name, &self.config, &self.partitions, &self.growths, dead_letters.as_dead_letters())
    }

    /// Adds a group and lets appends wake it. What was appended before is marked then.
    pub(crate) fn add_group(&self, group: Arc<Group>) {
        self.partitions.readers().add(Arc::clone(&group.work));
        group.mark_work();
        self.groups.write().unwrap_or_else(PoisonError::into_inner).insert(group.name.clone(), group);
    }

    pub(crate) fn remove_group(&self, group: &Group) {
        self.partitions.readers().remove(&group.work);
        self.groups.write().unwrap_or_else(PoisonError::into_inner).remove(&group.name);
    }

    /// The topic is deleted: nothing is stored in it any more, and whoever waits for its records hears of it at once.
    pub(crate) fn close(&self) {
        self.partitions.close();
    }

    pub(crate) fn describe(&self) -> TopicDescription {
        let describe = |index| {
            let LogOffsets { log_start, high_watermark, .. } = self.partitions.offsets(index);
            let in_memory = self.partitions.in_memory(index);
            let (records_per_second, bytes_per_second) = in_memory.map_or((0.0, 0.0), |partition| partition.rate());
            PartitionDescription {
                partition: self.partitions.key(index).partition,
                log_start_offset: log_start,
                high_watermark,
                bytes: in_memory.map_or(0, |partition| partition.bytes()),
                records_per_second,
                bytes_per_second,
            }
        };
        let hottest = self.hot_keys.hottest(limits::HOTTEST_KEYS_MAX).into_iter().map(|(key, share)| HotKey::new(&key, share));
        TopicDescription {
            name: self.name.clone(),
            config: self.config(),
            created_at_ms: self.created_at_ms,
            partitions: (0..self.partitions.len()).map(describe).collect(),
            hottest_keys: hottest.collect(),
        }
    }
}

/// Every topic by its name.
#[derive(Debug)]
pub(crate) struct Catalog {
    topics: RwLock<BTreeMap<TopicName, Arc<Topic>>>,
    /// Held over a whole change, the write included: changes are rare, and one at a time is easy to get right.
    pub(crate) changes: Mutex<NextIds>,
}

impl Catalog {
    pub(crate) fn new(topics: BTreeMap<TopicName, Arc<Topic>>, next_ids: NextIds) -> Self {
        Self { topics: RwLock::new(topics), changes: Mutex::new(next_ids) }
    }

    pub(crate) fn topic(&self, name: &TopicName) -> Option<Arc<Topic>> {
        self.topics.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    pub(crate) fn topics(&self) -> Vec<Arc<Topic>> {
        self.topics.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    pub(crate) fn insert(&self, topic: Arc<Topic>) {
        self.topics.write().unwrap_or_else(PoisonError::into_inner).insert(topic.name.clone(), topic);
    }

    pub(crate) fn remove(&self, name: &TopicName) {
        self.topics.write().unwrap_or_else(PoisonError::into_inner).remove(name);
    }
}
