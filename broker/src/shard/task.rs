//! The task that owns a shard: it takes what has come in, decides in memory, and stages one commit for all of it.
//!
//! It may run ahead of the disk: the next inputs are handled while the committer syncs. Readers may not, because only the
//! committer moves the high watermark, and answers go out only behind it.

use crate::dedup::Buckets;
use crate::env::{Clock, Random};
use crate::liveness::PartGuard;
use crate::log::batch::Batch;
use crate::log::partition::Partition;
use crate::metrics::Metrics;
use crate::shard::commit::{Commit, Completion, WriteError};
use crate::shard::due::DueGroups;
use crate::shard::queue::{DroppedReservations, Settling, Slot};
use crate::shard::recent::RecentEntries;
use crate::shard::{Input, ShardLog};
use crate::storage::keys::{CLOCK_MARK_STEP_MS, GroupKey, MetaKey, PartitionKey, ShardId, TopicId};
use crate::storage::{Family, Mutation, Storage};
use core::time::Duration;
use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// Inputs that become one commit at the most: bounds how long the first of them waits.
const INPUTS_PER_COMMIT_MAX: usize = 256;

/// How often leases that nobody polls for are looked at.
const TICK: Duration = Duration::from_millis(250);

/// What a shard is made of at start.
pub(crate) struct ShardParts {
    pub(crate) id: ShardId,
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Random,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) staged: mpsc::Sender<Commit>,
    /// Where there are idempotency entries.
    pub(crate) buckets: Buckets,
}

/// What did not fit one commit and goes on in the next.
pub(crate) enum Work {
    Settle(Settling),
    Expire(GroupKey),
}

/// A shard in the hands of its task.
pub(crate) struct Shard {
    pub(crate) id: ShardId,
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Random,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) logs: HashMap<PartitionKey, ShardLog>,
    pub(crate) slots: HashMap<GroupKey, Slot>,
    pub(crate) recent: RecentEntries,
    pub(crate) buckets: Buckets,
    /// The commit that is being made, and its number.
    pub(crate) commit: Commit,
    pub(crate) commit_number: u64,
    pub(crate) dirty: HashSet<GroupKey>,
    /// When the leases and delays of which group end.
    pub(crate) due: DueGroups,
    pub(crate) work: VecDeque<Work>,
    pub(crate) dropped: DroppedReservations,
    appended: Vec<(Arc<Partition>, Vec<Batch>)>,
    answers: Vec<Completion>,
    staged: mpsc::Sender<Commit>,
    time_marked_ms: u64,
}

impl Shard {
    pub(crate) fn new(parts: ShardParts, logs: Vec<ShardLog>, slots: Vec<(GroupKey, Slot)>) -> Self {
        let mut shard = Self {
            id: parts.id,
            storage: parts.storage,
            clock: parts.clock,
            random: parts.random,
            metrics: parts.metrics,
            logs: HashMap::new(),
            slots: HashMap::new(),
            recent: RecentEntries::default(),
            buckets: parts.buckets,
            commit: Commit::new(parts.id),
            commit_number: 1,
            dirty: HashSet::new(),
            due: DueGroups::default(),
            work: VecDeque::new(),
            dropped: DroppedReservations::default(),
            appended: Vec::new(),
            answers: Vec::new(),
            staged: parts.staged,
            time_marked_ms: 0,
        };
        shard.add_partitions(logs);
        shard.add_slots(slots);
        shard
    }

    /// Runs until the shutdown, and then stages what was asked before it.
    pub(crate) async fn run(mut self, mut inputs: mpsc::Receiver<Input>, shutdown: CancellationToken, life: PartGuard) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut taken = Vec::with_capacity(INPUTS_PER_COMMIT_MAX);
        // Behind `inputs`, so that a panic tells of the death before the channel closes.
        let life = life;
        loop {
            // First, so that inputs that fill each commit cannot keep it waiting.
            let is_at_work = !self.work.is_empty();
            self.go_on();
            self.release_dropped();
            tokio::select! {
                () = core::future::ready(()), if is_at_work && inputs.is_empty() => {}
                count = inputs.recv_many(&mut taken, INPUTS_PER_COMMIT_MAX) => {
                    if count == 0 && !is_at_work {
                        life.ended();
                        break;
                    }
                    for input in taken.drain(..) {
                        self.handle(input);
                    }
                }
                _ = tick.tick() => self.tick(),
                () = shutdown.cancelled(), if !inputs.is_closed() => inputs.close(),
            }
            if !self.stage().await {
                break;
            }
        }
    }

    /// Goes on with what did not fit the commit before.
    fn go_on(&mut self) {
        for work in std::mem::take(&mut self.work) {
            match work {
                Work::Settle(settling) => self.settle(settling),
                // A group that was deleted meanwhile has no leases any more.
                Work::Expire(key) => drop(self.expire(key)),
            }
        }
    }

    fn handle(&mut self, input: Input) {
        match input {
            Input::Append(request) => self.append(request),
            Input::Claim(request) => self.claim(request),
            Input::Check(request) => self.check(request),
            Input::Queue(request) => self.queue(request),
            Input::Embedded(commit) => self.embedded(commit),
            Input::HandOuts { asked, reply } => {
                let _ = reply.send(asked.into_iter().map(|(key, offset)| self.hand_out(key, offset)).collect());
            }
            Input::Meta { mutations, reply } => self.write_meta(mutations, reply),
            Input::AddPartitions { logs } => self.add_partitions(logs),
            Input::AddSlots { slots } => self.add_slots(slots),
            Input::Remove { partitions, groups, reply } => self.remove(&partitions, &groups, reply),
        }
    }

    /// Whether the partition is this shard's and not deleted.
    pub(crate) fn owns(&self, partition: &Partition) -> bool {
        !partition.is_deleted() && self.logs.contains_key(&partition.key)
    }

    /// Runs `answer` when everything staged so far is written, in order with all other answers of the shard.
    pub(crate) fn answer(&mut self, answer: impl FnOnce(Result<(), WriteError>) + Send + 'static) {
        self.answers.push(Box::new(answer));
    }

    /// Shows the batches to readers when they are written.
    pub(crate) fn publish(&mut self, partition: &Arc<Partition>, batches: Vec<Batch>) {
        let bytes: usize = batches.iter().map(Batch::len).sum();
        self.metrics.staged_bytes.inc_by(i64::try_from(bytes).unwrap_or(i64::MAX));
        self.appended.push((Arc::clone(partition), batches));
    }

    fn write_meta(&mut self, mutations: Vec<Mutation>, reply: oneshot::Sender<Result<(), WriteError>>) {
        for mutation in mutations {
            self.commit.push(mutation);
        }
        self.commit.require_sync();
        self.answer(move |written| {
            let _ = reply.send(written);
        });
    }

    fn add_partitions(&mut self, logs: Vec<ShardLog>) {
        for log in logs {
            assert_eq!(log.partition.key.shard, self.id, "a partition is owned by its own shard");
            self.logs.insert(log.partition.key, log);
        }
    }

    fn add_slots(&mut self, slots: Vec<(GroupKey, Slot)>) {
        for (key, slot) in slots {
            self.due.set(key, slot.state.next_due_ms());
            self.slots.insert(key, slot);
        }
    }

    fn remove(&mut self, partitions: &[PartitionKey], groups: &[GroupKey], reply: oneshot::Sender<Result<(), WriteError>>) {
        let topics: BTreeSet<TopicId> = partitions.iter().map(|key| key.topic).collect();
        for key in groups {
            self.slots.remove(key);
            self.dirty.remove(key);
            self.due.set(*key, None);
            if !topics.contains(&key.partition.topic) {
                self.commit.push(Mutation::Delete { family: Family::Group, key: key.partition.group(key.group) });
            }
        }
        for key in partitions {
            if let Some(log) = self.logs.remove(key) {
                log.partition.delete();
            }
        }
        // A topic goes as a whole: one range a family, however many partitions it has.
        for topic in topics {
            for family in [Family::Log, Family::TimeIndex, Family::Group] {
                self.commit.push(Mutation::DeleteRange { family, range: self.id.topic(topic) });
            }
        }
        self.write_meta(Vec::new(), reply);
    }

    /// What time alone brings about: leases run out, old idempotency entries go.
    fn tick(&mut self) {
        for key in self.due.until(self.clock.now_ms()) {
            self.expire(key).expect("what is due is there: both are removed together");
            if !self.work.is_empty() {
                break;
            }
        }
        self.expire_entries();
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

    /// Hands the commit to the committer. `false` when there is no committer any more.
    async fn stage(&mut self) -> bool {
        self.stage_slots();
        self.mark_time();
        let mut commit = std::mem::replace(&mut self.commit, Commit::new(self.id));
        let (appended, answers) = (std::mem::take(&mut self.appended), std::mem::take(&mut self.answers));
        // Readers first, so that whoever hears that his record is stored can read it.
        for (partition, batches) in appended {
            let metrics = Arc::clone(&self.metrics);
            commit.on_written(move |written| {
                let bytes: usize = batches.iter().map(Batch::len).sum();
                metrics.staged_bytes.dec_by(i64::try_from(bytes).unwrap_or(i64::MAX));
                if written.is_ok() {
                    partition.publish(batches);
                }
            });
        }
        for answer in answers {
            commit.on_written(answer);
        }
        if commit.is_empty() {
            return true;
        }
        let (durable, number) = (self.recent.durable_commit(), self.commit_number);
        self.commit_number += 1;
        commit.on_written(move |written| {
            if written.is_ok() {
                durable.store(number, Ordering::Release);
            }
        });
        self.staged.send(commit).await.is_ok()
    }
}
