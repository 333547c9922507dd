//! The coordinator of a stream group: the state, and when members are given up.

use super::error::{Fenced, HeartbeatError};
use super::member::TopicPartition;
use super::row::{RowChange, StoredStream};
use super::sessions::Sessions;
use super::state::StreamState;
use crate::ids::TopicId;
use sagamq_api::{InstanceId, MemberId, Offset};
use std::collections::{BTreeMap, BTreeSet};

/// What all groups are held to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Most members of a group.
    pub members_max: usize,
    /// How long a member has to hand back what it is told to, in milliseconds.
    pub rebalance_ms: u64,
}

/// A heartbeat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heartbeat {
    /// The member joins.
    Join(Join),
    /// It is there.
    Stay {
        /// Its epoch.
        epoch: u64,
        /// What it has and has not handed back.
        owned: BTreeSet<TopicPartition>,
        /// The topics it reads from now on.
        topics: Option<BTreeSet<TopicId>>,
    },
    /// It leaves.
    Leave {
        /// Its epoch.
        epoch: u64,
        /// For how long.
        leave: Leave,
    },
}

/// What a member says of itself when it joins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Join {
    /// The topics it reads.
    pub topics: BTreeSet<TopicId>,
    /// A program that comes back under another member id.
    pub instance: Option<InstanceId>,
    /// How long it is a member without a heartbeat, in milliseconds.
    pub session_ms: u64,
}

/// How a member leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    /// Its partitions go to others at once.
    ForGood,
    /// Its partitions wait for its instance until the session ends.
    ToReturn,
}

/// What a member is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Its epoch; 0 for one that left.
    pub epoch: u64,
    /// All that it is to read. What it has beyond that it hands back.
    pub assigned: Vec<Assigned>,
    /// How many partitions it waits for: others have not handed them back yet.
    pub awaited: usize,
    /// How long it is a member without a heartbeat, in milliseconds.
    pub session_ms: u64,
}

/// A partition that a member is to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Assigned {
    /// The partition.
    pub partition: TopicPartition,
    /// The epoch under which it was given. One that the member has under another was taken from it in between.
    pub epoch: u64,
    /// How far the group has come; none if nothing was ever committed.
    pub offset: Option<Offset>,
}

/// The coordinator of a stream group.
#[derive(Clone, Debug)]
pub struct Coordinator {
    state: StreamState,
    sessions: Sessions,
    terms: Terms,
}

impl Coordinator {
    /// A group of which nothing is stored.
    #[must_use]
    pub fn new(terms: Terms) -> Self {
        Self { state: StreamState::default(), sessions: Sessions::default(), terms }
    }

    /// Goes on with what was stored. Everybody has a full session again.
    pub(crate) fn of(stored: StoredStream, terms: Terms, now_ms: u64) -> Self {
        let state = stored.into_state();
        let sessions = Sessions::begin(&state, now_ms, terms.rebalance_ms);
        Self { state, sessions, terms }
    }

    /// The state.
    #[must_use]
    pub fn state(&self) -> &StreamState {
        &self.state
    }

    /// A member says that it is there, and hears what it is to read. `topics` are all topics of the group with their partitions.
    ///
    /// # Errors
    /// When the member was superseded or the group is full. Then nothing has changed.
    pub fn heartbeat(
        &mut self,
        id: &MemberId,
        heartbeat: &Heartbeat,
        topics: &BTreeMap<TopicId, u32>,
        now_ms: u64,
    ) -> Result<Answer, HeartbeatError> {
        self.state.set_topics(topics);
        let result = match heartbeat {
            Heartbeat::Join(join) => self.state.join(id, join, self.terms.members_max),
            Heartbeat::Stay { epoch, owned, topics } => self.state.stay(id, *epoch, owned, topics.as_ref()).map_err(HeartbeatError::from),
            Heartbeat::Leave { epoch, leave } => self.state.leave(id, *epoch, *leave),
        };
        if result.is_ok() {
            self.sessions.heard(&self.state, id, now_ms);
        }
        self.follow(now_ms);
        result.map(|()| self.answer(id))
    }

    /// Takes over which topics there are.
    pub fn set_topics(&mut self, topics: &BTreeMap<TopicId, u32>, now_ms: u64) {
        self.state.set_topics(topics);
        self.follow(now_ms);
    }

    /// Commits all of these offsets or none.
    ///
    /// # Errors
    /// When the member was superseded, or holds one of the partitions under a later epoch or not at all.
    pub fn commit(&mut self, id: &MemberId, epoch: u64, offsets: &[(TopicPartition, Offset)], now_ms: u64) -> Result<(), Fenced> {
        self.state.commit(id, epoch, offsets, now_ms)
    }

    /// Sets how far the group has come, whoever reads.
    pub fn seek(&mut self, offsets: &[(TopicPartition, Offset)], now_ms: u64) {
        self.state.seek(offsets, now_ms);
        self.follow(now_ms);
    }

    /// Gives what is held of these topics to its holders anew: their logs may end before what was read of them, and other records come there.
    pub(crate) fn give_anew(&mut self, topics: &BTreeSet<TopicId>, now_ms: u64) {
        let held: Vec<_> = self.state.holders.keys().filter(|of| topics.contains(&of.topic)).copied().collect();
        for partition in held {
            self.state.give_anew(partition);
        }
        self.follow(now_ms);
    }

    /// Retention took what lies below `log_start`. How many of these records were not committed.
    pub(crate) fn trim(&mut self, partition: TopicPartition, start: Offset, log_start: Offset) -> u64 {
        self.state.trim(partition, start, log_start)
    }

    /// Gives up whose time is over. Who they are.
    pub fn expire(&mut self, now_ms: u64) -> Vec<MemberId> {
        let over = self.sessions.over(now_ms);
        for id in &over {
            self.state.expel(id);
        }
        self.follow(now_ms);
        over
    }

    /// When the next member is given up if nothing is heard.
    #[must_use]
    pub fn next_due_ms(&self) -> Option<u64> {
        self.sessions.next_ms()
    }

    /// How long the session of a member goes on if nothing is heard, in milliseconds.
    #[must_use]
    pub fn session_left_ms(&self, id: &MemberId, now_ms: u64) -> u64 {
        self.sessions.left_ms(id, now_ms)
    }

    /// The rows that have changed since the last time.
    pub(crate) fn take_changes(&mut self) -> Vec<RowChange> {
        self.state.take_changes()
    }

    fn follow(&mut self, now_ms: u64) {
        if self.state.changes.is_any() {
            self.sessions.follow(&self.state, now_ms, self.terms.rebalance_ms);
            self.state.check();
        }
    }

    fn answer(&self, id: &MemberId) -> Answer {
        let Some(member) = self.state.members.get(id).filter(|member| !member.is_away) else { return Answer::default() };
        let assigned = member.held.iter().filter(|(held, _)| member.target.contains(held));
        let offset = |partition: &TopicPartition| self.state.offsets.get(partition).map(|committed| committed.offset);
        let assigned: Vec<_> = assigned.map(|(held, &epoch)| Assigned { partition: *held, epoch, offset: offset(held) }).collect();
        Answer { epoch: member.epoch, awaited: member.target.len() - assigned.len(), assigned, session_ms: member.session_ms }
    }
}
