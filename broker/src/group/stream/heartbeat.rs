//! The one call of a member: it joins, stays, hands back and leaves.

use super::coordinator::{Join, Leave};
use super::error::{Fenced, HeartbeatError};
use super::member::{Member, TopicPartition};
use super::state::StreamState;
use crate::ids::TopicId;
use sagamq_api::MemberId;
use std::collections::{BTreeMap, BTreeSet};

impl StreamState {
    /// A process joins, or begins anew under an id that is a member: what that one held is taken from it. One of an instance takes the
    /// place of the process before, which is fenced.
    pub(super) fn join(&mut self, id: &MemberId, join: &Join, members_max: usize) -> Result<(), HeartbeatError> {
        let before = join.instance.as_ref().and_then(|instance| self.of_instance(instance)).cloned();
        let replaced = before.filter(|before| before != id).and_then(|before| self.remove(&before));
        let own = self.remove(id);
        if own.is_none() && replaced.is_none() && self.members.len() >= members_max {
            return Err(HeartbeatError::MembersMax(members_max));
        }
        // A member that comes back goes on with what it had, if nothing else has changed.
        let same = [replaced.as_ref(), own.as_ref()].into_iter().flatten().find(|member| member.topics == join.topics);
        let is_same = same.is_some() && !(own.is_some() && replaced.is_some());
        let target = same.map(|member| member.target.clone()).unwrap_or_default();
        self.last_member += 1;
        let epoch = self.next_epoch();
        let member = Member {
            number: self.last_member,
            instance: join.instance.clone(),
            is_away: false,
            session_ms: join.session_ms,
            topics: join.topics.clone(),
            joined: epoch,
            epoch,
            held: BTreeMap::new(),
            target,
        };
        self.members.insert(id.clone(), member);
        self.touch(id);
        if !is_same {
            self.retarget();
        }
        self.grant(id);
        Ok(())
    }

    /// A member is there, and says what it has. What it was told to hand back and does not name is handed back.
    pub(super) fn stay(
        &mut self,
        id: &MemberId,
        epoch: u64,
        owned: &BTreeSet<TopicPartition>,
        topics: Option<&BTreeSet<TopicId>>,
    ) -> Result<(), Fenced> {
        let member = self.known(id, epoch)?;
        // Whoever has not heard the last answer yet cannot mean what was given with it.
        if epoch == member.epoch {
            let handed_back: Vec<_> = member.revoked().filter(|revoked| !owned.contains(revoked)).collect();
            for partition in handed_back {
                self.release(partition);
            }
        }
        let member = self.member_mut(id);
        if let Some(topics) = topics.filter(|&topics| member.topics != *topics) {
            member.topics.clone_from(topics);
            self.touch(id);
            self.retarget();
        }
        self.grant(id);
        Ok(())
    }

    /// A member leaves. Who is none has left.
    pub(super) fn leave(&mut self, id: &MemberId, epoch: u64, leave: Leave) -> Result<(), HeartbeatError> {
        if !self.members.contains_key(id) {
            return Ok(());
        }
        let has_instance = self.known(id, epoch)?.instance.is_some();
        match leave {
            Leave::ToReturn if !has_instance => return Err(HeartbeatError::NoInstance(id.clone())),
            Leave::ToReturn => {
                self.member_mut(id).is_away = true;
                self.touch(id);
                self.release_revoked(id);
            }
            Leave::ForGood => self.expel(id),
        }
        Ok(())
    }

    /// Takes a member out: it left, or its time is over. What it held is free at once.
    pub(super) fn expel(&mut self, id: &MemberId) {
        if self.remove(id).is_some() {
            self.retarget();
        }
    }

    /// The member, if it asks with an epoch that was given to it.
    pub(super) fn known(&self, id: &MemberId, asked: u64) -> Result<&Member, Fenced> {
        let member = self.members.get(id).ok_or_else(|| Fenced::NotMember(id.clone()))?;
        if member.is_away || !(member.joined..=member.epoch).contains(&asked) {
            return Err(Fenced::Epoch { member: id.clone(), epoch: member.epoch, asked });
        }
        Ok(member)
    }
}
