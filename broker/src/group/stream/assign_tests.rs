//! The assignor: sticky, even, and nobody reads what he does not ask for.

use super::coordinator::{Coordinator, Heartbeat, Join, Leave, Terms};
use super::member::TopicPartition;
use crate::ids::TopicId;
use proptest::prelude::*;
use sagamq_api::MemberId;
use std::collections::{BTreeMap, BTreeSet};

const TERMS: Terms = Terms { members_max: 100, rebalance_ms: 1_000 };

fn id(number: usize) -> MemberId {
    format!("m{number}").parse().expect("legal")
}

fn topics(partitions: &[u32]) -> BTreeMap<TopicId, u32> {
    (1..).map(TopicId).zip(partitions.iter().copied()).collect()
}

fn join(group: &mut Coordinator, member: usize, reads: &BTreeSet<TopicId>, topics: &BTreeMap<TopicId, u32>) {
    let join = Join { topics: reads.clone(), instance: None, session_ms: 1_000_000 };
    group.heartbeat(&id(member), &Heartbeat::Join(join), topics, 0).expect("joined");
}

fn leave(group: &mut Coordinator, member: &MemberId, topics: &BTreeMap<TopicId, u32>) {
    let epoch = group.state().members()[member].epoch();
    group.heartbeat(member, &Heartbeat::Leave { epoch, leave: Leave::ForGood }, topics, 0).expect("left");
}

fn targets(group: &Coordinator) -> BTreeMap<TopicPartition, MemberId> {
    let of = |(id, member): (&MemberId, &super::Member)| member.target().iter().map(|of| (*of, id.clone())).collect::<Vec<_>>();
    group.state().members().iter().flat_map(of).collect()
}

fn loads(group: &Coordinator) -> Vec<usize> {
    group.state().members().values().map(|member| member.target().len()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// All read the same: everything is assigned, loads differ by one at the most, and only what must move does.
    #[test]
    fn even_and_sticky(partitions in proptest::collection::vec(0..9_u32, 1..4), steps in proptest::collection::vec((any::<bool>(), 0..8_usize), 1..24)) {
        let topics = topics(&partitions);
        let all: BTreeSet<TopicId> = topics.keys().copied().collect();
        let mut group = Coordinator::new(TERMS);
        let mut next = 0;
        for (joins, which) in steps {
            let before = targets(&group);
            let ids: Vec<MemberId> = group.state().members().keys().cloned().collect();
            let leaver = ids.get(which % ids.len().max(1)).filter(|_| !joins).cloned();
            match &leaver {
                Some(leaver) => leave(&mut group, leaver, &topics),
                None => {
                    next += 1;
                    join(&mut group, next, &all, &topics);
                }
            }
            let (after, loads) = (targets(&group), loads(&group));
            let total = partitions.iter().sum::<u32>() as usize;
            prop_assert_eq!(after.len(), if loads.is_empty() { 0 } else { total });
            if let (Some(least), Some(most)) = (loads.iter().min(), loads.iter().max()) {
                prop_assert!(most - least <= 1, "{:?}", loads);
            }
            for (partition, to) in &after {
                let from = before.get(partition);
                let may_move = from.is_none() || from == leaver.as_ref() || (leaver.is_none() && *to == id(next));
                prop_assert!(may_move || from == Some(to), "{} moved from {:?} to {} without need", partition, from, to);
            }
        }
    }

    /// Members read what they like: everything that somebody reads is assigned to a reader, and no single move makes it more even.
    #[test]
    fn as_even_as_it_can_be(
        partitions in proptest::collection::vec(1..7_u32, 3),
        reads in proptest::collection::vec(proptest::collection::btree_set(1..4_u32, 1..4), 1..6),
    ) {
        let topics = topics(&partitions);
        let mut group = Coordinator::new(TERMS);
        for (member, reads) in reads.iter().enumerate() {
            join(&mut group, member, &reads.iter().copied().map(TopicId).collect(), &topics);
        }
        let (after, members) = (targets(&group), group.state().members());
        let wanted: usize = topics.iter().filter(|(topic, _)| members.values().any(|m| m.topics().contains(topic))).map(|(_, n)| *n as usize).sum();
        prop_assert_eq!(after.len(), wanted);
        for (partition, owner) in &after {
            prop_assert!(members[owner].topics().contains(&partition.topic));
            for (other, member) in members.iter().filter(|(_, member)| member.topics().contains(&partition.topic)) {
                let (has, would) = (members[owner].target().len(), member.target().len() + 1);
                prop_assert!(owner == other || would >= has, "{} of {} should go to {}", partition, owner, other);
            }
        }
    }
}
