//! Records that wait for their time. They are rows of the shard, by topic and in the order in which they are due; memory has of each topic how
//! many there are and where they begin. So a topic's deletion is one range, and reading never passes the tombstones of those before.
//!
//! What is due is taken up in pages, the next one when the one before is durable: a burst delays nobody by more than a page.

mod agenda;
mod config;
pub(crate) mod find;
mod page;
pub(crate) mod row;

pub use config::ScheduleConfig;
pub(super) use page::DueRecord;

use crate::dedup::Hash;
use crate::ids::{PartitionKey, TopicId};
use crate::metrics::TopicLabel;
use crate::shard::core::Core;
use crate::shard::log::append_error::AppendError;
use crate::shard::log::recent::RecentEntries;
use crate::storage::{Family, Mutation, Storage as _, StorageError};
use crate::topic::Topic;
use agenda::{Agenda, Unseen};
use core::time::Duration;
use page::Wanted;
use row::{KeyRow, Row, Totals};
use sagamq_api::ScheduleId;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use tokio::sync::Notify;

/// How long nothing of a topic is taken up after storage could not be read.
const RESUME_AFTER_MS: u64 = 10_000;

/// How near the next time must be to be waited for exactly; else the tick sees it.
const NEAR: Duration = Duration::from_secs(1);

/// The records of one topic that wait.
#[derive(Debug)]
struct OfTopic {
    topic: Arc<Topic>,
    records: u64,
    bytes: u64,
    keys: u64,
}

/// A page of records of one topic that are due.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) topic: Arc<Topic>,
    pub(super) records: Vec<DueRecord>,
}

/// The records of a shard that wait.
pub(crate) struct Schedules {
    config: ScheduleConfig,
    topics: BTreeMap<TopicId, OfTopic>,
    agenda: Agenda,
    unseen: Unseen,
    /// Those that went with commits that may not be durable, each with the number of its commit.
    gone: HashMap<(TopicId, ScheduleId), u64>,
    /// Idempotency keys; `None`: no record with it waits any more.
    keys: RecentEntries<Option<KeyRow>>,
    records: u64,
    bytes: u64,
    /// The commit that is being made, and how many places were given in it.
    places: (u64, u32),
    /// Number of the commit of the last page.
    last_page: u64,
    /// Something is due, and waits for a commit that is not durable yet. The bell rings then.
    is_blocked: bool,
    /// Topics of which storage could not be read: when it is tried again, and from where on. Others go on.
    parked: BTreeMap<TopicId, (u64, ScheduleId)>,
    /// Records that are due and cannot be read. They stay, and keep no other back; whoever cancels one takes it away.
    damaged: BTreeMap<TopicId, BTreeSet<ScheduleId>>,
    /// Topics whose row is due with the commit that is being made.
    changed: BTreeSet<TopicId>,
    bell: Arc<Notify>,
}

impl Schedules {
    pub(super) fn new(config: ScheduleConfig) -> Self {
        Self {
            config,
            topics: BTreeMap::new(),
            agenda: Agenda::default(),
            unseen: Unseen::default(),
            gone: HashMap::new(),
            keys: RecentEntries::default(),
            records: 0,
            bytes: 0,
            places: (0, 0),
            last_page: 0,
            is_blocked: false,
            parked: BTreeMap::new(),
            damaged: BTreeMap::new(),
            changed: BTreeSet::new(),
            bell: Arc::default(),
        }
    }

    /// Takes over what is stored of a topic.
    pub(super) fn load(&mut self, core: &Core, topic: Arc<Topic>, totals: Totals) {
        let Totals { records, bytes, keys, first } = totals;
        self.records += records;
        self.bytes += bytes;
        self.agenda.set(topic.id, (records > 0).then_some(first));
        core.metrics.schedules.pending.get_or_create(&label(&topic)).inc_by(records.cast_signed());
        self.topics.insert(topic.id, OfTopic { topic, records, bytes, keys });
    }

    /// Whether so many more may wait.
    pub(super) fn check_room(&self, core: &Core, records: u64, bytes: u64) -> Result<(), AppendError> {
        let ScheduleConfig { records_max, bytes_max } = self.config;
        if self.records + records <= records_max && self.bytes + bytes <= bytes_max {
            return Ok(());
        }
        Err(AppendError::ScheduleLimit { shard: core.id.0, records: self.records, bytes: self.bytes, records_max, bytes_max })
    }

    /// Lets a record wait.
    pub(super) fn add(&mut self, core: &mut Core, topic: &Arc<Topic>, due_ms: u64, row: &Row) -> ScheduleId {
        let (commit, durable) = core.commit_numbers();
        if self.places.0 != commit {
            self.places = (commit, 0);
            self.unseen.seen_through(durable);
        }
        let id = ScheduleId { due_ms, shard: core.id.0, commit, index: self.places.1 };
        self.places.1 += 1;
        let (key, value) = (core.id.waiting_record(topic.id, id), row.encode());
        let bytes = (key.len() + value.len()) as u64;
        core.commit.push(Mutation::Put { family: Family::Schedule, key, value: value.into() });
        if let Some((hash, fingerprint)) = row.key {
            let partition = PartitionKey { shard: core.id, topic: topic.id, partition: row.partition };
            let entry = KeyRow { id, arrived_ms: row.arrived_ms, fingerprint };
            let (key, value) = (partition.waiting_key(hash), entry.encode().into());
            core.commit.push(Mutation::Put { family: Family::Schedule, key, value });
            self.keys.insert(partition, hash, Some(entry), commit, durable);
        }
        let of = self.topics.entry(topic.id).or_insert_with(|| OfTopic { topic: Arc::clone(topic), records: 0, bytes: 0, keys: 0 });
        of.records += 1;
        of.bytes += bytes;
        of.keys += u64::from(row.key.is_some());
        self.records += 1;
        self.bytes += bytes;
        self.agenda.add(topic.id, id);
        self.unseen.add(topic.id, id);
        self.changed.insert(topic.id);
        core.commit.require_sync();
        core.metrics.schedules.pending.get_or_create(&label(topic)).inc();
        let is_near = Duration::from_millis(due_ms.saturating_sub(core.clock.now_ms())) <= NEAR;
        if self.places.1 == 1 || is_near {
            self.ring_when_durable(core);
        }
        id
    }

    /// Which record with this idempotency key waits.
    pub(super) fn key(&self, core: &Core, partition: PartitionKey, hash: Hash) -> Result<Option<KeyRow>, StorageError> {
        if self.topics.get(&partition.topic).is_none_or(|of| of.keys == 0) {
            return Ok(None);
        }
        if let Some(entry) = self.keys.get(partition, hash) {
            return Ok(entry);
        }
        let Some(row) = core.storage.get(Family::Schedule, &partition.waiting_key(hash))? else { return Ok(None) };
        let entry = KeyRow::decode(&row, core.id.0);
        entry.map(Some).ok_or_else(|| StorageError::Corrupt("the idempotency key of a record that waits cannot be read".to_owned()))
    }

    /// The next records that are due, if any are and it is time for a page.
    pub(super) fn page(&mut self, core: &Core) -> Option<Page> {
        self.is_blocked = false;
        // Where nothing waits the clock is not asked.
        self.next_ms()?;
        let now_ms = core.clock.now_ms();
        let agenda = &mut self.agenda;
        self.parked.retain(|&topic, &mut (until_ms, from)| {
            if now_ms >= until_ms {
                agenda.add(topic, from);
            }
            now_ms < until_ms
        });
        let (topic, from) = self.agenda.due(now_ms)?;
        let (_, durable) = core.commit_numbers();
        self.is_blocked = self.last_page > durable;
        if self.is_blocked {
            return None;
        }
        self.seen_through(durable);
        let of = Arc::clone(&self.topics[&topic].topic);
        let (unseen, is_gone) = (self.unseen.first(topic), |id| self.gone.contains_key(&(topic, id)));
        let wanted = Wanted { shard: core.id, topic, partitions: of.partitions.count(), from, now_ms, unseen, is_gone: &is_gone };
        let read = page::read(&*core.storage, &wanted).and_then(|read| {
            let damaged = self.damaged.get(&topic).map_or(0, BTreeSet::len) + read.damaged.len();
            let is_missing = read.records.is_empty() && read.next.is_none() && self.topics[&topic].records > damaged as u64;
            let missing = || StorageError::Corrupt(format!("records of topic {} that wait are missing", topic.0));
            if is_missing { Err(missing()) } else { Ok(read) }
        });
        match read {
            Ok(read) => {
                for (id, reason) in read.damaged {
                    if self.damaged.entry(topic).or_default().insert(id) {
                        tracing::error!(shard = core.id.0, topic = %of.name, schedule = %id, %reason, "a record that is due cannot be read, and is not appended");
                    }
                }
                self.agenda.set(topic, read.next);
                // What is not read and is due already waits to be seen.
                self.is_blocked = read.records.is_empty() && self.agenda.due(now_ms).is_some_and(|(next, _)| next == topic);
                (!read.records.is_empty()).then_some(Page { topic: of, records: read.records })
            }
            Err(error) => {
                tracing::error!(shard = core.id.0, topic = %of.name, %error, "records that are due cannot be appended; it is tried again");
                self.agenda.set(topic, None);
                self.parked.insert(topic, (now_ms + RESUME_AFTER_MS, from));
                None
            }
        }
    }

    /// The records of a page wait no more: they are appended with the commit that is being made.
    pub(super) fn take_page(&mut self, core: &mut Core, page: &Page) {
        let now_ms = core.clock.now_ms();
        for DueRecord { id, row, row_bytes, .. } in &page.records {
            self.remove(core, &page.topic, *id, Some(row), *row_bytes);
            let late_s = now_ms.saturating_sub(id.due_ms) as f64 / 1000.0;
            core.metrics.schedules.lateness_seconds.observe(late_s);
        }
        core.metrics.schedules.fired.get_or_create(&label(&page.topic)).inc_by(page.records.len() as u64);
        self.last_page = core.commit_numbers().0;
        self.ring_when_durable(core);
    }

    /// Nothing of the topic is taken up any more: it is about to be deleted.
    pub(super) fn leave(&mut self, topic: TopicId) {
        self.agenda.set(topic, None);
        self.parked.remove(&topic);
    }

    /// When something is to be taken up next, in milliseconds since 1970.
    fn next_ms(&self) -> Option<u64> {
        self.agenda.next_ms().into_iter().chain(self.parked.values().map(|&(until_ms, _)| until_ms)).min()
    }

    /// Takes a record away before it was due. `false`: no such record waits.
    pub(super) fn cancel(&mut self, core: &mut Core, topic: &Arc<Topic>, id: ScheduleId) -> Result<bool, StorageError> {
        let (_, durable) = core.commit_numbers();
        self.seen_through(durable);
        // Nobody has heard of an id before its commit was durable.
        if !self.topics.contains_key(&topic.id) || id.commit > durable || self.gone.contains_key(&(topic.id, id)) {
            return Ok(false);
        }
        let key = core.id.waiting_record(topic.id, id);
        let Some(value) = core.storage.get(Family::Schedule, &key)? else { return Ok(false) };
        // Of one that cannot be read nobody knows its idempotency key: that stays until the topic goes.
        let row = Row::decode(&value);
        self.remove(core, topic, id, row.as_ref(), (key.len() + value.len()) as u64);
        if let Some(damaged) = self.damaged.get_mut(&topic.id) {
            damaged.remove(&id);
        }
        core.commit.require_sync();
        core.metrics.schedules.cancelled.get_or_create(&label(topic)).inc();
        Ok(true)
    }

    fn remove(&mut self, core: &mut Core, topic: &Arc<Topic>, id: ScheduleId, row: Option<&Row>, row_bytes: u64) {
        let (commit, durable) = core.commit_numbers();
        core.commit.push(Mutation::Delete { family: Family::Schedule, key: core.id.waiting_record(topic.id, id) });
        let key = row.and_then(|row| row.key.map(|(hash, _)| (row.partition, hash)));
        if let Some((partition, hash)) = key {
            let partition = PartitionKey { shard: core.id, topic: topic.id, partition };
            core.commit.push(Mutation::Delete { family: Family::Schedule, key: partition.waiting_key(hash) });
            self.keys.insert(partition, hash, None, commit, durable);
        }
        self.gone.insert((topic.id, id), commit);
        let of = self.topics.get_mut(&topic.id).expect("a record that waits is counted");
        let less = |from: u64, by: u64| from.checked_sub(by).expect("what goes was counted when it came");
        (of.records, of.bytes, of.keys) = (less(of.records, 1), less(of.bytes, row_bytes), less(of.keys, key.is_some().into()));
        // One that could not be read may have had one.
        of.keys = of.keys.min(of.records);
        (self.records, self.bytes) = (less(self.records, 1), less(self.bytes, row_bytes));
        self.changed.insert(topic.id);
        core.metrics.schedules.pending.get_or_create(&label(topic)).dec();
    }

    /// The topic is deleted, with all that is stored of it.
    pub(super) fn forget(&mut self, topic: TopicId) {
        self.leave(topic);
        self.damaged.remove(&topic);
        self.changed.remove(&topic);
        if let Some(of) = self.topics.remove(&topic) {
            self.records -= of.records;
            self.bytes -= of.bytes;
        }
    }

    /// Notes how many there are of the topics that the commit has to do with.
    pub(super) fn stage(&mut self, core: &mut Core) {
        for topic in std::mem::take(&mut self.changed) {
            let OfTopic { records, bytes, keys, .. } = self.topics[&topic];
            let nowhere = ScheduleId { due_ms: 0, shard: core.id.0, commit: 0, index: 0 };
            let totals = Totals { records, bytes, keys, first: self.first(topic).unwrap_or(nowhere) };
            let (key, value) = (core.id.waiting_totals(topic), totals.encode().into());
            core.commit.push(Mutation::Put { family: Family::Schedule, key, value });
        }
    }

    /// Ends when there may be something to take up, if that is soon. It is woken by durable commits as well.
    pub(super) fn woken(&self, core: &Core) -> impl Future<Output = ()> + use<> {
        let is_under_way = self.is_blocked || self.last_page > core.commit_numbers().1;
        let next_ms = self.next_ms();
        let wait = next_ms.map(|next_ms| next_ms.saturating_sub(core.clock.now_ms()).max(1));
        let wait = wait.map(Duration::from_millis).filter(|wait| !is_under_way && *wait <= NEAR);
        let bell = next_ms.map(|_| Arc::clone(&self.bell));
        async move {
            match (bell, wait) {
                (None, _) => core::future::pending().await,
                // A bell that rings meanwhile changes nothing: the first of the agenda is waited for, and others come with an input.
                (Some(_), Some(wait)) => tokio::time::sleep(wait).await,
                (Some(bell), None) => bell.notified().await,
            }
        }
    }

    /// The place before which none of the topic waits, whatever keeps it from being taken up.
    fn first(&self, topic: TopicId) -> Option<ScheduleId> {
        let parked = self.parked.get(&topic).map(|&(_, from)| from);
        let damaged = self.damaged.get(&topic).and_then(|ids| ids.first().copied());
        [self.agenda.first(topic), parked, damaged].into_iter().flatten().min()
    }

    fn seen_through(&mut self, durable: u64) {
        self.unseen.seen_through(durable);
        self.gone.retain(|_, commit| *commit > durable);
    }

    fn ring_when_durable(&self, core: &mut Core) {
        let bell = Arc::clone(&self.bell);
        core.answer(move |_| bell.notify_one());
    }
}

fn label(topic: &Topic) -> TopicLabel {
    TopicLabel { topic: topic.name.to_string() }
}
