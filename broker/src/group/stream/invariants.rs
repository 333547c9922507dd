//! What holds in every state of a stream group.

use super::state::StreamState;
use std::collections::BTreeSet;

impl StreamState {
    /// Asserts what must hold. It costs a look at every member's partitions, so it is looked at after a change only.
    ///
    /// # Panics
    /// When it does not hold: the protocol has a fault, and going on would give a partition to two.
    pub(super) fn check(&self) {
        let (mut held, mut targets, mut wanted) = (0, 0, BTreeSet::new());
        for (id, member) in &self.members {
            assert!(member.joined <= member.epoch && member.epoch <= self.epoch, "epochs are given in order: member {id}");
            assert!(member.number <= self.last_member, "numbers of members are given in order: member {id}");
            for (partition, given) in &member.held {
                assert!(self.holders.get(partition) == Some(id), "{partition} is held by {id} and by another");
                assert!((member.joined..=member.epoch).contains(given), "{partition} was given to {id} under an epoch of another");
            }
            held += member.held.len();
            targets += member.target.len();
            wanted.extend(member.target.iter().copied());
            assert!(member.target.iter().all(|of| member.topics.contains(&of.topic)), "member {id} is to read what it does not");
        }
        assert!(held == self.holders.len(), "what is held is held by a member");
        assert!(targets == wanted.len(), "two members are to read one partition");
    }
}
