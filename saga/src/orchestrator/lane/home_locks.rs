//! The locks that have their home on a lane, as the lane holds them.

use crate::protocol::lock::Locks;
use std::collections::{HashSet, VecDeque};
use uuid::Uuid;

/// How long somebody waits for a lock until its holder is asked whether it knows that it holds it, and how often it is asked again, in
/// milliseconds.
const ASK_AGAIN_MS: u64 = 30_000;

/// Locks whose holders are asked at a time.
const ASKED_AT_ONCE: usize = 256;

/// Looks of probes that are remembered: an instance is looked at once for each.
const LOOKS_MAX: usize = 4_096;

/// The locks of a lane.
#[derive(Debug, Default)]
pub(super) struct HomeLocks {
    pub(super) table: Locks,
    /// When holders are asked next, in milliseconds since 1970.
    ask_at_ms: u64,
    /// Behind which key the round goes on.
    asked: Option<String>,
    looks: HashSet<(u64, Uuid)>,
    oldest_looks: VecDeque<(u64, Uuid)>,
}

impl HomeLocks {
    pub(super) fn new(table: Locks, now_ms: u64) -> Self {
        Self { table, ask_at_ms: now_ms.saturating_add(ASK_AGAIN_MS), ..Self::default() }
    }

    /// When holders are to be asked, if something is held.
    pub(super) fn next_due_ms(&self) -> Option<u64> {
        self.table.after(None).next().map(|_| self.ask_at_ms)
    }

    /// The keys of locks for which somebody has waited for long, whose holders are to be asked now.
    pub(super) fn due(&mut self, now_ms: u64) -> Vec<String> {
        if self.ask_at_ms > now_ms {
            return Vec::new();
        }
        let is_waited_for = |queued_ms: u64| queued_ms.saturating_add(ASK_AGAIN_MS) <= now_ms;
        let waited = self
            .table
            .after(self.asked.as_deref())
            .filter(|(_, lock)| lock.queue.front().is_some_and(|first| is_waited_for(first.since_ms)));
        let keys: Vec<String> = waited.take(ASKED_AT_ONCE).map(|(key, _)| key.to_owned()).collect();
        self.asked = keys.last().cloned().filter(|_| keys.len() == ASKED_AT_ONCE);
        if self.asked.is_none() {
            self.ask_at_ms = now_ms.saturating_add(ASK_AGAIN_MS);
        }
        keys
    }

    /// Whether a probe looks at the instance for the first time, as far as it is remembered: on several ways it would look again and again.
    pub(super) fn is_first_look(&mut self, probe: u64, instance: Uuid) -> bool {
        if !self.looks.insert((probe, instance)) {
            return false;
        }
        self.oldest_looks.push_back((probe, instance));
        if self.oldest_looks.len() > LOOKS_MAX
            && let Some(oldest) = self.oldest_looks.pop_front()
        {
            self.looks.remove(&oldest);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::lock::Claimant;

    fn by(number: u64) -> Claimant {
        Claimant { instance: Uuid::from_u128(u128::from(number)), number }
    }

    #[test]
    fn holders_are_asked_when_somebody_has_waited_for_long_and_all_of_them_in_turn() {
        let mut locks = HomeLocks::new(Locks::default(), 0);
        assert_eq!((locks.next_due_ms(), locks.due(ASK_AGAIN_MS)), (None, Vec::new()), "nothing is held");
        let mut locks = HomeLocks::new(Locks::default(), 0);
        let count = u64::try_from(ASKED_AT_ONCE).expect("few") + 5;
        for key in 0..count {
            for who in [by(1), by(2)] {
                let decision = locks.table.ask(&format!("{key:04}"), who, key);
                locks.table.apply(&decision);
            }
        }
        let alone = locks.table.ask("alone", by(1), 0);
        locks.table.apply(&alone);
        assert_eq!(locks.due(ASK_AGAIN_MS - 1), Vec::<String>::new(), "nobody has waited for long");
        assert_eq!(locks.next_due_ms(), Some(ASK_AGAIN_MS));
        let now_ms = ASK_AGAIN_MS + count;
        assert_eq!(locks.due(now_ms).len(), ASKED_AT_ONCE);
        assert_eq!(
            locks.due(now_ms),
            (count - 5..count).map(|key| format!("{key:04}")).collect::<Vec<_>>(),
            "and not the one that nobody waits for"
        );
        assert_eq!((locks.due(now_ms), locks.next_due_ms()), (Vec::new(), Some(now_ms + ASK_AGAIN_MS)));
    }

    #[test]
    fn a_probe_looks_once_and_what_is_remembered_of_it_is_bounded() {
        let mut locks = HomeLocks::default();
        assert!(locks.is_first_look(1, Uuid::nil()) && !locks.is_first_look(1, Uuid::nil()) && locks.is_first_look(2, Uuid::nil()));
        for probe in 3..10_000 {
            assert!(locks.is_first_look(probe, Uuid::nil()));
        }
        assert!(locks.looks.len() == LOOKS_MAX && locks.is_first_look(1, Uuid::nil()));
    }
}
