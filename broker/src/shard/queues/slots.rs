//! The groups of a shard by partition: found, changed, and written once a commit however often they changed.

use crate::ids::GroupKey;
use crate::shard::core::Core;
use crate::shard::queues::due::DueGroups;
use crate::shard::queues::request::{QueueError, SlotDescription};
use crate::shard::queues::slot::{DeadLetterTarget, Slot};
use crate::storage::{Family, Mutation};
use std::collections::{HashMap, HashSet};

/// The groups of a shard by partition.
#[derive(Debug, Default)]
pub(super) struct Slots {
    slots: HashMap<GroupKey, Slot>,
    /// Those whose state has changed in this commit.
    dirty: HashSet<GroupKey>,
    /// When the leases and delays of which group end.
    due: DueGroups,
}

impl Slots {
    pub(super) fn add(&mut self, key: GroupKey, slot: Slot) {
        self.due.set(key, slot.state.next_due_ms());
        self.slots.insert(key, slot);
    }

    pub(super) fn remove(&mut self, key: GroupKey) {
        self.slots.remove(&key);
        self.dirty.remove(&key);
        self.due.set(key, None);
    }

    pub(super) fn get(&self, key: GroupKey) -> Result<&Slot, QueueError> {
        self.slots.get(&key).ok_or(QueueError::GroupDeleted)
    }

    pub(super) fn get_mut(&mut self, key: GroupKey) -> Result<&mut Slot, QueueError> {
        self.slots.get_mut(&key).ok_or(QueueError::GroupDeleted)
    }

    /// Notes that the state has changed: it is written with this commit.
    pub(super) fn touch(&mut self, key: GroupKey) {
        self.dirty.insert(key);
    }

    /// The groups whose leases or delays end, the longest due first.
    pub(super) fn due(&self, now_ms: u64) -> Vec<GroupKey> {
        self.due.until(now_ms)
    }

    /// Stages the changed states: each once, however often it changed.
    pub(super) fn stage(&mut self, core: &mut Core) {
        for key in std::mem::take(&mut self.dirty) {
            let Some(slot) = self.slots.get(&key) else { continue };
            slot.view.update(&slot.state);
            self.due.set(key, slot.state.next_due_ms());
            let (row, value) = (key.partition.group(key.group), slot.state.encode().into());
            core.commit.push(Mutation::Put { family: Family::Group, key: row, value });
        }
    }

    pub(super) fn describe(&self, key: GroupKey) -> Result<SlotDescription, QueueError> {
        let slot = self.get(key)?;
        let high_watermark = slot.partition.high_watermark();
        Ok(SlotDescription {
            ack_floor: slot.state.ack_floor(),
            next_fresh: slot.state.next_fresh(),
            lag: slot.state.lag(high_watermark),
            oldest_unsettled: slot.state.oldest_unsettled(high_watermark),
            in_flight: slot.state.in_flight(),
            delayed: slot.state.delayed(),
            dead_letters: self.left_dead_letters(slot),
        })
    }

    fn left_dead_letters(&self, slot: &Slot) -> u64 {
        let count = |target: &DeadLetterTarget| {
            let redriven = self.slots.get(&target.redrive)?;
            Some(redriven.state.lag(target.partition.high_watermark()))
        };
        slot.dead_letters.as_ref().and_then(count).unwrap_or(0)
    }
}
