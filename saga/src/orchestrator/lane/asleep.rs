//! Instances of a lane that only wait for a time or a signal: of those that left memory their ids, beside their times in the heap.

use std::collections::{HashSet, VecDeque};
use uuid::Uuid;

/// The instances of a lane that sleep.
#[derive(Debug, Default)]
pub(super) struct Asleep {
    /// Those that are not in memory.
    pub(super) away: HashSet<Uuid>,
    /// Those that are to leave it, in the order in which they may.
    pub(super) leaving: VecDeque<Leaving>,
}

/// An instance that is to leave memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Leaving {
    /// When it may leave, in milliseconds since 1970.
    pub(super) at_ms: u64,
    /// The commit that must be durable before.
    pub(super) commit: u64,
    /// The instance.
    pub(super) id: Uuid,
    /// Its events then: with others it has moved on since.
    pub(super) events: u64,
}

impl Asleep {
    /// Whether it is not in memory because it sleeps.
    pub(super) fn is_away(&self, id: Uuid) -> bool {
        self.away.contains(&id)
    }

    /// How many are not in memory because they sleep.
    pub(super) fn away(&self) -> usize {
        self.away.len()
    }

    /// When the next one may leave, in milliseconds since 1970.
    pub(super) fn next_due_ms(&self) -> Option<u64> {
        self.leaving.front().map(|leaving| leaving.at_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::orchestrator::lane::timers::Timers;

    /// What memory has of instances that sleep is what is filled here: their ids, and their times in the heap.
    #[test]
    fn an_instance_that_sleeps_takes_less_than_a_hundred_bytes() {
        const COUNT: usize = 100_000;
        let (mut asleep, mut timers) = (Asleep::default(), Timers::default());
        for (number, until_ms) in (0..COUNT).zip(1_000_000..) {
            let id = Uuid::from_u128((number as u128).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835));
            asleep.away.insert(id);
            timers.set(id, Some(until_ms));
        }
        // A table has a byte beside each place, and is never fuller than seven eighths.
        let table = |capacity: usize, entry: usize| capacity.div_ceil(7) * 8 * (entry + 1);
        let bytes = table(asleep.away.capacity(), size_of::<Uuid>()) + timers.bytes();
        assert!(asleep.away() == COUNT && bytes / COUNT < 100, "{} bytes each", bytes / COUNT);
    }
}
