//! When instances of a lane are due: a heap beside the states, which are the truth. An entry that its state does not confirm is dropped.

use core::cmp::Reverse;
use std::collections::BinaryHeap;
use uuid::Uuid;

/// Due times, earliest first.
#[derive(Debug, Default)]
pub(crate) struct Timers(BinaryHeap<Reverse<(u64, Uuid)>>);

impl Timers {
    pub(crate) fn set(&mut self, due_ms: u64, id: Uuid) {
        self.0.push(Reverse((due_ms, id)));
    }

    /// When the first one is due.
    pub(crate) fn next_due_ms(&self) -> Option<u64> {
        self.0.peek().map(|Reverse((due_ms, _))| *due_ms)
    }

    /// Takes an instance that is due, with the time it was set to.
    pub(crate) fn pop_due(&mut self, now_ms: u64) -> Option<(u64, Uuid)> {
        if self.next_due_ms()? > now_ms {
            return None;
        }
        self.0.pop().map(|Reverse(entry)| entry)
    }
}
