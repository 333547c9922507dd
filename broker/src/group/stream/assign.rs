//! The assignor: who is to read what. Sticky first (whoever has a partition keeps it), then even: no partition can go to a reader of its
//! topic that has two less. Where all members read the same topics, their loads differ by one at the most.

use super::member::{Member, TopicPartition};
use crate::ids::TopicId;
use sagamq_api::{MemberId, PartitionId};
use std::collections::{BTreeMap, BTreeSet};

/// What each member is to have.
pub(super) type Assignment = BTreeMap<MemberId, BTreeSet<TopicPartition>>;

/// Members by load, and by name where loads are equal.
type ByLoad<'a> = BTreeSet<(usize, &'a MemberId)>;

/// Assigns every partition of a topic that some member reads.
pub(super) fn assign(
    members: &BTreeMap<MemberId, Member>,
    topics: &BTreeMap<TopicId, u32>,
    holders: &BTreeMap<TopicPartition, MemberId>,
) -> Assignment {
    let mut assignment: Assignment = members.keys().map(|id| (id.clone(), BTreeSet::new())).collect();
    let mut free: BTreeSet<TopicPartition> = topics.iter().flat_map(|(&topic, &count)| partitions(topic, count)).collect();
    for (id, member) in members {
        let kept = member.target.iter().filter(|wanted| member.topics.contains(&wanted.topic));
        let kept: BTreeSet<_> = kept.filter(|wanted| free.remove(wanted)).copied().collect();
        assignment.insert(id.clone(), kept);
    }
    let mut by_load: ByLoad<'_> = members.keys().map(|id| (assignment[id].len(), id)).collect();
    for partition in free {
        let reads = |id: &MemberId| members[id].topics.contains(&partition.topic);
        let Some(&(load, first)) = by_load.iter().find(|(_, id)| reads(id)) else { continue };
        // Whoever still holds it need not hand it back, if that is as even.
        let holder = holders.get(&partition).and_then(|holder| members.get_key_value(holder)).map(|(id, _)| id);
        let to = holder.filter(|id| reads(id) && assignment[*id].len() == load).unwrap_or(first);
        give(&mut assignment, &mut by_load, to, partition);
    }
    even_out(members, &mut assignment, &mut by_load);
    assignment
}

fn partitions(topic: TopicId, count: u32) -> impl Iterator<Item = TopicPartition> {
    (0..count).map(move |partition| TopicPartition { topic, partition: PartitionId(partition) })
}

fn give<'a>(assignment: &mut Assignment, by_load: &mut ByLoad<'a>, to: &'a MemberId, partition: TopicPartition) {
    let of = assignment.get_mut(to).expect("every member has a place");
    by_load.remove(&(of.len(), to));
    of.insert(partition);
    by_load.insert((of.len(), to));
}

fn take<'a>(assignment: &mut Assignment, by_load: &mut ByLoad<'a>, from: &'a MemberId, partition: TopicPartition) {
    let of = assignment.get_mut(from).expect("every member has a place");
    by_load.remove(&(of.len(), from));
    of.remove(&partition);
    by_load.insert((of.len(), from));
}

/// Moves partitions from those with many to those with few, until no move makes it more even. Each move makes the sum of the squares of
/// the loads smaller, so it ends.
fn even_out<'a>(members: &'a BTreeMap<MemberId, Member>, assignment: &mut Assignment, by_load: &mut ByLoad<'a>) {
    while let Some((from, to, partition)) = next_move(members, assignment, by_load) {
        take(assignment, by_load, from, partition);
        give(assignment, by_load, to, partition);
    }
}

fn next_move<'a>(
    members: &BTreeMap<MemberId, Member>,
    assignment: &Assignment,
    by_load: &ByLoad<'a>,
) -> Option<(&'a MemberId, &'a MemberId, TopicPartition)> {
    let &(least, _) = by_load.first()?;
    for &(load, from) in by_load.iter().rev().take_while(|(load, _)| *load > least + 1) {
        // The last of a topic, so that what moves does not depend on what moved before. It is looked up: a member may have tens of thousands.
        let first = |topic| TopicPartition { topic, partition: PartitionId(0) };
        let last = |topic| TopicPartition { topic, partition: PartitionId(u32::MAX) };
        let of_topic = |&topic: &TopicId| assignment[from].range(first(topic)..=last(topic)).next_back().copied();
        let last_of: Vec<TopicPartition> = members[from].topics.iter().filter_map(of_topic).collect();
        for &(few, to) in by_load.iter().take_while(|(few, _)| *few + 1 < load) {
            assert!(few + 1 < load, "the move makes it more even");
            if let Some(partition) = last_of.iter().rev().find(|partition| members[to].topics.contains(&partition.topic)) {
                return Some((from, to, *partition));
            }
        }
    }
    None
}
