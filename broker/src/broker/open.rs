//! Opening a data directory: its format, its catalogue, every partition and every group; then the tasks start.

use crate::broker::{BrokerConfig, Inner};
use crate::dedup::Buckets;
use crate::env::{Clock, Random};
use crate::group::queue::{DecodeError, QueuePolicy, QueueState, QueueView};
use crate::ids::{GroupId, GroupKey, PartitionKey, ShardId, TopicId};
use crate::liveness::Liveness;
use crate::log::budget::ReadMemory;
use crate::log::owned::OwnedLog;
use crate::log::recovery::{RecoveryError, recover};
use crate::log::tail::TailMemory;
use crate::log::work::WorkSet;
use crate::metrics::{GroupLabel, Metrics};
use crate::shard::committer::{self, STAGED_COMMITS_MAX, WriteStop};
use crate::shard::input::ShardHandle;
use crate::shard::queues::slot::{DeadLetterTarget, Slot};
use crate::shard::task::{CoreParts, Shard};
use crate::storage::keys::{CLOCK_MARK_STEP_MS, MetaKey};
use crate::storage::{Direction, Durability, Family, Mutation, Storage, StorageError};
use crate::topic::{Catalog, Group, GroupEntry, GroupPartition, NextIds, Topic, TopicEntry};
use bytes::Bytes;
use core::ops::{ControlFlow, Range};
use sagamq_api::{Offset, PartitionId};
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Version of everything on disk.
const FORMAT_VERSION: u32 = 2;

/// Most shards of a data directory.
const SHARDS_MAX: u16 = 256;

/// Why a data directory cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The number of shards is out of range.
    #[error("`shards` is {0}, allowed is 1 to {SHARDS_MAX}")]
    Shards(u16),
    /// The data was written by a newer version.
    #[error("the data directory has format version {found}, this sagamq reads up to {FORMAT_VERSION}: start a newer sagamq on it")]
    NewerFormat {
        /// Version of the data.
        found: u32,
    },
    /// The data was written by an older version whose format is not read any more.
    #[error(
        "the data directory has format version {found}, this sagamq reads {FORMAT_VERSION}: start the older sagamq on it, or choose a \
         new directory"
    )]
    OlderFormat {
        /// Version of the data.
        found: u32,
    },
    /// Something that was stored cannot be understood.
    #[error("the data directory is damaged: {0}; restore it from a backup")]
    Damaged(String),
    /// A partition cannot be opened.
    #[error("the data directory is damaged: {0}; restore it from a backup")]
    Partition(#[from] RecoveryError),
    /// A group's state cannot be read.
    #[error("the data directory is damaged: state of group {group} in partition {partition}: {reason}; restore it from a backup")]
    Group {
        /// Id of the group.
        group: u32,
        /// Number of the partition.
        partition: PartitionId,
        /// What is wrong.
        reason: DecodeError,
    },
    /// The device failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// No thread could be started.
    #[error("the committer's thread cannot be started: {0}")]
    Thread(#[from] std::io::Error),
}

pub(super) fn open(
    storage: Arc<dyn Storage>,
    config: BrokerConfig,
    clock: Arc<dyn Clock>,
    mut random: Random,
    metrics: Metrics,
) -> Result<Inner, OpenError> {
    let format = Format::load_or_create(&*storage, &config, &mut random)?;
    clock.not_before(newest_time(&*storage, format.shards)?);
    let tail_memory = TailMemory::new(config.tail_bytes_max);
    let mut loaded = Loaded::load(&*storage, &tail_memory, format.shards)?;
    loaded.sweep(&*storage, format.shards)?;
    let metrics = Arc::new(metrics);
    let (staged, to_commit) = mpsc::channel(STAGED_COMMITS_MAX);
    let write_stop = WriteStop::default();
    let liveness = Liveness::default();
    let life = liveness.guard("the committer");
    let committer = committer::spawn(Arc::clone(&storage), to_commit, write_stop.clone(), Arc::clone(&metrics), life)?;
    let (closing, tasks) = (CancellationToken::new(), TaskTracker::new());
    let mut shards = Vec::with_capacity(usize::from(format.shards));
    for id in (0..format.shards).map(ShardId) {
        let (handle, inputs) = ShardHandle::channel(liveness.clone());
        let parts = CoreParts {
            id,
            storage: Arc::clone(&storage),
            clock: Arc::clone(&clock),
            random: random.fork(),
            metrics: Arc::clone(&metrics),
            staged: staged.clone(),
        };
        let buckets = Buckets::load(&*storage, id)?;
        let (logs, slots) = (loaded.logs.remove(&id).unwrap_or_default(), loaded.slots.remove(&id).unwrap_or_default());
        let life = liveness.guard(format!("shard {}", id.0));
        tasks.spawn(Shard::new(parts, buckets, logs, slots).run(inputs, closing.clone(), life));
        shards.push(handle);
    }
    Ok(Inner {
        staged_bytes: Arc::new(Semaphore::new(config.staged_bytes_max)),
        tail_memory,
        read_memory: ReadMemory::new(config.read_bytes_max, config.read_wait),
        config,
        storage,
        clock,
        random: Mutex::new(random),
        catalog: Catalog::new(loaded.topics, loaded.next_ids),
        shards,
        secret: format.secret,
        metrics,
        write_stop,
        liveness,
        rotation: AtomicUsize::new(0),
        receive_rotation: AtomicUsize::new(0),
        draining: CancellationToken::new(),
        closing,
        tasks,
        committer: Mutex::new(Some(committer)),
    })
}

/// A time that no stored one lies behind: the clock may have been set back since.
fn newest_time(storage: &dyn Storage, shards: u16) -> Result<u64, OpenError> {
    let mut newest = 0;
    for shard in (0..shards).map(ShardId) {
        if let Some(bytes) = storage.get(Family::Meta, &MetaKey::ClockMark(shard).encode())? {
            let damaged = |_| OpenError::Damaged(format!("the clock mark of shard {} cannot be read", shard.0));
            newest = newest.max(u64::from_be_bytes(bytes[..].try_into().map_err(damaged)?) + CLOCK_MARK_STEP_MS);
        }
    }
    Ok(newest)
}

/// What a data directory is: version u32, shards u16, secret 32 bytes.
struct Format {
    shards: u16,
    secret: [u8; 32],
}

impl Format {
    fn load_or_create(storage: &dyn Storage, config: &BrokerConfig, random: &mut Random) -> Result<Self, OpenError> {
        if let Some(bytes) = storage.get(Family::Meta, &MetaKey::Format.encode())? {
            return Self::decode(&bytes);
        }
        if !(1..=SHARDS_MAX).contains(&config.shards) {
            return Err(OpenError::Shards(config.shards));
        }
        let format = Self { shards: config.shards, secret: random.bytes() };
        let put = Mutation::Put { family: Family::Meta, key: MetaKey::Format.encode(), value: format.encode() };
        storage.write(&[put], Durability::Synced)?;
        Ok(format)
    }

    fn encode(&self) -> Bytes {
        let mut bytes = FORMAT_VERSION.to_be_bytes().to_vec();
        bytes.extend_from_slice(&self.shards.to_be_bytes());
        bytes.extend_from_slice(&self.secret);
        bytes.into()
    }

    fn decode(bytes: &[u8]) -> Result<Self, OpenError> {
        let damaged = || OpenError::Damaged("its format entry cannot be read".to_owned());
        let (version, rest) = bytes.split_first_chunk().ok_or_else(damaged)?;
        let found = u32::from_be_bytes(*version);
        if found > FORMAT_VERSION {
            return Err(OpenError::NewerFormat { found });
        }
        if (1..FORMAT_VERSION).contains(&found) {
            return Err(OpenError::OlderFormat { found });
        }
        let (shards, rest) = rest.split_first_chunk().ok_or_else(damaged)?;
        let shards = u16::from_be_bytes(*shards);
        let secret = rest.try_into().map_err(|_| damaged())?;
        if found != FORMAT_VERSION || !(1..=SHARDS_MAX).contains(&shards) {
            return Err(damaged());
        }
        Ok(Self { shards, secret })
    }
}

/// Everything the tasks need in memory.
struct Loaded {
    topics: BTreeMap<sagamq_api::TopicName, Arc<Topic>>,
    logs: HashMap<ShardId, Vec<OwnedLog>>,
    slots: HashMap<ShardId, Vec<(GroupKey, Slot)>>,
    next_ids: NextIds,
}

impl Loaded {
    fn load(storage: &dyn Storage, tail: &TailMemory, shards: u16) -> Result<Self, OpenError> {
        let topics: Vec<TopicEntry> = entries(storage, MetaKey::topics())?;
        let groups: Vec<GroupEntry> = entries(storage, MetaKey::groups())?;
        let next_ids = match storage.get(Family::Meta, &MetaKey::NextIds.encode())? {
            Some(bytes) => json(&bytes)?,
            None => NextIds { topic: 1, group: 1 },
        };
        let mut loaded = Self { topics: BTreeMap::new(), logs: HashMap::new(), slots: HashMap::new(), next_ids };
        let mut by_id = HashMap::new();
        for entry in topics {
            let topic = Arc::new(loaded.load_topic(storage, entry, shards, tail)?);
            by_id.insert(topic.id, Arc::clone(&topic));
            loaded.topics.insert(topic.name.clone(), topic);
        }
        for entry in groups {
            let missing = || OpenError::Damaged(format!("group {} belongs to a topic that is not there", entry.name));
            let topic = by_id.get(&TopicId(entry.topic)).ok_or_else(missing)?;
            let letters = by_id.get(&TopicId(entry.dead_letter_topic)).ok_or_else(missing)?;
            let (group, slots) = assemble_group(&entry, topic, letters, &mut |key, start| load_state(storage, key, start))?;
            for (key, slot) in slots {
                loaded.slots.entry(key.partition.shard).or_default().push((key, slot));
            }
            topic.add_group(Arc::new(group));
        }
        Ok(loaded)
    }

    fn load_topic(&mut self, storage: &dyn Storage, entry: TopicEntry, shards: u16, tail: &TailMemory) -> Result<Topic, OpenError> {
        let id = TopicId(entry.id);
        let mut partitions = Vec::new();
        for number in 0..entry.config.partitions {
            let key = PartitionKey::of(id, PartitionId(number), shards);
            let log = recover(storage, key, tail)?;
            partitions.push(Arc::clone(log.partition()));
            self.logs.entry(key.shard).or_default().push(log);
        }
        Ok(Topic::new(entry, partitions))
    }

    /// Deletes what topics left behind that were removed from the catalogue just before a crash. Ids are never used twice, so
    /// whatever is not in the catalogue is nobody's.
    fn sweep(&self, storage: &dyn Storage, shards: u16) -> Result<(), OpenError> {
        let known: std::collections::HashSet<TopicId> = self.topics.values().map(|topic| topic.id).collect();
        for shard in (0..shards).map(ShardId) {
            for family in [Family::Log, Family::TimeIndex, Family::Group] {
                let (mut start, end) = (shard.topic(TopicId(0)).start, shard.topic(TopicId(u32::MAX)).end);
                while let Some(id) = first_topic(storage, family, &start[..]..&end[..])? {
                    let range = shard.topic(id);
                    let next = range.end.clone();
                    if !known.contains(&id) {
                        tracing::info!(shard = shard.0, topic = id.0, family = family.name(), "deleting what a deleted topic left behind");
                        storage.write(&[Mutation::DeleteRange { family, range }], Durability::Synced)?;
                    }
                    start = next;
                }
            }
        }
        Ok(())
    }
}

fn first_topic(storage: &dyn Storage, family: Family, range: Range<&[u8]>) -> Result<Option<TopicId>, StorageError> {
    let mut found = None;
    storage.scan(family, range, Direction::Forward, &mut |key, _| {
        found = key.get(2..6).and_then(|id| id.try_into().ok()).map(|id| TopicId(u32::from_be_bytes(id)));
        ControlFlow::Break(())
    })?;
    Ok(found)
}

fn load_state(storage: &dyn Storage, key: GroupKey, start: Offset) -> Result<QueueState, OpenError> {
    match storage.get(Family::Group, &key.partition.group(key.group))? {
        None => Ok(QueueState::starting_at(start)),
        Some(bytes) => {
            QueueState::decode(&bytes).map_err(|reason| OpenError::Group { group: key.group.0, partition: key.partition.partition, reason })
        }
    }
}

/// Builds a group and its slots. `state` gives the state of a group in a partition, or the one that begins at an offset.
pub(super) fn assemble_group<E>(
    entry: &GroupEntry,
    topic: &Topic,
    letters: &Arc<Topic>,
    state: &mut dyn FnMut(GroupKey, Offset) -> Result<QueueState, E>,
) -> Result<(Group, Vec<(GroupKey, Slot)>), E> {
    let config = &topic.config;
    let policy = QueuePolicy {
        delivery_limit: config.delivery_limit,
        backoff_initial_ms: config.backoff_initial_ms,
        backoff_max_ms: config.backoff_max_ms,
    };
    let label = GroupLabel { topic: topic.name.to_string(), group: entry.name.to_string() };
    let work = Arc::new(WorkSet::new(topic.partitions.len()));
    let (mut partitions, mut slots) = (Vec::new(), Vec::new());
    for (index, (partition, letter_partition)) in topic.partitions.iter().zip(&letters.partitions).enumerate() {
        let key = GroupKey { partition: partition.key, group: GroupId(entry.id) };
        let redrive = GroupKey { partition: letter_partition.key, group: GroupId(entry.redrive) };
        let start = Offset(entry.start.get(index).copied().unwrap_or(0));
        let delivered = state(key, start)?;
        let view = Arc::new(QueueView::of(&delivered, &work, index));
        let slot = |partition, state, view, dead_letters| Slot {
            partition: Arc::clone(partition),
            state,
            policy,
            view,
            label: label.clone(),
            dead_letters,
        };
        let counter = state(redrive, Offset(0))?;
        let counter_view = Arc::new(QueueView::of(&counter, &work, index));
        let target = DeadLetterTarget { partition: Arc::clone(letter_partition), redrive };
        slots.push((key, slot(partition, delivered, Arc::clone(&view), Some(target))));
        slots.push((redrive, slot(letter_partition, counter, counter_view, None)));
        partitions.push(GroupPartition { key, redrive, partition: Arc::clone(partition), view });
    }
    Ok((Group::new(entry.clone(), partitions, letters, work), slots))
}

fn entries<T: DeserializeOwned>(storage: &dyn Storage, range: Range<Vec<u8>>) -> Result<Vec<T>, OpenError> {
    let mut values = Vec::new();
    storage.scan(Family::Meta, &range.start..&range.end, Direction::Forward, &mut |_, value| {
        values.push(json(value));
        ControlFlow::Continue(())
    })?;
    values.into_iter().collect()
}

fn json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, OpenError> {
    serde_json::from_slice(bytes).map_err(|error| OpenError::Damaged(format!("an entry of the catalogue cannot be read: {error}")))
}
