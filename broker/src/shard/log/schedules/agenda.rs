//! When it is which topic's turn: pure, with the time passed in.
//!
//! Of each topic it knows where its records begin that wait, and nothing more: memory does not grow with their number.

use crate::ids::TopicId;
use sagamq_api::ScheduleId;
use std::collections::{BTreeMap, BTreeSet};

/// For each topic with records that wait a place before which none does.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    firsts: BTreeMap<TopicId, ScheduleId>,
    in_order: BTreeSet<(ScheduleId, TopicId)>,
}

impl Agenda {
    /// A record of the topic waits at this place.
    pub(super) fn add(&mut self, topic: TopicId, at: ScheduleId) {
        if self.firsts.get(&topic).is_none_or(|first| at < *first) {
            self.set(topic, Some(at));
        }
    }

    /// No record of the topic waits before this place; `None`: none waits.
    pub(super) fn set(&mut self, topic: TopicId, first: Option<ScheduleId>) {
        let before = match first {
            Some(first) => self.firsts.insert(topic, first),
            None => self.firsts.remove(&topic),
        };
        if let Some(before) = before {
            self.in_order.remove(&(before, topic));
        }
        self.in_order.extend(first.map(|first| (first, topic)));
    }

    /// The place before which none of the topic waits.
    pub(super) fn first(&self, topic: TopicId) -> Option<ScheduleId> {
        self.firsts.get(&topic).copied()
    }

    /// The topic whose turn it is, and from where on: the earliest that is due.
    pub(super) fn due(&self, now_ms: u64) -> Option<(TopicId, ScheduleId)> {
        self.in_order.first().filter(|(first, _)| first.due_ms <= now_ms).map(|&(first, topic)| (topic, first))
    }

    /// When something is due next, in milliseconds since 1970.
    pub(super) fn next_ms(&self) -> Option<u64> {
        self.in_order.first().map(|(first, _)| first.due_ms)
    }
}

/// Places of records whose commits may not be durable: storage does not show them yet, so nothing behind them is taken up before them.
#[derive(Debug, Default)]
pub(super) struct Unseen {
    /// The first place of each topic in each commit, by commit.
    firsts: BTreeMap<u64, BTreeMap<TopicId, ScheduleId>>,
}

impl Unseen {
    pub(super) fn add(&mut self, topic: TopicId, at: ScheduleId) {
        let first = self.firsts.entry(at.commit).or_default().entry(topic).or_insert(at);
        *first = at.min(*first);
    }

    /// Forgets what is durable.
    pub(super) fn seen_through(&mut self, durable: u64) {
        self.firsts = self.firsts.split_off(&(durable + 1));
    }

    /// The first of the topic.
    pub(super) fn first(&self, topic: TopicId) -> Option<ScheduleId> {
        self.firsts.values().filter_map(|of| of.get(&topic)).min().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(due_ms: u64, commit: u64) -> ScheduleId {
        ScheduleId { due_ms, shard: 0, commit, index: 0 }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn it_is_the_turn_of_whoever_is_due_first(steps in prop::collection::vec((0..4_u32, prop::option::weighted(0.8, 0..50_u64), any::<bool>()), 0..60), now_ms in 0..60_u64) {
            let (mut agenda, mut model) = (Agenda::default(), BTreeMap::new());
            for (commit, (topic, due, is_added)) in steps.into_iter().enumerate() {
                let (topic, place) = (TopicId(topic), due.map(|due| at(due, commit as u64)));
                match place {
                    Some(place) if is_added => {
                        agenda.add(topic, place);
                        let first = model.entry(topic).or_insert(place);
                        *first = place.min(*first);
                    }
                    Some(place) => {
                        agenda.set(topic, Some(place));
                        model.insert(topic, place);
                    }
                    None => {
                        agenda.set(topic, None);
                        model.remove(&topic);
                    }
                }
            }
            let first = model.iter().map(|(&topic, &place)| (place, topic)).min();
            prop_assert_eq!(agenda.next_ms(), first.map(|(place, _)| place.due_ms));
            let due = first.filter(|(place, _)| place.due_ms <= now_ms).map(|(place, topic)| (topic, place));
            prop_assert_eq!(agenda.due(now_ms), due);
            for topic in (0..4).map(TopicId) {
                prop_assert_eq!(agenda.first(topic), model.get(&topic).copied());
            }
        }
    }

    #[test]
    fn what_is_not_durable_is_known_until_it_is() {
        let mut unseen = Unseen::default();
        for (topic, place) in [(1, at(9, 3)), (1, at(5, 3)), (2, at(1, 3)), (1, at(7, 4))] {
            unseen.add(TopicId(topic), place);
        }
        assert_eq!(unseen.first(TopicId(1)), Some(at(5, 3)));
        unseen.seen_through(3);
        assert_eq!((unseen.first(TopicId(1)), unseen.first(TopicId(2))), (Some(at(7, 4)), None));
        unseen.seen_through(4);
        assert_eq!(unseen.first(TopicId(1)), None);
    }
}
