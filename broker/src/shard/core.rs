//! What every owner of a shard needs: its logs, the commit that is being made, and the answers that go out behind it.

use crate::audit::Note;
use crate::env::{Clock, Random};
use crate::ids::{NumberHasher, PartitionKey, ShardId, TopicId};
use crate::log::batch::{Batch, NewBatch, Record};
use crate::log::compaction::{Compacted, Rewrite};
use crate::log::expiry::Cut;
use crate::log::owned::OwnedLog;
use crate::log::partition::Partition;
use crate::metrics::{Metrics, TopicCounters, TopicLabel};
use crate::shard::commit::{Commit, Completion, WriteError};
use crate::storage::keys::{CLOCK_MARK_STEP_MS, MetaKey};
use crate::storage::{Family, Mutation, Storage};
use crate::topic::{AuditLog, ProducerNames};
use sagamq_api::Offset;
use sagamq_api::topic::TopicDurability;
use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::mpsc;

/// What a shard is made of at start.
pub(crate) struct CoreParts {
    pub(crate) id: ShardId,
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Random,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) staged: mpsc::Sender<Commit>,
    /// Number of the shard's last commit.
    pub(crate) last_commit: u64,
    /// The logs that were ever written.
    pub(crate) logs: Vec<OwnedLog>,
    /// Which producer has which name.
    pub(crate) producer_names: Arc<ProducerNames>,
    /// Where it is written down who changed what.
    pub(crate) audit: Arc<AuditLog>,
}

/// What every owner of a shard needs.
pub(super) struct Core {
    pub(super) id: ShardId,
    pub(super) storage: Arc<dyn Storage>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) random: Random,
    pub(super) metrics: Arc<Metrics>,
    /// Which producer has which name.
    pub(super) producer_names: Arc<ProducerNames>,
    audit: Arc<AuditLog>,
    /// The commit that is being made.
    pub(super) commit: Commit,
    /// Number of the last one.
    last_commit: u64,
    /// Number of the newest durable commit; the committer advances it.
    durable_commit: Arc<AtomicU64>,
    /// Those that were ever written. Any other stands at its beginning and comes with its first batch.
    logs: HashMap<PartitionKey, OwnedLog, BuildHasherDefault<NumberHasher>>,
    /// The ends of all of them, added up; see [`LastCommit`](crate::shard::commit::LastCommit).
    log_ends: u64,
    /// Those whose row is due with this commit.
    rows_due: Vec<PartitionKey>,
    appended: Appended,
    answers: Vec<Completion>,
    /// Those of the topics that get records: found once.
    counters: HashMap<TopicId, TopicCounters, BuildHasherDefault<NumberHasher>>,
    staged: mpsc::Sender<Commit>,
    time_marked_ms: u64,
}

/// Batches of one commit: shown to the readers when it is durable.
#[derive(Default)]
struct Appended {
    /// Each partition with how many of the batches are its own; one may come more than once.
    parts: Vec<(Arc<Partition>, usize)>,
    batches: Vec<Batch>,
    bytes: usize,
}

impl Core {
    pub(super) fn new(parts: CoreParts) -> Self {
        let logs: HashMap<_, _, _> = parts.logs.into_iter().map(|log| (log.key(), log)).collect();
        assert!(logs.keys().all(|key| key.shard == parts.id), "a partition is owned by its own shard");
        Self {
            id: parts.id,
            storage: parts.storage,
            clock: parts.clock,
            random: parts.random,
            metrics: parts.metrics,
            producer_names: parts.producer_names,
            audit: parts.audit,
            commit: Commit::new(parts.id),
            last_commit: parts.last_commit,
            durable_commit: Arc::new(parts.last_commit.into()),
            log_ends: logs.values().fold(0, |ends, log| ends.wrapping_add(log.log_end().0)),
            logs,
            rows_due: Vec::new(),
            appended: Appended::default(),
            answers: Vec::new(),
            counters: HashMap::default(),
            staged: parts.staged,
            time_marked_ms: 0,
        }
    }

    /// Forgets the logs of a topic that is deleted.
    pub(super) fn remove_logs(&mut self, topic: TopicId) {
        self.counters.remove(&topic);
        let log_ends = &mut self.log_ends;
        self.logs.retain(|key, log| {
            let is_kept = key.topic != topic;
            if !is_kept {
                *log_ends = log_ends.wrapping_sub(log.log_end().0);
                // Again, for what became durable since: nobody reads it.
                log.partition().delete();
            }
            is_kept
        });
    }

    /// Whether the partition is this shard's and not deleted.
    pub(super) fn owns(&self, partition: &Partition) -> bool {
        assert_eq!(partition.key.shard, self.id, "a partition is owned by its own shard");
        !partition.is_deleted()
    }

    /// Number of the commit that is being made, and of the newest that is durable.
    pub(super) fn commit_numbers(&self) -> (u64, u64) {
        (self.last_commit + 1, self.durable_commit.load(Ordering::Acquire))
    }

    /// Runs `answer` when everything staged so far is written, in order with all other answers of the shard.
    pub(super) fn answer(&mut self, answer: impl FnOnce(Result<(), WriteError>) + Send + 'static) {
        self.answers.push(Box::new(answer));
    }

    /// Counts what is stored. Only the shard's task counts by topic, so that nothing is counted for a topic that is gone.
    pub(super) fn count_produced(&mut self, id: TopicId, topic: &str, batches: &[NewBatch]) {
        if batches.is_empty() {
            return;
        }
        let records: u64 = batches.iter().map(|batch| u64::from(batch.records_count())).sum();
        let bytes: usize = batches.iter().map(NewBatch::len).sum();
        let counters = self.counters.entry(id).or_insert_with(|| self.metrics.of_topic(topic));
        counters.produced_records.inc_by(records);
        counters.produced_bytes.inc_by(bytes as u64);
    }

    pub(super) fn count_duplicates(&self, topic: &str, records: u64) {
        if records > 0 {
            self.metrics.duplicate_records.get_or_create(&TopicLabel { topic: topic.to_owned() }).inc_by(records);
        }
    }

    /// Gives offsets to the batches and stages them to be synced. The base offset of the first. Readers see them when that is done.
    pub(super) fn stage_batches(&mut self, partition: Arc<Partition>, batches: impl IntoIterator<Item = NewBatch>) -> Offset {
        self.stage_batches_as(TopicDurability::Sync, partition, batches)
    }

    /// As [`Core::stage_batches`], but synced as a topic promises. Readers see them when they are written.
    pub(super) fn stage_batches_as(
        &mut self,
        durability: TopicDurability,
        partition: Arc<Partition>,
        batches: impl IntoIterator<Item = NewBatch>,
    ) -> Offset {
        let new = || OwnedLog::new(Arc::clone(&partition));
        let (log, commit) = (self.logs.entry(partition.key).or_insert_with(new), &mut self.commit);
        let (mut first, before) = (None, self.appended.batches.len());
        for batch in batches {
            self.log_ends = self.log_ends.wrapping_add(batch.offsets_count());
            let (batch, is_row_due) = log.append(batch, &mut |mutation| commit.push(mutation));
            self.rows_due.extend(is_row_due.then_some(partition.key));
            first.get_or_insert(batch.base_offset());
            self.appended.bytes += batch.len();
            self.appended.batches.push(batch);
        }
        self.appended.parts.push((partition, self.appended.batches.len() - before));
        commit.require(durability);
        first.expect("batches are staged only when there are some")
    }

    /// Writes down who made the change that is in the commit: synced with it, so that neither is there without the other.
    pub(super) fn note(&mut self, note: Note) {
        self.note_as(TopicDurability::Sync, note);
    }

    /// As [`Core::note`], for what is no change.
    pub(super) fn note_as(&mut self, durability: TopicDurability, note: Note) {
        let Some(partition) = self.audit.partition(self.id).cloned().filter(|_| !note.is_nothing()) else { return };
        let (now_ms, id) = (self.clock.now_ms(), uuid::Builder::from_random_bytes(self.random.bytes()).into_uuid());
        let Some(payload) = note.into_payload(self.audit.source(), id, now_ms) else { return };
        let timestamp_ms = i64::try_from(now_ms).expect("the year is below 292 million");
        let batch = NewBatch::encode(&[Record { timestamp_ms, payload }]).expect("an entry is far smaller than a batch may be");
        self.stage_batches_as(durability, partition, [batch]);
    }

    /// Takes the oldest batches of a partition away; how many records they held. Others see that when it is synced: what they were shown does not go
    /// back.
    pub(super) fn trim(&mut self, key: PartitionKey, cut: &Cut) -> Option<u64> {
        let (log, commit) = (self.logs.get_mut(&key)?, &mut self.commit);
        let records = log.trim(cut, &mut |mutation| commit.push(mutation))?;
        let is_row_due = log.make_row_due();
        self.rows_due.extend(is_row_due.then_some(key));
        let (partition, log_start) = (Arc::clone(log.partition()), cut.log_start);
        self.commit.require_sync();
        self.answer(move |written| {
            if written.is_ok() {
                partition.trim(log_start);
            }
        });
        Some(records)
    }

    /// Rewrites a piece of a partition; `false` if it is not as it was.
    pub(super) fn rewrite(&mut self, key: PartitionKey, rewrite: &Rewrite, compacted: &Compacted) -> bool {
        let (Some(log), commit) = (self.logs.get_mut(&key), &mut self.commit) else { return false };
        if !log.rewrite(rewrite, compacted, &mut |mutation| commit.push(mutation)) {
            return false;
        }
        let is_row_due = log.make_row_due();
        self.rows_due.extend(is_row_due.then_some(key));
        true
    }

    /// Hands the commit to the committer. `false` when there is no committer any more.
    pub(super) async fn stage(&mut self) -> bool {
        self.store_positions();
        self.mark_time();
        self.last_commit = self.commit.complete(self.last_commit, self.log_ends);
        let next = self.commit.next();
        let mut commit = std::mem::replace(&mut self.commit, next);
        let appended = self.appended.take();
        let number = commit.number();
        if number.is_some() || !appended.parts.is_empty() {
            let bytes = i64::try_from(appended.bytes).unwrap_or(i64::MAX);
            self.metrics.staged_bytes.inc_by(bytes);
            let (metrics, durable) = (Arc::clone(&self.metrics), Arc::clone(&self.durable_commit));
            // Readers first, so that whoever hears that his record is stored can read it.
            commit.on_written(move |written| {
                metrics.staged_bytes.dec_by(bytes);
                if written.is_ok() {
                    if let Some(number) = number {
                        durable.store(number, Ordering::Release);
                    }
                    appended.publish();
                }
            });
        }
        commit.on_written_all(self.answers.drain(..));
        if commit.is_empty() {
            return true;
        }
        self.staged.send(commit).await.is_ok()
    }

    /// Notes where the logs stand that this commit changes by more than their batches say. One that was deleted in it stands nowhere.
    fn store_positions(&mut self) {
        for key in std::mem::take(&mut self.rows_due) {
            if let Some(log) = self.logs.get_mut(&key) {
                self.commit.push(log.store_positions(self.last_commit + 1));
            }
        }
    }

    /// Notes how far time has come, so that the clock never begins before a stored time. Every time in the commit was taken before.
    fn mark_time(&mut self) {
        if !self.commit.has_mutations() {
            return;
        }
        let now_ms = self.clock.now_ms();
        if now_ms < self.time_marked_ms.saturating_add(CLOCK_MARK_STEP_MS) {
            return;
        }
        self.time_marked_ms = now_ms;
        let value = now_ms.to_be_bytes().to_vec().into();
        self.commit.push(Mutation::Put { family: Family::Meta, key: MetaKey::ClockMark(self.id).encode(), value });
    }
}

impl Appended {
    /// What is in it; from now on nothing is, with room for as much.
    fn take(&mut self) -> Self {
        let room = |len: usize| len.min(256);
        let (parts, batches) = (Vec::with_capacity(room(self.parts.len())), Vec::with_capacity(room(self.batches.len())));
        std::mem::replace(self, Self { parts, batches, bytes: 0 })
    }

    /// Shows durable batches to the readers.
    fn publish(self) {
        Partition::publish_all(self.parts, self.batches);
    }
}
