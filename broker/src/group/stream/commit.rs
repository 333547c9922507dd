//! Committing how far the group has come, and setting it from outside.

use super::error::Fenced;
use super::member::TopicPartition;
use super::state::{Committed, StreamState};
use sagamq_api::{MemberId, Offset};

impl StreamState {
    /// Commits all of these offsets or none: each partition must be held by the member, and have been given to it under an epoch that the
    /// member had heard of when it asked.
    pub(super) fn commit(&mut self, id: &MemberId, asked: u64, offsets: &[(TopicPartition, Offset)], now_ms: u64) -> Result<(), Fenced> {
        let member = self.known(id, asked)?;
        let is_held = |of: &TopicPartition| member.held.get(of).is_some_and(|&given| given <= asked);
        if let Some((partition, _)) = offsets.iter().find(|(partition, _)| !is_held(partition)) {
            return Err(Fenced::NotHeld { member: id.clone(), partition: *partition, asked });
        }
        for &(partition, offset) in offsets {
            self.set_offset(partition, offset, now_ms);
        }
        Ok(())
    }

    /// Sets how far the group has come. Who holds such a partition gets it anew, under a later epoch, and begins there; what it read before
    /// is fenced.
    pub(super) fn seek(&mut self, offsets: &[(TopicPartition, Offset)], now_ms: u64) {
        for &(partition, offset) in offsets {
            self.set_offset(partition, offset, now_ms);
            self.give_anew(partition);
        }
    }

    /// Whoever holds the partition gets it anew, under a later epoch, and begins where the group stands; what it read before is fenced.
    pub(super) fn give_anew(&mut self, partition: TopicPartition) {
        let Some(holder) = self.holders.get(&partition).cloned() else { return };
        if !self.members[&holder].target.contains(&partition) {
            self.release(partition);
            return;
        }
        let epoch = self.next_epoch();
        let member = self.member_mut(&holder);
        member.epoch = epoch;
        member.held.insert(partition, epoch);
        self.touch(&holder);
    }

    fn set_offset(&mut self, partition: TopicPartition, offset: Offset, now_ms: u64) {
        let before = self.offsets.get(&partition);
        if before.is_some_and(|before| before.offset == offset && before.at_ms > 0) {
            return;
        }
        let trimmed = before.map_or(0, |before| before.trimmed);
        self.offsets.insert(partition, Committed { offset, at_ms: now_ms, trimmed });
        self.changes.offsets.insert(partition);
    }

    /// Retention took what lies below `log_start`: the group goes on there, and what it had not committed is counted. How many records that
    /// are. A group that has committed nothing stands at `start`.
    pub(super) fn trim(&mut self, partition: TopicPartition, start: Offset, log_start: Offset) -> u64 {
        let before = self.offsets.get(&partition).copied().unwrap_or(Committed { offset: start, at_ms: 0, trimmed: 0 });
        let lost = log_start.0.saturating_sub(before.offset.0);
        if lost > 0 {
            self.offsets.insert(partition, Committed { offset: log_start, trimmed: before.trimmed + lost, ..before });
            self.changes.offsets.insert(partition);
        }
        lost
    }
}
