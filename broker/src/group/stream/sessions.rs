//! When members were last heard of. Derived and never stored: after a restart everybody has one full session again.

use super::state::StreamState;
use sagamq_api::MemberId;
use std::collections::BTreeMap;

/// When which member is given up.
#[derive(Clone, Debug, Default)]
pub(super) struct Sessions {
    /// When the session of each member ends.
    ends: BTreeMap<MemberId, u64>,
    /// Until when who is to hand something back must have done it.
    hand_back_by: BTreeMap<MemberId, u64>,
}

impl Sessions {
    /// A full session for everybody.
    pub(super) fn begin(state: &StreamState, now_ms: u64, rebalance_ms: u64) -> Self {
        let mut sessions = Self::default();
        for id in state.members.keys() {
            sessions.heard(state, id, now_ms);
        }
        sessions.follow(state, now_ms, rebalance_ms);
        sessions
    }

    /// The member was heard of.
    pub(super) fn heard(&mut self, state: &StreamState, id: &MemberId, now_ms: u64) {
        if let Some(member) = state.members.get(id) {
            self.ends.insert(id.clone(), now_ms.saturating_add(member.session_ms));
        }
    }

    /// Follows a change: who is no member has no session, and who has something to hand back has a time for it.
    pub(super) fn follow(&mut self, state: &StreamState, now_ms: u64, rebalance_ms: u64) {
        self.ends.retain(|id, _| state.members.contains_key(id));
        self.hand_back_by.retain(|id, _| state.members.get(id).is_some_and(|member| member.is_revoking()));
        for (id, _) in state.members.iter().filter(|(_, member)| member.is_revoking()) {
            self.hand_back_by.entry(id.clone()).or_insert_with(|| now_ms.saturating_add(rebalance_ms));
        }
    }

    /// When the next member is given up if nothing is heard.
    pub(super) fn next_ms(&self) -> Option<u64> {
        self.ends.values().chain(self.hand_back_by.values()).copied().min()
    }

    /// Whose time is over.
    pub(super) fn over(&self, now_ms: u64) -> Vec<MemberId> {
        let over = self.ends.iter().chain(&self.hand_back_by).filter(|(_, end_ms)| **end_ms <= now_ms);
        let mut over: Vec<_> = over.map(|(id, _)| id.clone()).collect();
        over.sort();
        over.dedup();
        over
    }

    /// How long the session of a member goes on if nothing is heard.
    pub(super) fn left_ms(&self, id: &MemberId, now_ms: u64) -> u64 {
        self.ends.get(id).map_or(0, |end_ms| end_ms.saturating_sub(now_ms))
    }
}
