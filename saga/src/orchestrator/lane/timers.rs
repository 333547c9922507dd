//! When instances of a lane are due: a heap beside the states, which are the truth. Each instance has one time at most.

use core::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use uuid::Uuid;

/// Entries of the heap that no instance stands for any more are let go when there are more of them than this, and than of the others.
const STALE_MIN: usize = 64;

/// Due times, earliest first.
#[derive(Debug, Default)]
pub(super) struct Timers {
    heap: BinaryHeap<Reverse<(u64, Uuid)>>,
    /// The time of each instance; what the heap holds beside these is stale.
    set: HashMap<Uuid, u64>,
}

impl Timers {
    /// Sets the time of an instance, or takes it away.
    pub(super) fn set(&mut self, id: Uuid, due_ms: Option<u64>) {
        let before = match due_ms {
            Some(due_ms) => self.set.insert(id, due_ms),
            None => self.set.remove(&id),
        };
        if let Some(due_ms) = due_ms.filter(|_| before != due_ms) {
            self.heap.push(Reverse((due_ms, id)));
        }
        if self.heap.len() > 2 * self.set.len() + STALE_MIN {
            self.heap = self.set.iter().map(|(&id, &due_ms)| Reverse((due_ms, id))).collect();
        }
    }

    /// When the first one is due.
    pub(super) fn next_due_ms(&mut self) -> Option<u64> {
        while let Some(&Reverse((due_ms, id))) = self.heap.peek() {
            if self.set.get(&id) == Some(&due_ms) {
                return Some(due_ms);
            }
            self.heap.pop();
        }
        None
    }

    /// Takes an instance that is due.
    pub(super) fn pop_due(&mut self, now_ms: u64) -> Option<Uuid> {
        if self.next_due_ms()? > now_ms {
            return None;
        }
        let Reverse((_, id)) = self.heap.pop()?;
        self.set.remove(&id);
        Some(id)
    }
}

#[cfg(test)]
impl Timers {
    /// What it takes in memory.
    pub(super) fn bytes(&self) -> usize {
        let entry = size_of::<(Uuid, u64)>();
        self.heap.capacity() * entry + self.set.capacity().div_ceil(7) * 8 * (entry + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_instance_is_due_once_at_its_last_time_and_the_heap_does_not_grow_with_changes() {
        let mut timers = Timers::default();
        let ids = [1, 2, 3].map(Uuid::from_u128);
        for round in 0..100_000_u64 {
            for (id, after) in ids.into_iter().zip([30, 10, 20]) {
                timers.set(id, Some(round + after));
            }
        }
        assert!(timers.heap.len() <= 3 * ids.len() + STALE_MIN, "{}", timers.heap.len());
        timers.set(ids[2], None);
        assert_eq!(timers.next_due_ms(), Some(100_009));
        assert_eq!([timers.pop_due(100_008), timers.pop_due(200_000), timers.pop_due(200_000)], [None, Some(ids[1]), Some(ids[0])]);
        assert_eq!((timers.pop_due(u64::MAX), timers.next_due_ms()), (None, None));
    }
}
