//! A queue group in memory.

use crate::group::queue::QueueView;
use crate::ids::{GroupId, GroupKey, TopicId};
use crate::log::partition::Partition;
use crate::log::work::WorkSet;
use crate::topic::entry::GroupEntry;
use crate::topic::partitions::Partitions;
use sagamq_api::{GroupName, TopicName};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use tokio_util::sync::CancellationToken;

/// A queue group.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) id: GroupId,
    pub(crate) name: GroupName,
    pub(crate) partitions: Vec<GroupPartition>,
    pub(crate) dead_letter_topic: DeadLetterTopic,
    /// Which partitions may have something, and who waits for it.
    pub(crate) work: Arc<WorkSet>,
    /// Ends when the group or its topic is deleted.
    pub(crate) gone: CancellationToken,
    entry: GroupEntry,
    owned: AtomicBool,
    /// Receives under way, or [`Group::CLOSED`].
    receivers: AtomicUsize,
}

/// A group in one partition, as everybody may see it.
#[derive(Debug)]
pub(crate) struct GroupPartition {
    pub(crate) key: GroupKey,
    pub(crate) redrive: GroupKey,
    pub(crate) partition: Arc<Partition>,
    pub(crate) view: Arc<QueueView>,
}

/// The topic that takes a group's dead letters, as far as the group needs it.
#[derive(Clone, Debug)]
pub(crate) struct DeadLetterTopic {
    pub(crate) id: TopicId,
    pub(crate) name: TopicName,
    pub(crate) partitions: Arc<Partitions>,
}

/// A receive that is under way.
#[derive(Debug)]
pub(crate) struct Receiving<'a>(&'a Group);

impl Group {
    const CLOSED: usize = usize::MAX;

    pub(crate) fn new(entry: GroupEntry, partitions: Vec<GroupPartition>, dead_letter_topic: DeadLetterTopic, work: Arc<WorkSet>) -> Self {
        Self {
            id: GroupId(entry.id),
            name: entry.name.clone(),
            partitions,
            dead_letter_topic,
            work,
            gone: CancellationToken::new(),
            owned: AtomicBool::new(entry.owned),
            entry,
            receivers: AtomicUsize::new(0),
        }
    }

    /// What the catalogue stores of it.
    pub(crate) fn entry(&self) -> GroupEntry {
        GroupEntry { owned: self.is_owned(), ..self.entry.clone() }
    }

    /// Whether the embedder needs it.
    pub(crate) fn is_owned(&self) -> bool {
        self.owned.load(Ordering::Acquire)
    }

    pub(crate) fn set_owned(&self) {
        self.owned.store(true, Ordering::Release);
    }

    /// Begins a receive. `None`: the group is being deleted.
    pub(crate) fn receiving(&self) -> Option<Receiving<'_>> {
        let enter = |receivers| (receivers != Self::CLOSED).then(|| receivers + 1);
        self.receivers.fetch_update(Ordering::AcqRel, Ordering::Acquire, enter).ok().map(|_| Receiving(self))
    }

    /// Lets no receive begin any more. `false`: one is under way, and nothing has changed.
    pub(crate) fn close_if_idle(&self) -> bool {
        self.receivers.compare_exchange(0, Self::CLOSED, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Takes [`Group::close_if_idle`] back.
    pub(crate) fn open_again(&self) {
        self.receivers.store(0, Ordering::Release);
    }
}

impl Drop for Receiving<'_> {
    fn drop(&mut self) {
        self.0.receivers.fetch_sub(1, Ordering::AcqRel);
    }
}
