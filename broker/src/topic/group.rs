//! A queue group in memory.

use crate::group::queue::{KeyGate, QueuePolicy, QueueState, QueueView};
use crate::growing::Growing;
use crate::ids::{GroupId, GroupKey, TopicId};
use crate::log::offsets::LogOffsets;
use crate::log::partition::Partition;
use crate::log::work::WorkSet;
use crate::metrics::GroupLabel;
use crate::topic::claims::Claims;
use crate::topic::entry::GroupEntry;
use crate::topic::growth::Growths;
use crate::topic::live_config::LiveConfig;
use crate::topic::partitions::Partitions;
use sagamq_api::topic::{Ordering, TopicDurability};
use sagamq_api::{GroupName, Offset, TopicName};
use std::sync::Arc;
use std::sync::atomic::{self, AtomicBool, AtomicU64, AtomicUsize};
use tokio_util::sync::CancellationToken;

/// A queue group.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) id: GroupId,
    pub(crate) name: GroupName,
    pub(crate) label: GroupLabel,
    /// That of its topic.
    config: LiveConfig,
    /// What it delivers.
    pub(crate) partitions: Arc<Partitions>,
    /// What its topic was before partitions were added.
    growths: Growths,
    /// How often gates were opened or closed since the start.
    passes: AtomicU64,
    pub(crate) dead_letters: DeadLetterTopic,
    /// Which partitions may have something, and who waits for it.
    pub(crate) work: Arc<WorkSet>,
    /// Who waits for what is appended for the group, if its topic is a lane topic.
    pub(crate) claims: Claims,
    /// Ends when the group or its topic is deleted.
    pub(crate) gone: CancellationToken,
    /// At least one a partition.
    views: Growing<QueueView>,
    entry: GroupEntry,
    owned: AtomicBool,
    paused: AtomicBool,
    /// Receives under way, or [`Group::CLOSED`].
    receivers: AtomicUsize,
}

/// The topic that takes a group's dead letters, as far as the group needs it: it has as many partitions as the group's own.
#[derive(Clone, Debug)]
pub(crate) struct DeadLetterTopic {
    pub(crate) id: TopicId,
    pub(crate) name: TopicName,
    pub(crate) partitions: Arc<Partitions>,
}

/// A queue group in one partition, as everybody may see it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct QueueRef<'a> {
    pub(crate) group: &'a Group,
    /// Number of the partition.
    pub(crate) index: usize,
}

/// A receive that is under way.
#[derive(Debug)]
pub(crate) struct Receiving<'a>(&'a Group);

impl Group {
    const CLOSED: usize = usize::MAX;

    /// A group of this topic, which begins in each partition where its entry says. Nothing else of it need be stored.
    pub(super) fn new(
        entry: GroupEntry,
        topic: &TopicName,
        config: &LiveConfig,
        partitions: &Arc<Partitions>,
        growths: &Growths,
        dead_letters: DeadLetterTopic,
    ) -> Self {
        Self {
            id: GroupId(entry.id),
            name: entry.name.clone(),
            label: GroupLabel { topic: topic.to_string(), group: entry.name.to_string() },
            config: config.clone(),
            dead_letters,
            work: Arc::new(WorkSet::new(partitions.len())),
            claims: Claims::default(),
            gone: CancellationToken::new(),
            views: Growing::new((0..partitions.len()).map(|index| first_view(&entry, index))),
            partitions: Arc::clone(partitions),
            growths: growths.clone(),
            passes: AtomicU64::new(0),
            owned: AtomicBool::new(entry.owned),
            paused: AtomicBool::new(entry.paused),
            entry,
            receivers: AtomicUsize::new(0),
        }
    }

    /// The rules of redelivery, as they are now.
    pub(crate) fn policy(&self) -> QueuePolicy {
        let config = self.config.get();
        QueuePolicy {
            delivery_limit: config.delivery_limit,
            backoff_initial_ms: config.backoff_initial_ms,
            backoff_max_ms: config.backoff_max_ms,
        }
    }

    /// Whether records of one key are delivered one after the other, as it is now.
    pub(crate) fn is_ordered(&self) -> bool {
        self.config.get().ordering == Ordering::Key
    }

    /// How often gates were opened or closed: as long as it is the same, [`Group::gates`] are.
    pub(crate) fn passes(&self) -> u64 {
        self.passes.load(atomic::Ordering::SeqCst)
    }

    /// Where records of a partition wait: for what was produced to others before partitions were added.
    pub(crate) fn gates(&self, index: usize) -> Vec<KeyGate> {
        let is_passed = |home: usize, end: Offset| {
            // Records that are gone are settled, also for a group that has not looked there yet.
            home == index || self.queue(home).view().settled_below().max(self.partitions.offsets(home).log_start) >= end
        };
        let growths = self.growths.get();
        let gates = growths.iter().map(|growth| KeyGate {
            begins: growth.end(index).unwrap_or_default(),
            passed: (0..growth.ends.len()).map_while(|home| growth.end(home).map(|end| is_passed(home, end))).collect(),
        });
        gates.filter(|gate| gate.passed.contains(&false)).collect()
    }

    /// Whether others wait for what is settled in a partition.
    pub(crate) fn has_gates(&self) -> bool {
        !self.growths.get().is_empty()
    }

    /// Every record of a partition below this offset is settled, durably: or not any more, if it was set back.
    pub(crate) fn show_settled(&self, index: usize, below: Offset) {
        let before = self.queue(index).view().show_settled(below);
        let is_moved = |end: Offset| (before < end) != (below < end);
        if self.growths.get().iter().any(|growth| growth.end(index).is_some_and(is_moved)) {
            self.look_at_gates();
        }
    }

    /// Gates may have opened or closed: whoever receives looks.
    pub(crate) fn look_at_gates(&self) {
        self.passes.fetch_add(1, atomic::Ordering::SeqCst);
        (0..self.partitions.len()).for_each(|index| self.work.mark(index));
        self.work.wake();
    }

    /// What the topic promises of its records, and so of what the group settles of them: an acknowledgement is worth no more than its record.
    pub(crate) fn durability(&self) -> TopicDurability {
        self.config.get().durability
    }

    /// The group in each partition.
    pub(crate) fn queues(&self) -> impl ExactSizeIterator<Item = QueueRef<'_>> {
        (0..self.partitions.len()).map(|index| self.queue(index))
    }

    pub(crate) fn queue(&self, index: usize) -> QueueRef<'_> {
        assert!(index < self.partitions.len(), "a group has as many queues as its topic has partitions");
        QueueRef { group: self, index }
    }

    /// Its topic is about to have so many partitions: from then on the group has a queue in each, which begins with the first record.
    pub(crate) fn make_room(&self, partitions: u32) {
        self.dead_letters.partitions.grow(partitions);
        self.work.grow(partitions as usize);
        self.views.grow_to(partitions as usize, |index| first_view(&self.entry, index));
    }

    /// What the catalogue stores of it.
    pub(crate) fn entry(&self) -> GroupEntry {
        GroupEntry { owned: self.is_owned(), paused: self.is_paused(), ..self.entry.clone() }
    }

    /// Whether the embedder needs it.
    pub(crate) fn is_owned(&self) -> bool {
        self.owned.load(atomic::Ordering::Acquire)
    }

    pub(crate) fn set_owned(&self) {
        self.owned.store(true, atomic::Ordering::Release);
    }

    /// Whether nothing is delivered to it.
    pub(crate) fn is_paused(&self) -> bool {
        self.paused.load(atomic::Ordering::SeqCst)
    }

    /// From now on nothing is delivered, or things are again.
    pub(crate) fn set_paused(&self, is_paused: bool) {
        self.paused.store(is_paused, atomic::Ordering::SeqCst);
        if !is_paused {
            self.mark_work();
            self.work.wake();
        }
    }

    /// Begins a receive. `None`: the group is being deleted.
    pub(crate) fn receiving(&self) -> Option<Receiving<'_>> {
        let enter = |receivers| (receivers != Self::CLOSED).then(|| receivers + 1);
        self.receivers.fetch_update(atomic::Ordering::AcqRel, atomic::Ordering::Acquire, enter).ok().map(|_| Receiving(self))
    }

    /// Lets no receive begin any more. `false`: one is under way, and nothing has changed.
    pub(crate) fn close_if_idle(&self) -> bool {
        self.receivers.compare_exchange(0, Self::CLOSED, atomic::Ordering::AcqRel, atomic::Ordering::Acquire).is_ok()
    }

    /// Takes [`Group::close_if_idle`] back.
    pub(crate) fn open_again(&self) {
        self.receivers.store(0, atomic::Ordering::Release);
    }

    /// Marks the partitions that have something for the group. What comes later marks its own.
    pub(super) fn mark_work(&self) {
        for of in self.queues().filter(|of| !of.view().is_idle(of.high_watermark())) {
            self.work.mark(of.index);
        }
    }
}

impl<'a> QueueRef<'a> {
    pub(crate) fn key(self) -> GroupKey {
        GroupKey { partition: self.group.partitions.key(self.index), group: self.group.id }
    }

    pub(crate) fn view(self) -> &'a QueueView {
        self.group.views.get(self.index).expect("a group has as many views as queues")
    }

    pub(crate) fn partition(self) -> &'a Arc<Partition> {
        self.group.partitions.at(self.index)
    }

    /// Positions of the partition, which need not be in memory for it.
    pub(crate) fn offsets(self) -> LogOffsets {
        self.group.partitions.offsets(self.index)
    }

    /// Where the log begins when all that is staged is written: for the shard's task, whose later commits rest on that.
    pub(crate) fn cut_at(self) -> Offset {
        self.group.partitions.in_memory(self.index).map_or(Offset(0), |partition| partition.cut_at())
    }

    pub(crate) fn high_watermark(self) -> Offset {
        self.offsets().high_watermark
    }

    /// Where its dead letters go: the partition of the same number, so on the same shard.
    pub(crate) fn letters(self) -> &'a Arc<Partition> {
        self.group.dead_letters.partitions.at(self.index)
    }

    /// The end of the dead letters, which need not be in memory for it.
    pub(crate) fn letters_end(self) -> Offset {
        self.group.dead_letters.partitions.offsets(self.index).high_watermark
    }

    /// Where the group begins, if nothing is stored of it here.
    pub(crate) fn start(self) -> Offset {
        self.group.entry.start.of(self.index)
    }
}

/// What is to be seen of a queue that was never used.
fn first_view(entry: &GroupEntry, index: usize) -> QueueView {
    QueueView::of(&QueueState::starting_at(entry.start.of(index)))
}

impl Drop for Receiving<'_> {
    fn drop(&mut self) {
        self.0.receivers.fetch_sub(1, atomic::Ordering::AcqRel);
    }
}
