//! The state of a stream group: its members, who holds what, and how far it has come.

use super::assign::assign;
use super::changes::Changes;
use super::member::{Member, TopicPartition};
use crate::ids::TopicId;
use sagamq_api::{InstanceId, MemberId, Offset};
use std::collections::{BTreeMap, BTreeSet};

/// How far a group has come in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The next record to read.
    pub offset: Offset,
    /// When that was said, in milliseconds since 1970; 0 if nobody ever said it, and retention alone has moved it.
    pub at_ms: u64,
    /// Records that retention took before they were committed.
    pub trimmed: u64,
}

/// A stream group.
#[derive(Clone, Debug, Default)]
pub struct StreamState {
    /// The last epoch that was given: each is given once, and the next one is higher.
    pub(super) epoch: u64,
    /// The epoch of the assignment: of the last change of members or topics.
    pub(super) assigned: u64,
    /// Number of the last member's row.
    pub(super) last_member: u64,
    /// The group's topics with their partitions.
    pub(super) topics: BTreeMap<TopicId, u32>,
    pub(super) members: BTreeMap<MemberId, Member>,
    pub(super) offsets: BTreeMap<TopicPartition, Committed>,
    /// Who holds what: said by the members, and derived from them.
    pub(super) holders: BTreeMap<TopicPartition, MemberId>,
    /// What is to be written.
    pub(super) changes: Changes,
}

/// What is compared is what is stored.
impl PartialEq for StreamState {
    fn eq(&self, other: &Self) -> bool {
        let stored = |of: &Self| (of.epoch, of.assigned, of.last_member);
        stored(self) == stored(other) && self.topics == other.topics && self.members == other.members && self.offsets == other.offsets
    }
}

impl Eq for StreamState {}

impl StreamState {
    /// The epoch of the assignment.
    #[must_use]
    pub fn assigned(&self) -> u64 {
        self.assigned
    }

    /// The members by id.
    #[must_use]
    pub fn members(&self) -> &BTreeMap<MemberId, Member> {
        &self.members
    }

    /// The topics with their partitions.
    #[must_use]
    pub fn topics(&self) -> &BTreeMap<TopicId, u32> {
        &self.topics
    }

    /// How far the group has come.
    #[must_use]
    pub fn committed(&self, partition: TopicPartition) -> Option<Committed> {
        self.offsets.get(&partition).copied()
    }

    /// How far the group has come, partition by partition.
    pub fn offsets(&self) -> impl Iterator<Item = (TopicPartition, Offset)> {
        self.offsets.iter().map(|(of, committed)| (*of, committed.offset))
    }

    /// Who holds a partition and may commit in it.
    #[must_use]
    pub fn holder(&self, partition: TopicPartition) -> Option<&MemberId> {
        self.holders.get(&partition)
    }

    /// The member of an instance.
    pub(super) fn of_instance(&self, instance: &InstanceId) -> Option<&MemberId> {
        self.members.iter().find(|(_, member)| member.instance.as_ref() == Some(instance)).map(|(id, _)| id)
    }

    pub(super) fn next_epoch(&mut self) -> u64 {
        self.epoch += 1;
        self.changes.head = true;
        self.epoch
    }

    /// Notes that a member has changed.
    pub(super) fn touch(&mut self, member: &MemberId) {
        self.changes.members.insert(member.clone());
    }

    /// Takes over which topics there are and how many partitions they have. What is gone with its topic is gone here.
    pub(super) fn set_topics(&mut self, topics: &BTreeMap<TopicId, u32>) {
        if self.topics == *topics {
            return;
        }
        self.topics.clone_from(topics);
        let is_there = |of: TopicPartition| topics.get(&of.topic).is_some_and(|&count| of.partition.0 < count);
        let gone: Vec<_> = self.offsets.keys().filter(|of| !is_there(**of)).copied().collect();
        for partition in gone {
            self.offsets.remove(&partition);
            self.changes.offsets.insert(partition);
        }
        let lost: Vec<_> = self.holders.keys().filter(|of| !is_there(**of)).copied().collect();
        for partition in lost {
            self.release(partition);
        }
        let ids: BTreeSet<TopicId> = topics.keys().copied().collect();
        let touched: Vec<_> = self.members.iter().filter(|(_, member)| !member.topics.is_subset(&ids)).map(|(id, _)| id.clone()).collect();
        for id in touched {
            self.member_mut(&id).topics.retain(|topic| ids.contains(topic));
            self.touch(&id);
        }
        self.changes.head = true;
        self.retarget();
    }

    /// Decides anew who is to hold what.
    pub(super) fn retarget(&mut self) {
        let assignment = assign(&self.members, &self.topics, &self.holders);
        self.assigned = self.next_epoch();
        for (id, target) in assignment {
            let member = self.member_mut(&id);
            if member.target != target {
                member.target = target;
                self.touch(&id);
            }
        }
        let away: Vec<MemberId> = self.members.iter().filter(|(_, member)| member.is_away).map(|(id, _)| id.clone()).collect();
        away.iter().for_each(|id| self.release_revoked(id));
    }

    /// What the member is to hand back is free: nobody is there to do it.
    pub(super) fn release_revoked(&mut self, id: &MemberId) {
        let revoked: Vec<_> = self.members[id].revoked().collect();
        revoked.into_iter().for_each(|partition| self.release(partition));
    }

    /// Nobody holds the partition any more.
    pub(super) fn release(&mut self, partition: TopicPartition) {
        if let Some(holder) = self.holders.remove(&partition) {
            self.member_mut(&holder).held.remove(&partition);
            self.touch(&holder);
        }
    }

    /// Gives the member what it is to hold and nobody else holds, if it has handed back what it should.
    pub(super) fn grant(&mut self, id: &MemberId) {
        let member = &self.members[id];
        if member.is_revoking() {
            return;
        }
        let free: Vec<_> = member.target.iter().filter(|wanted| !self.holders.contains_key(wanted)).copied().collect();
        if free.is_empty() {
            return;
        }
        let epoch = self.next_epoch();
        let member = self.members.get_mut(id).expect("it was just looked at");
        member.epoch = epoch;
        for partition in free {
            member.held.insert(partition, epoch);
            self.holders.insert(partition, id.clone());
        }
        self.touch(id);
    }

    /// A member is gone, and whoever it was is fenced.
    pub(super) fn remove(&mut self, id: &MemberId) -> Option<Member> {
        let member = self.members.remove(id)?;
        for partition in member.held.keys() {
            self.holders.remove(partition);
        }
        self.changes.members.remove(id);
        self.changes.gone.insert(member.number);
        Some(member)
    }

    pub(super) fn member_mut(&mut self, id: &MemberId) -> &mut Member {
        self.members.get_mut(id).expect("whoever holds or is told something is a member")
    }
}
