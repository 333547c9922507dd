//! What every owner of a shard needs: its logs, the commit that is being made, and the answers that go out behind it.

use crate::env::{Clock, Random};
use crate::ids::{PartitionKey, ShardId};
use crate::log::batch::Batch;
use crate::log::owned::OwnedLog;
use crate::log::partition::Partition;
use crate::metrics::{Metrics, TopicLabel};
use crate::shard::commit::{Commit, Completion, WriteError};
use crate::storage::keys::{CLOCK_MARK_STEP_MS, MetaKey};
use crate::storage::{Family, Mutation, Storage};
use sagamq_api::Offset;
use std::collections::HashMap;
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
}

/// What every owner of a shard needs.
pub(super) struct Core {
    pub(super) id: ShardId,
    pub(super) storage: Arc<dyn Storage>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) random: Random,
    pub(super) metrics: Arc<Metrics>,
    /// The commit that is being made.
    pub(super) commit: Commit,
    /// Its number.
    commit_number: u64,
    /// Number of the newest durable commit; the committer advances it.
    durable_commit: Arc<AtomicU64>,
    logs: HashMap<PartitionKey, OwnedLog>,
    appended: Vec<(Arc<Partition>, Batch)>,
    answers: Vec<Completion>,
    staged: mpsc::Sender<Commit>,
    time_marked_ms: u64,
}

impl Core {
    pub(super) fn new(parts: CoreParts) -> Self {
        Self {
            id: parts.id,
            storage: parts.storage,
            clock: parts.clock,
            random: parts.random,
            metrics: parts.metrics,
            commit: Commit::new(parts.id),
            commit_number: 1,
            durable_commit: Arc::default(),
            logs: HashMap::new(),
            appended: Vec::new(),
            answers: Vec::new(),
            staged: parts.staged,
            time_marked_ms: 0,
        }
    }

    /// Owns this log from now on.
    pub(super) fn add_log(&mut self, log: OwnedLog) {
        assert_eq!(log.key().shard, self.id, "a partition is owned by its own shard");
        self.logs.insert(log.key(), log);
    }

    /// Forgets a log that is deleted.
    pub(super) fn remove_log(&mut self, key: PartitionKey) {
        if let Some(log) = self.logs.remove(&key) {
            log.partition().delete();
        }
    }

    /// Whether the partition is this shard's and not deleted.
    pub(super) fn owns(&self, partition: &Partition) -> bool {
        !partition.is_deleted() && self.logs.contains_key(&partition.key)
    }

    /// Number of the commit that is being made, and of the newest that is durable.
    pub(super) fn commit_numbers(&self) -> (u64, u64) {
        (self.commit_number, self.durable_commit.load(Ordering::Acquire))
    }

    /// Runs `answer` when everything staged so far is written, in order with all other answers of the shard.
    pub(super) fn answer(&mut self, answer: impl FnOnce(Result<(), WriteError>) + Send + 'static) {
        self.answers.push(Box::new(answer));
    }

    /// Counts what is stored. Only the shard's task counts by topic, so that nothing is counted for a topic that is gone.
    pub(super) fn count_produced(&self, topic: &str, batches: &[Batch]) {
        if batches.is_empty() {
            return;
        }
        let label = TopicLabel { topic: topic.to_owned() };
        let records: u64 = batches.iter().map(|batch| u64::from(batch.records_count())).sum();
        let bytes: usize = batches.iter().map(Batch::len).sum();
        self.metrics.produced_records.get_or_create(&label).inc_by(records);
        self.metrics.produced_bytes.get_or_create(&label).inc_by(bytes as u64);
    }

    pub(super) fn count_duplicates(&self, topic: &str, records: u64) {
        if records > 0 {
            self.metrics.duplicate_records.get_or_create(&TopicLabel { topic: topic.to_owned() }).inc_by(records);
        }
    }

    /// Gives offsets to the batches and stages them. The base offset of the first. Readers see them when they are written.
    pub(super) fn stage_batches(&mut self, partition: &Arc<Partition>, batches: impl IntoIterator<Item = Batch>) -> Offset {
        let log = self.logs.get_mut(&partition.key).expect("the caller has asked whether the partition is the shard's");
        let commit = &mut self.commit;
        let (mut first, mut bytes) = (None, 0);
        for batch in batches {
            let batch = log.append(batch, &mut |mutation| commit.push(mutation));
            first.get_or_insert(batch.base_offset());
            bytes += batch.len();
            self.appended.push((Arc::clone(partition), batch));
        }
        commit.require_sync();
        self.metrics.staged_bytes.inc_by(i64::try_from(bytes).unwrap_or(i64::MAX));
        first.expect("batches are staged only when there are some")
    }

    /// Hands the commit to the committer. `false` when there is no committer any more.
    pub(super) async fn stage(&mut self) -> bool {
        self.mark_time();
        let mut commit = std::mem::replace(&mut self.commit, Commit::new(self.id));
        let (appended, answers) = (std::mem::take(&mut self.appended), std::mem::take(&mut self.answers));
        // Readers first, so that whoever hears that his record is stored can read it.
        if !appended.is_empty() {
            let metrics = Arc::clone(&self.metrics);
            commit.on_written(move |written| {
                let bytes: usize = appended.iter().map(|(_, batch)| batch.len()).sum();
                metrics.staged_bytes.dec_by(i64::try_from(bytes).unwrap_or(i64::MAX));
                if written.is_ok() {
                    publish(appended);
                }
            });
        }
        for answer in answers {
            commit.on_written(answer);
        }
        if commit.is_empty() {
            return true;
        }
        let (durable, number) = (Arc::clone(&self.durable_commit), self.commit_number);
        self.commit_number += 1;
        commit.on_written(move |written| {
            if written.is_ok() {
                durable.store(number, Ordering::Release);
            }
        });
        self.staged.send(commit).await.is_ok()
    }

    /// Notes how far time has come, so that the clock never begins before a stored time. Every time in the commit was taken before.
    fn mark_time(&mut self) {
        let now_ms = self.clock.now_ms();
        if !self.commit.has_mutations() || now_ms < self.time_marked_ms.saturating_add(CLOCK_MARK_STEP_MS) {
            return;
        }
        self.time_marked_ms = now_ms;
        let value = now_ms.to_be_bytes().to_vec().into();
        self.commit.push(Mutation::Put { family: Family::Meta, key: MetaKey::ClockMark(self.id).encode(), value });
    }
}

/// Shows durable batches to the readers, those of one partition that come one after the other together.
fn publish(appended: Vec<(Arc<Partition>, Batch)>) {
    let mut appended = appended.into_iter().peekable();
    while let Some((partition, batch)) = appended.next() {
        let is_same = |(other, _): &(Arc<Partition>, Batch)| Arc::ptr_eq(other, &partition);
        let more = core::iter::from_fn(|| appended.next_if(is_same).map(|(_, batch)| batch));
        partition.publish(core::iter::once(batch).chain(more));
    }
}
