//! What the heart of a consumer and its `poll` know of each other: the member's epoch, and what it has.

use sagamq_api::stream::{StreamAssigned, StreamHeartbeatResponse, StreamPartitions};
use sagamq_api::{Offset, PartitionId, TopicName};
use std::collections::BTreeMap;

/// A partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// The topic.
    pub topic: TopicName,
    /// Its partition.
    pub partition: PartitionId,
}

impl std::fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

/// A partition that the member has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Owned {
    /// The epoch under which it was given: another one is another holding.
    pub(super) given: u64,
    /// Where it began.
    pub(super) offset: Offset,
    /// It is to be handed back.
    pub(super) is_revoked: bool,
}

/// What both know.
#[derive(Debug, Default)]
pub(super) struct Share {
    /// The member's epoch; 0 while it is none.
    pub(super) epoch: u64,
    pub(super) owned: BTreeMap<TopicPartition, Owned>,
}

impl Share {
    /// Takes an answer over: what is given is the member's from now on, what is not named is to be handed back.
    pub(super) fn hear(&mut self, answer: &StreamHeartbeatResponse) {
        self.epoch = answer.epoch;
        self.owned.values_mut().for_each(|owned| owned.is_revoked = true);
        for StreamAssigned { topic, partition, epoch, offset } in &answer.assigned {
            let of = TopicPartition { topic: topic.clone(), partition: *partition };
            match self.owned.get_mut(&of) {
                Some(owned) if owned.given == *epoch => owned.is_revoked = false,
                _ => drop(self.owned.insert(of, Owned { given: *epoch, offset: *offset, is_revoked: false })),
            }
        }
    }

    /// The member lost its place, and everything with it.
    pub(super) fn lose(&mut self) {
        *self = Self::default();
    }

    /// The member works on this partition no more: the next heartbeat says so. Not if it was given anew.
    pub(super) fn hand_back(&mut self, of: &TopicPartition, given: u64) {
        if self.owned.get(of).is_some_and(|owned| owned.given == given && owned.is_revoked) {
            self.owned.remove(of);
        }
    }

    /// As a heartbeat says it.
    pub(super) fn partitions(&self) -> Vec<StreamPartitions> {
        let mut all: Vec<StreamPartitions> = Vec::new();
        for TopicPartition { topic, partition } in self.owned.keys() {
            match all.last_mut() {
                Some(last) if last.topic == *topic => last.partitions.push(*partition),
                _ => all.push(StreamPartitions { topic: topic.clone(), partitions: vec![*partition] }),
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(partition: u32) -> TopicPartition {
        TopicPartition { topic: "t".parse().expect("legal"), partition: PartitionId(partition) }
    }

    fn answer(epoch: u64, assigned: &[(u32, u64)]) -> StreamHeartbeatResponse {
        let assigned = assigned.iter().map(|&(partition, epoch)| StreamAssigned {
            topic: at(0).topic,
            partition: PartitionId(partition),
            epoch,
            offset: Offset(epoch),
        });
        StreamHeartbeatResponse { epoch, assigned: assigned.collect(), awaited: 0, heartbeat_ms: 1, session_ms: 1 }
    }

    #[test]
    fn what_is_not_named_is_handed_back_first_and_what_is_given_anew_is_another_holding() {
        let mut share = Share::default();
        share.hear(&answer(3, &[(0, 3), (1, 3)]));
        share.hear(&answer(4, &[(1, 4)]));
        assert!(share.owned[&at(0)].is_revoked && !share.owned[&at(1)].is_revoked);
        assert_eq!((share.owned[&at(1)].given, share.owned[&at(1)].offset), (4, Offset(4)));
        let said = |share: &Share| share.partitions().iter().map(|of| of.partitions.len()).sum::<usize>();
        assert_eq!(said(&share), 2, "until it is handed back it is the member's");
        share.hand_back(&at(1), 3);
        share.hand_back(&at(0), 3);
        assert_eq!(said(&share), 1);
        share.lose();
        assert_eq!((share.epoch, said(&share)), (0, 0));
    }
}
