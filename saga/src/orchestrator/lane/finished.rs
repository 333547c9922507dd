//! Instances of a lane at their end that are in memory still.

use std::collections::{HashMap, VecDeque};
use uuid::Uuid;

/// How many stay in memory, so that a late or repeated reply is answered without the disk.
const FINISHED_MAX: usize = 256;

/// Instances at their end, in the order in which they may leave memory.
#[derive(Debug, Default)]
pub(super) struct Finished {
    leaving: VecDeque<Leaving>,
    /// Their events as memory has them.
    events: HashMap<Uuid, u64>,
}

/// An instance that may leave when this commit is durable: the disk has all of these events then.
#[derive(Clone, Copy, Debug)]
struct Leaving {
    commit: u64,
    id: Uuid,
    events: u64,
}

impl Finished {
    /// An instance came to its end with this commit, or has changed there.
    pub(super) fn add(&mut self, commit: u64, id: Uuid, events: u64) {
        self.events.insert(id, events);
        self.leaving.push_back(Leaving { commit, id, events });
    }

    /// It is not in memory any more.
    pub(super) fn remove(&mut self, id: Uuid) {
        self.events.remove(&id);
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.events.len()
    }

    /// Takes one out that is to leave memory, if there are more than may stay. Its newest commit is durable: else what is decided of it next would
    /// be decided on what is on disk, without what was acknowledged since.
    pub(super) fn take(&mut self, durable: u64, is_busy: impl Fn(Uuid) -> bool) -> Option<Uuid> {
        while let Some(&Leaving { commit, id, events }) = self.leaving.front() {
            // It has changed since and stands further behind, or is gone.
            let is_past = self.events.get(&id) != Some(&events);
            if !is_past && (self.events.len() <= FINISHED_MAX || commit > durable || is_busy(id)) {
                return None;
            }
            self.leaving.pop_front();
            if !is_past {
                self.events.remove(&id);
                return Some(id);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: usize) -> Uuid {
        Uuid::from_u128(number as u128)
    }

    /// So many that ended before anything else, with commit 1.
    fn full() -> Finished {
        let mut finished = Finished::default();
        for number in 0..FINISHED_MAX {
            finished.add(1, id(number), 5);
        }
        finished
    }

    #[test]
    fn the_oldest_leaves_when_others_push_and_its_end_is_durable() {
        let mut finished = full();
        assert_eq!(finished.take(9, |_| false), None, "as many may stay");
        finished.add(2, id(1_000), 3);
        assert_eq!(finished.take(0, |_| false), None, "it is not durable");
        assert_eq!(finished.take(1, |busy| busy == id(0)), None, "something is decided of it");
        assert_eq!((finished.take(1, |_| false), finished.len()), (Some(id(0)), FINISHED_MAX));
        assert_eq!(finished.take(1, |_| false), None);
    }

    /// What an operator said of it last is on its way to the disk.
    #[test]
    fn one_that_has_changed_at_its_end_leaves_when_that_is_durable() {
        let mut finished = full();
        finished.add(7, id(0), 6);
        assert_eq!(finished.len(), FINISHED_MAX, "it counts once");
        finished.add(7, id(1_000), 3);
        assert_eq!(finished.take(1, |_| false), Some(id(1)));
        for number in 2..FINISHED_MAX {
            finished.add(7, id(1_000 + number), 3);
            assert_eq!(finished.take(1, |_| false), Some(id(number)));
        }
        finished.add(8, id(5_000), 3);
        assert_eq!(finished.take(6, |_| false), None, "its second entry is the next one, and not durable");
        assert_eq!(finished.take(7, |_| false), Some(id(0)));
    }

    #[test]
    fn what_left_memory_otherwise_neither_counts_nor_leaves_again() {
        let mut finished = full();
        finished.remove(id(0));
        assert_eq!(finished.len(), FINISHED_MAX - 1);
        finished.add(1, id(1_000), 3);
        finished.add(1, id(1_001), 3);
        assert_eq!(finished.take(1, |_| false), Some(id(1)));
    }
}
