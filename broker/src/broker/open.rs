//! Opening a data directory: its format, then every shard by itself and side by side, then the catalogue; then the tasks start.
//!
//! What is to be changed at an open is changed by the first commits of the shards: the format of a directory that is made now, and
//! what topics and groups left behind that were removed from the catalogue just before a crash.

use crate::access::ApiKeys;
use crate::broker::catalogue::StoredCatalogue;
use crate::broker::format::Format;
use crate::broker::open_error::OpenError;
use crate::broker::{Broker, BrokerConfig, Inner, cluster, compaction, disk, measure, relay, retention, rounds};
use crate::dedup::Buckets;
use crate::dedup::sequence::ProducerState;
use crate::env::{Clock, Random};
use crate::group::queue::StoredQueue;
use crate::group::stream::StoredStream;
use crate::ids::{GroupId, GroupKey, PartitionKey, ShardId, StreamKey, TopicId};
use crate::liveness::Liveness;
use crate::log::budget::ReadMemory;
use crate::log::owned::OwnedLog;
use crate::log::tail::TailMemory;
use crate::metrics::Metrics;
use crate::shard::catalogue::topic_deletion;
use crate::shard::commit::{Commit, WriteError};
use crate::shard::committer::{self, CommitterParts, STAGED_COMMITS_MAX, SyncDue};
use crate::shard::disk_guard::DiskGuard;
use crate::shard::input::ShardHandle;
use crate::shard::log::StoredLog;
use crate::shard::log::schedules::row::Totals;
use crate::shard::outbox::find::FoundOutbox;
use crate::shard::outbox::marks::Marks;
use crate::shard::recovery::{FoundShard, ShardError, recover};
use crate::shard::sync_interval;
use crate::shard::task::{CoreParts, Shard, Stored};
use crate::shard::write_stop::WriteStops;
use crate::storage::keys::Channel;
use crate::storage::{Family, Mutation, Storage};
use crate::topic::{AuditLog, Catalog, Group, GroupEntry, ProducerNames, StreamEntry, StreamGroup, StreamGroups, Topic, TopicKind};
use core::time::Duration;
use prometheus_client::registry::Registry;
use sagamq_api::TopicName;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Most threads that look at shards: they wait for the disk more than they compute.
const THREADS_MAX: usize = 8;

/// Least time between two syncs that nobody waits for, whatever is configured.
const SYNC_INTERVAL_MIN: Duration = Duration::from_millis(1);

impl Broker {
    /// Opens what `storage` holds, or makes a new data directory of it, and starts. Metrics go into `registry`.
    ///
    /// # Errors
    /// When the data is of another format or damaged, or storage fails.
    pub fn open(
        storage: Arc<dyn Storage>,
        config: BrokerConfig,
        clock: Arc<dyn Clock>,
        random: Random,
        registry: &mut Registry,
    ) -> Result<Self, OpenError> {
        let inner = Arc::new(open(storage, config, clock, random, Metrics::register(registry))?);
        let life = inner.liveness.guard("retention");
        let round = |broker: Broker| async move { retention::round(&broker).await };
        inner.tasks.spawn(rounds::run(Arc::downgrade(&inner), inner.draining.clone(), life, round));
        let life = inner.liveness.guard("the disk guard");
        inner.tasks.spawn(disk::run(Arc::downgrade(&inner), inner.draining.clone(), life));
        let life = inner.liveness.guard("compaction");
        let round = |broker: Broker| async move { compaction::round(&broker).await };
        inner.tasks.spawn(rounds::run(Arc::downgrade(&inner), inner.draining.clone(), life, round));
        let life = inner.liveness.guard("the measuring of groups and topics");
        inner.tasks.spawn(measure::run(Arc::downgrade(&inner), inner.draining.clone(), life));
        for shard in inner.shards_of(usize::MAX) {
            let life = inner.liveness.guard(format!("the delivery of records to shard {}", shard.0));
            inner.tasks.spawn(relay::run(Arc::downgrade(&inner), shard, inner.draining.clone(), life));
        }
        Ok(Self::of(inner))
    }
}

fn open(
    storage: Arc<dyn Storage>,
    config: BrokerConfig,
    clock: Arc<dyn Clock>,
    mut random: Random,
    metrics: Metrics,
) -> Result<Inner, OpenError> {
    let stored = Format::load(&*storage)?;
    let is_new = stored.is_none();
    let format = stored.map_or_else(|| Format::new(config.shards, &mut random), Ok)?;
    let found = find_shards(&*storage, format.shards)?;
    FoundOutbox::require_agreement(found.iter().map(|shard| &shard.outbox)).map_err(ShardError::from)?;
    FoundOutbox::require_agreement(found.iter().map(|shard| &shard.relays)).map_err(ShardError::from)?;
    if is_new && found.iter().any(|shard| shard.last_commit > 0) {
        return Err(OpenError::Damaged("its format entry is gone".to_owned()));
    }
    // The clock may have been set back since.
    clock.not_before(found.iter().map(|shard| shard.time_ms).max().unwrap_or(0));
    let tail_memory = TailMemory::new(config.tail_bytes_max);
    let last_commits = found.iter().map(|shard| shard.last_commit).collect();
    let mut loaded = Loaded::load(&*storage, found, &tail_memory, format.shards)?;
    if is_new {
        loaded.shards[usize::from(ShardId::CONTROL.0)].first_commit.push(format.put());
    }
    metrics.staged_bytes_max.set(i64::try_from(config.staged_bytes_max).unwrap_or(i64::MAX));
    loaded.begin_series(&metrics);
    let metrics = Arc::new(metrics);
    let (staged, to_commit) = mpsc::channel(STAGED_COMMITS_MAX);
    let write_stops = WriteStops::new(format.shards);
    let liveness = Liveness::default();
    let life = liveness.guard("the committer");
    let draining = CancellationToken::new();
    let due = SyncDue::default();
    let disk = DiskGuard::new(config.disk, metrics.disk.clone());
    let parts = CommitterParts {
        storage: Arc::clone(&storage),
        stops: write_stops.clone(),
        metrics: Arc::clone(&metrics),
        disk: disk.clone(),
        draining: draining.clone(),
        last_commits,
        due: due.clone(),
    };
    let committer = committer::spawn(parts, to_commit, life)?;
    make_first_commits(&mut loaded.shards, &staged)?;
    let (closing, tasks) = (CancellationToken::new(), TaskTracker::new());
    let life = liveness.guard("the syncing within an interval");
    let interval = config.sync_interval.max(SYNC_INTERVAL_MIN);
    tasks.spawn(sync_interval::run(staged.clone(), due, interval, closing.clone(), life));
    let marks = Arc::new(Marks::new(Channel::Embedder, format.shards));
    let relay_marks = Arc::new(Marks::new(Channel::Records, format.shards));
    let audit = Arc::new(AuditLog::new(loaded.audit, format!("urn:uuid:{}", cluster(&format.secret))));
    let mut shards = Vec::with_capacity(usize::from(format.shards));
    for shard in loaded.shards {
        let (handle, inputs) = ShardHandle::channel(liveness.clone());
        let life = liveness.guard(format!("shard {}", shard.id.0));
        let parts = CoreParts {
            id: shard.id,
            storage: Arc::clone(&storage),
            clock: Arc::clone(&clock),
            random: random.fork(),
            metrics: Arc::clone(&metrics),
            staged: staged.clone(),
            last_commit: shard.last_commit,
            logs: shard.logs,
            producer_names: Arc::clone(&loaded.producer_names),
            audit: Arc::clone(&audit),
        };
        let (outbox, relays) = (shard.outbox.take_over(&marks), shard.relays.take_over(&relay_marks));
        let log = StoredLog { buckets: shard.buckets, waiting: shard.waiting, producers: shard.producers };
        let (groups, queues, streams) = (shard.groups, shard.queues, shard.streams);
        let stored = Stored {
            log,
            groups,
            queues,
            streams,
            terms: config.streams.terms(),
            outbox,
            relays,
            schedules: config.schedules,
            shards: format.shards,
        };
        tasks.spawn(Shard::new(parts, stored).run(inputs, closing.clone(), life));
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
        catalog: loaded.catalog,
        streams: loaded.streams,
        producer_names: loaded.producer_names,
        api_keys: loaded.api_keys,
        audit,
        shards,
        secret: format.secret,
        metrics,
        write_stops,
        disk,
        marks,
        relay_marks,
        liveness,
        rotation: AtomicUsize::new(0),
        receive_rotation: AtomicUsize::new(0),
        upkeep: tokio::sync::Mutex::default(),
        draining,
        closing,
        tasks,
        committer: Mutex::new(Some(committer)),
    })
}

/// Into how many shards the data is divided that storage holds; none if it holds no data.
///
/// # Errors
/// When the data is of another format, or storage fails.
pub fn stored_shards(storage: &dyn Storage) -> Result<Option<u16>, OpenError> {
    Ok(Format::load(storage)?.map(|format| format.shards))
}

/// Every shard finds what it has stored: by itself, and several at a time.
fn find_shards(storage: &dyn Storage, shards: u16) -> Result<Vec<FoundShard>, ShardError> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).clamp(1, THREADS_MAX);
    let next = AtomicU16::new(0);
    let find = || -> Result<Vec<FoundShard>, ShardError> {
        let ids = core::iter::from_fn(|| Some(next.fetch_add(1, Ordering::Relaxed)).filter(|&id| id < shards));
        ids.map(|id| recover(storage, ShardId(id))).collect()
    };
    let found = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(find)).collect();
        let found = threads.into_iter().map(|thread| thread.join().expect("a look at storage does not panic"));
        found.collect::<Result<Vec<_>, _>>()
    })?;
    let mut found: Vec<FoundShard> = found.into_iter().flatten().collect();
    found.sort_by_key(|shard| shard.id);
    Ok(found)
}

/// Writes what the open has to change, durably, in an order with all later commits of each shard. Where there are messages, what is there is
/// synced too: others see them from now on.
fn make_first_commits(shards: &mut [LoadedShard], staged: &mpsc::Sender<Commit>) -> Result<(), OpenError> {
    let (written, answers) = std::sync::mpsc::channel();
    let mut count = 0;
    for shard in shards {
        let mut commit = Commit::new(shard.id);
        for mutation in std::mem::take(&mut shard.first_commit) {
            commit.push(mutation);
        }
        let log_ends = shard.logs.iter().fold(0, |ends: u64, log| ends.wrapping_add(log.log_end().0));
        let last_commit = commit.complete(shard.last_commit, log_ends);
        if last_commit == shard.last_commit && shard.outbox.is_empty() && shard.relays.is_empty() {
            continue;
        }
        shard.last_commit = last_commit;
        commit.require_sync();
        let written = written.clone();
        commit.on_written(move |result| {
            // Whoever opens may have heard of a failure already.
            let _ = written.send(result);
        });
        staged.try_send(commit).map_err(|_| WriteError::ShuttingDown)?;
        count += 1;
    }
    for _ in 0..count {
        answers.recv().map_err(|_| WriteError::ShuttingDown)??;
    }
    Ok(())
}

type Topics = HashMap<TopicId, Arc<Topic>>;

/// Groups, each with its topic.
type Groups = HashMap<GroupId, (Arc<Group>, Arc<Topic>)>;

/// Everything the tasks need in memory.
struct Loaded {
    catalog: Catalog,
    streams: StreamGroups,
    producer_names: Arc<ProducerNames>,
    api_keys: ApiKeys,
    /// The topic of the audit log, if there is one.
    audit: Option<Arc<Topic>>,
    shards: Vec<LoadedShard>,
}

/// What one shard needs in memory.
struct LoadedShard {
    id: ShardId,
    last_commit: u64,
    logs: Vec<OwnedLog>,
    /// The groups that have a partition there.
    groups: Vec<Arc<Group>>,
    queues: Vec<(GroupKey, StoredQueue)>,
    /// The stream groups whose home it is.
    streams: Vec<(Arc<StreamGroup>, Option<StoredStream>)>,
    buckets: Buckets,
    outbox: FoundOutbox,
    relays: FoundOutbox,
    /// How many records of which topics wait for their time.
    waiting: Vec<(Arc<Topic>, Totals)>,
    /// What partitions know of producers.
    producers: Vec<((PartitionKey, u64), ProducerState)>,
    /// What the open changes.
    first_commit: Vec<Mutation>,
}

impl Loaded {
    /// Shows what alarms look at of every group that is there.
    fn begin_series(&self, metrics: &Metrics) {
        for group in self.catalog.topics().iter().flat_map(|topic| topic.groups()) {
            metrics.begin_group(&group.label);
        }
        for group in self.streams.all() {
            group.topics().values().for_each(|topic| metrics.begin_stream(&topic.name, &group.name));
        }
    }

    fn load(storage: &dyn Storage, found: Vec<FoundShard>, tail: &TailMemory, shards: u16) -> Result<Self, OpenError> {
        let stored = StoredCatalogue::load(storage)?;
        let topics = stored.topics.into_iter().map(|entry| (TopicId(entry.id), Arc::new(Topic::new(entry, shards, tail))));
        let topics: Topics = topics.collect();
        let shards_count = shards;
        let mut stored_queues = Vec::with_capacity(found.len());
        let mut stored_streams = Vec::with_capacity(found.len());
        let mut shards = Vec::with_capacity(found.len());
        for mut shard in found {
            stored_queues.push(std::mem::take(&mut shard.queues));
            stored_streams.push(std::mem::take(&mut shard.streams));
            shards.push(LoadedShard::load(shard, &topics)?);
        }
        let mut groups = Groups::new();
        for entry in stored.groups {
            let missing = || OpenError::Damaged(format!("group {} belongs to a topic that is not there", entry.name));
            let topic = topics.get(&TopicId(entry.topic)).ok_or_else(missing)?;
            let letters = topics.get(&TopicId(entry.dead_letter_topic)).ok_or_else(missing)?;
            check_start(&entry, topic)?;
            let group = Arc::new(topic.new_group(entry, letters));
            for shard in shards.iter_mut().take(group.queues().len()) {
                shard.groups.push(Arc::clone(&group));
            }
            groups.insert(group.id, (group, Arc::clone(topic)));
        }
        for (shard, queues) in shards.iter_mut().zip(stored_queues) {
            shard.take_queues(queues, &groups, &topics)?;
        }
        let streams = StreamGroups::default();
        for entry in stored.streams {
            let group = stream_group(entry, shards_count, &topics, &groups)?;
            let home = usize::from(group.home.0);
            let stored = stored_streams[home].remove(&group.id);
            check_offsets(&group, stored.as_ref())?;
            shards[home].streams.push((Arc::clone(&group), stored));
            streams.insert(group);
        }
        // Numbers are never used twice, so what is not in the catalogue is nobody's.
        for (shard, left) in shards.iter_mut().zip(stored_streams) {
            let ranges = left.into_keys().map(|group| StreamKey { shard: shard.id, group }.all());
            shard.first_commit.extend(ranges.map(|range| Mutation::DeleteRange { family: Family::Group, range }));
        }
        // What has something for its pollers is known only now.
        for (group, topic) in groups.into_values() {
            topic.add_group(group);
        }
        let (audit, topics): (Vec<_>, Vec<_>) = topics.into_values().partition(|topic| topic.kind == TopicKind::Audit);
        let by_name: BTreeMap<TopicName, Arc<Topic>> = topics.into_iter().map(|topic| (topic.name.clone(), topic)).collect();
        let audit = one_audit_log(audit, shards_count)?;
        let producer_names = Arc::new(ProducerNames::new(stored.producers));
        let api_keys = ApiKeys::new(stored.keys);
        Ok(Self { catalog: Catalog::new(by_name, stored.next_ids), streams, producer_names, api_keys, audit, shards })
    }
}

impl LoadedShard {
    fn load(found: FoundShard, topics: &Topics) -> Result<Self, OpenError> {
        let FoundShard { id, last_commit, buckets, outbox, relays, .. } = found;
        let waiting = found.waiting.into_iter().filter_map(|(topic, totals)| Some((Arc::clone(topics.get(&topic)?), totals))).collect();
        let mut producers = found.producers;
        producers.retain(|((of, _), _)| topics.contains_key(&of.topic));
        let mut first_commit = Vec::new();
        for topic in found.topics {
            if !topics.contains_key(&topic) {
                tracing::info!(shard = id.0, topic = topic.0, "deleting what a deleted topic left behind");
                first_commit.extend(topic_deletion(id, topic));
            }
        }
        let mut logs = Vec::new();
        for log in found.logs {
            let Some(topic) = topics.get(&log.key.topic) else { continue };
            let index = log.key.partition.0 as usize;
            if index >= topic.partitions.len() || topic.partitions.key(index) != log.key {
                let reason = format!("topic `{}` has no partition {} on shard {}", topic.name, log.key.partition, id.0);
                return Err(OpenError::Damaged(reason));
            }
            let partition = topic.partitions.open(index, &log.positions);
            if let Some(bytes) = log.record_bytes {
                partition.guess_record_bytes(bytes);
            }
            logs.push(OwnedLog::stored(Arc::clone(partition), log.positions));
        }
        Ok(Self {
            id,
            last_commit,
            logs,
            groups: Vec::new(),
            queues: Vec::new(),
            streams: Vec::new(),
            buckets,
            outbox,
            relays,
            waiting,
            producers,
            first_commit,
        })
    }

    /// Takes over what is stored of the groups. Numbers are never used twice, so what is not in the catalogue is nobody's.
    fn take_queues(&mut self, queues: HashMap<GroupKey, StoredQueue>, groups: &Groups, topics: &Topics) -> Result<(), OpenError> {
        for (key, queue) in queues {
            let index = key.partition.partition.0 as usize;
            match groups.get(&key.group).map(|(group, _)| group) {
                Some(group) if index < group.queues().len() && group.queue(index).key() == key => {
                    group.queue(index).view().update(&queue.state);
                    group.queue(index).view().show_settled(queue.state.settled_below());
                    self.queues.push((key, queue));
                }
                Some(group) => {
                    let reason = format!("group `{}` has no partition {} on shard {}", group.name, key.partition.partition, self.id.0);
                    return Err(OpenError::Damaged(reason));
                }
                None if topics.contains_key(&key.partition.topic) => {
                    let rows = queue.rows().map(|row| Mutation::Delete { family: Family::Group, key: key.row(row.number()) });
                    self.first_commit.extend(rows);
                }
                // It goes with its topic.
                None => {}
            }
        }
        Ok(())
    }
}

/// The topic of the audit log: one at the most, with a partition for each shard.
fn one_audit_log(mut found: Vec<Arc<Topic>>, shards: u16) -> Result<Option<Arc<Topic>>, OpenError> {
    let audit = found.pop();
    if !found.is_empty() || audit.as_ref().is_some_and(|topic| topic.partitions.count() != u32::from(shards)) {
        return Err(OpenError::Damaged("there are two audit logs, or one without a partition for each shard".to_owned()));
    }
    Ok(audit)
}

/// A stream group as the catalogue has it.
fn stream_group(entry: StreamEntry, shards: u16, topics: &Topics, groups: &Groups) -> Result<Arc<StreamGroup>, OpenError> {
    let name = entry.name.clone();
    let missing = |topic: TopicId| OpenError::Damaged(format!("stream group {name} reads topic number {}, which is not there", topic.0));
    let group = StreamGroup::new(entry, shards, |id| topics.get(&id).cloned()).map_err(missing)?;
    let is_queue = |(queue, topic): &(Arc<Group>, Arc<Topic>)| queue.name == group.name && group.reads(topic.id);
    if groups.values().any(is_queue) {
        return Err(OpenError::Damaged(format!("{name} is a queue group and a stream group of one topic")));
    }
    Ok(Arc::new(group))
}

/// Refuses a stream group that stands behind the end of a log.
fn check_offsets(group: &StreamGroup, stored: Option<&StoredStream>) -> Result<(), OpenError> {
    let topics = group.topics();
    for (of, offset) in stored.into_iter().flat_map(StoredStream::offsets) {
        let Some(topic) = topics.get(&of.topic).filter(|topic| (of.partition.0 as usize) < topic.partitions.len()) else { continue };
        let end = topic.partitions.offsets(of.partition.0 as usize).log_end;
        if offset > end {
            let reason = format!(
                "stream group {} in partition {} of {} stands at {offset}, but the log ends at {end}",
                group.name, of.partition, topic.name
            );
            return Err(OpenError::Damaged(reason));
        }
    }
    Ok(())
}

/// Refuses a group that would begin behind the end of its log.
fn check_start(entry: &GroupEntry, topic: &Topic) -> Result<(), OpenError> {
    for index in 0..topic.partitions.len() {
        let (start, end) = (entry.start.of(index), topic.partitions.offsets(index).log_end);
        if start > end {
            let reason = format!("group {} in partition {index} begins at {start}, but the log ends at {end}", entry.id);
            return Err(OpenError::Damaged(reason));
        }
    }
    Ok(())
}
