//! The queues of a shard: found, begun with their first use, changed, and written once a commit however often they changed.

use crate::group::queue::StoredQueue;
use crate::ids::{GroupId, GroupKey, TopicId};
use crate::shard::core::Core;
use crate::shard::queues::due::DueQueues;
use crate::shard::queues::queue::Queue;
use crate::shard::queues::request::QueueError;
use crate::topic::{Group, QueueRef};
use core::ops::Deref;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// The queues of a shard.
#[derive(Debug, Default)]
pub(super) struct QueueSet {
    /// The groups that have a partition on this shard.
    groups: HashMap<GroupId, Arc<Group>>,
    queues: HashMap<GroupKey, Queue>,
    /// Those that changed in this commit.
    dirty: HashSet<GroupKey>,
    /// Those whose dead letters did.
    letters_ended: HashSet<GroupKey>,
    /// When the leases and delays of which queue end.
    due: DueQueues,
}

/// A queue to look at: one that was never used is made for the look only.
pub(super) enum Found<'a> {
    Used(&'a Queue),
    Unused(Box<Queue>),
}

impl Deref for Found<'_> {
    type Target = Queue;

    fn deref(&self) -> &Queue {
        match self {
            Self::Used(queue) => queue,
            Self::Unused(queue) => queue,
        }
    }
}

impl QueueSet {
    /// Owns the queues of this group from now on.
    pub(super) fn add_group(&mut self, group: Arc<Group>) {
        let before = self.groups.insert(group.id, group);
        assert!(before.is_none(), "numbers of groups are never used twice");
    }

    /// Takes a queue over as it was stored; its group was added before, and its view shows it.
    pub(super) fn load(&mut self, key: GroupKey, stored: StoredQueue) {
        let group = self.group(key).expect("a queue is taken over with its group");
        let queue = Queue::new(group, index(key), stored);
        self.due.set(key, queue.state.next_due_ms());
        self.queues.insert(key, queue);
    }

    /// Forgets a group that is deleted, and deletes what is stored of it unless that goes with one of these topics.
    pub(super) fn remove_group(&mut self, core: &mut Core, id: GroupId, topics: &[TopicId]) {
        let Some(group) = self.groups.remove(&id) else { return };
        for key in group.queues().map(QueueRef::key).filter(|key| key.partition.shard == core.id) {
            let Some(queue) = self.queues.remove(&key) else { continue };
            self.dirty.remove(&key);
            self.letters_ended.remove(&key);
            self.due.set(key, None);
            if !topics.contains(&key.partition.topic) {
                queue.delete(key, &mut |mutation| core.commit.push(mutation));
            }
        }
    }

    fn group(&self, key: GroupKey) -> Result<&Arc<Group>, QueueError> {
        let group = self.groups.get(&key.group).ok_or(QueueError::GroupDeleted)?;
        assert_eq!(group.queue(index(key)).key(), key, "a queue is asked of the shard that owns it");
        Ok(group)
    }

    /// A queue, to look at.
    pub(super) fn get(&self, key: GroupKey) -> Result<Found<'_>, QueueError> {
        match self.queues.get(&key) {
            Some(queue) => Ok(Found::Used(queue)),
            None => Ok(Found::Unused(Box::new(Queue::begin(self.group(key)?, index(key))))),
        }
    }

    /// A queue that was used. `None`: nothing is leased or delayed in it, and nothing is settled.
    pub(super) fn used(&mut self, key: GroupKey) -> Result<Option<&mut Queue>, QueueError> {
        if !self.queues.contains_key(&key) {
            self.group(key)?;
        }
        Ok(self.queues.get_mut(&key))
    }

    /// A queue, to change it: from now on it is in memory.
    pub(super) fn get_mut(&mut self, key: GroupKey) -> Result<&mut Queue, QueueError> {
        if !self.queues.contains_key(&key) {
            let queue = Queue::begin(self.group(key)?, index(key));
            self.queues.insert(key, queue);
        }
        Ok(self.queues.get_mut(&key).expect("it was just looked for"))
    }

    /// Notes that the state has changed: it is written with this commit.
    pub(super) fn touch(&mut self, key: GroupKey) {
        self.dirty.insert(key);
    }

    /// Notes that all that the group has here is to be shown: others wait for it from now on.
    pub(super) fn touch_group(&mut self, group: GroupId) {
        self.dirty.extend(self.queues.keys().filter(|key| key.group == group));
    }

    /// Notes that dead letters are done with: that is written with this commit.
    pub(super) fn touch_letters(&mut self, key: GroupKey) {
        self.dirty.insert(key);
        self.letters_ended.insert(key);
    }

    /// The queues whose leases or delays end, the longest due first.
    pub(super) fn due(&self, now_ms: u64) -> Vec<GroupKey> {
        self.due.until(now_ms)
    }

    /// Stages the changed states: each once, however often it changed.
    pub(super) fn stage(&mut self, core: &mut Core) {
        for key in self.dirty.drain() {
            let Some(queue) = self.queues.get_mut(&key) else { continue };
            queue.show();
            self.due.set(key, queue.state.next_due_ms());
            queue.store(key, self.letters_ended.remove(&key), &mut |mutation| core.commit.push(mutation));
            if let Some((group, index, below)) = queue.take_settled() {
                // Only when it is written: what waits for it in another partition is leased by a later write. And before the answer: whoever was
                // told that he has settled it finds what comes next.
                core.commit.on_written(move |written| {
                    if written.is_ok() {
                        group.show_settled(index, below);
                    }
                });
            }
        }
    }
}

fn index(key: GroupKey) -> usize {
    key.partition.partition.0 as usize
}
