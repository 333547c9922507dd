//! The locks that have their home on a lane, as the lane holds them.

use crate::protocol::lock::Locks;
use std::collections::{BTreeMap, HashSet, VecDeque};
use uuid::Uuid;

/// How long somebody waits for a lock until its holder is asked whether it knows that it holds it, and how often it is asked again, in
/// milliseconds.
const ASK_AGAIN_MS: u64 = 30_000;

/// How long after a circle was found it is looked whether there is another one, in milliseconds: who gave way has left by then.
const LOOK_AGAIN_MS: u64 = 1_000;

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
    /// Keys at which a circle was found, and when it is looked whether there is another one, in milliseconds since 1970. A probe goes one way to
    /// each instance, and there may be several.
    circles: BTreeMap<String, u64>,
    /// The same of instances of this lane from which a probe set out, and to which one came back.
    origins: BTreeMap<Uuid, u64>,
    looks: HashSet<(u64, Uuid)>,
    oldest_looks: VecDeque<(u64, Uuid)>,
}

impl HomeLocks {
    pub(super) fn new(table: Locks, now_ms: u64) -> Self {
        Self { table, ask_at_ms: now_ms.saturating_add(ASK_AGAIN_MS), ..Self::default() }
    }

    /// When holders are to be asked, or probes sent out, if something is held.
    pub(super) fn next_due_ms(&self) -> Option<u64> {
        let held = self.table.after(None).next().map(|_| self.ask_at_ms);
        held.into_iter().chain(self.circles.values().copied()).chain(self.origins.values().copied()).min()
    }

    /// A circle was found at this key, and somebody gives way.
    pub(super) fn found_circle(&mut self, key: &str, now_ms: u64) {
        self.circles.insert(key.to_owned(), now_ms.saturating_add(LOOK_AGAIN_MS));
    }

    /// A circle was found that goes through this instance by way of its sub-sagas, and somebody gives way.
    pub(super) fn found_circle_through(&mut self, instance: Uuid, now_ms: u64) {
        self.origins.insert(instance, now_ms.saturating_add(LOOK_AGAIN_MS));
    }

    /// The holders of keys at which a circle was found a moment ago, and for which somebody waits still, and instances through which one went.
    pub(super) fn look_again(&mut self, now_ms: u64) -> Vec<Uuid> {
        let due: Vec<String> = self.circles.iter().filter(|(_, at_ms)| **at_ms <= now_ms).map(|(key, _)| key.clone()).collect();
        let is_waited_for = |key: String| {
            self.circles.remove(&key);
            self.table.get(&key).filter(|lock| !lock.queue.is_empty()).map(|lock| lock.holder.by.instance)
        };
        let holders: Vec<Uuid> = due.into_iter().filter_map(is_waited_for).collect();
        let due: Vec<Uuid> = self.origins.iter().filter(|(_, at_ms)| **at_ms <= now_ms).map(|(instance, _)| *instance).collect();
        due.iter().for_each(|instance| _ = self.origins.remove(instance));
        holders.into_iter().chain(due).collect()
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
    pub(super) fn is_first_look(&self, probe: u64, instance: Uuid) -> bool {
        !self.looks.contains(&(probe, instance))
    }

    /// A probe has looked at the instance, and went on.
    pub(super) fn looked(&mut self, probe: u64, instance: Uuid) {
        if !self.looks.insert((probe, instance)) {
            return;
        }
        self.oldest_looks.push_back((probe, instance));
        if self.oldest_looks.len() > LOOKS_MAX
            && let Some(oldest) = self.oldest_looks.pop_front()
        {
            self.looks.remove(&oldest);
        }
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
                let decision = locks.table.ask(&format!("{key:04}"), who, false, key);
                locks.table.apply(&decision);
            }
        }
        let alone = locks.table.ask("alone", by(1), false, 0);
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
    fn a_moment_after_a_circle_was_found_it_is_looked_for_another_one() {
        let mut locks = HomeLocks::new(Locks::default(), 0);
        let ask = |locks: &mut HomeLocks, key: &str, who| {
            let decision = locks.table.ask(key, by(who), false, 0);
            locks.table.apply(&decision);
        };
        for key in ["a", "b"] {
            ask(&mut locks, key, 1);
            locks.found_circle(key, 5);
        }
        ask(&mut locks, "b", 2);
        locks.found_circle("nobody holds it", 5);
        assert_eq!(locks.next_due_ms(), Some(5 + LOOK_AGAIN_MS));
        assert_eq!(locks.look_again(4 + LOOK_AGAIN_MS), Vec::<Uuid>::new());
        assert_eq!(locks.look_again(5 + LOOK_AGAIN_MS), [by(1).instance], "where somebody waits");
        assert_eq!((locks.look_again(u64::MAX), locks.next_due_ms()), (Vec::new(), Some(ASK_AGAIN_MS)), "once");
    }

    #[test]
    fn so_it_is_from_an_instance_through_which_a_circle_went() {
        let mut locks = HomeLocks::new(Locks::default(), 0);
        locks.found_circle_through(Uuid::max(), 5);
        assert_eq!(locks.next_due_ms(), Some(5 + LOOK_AGAIN_MS), "also where nothing is held");
        assert_eq!(locks.look_again(4 + LOOK_AGAIN_MS), Vec::<Uuid>::new());
        assert_eq!(locks.look_again(5 + LOOK_AGAIN_MS), [Uuid::max()]);
        assert_eq!((locks.look_again(u64::MAX), locks.next_due_ms()), (Vec::new(), None), "once");
    }

    #[test]
    fn a_probe_looks_once_and_what_is_remembered_of_it_is_bounded() {
        let mut locks = HomeLocks::default();
        assert!(locks.is_first_look(1, Uuid::nil()) && locks.is_first_look(1, Uuid::nil()), "it has not gone on yet");
        locks.looked(1, Uuid::nil());
        assert!(!locks.is_first_look(1, Uuid::nil()) && locks.is_first_look(1, Uuid::max()) && locks.is_first_look(2, Uuid::nil()));
        for probe in 2..10_000 {
            locks.looked(probe, Uuid::nil());
            locks.looked(probe, Uuid::nil());
        }
        assert!(locks.looks.len() == LOOKS_MAX && locks.oldest_looks.len() == LOOKS_MAX && locks.is_first_look(1, Uuid::nil()));
    }
}
