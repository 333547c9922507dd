//! When a saga has to be looked at because time passes, and its calls in progress. Derived from its state, so that no timer is a truth of
//! its own.

use super::place::Place;
use super::state::{InstanceState, Phase};
use super::step::{Attempt, Open, StepStatus};
use sagamq_api::saga::{AttemptId, Operation};

/// A wait from this length on is long, in milliseconds.
const LONG_MS: u64 = 2_000;

impl InstanceState {
    /// When time alone changes the instance, in milliseconds since 1970. Nothing else stores timers.
    #[must_use]
    pub fn next_due_ms(&self) -> Option<u64> {
        if !self.does_time_pass() {
            return None;
        }
        self.steps.iter().filter_map(StepStatus::due_ms).chain(self.running_timeout_ms()).chain(self.lock_dues()).min()
    }

    /// Whether time alone may change the instance now.
    #[must_use]
    pub fn is_due(&self, now_ms: u64) -> bool {
        self.does_time_pass()
            && (self.running_timeout_ms().into_iter().chain(self.lock_dues()).any(|at_ms| at_ms <= now_ms)
                || self.attempts().any(|(place, operation, attempt)| match attempt {
                    Attempt::None => false,
                    Attempt::Open(open) => open.is_due(now_ms, operation == Operation::Action && self.is_withdrawn(place)),
                    Attempt::Waiting { retry_at_ms } => retry_at_ms <= now_ms,
                    Attempt::Asleep(asleep) => asleep.until_ms.is_some_and(|at_ms| at_ms <= now_ms),
                }))
    }

    /// When the instance is to be looked at after `now_ms`, if nothing else happens and a look at `now_ms` changed nothing.
    #[must_use]
    pub fn next_look_ms(&self, now_ms: u64) -> Option<u64> {
        if !self.does_time_pass() {
            return None;
        }
        let looks = self.attempts().filter_map(|(_, _, attempt)| match attempt {
            Attempt::None => None,
            // A sub-saga, and what waits for an operator, have no time.
            Attempt::Open(_) | Attempt::Waiting { .. } if attempt.due_ms().is_none() => None,
            Attempt::Open(open) => Some(open.next_look_ms(now_ms)),
            Attempt::Waiting { retry_at_ms } => Some(retry_at_ms),
            Attempt::Asleep(asleep) => asleep.until_ms,
        });
        looks.chain(self.running_timeout_ms()).chain(self.lock_dues()).min()
    }

    /// When it goes on by itself, in milliseconds since 1970, if it is asleep: it calls no participant, and waits long for a time, a signal or
    /// a sub-saga.
    /// `u64::MAX`: not by itself. It need not be in memory meanwhile.
    #[must_use]
    pub fn asleep_until_ms(&self) -> Option<u64> {
        let mut live = self.attempts().peekable();
        // Who waits for a lock is told so after a restart.
        let only_waits = live.peek().is_some()
            && live.all(|(_, _, attempt)| attempt.is_asleep() || attempt.open().is_some_and(Open::is_endless))
            && !self.awaits_lock();
        // Who took effects over is known by what it took: it stays.
        if !only_waits || self.phase != Phase::Running || self.is_paused() || self.stop.is_some() || self.rerun_of.is_some() {
            return None;
        }
        let until_ms = self.next_look_ms(self.head.updated_at_ms).unwrap_or(u64::MAX);
        (until_ms.saturating_sub(self.head.updated_at_ms) >= LONG_MS).then_some(until_ms)
    }

    /// Calls in progress of which is not known whether they were handed out.
    #[must_use]
    pub fn unseen_calls(&self) -> Vec<AttemptId> {
        self.open(|open| !open.is_handed_out)
    }

    /// The attempts in progress.
    #[must_use]
    pub fn open_attempts(&self) -> Vec<AttemptId> {
        self.open(|_| true)
    }

    fn open(&self, wanted: impl Fn(Open) -> bool) -> Vec<AttemptId> {
        let open = self.attempts().filter(|(_, _, attempt)| attempt.open().is_some_and(&wanted));
        open.map(|(place, operation, _)| self.named(&self.attempt_at(place, operation))).collect()
    }

    /// Whether an action that waits in its queue is to be taken out of it: the instance is, or is to be, undone, or another item failed.
    pub(super) fn is_withdrawn(&self, place: Place) -> bool {
        let is_closed = self.steps[place.step].fan.as_ref().is_some_and(|fan| fan.is_closed);
        self.phase == Phase::Compensating || self.stop.is_some() || is_closed
    }

    /// Not for what is at rest, and not for what is paused: what is over meanwhile is looked at when it is resumed.
    pub(super) const fn does_time_pass(&self) -> bool {
        !self.phase.is_at_rest() && !self.is_paused()
    }

    fn attempts(&self) -> impl Iterator<Item = (Place, Operation, Attempt)> {
        self.live().map(|(place, operation)| (place, operation, self.at(place).progress(operation).attempt))
    }

    fn running_timeout_ms(&self) -> Option<u64> {
        self.timeout_at_ms.filter(|_| self.phase == Phase::Running)
    }
}
