//! The locks of a lane: a pure state machine. What happens is decided on the state and applied to it when its commit has its place.

use super::claimant::Claimant;
use super::said::LockSaid;
use crate::protocol::codes;
use sagamq_api::limits::LOCK_WAITERS_MAX;
use sagamq_api::saga::Failure;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use uuid::Uuid;

/// Who holds a lock. Its row in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Holder {
    /// Whose claim it is.
    pub by: Claimant,
    /// The fencing token.
    pub token: u64,
    /// Since when, in milliseconds since 1970.
    pub since_ms: u64,
}

/// Who waits for a lock. Its row in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Waiter {
    /// Whose claim it is.
    pub by: Claimant,
    /// Its place: whoever has a smaller one comes before.
    pub ticket: u64,
    /// Since when, in milliseconds since 1970.
    pub since_ms: u64,
}

/// A lock that is held. One that nobody holds is not known: who asks for it has it at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lock {
    /// Who holds it.
    pub holder: Holder,
    /// Who waits for it, in their order.
    pub queue: VecDeque<Waiter>,
}

/// The locks that have their home on a lane.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Locks {
    held: BTreeMap<String, Lock>,
    /// The last number that was given, as a token or as a place. It never goes back, so a key that was forgotten gets larger tokens than before.
    last: u64,
}

/// One row that changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It has this holder.
    Held(Holder),
    /// Nobody holds it, and nobody waits.
    Free,
    /// This one waits, behind all others.
    Queued(Waiter),
    /// Who has this place waits no more.
    Gone(u64),
}

/// What an input means for a lock.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LockDecision {
    /// The key.
    pub key: String,
    /// What changes, in this order.
    pub changes: Vec<Change>,
    /// Who is told what.
    pub said: Vec<(Claimant, LockSaid)>,
    /// The holder from which a probe sets out.
    pub look_at: Option<Uuid>,
    /// How long the one who gets the lock has waited for it, in milliseconds, if somebody does.
    pub waited_ms: Option<u64>,
}

impl Locks {
    /// Those that were stored: holders and waiters by key, and the last number that was given.
    ///
    /// # Errors
    /// When somebody waits for what nobody holds.
    pub fn stored(
        holders: impl IntoIterator<Item = (String, Holder)>,
        waiters: impl IntoIterator<Item = (String, Waiter)>,
        last: u64,
    ) -> Result<Self, String> {
        let held = holders.into_iter().map(|(key, holder)| (key, Lock { holder, queue: VecDeque::new() }));
        let mut held: BTreeMap<String, Lock> = held.collect();
        for (key, waiter) in waiters {
            let lock =
                held.get_mut(&key).ok_or_else(|| format!("saga {} waits for the lock `{key}`, which nobody holds", waiter.by.instance))?;
            let at = lock.queue.partition_point(|before| before.ticket < waiter.ticket);
            lock.queue.insert(at, waiter);
        }
        Ok(Self { held, last })
    }

    /// A lock, if it is held.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Lock> {
        self.held.get(key)
    }

    /// The locks that are held, by key, behind this one.
    pub fn after<'a>(&'a self, key: Option<&str>) -> impl Iterator<Item = (&'a str, &'a Lock)> + use<'a> {
        use core::ops::Bound::{Excluded, Unbounded};
        let from = key.map_or(Unbounded, |key| Excluded(key.to_owned()));
        self.held.range((from, Unbounded)).map(|(key, lock)| (key.as_str(), lock))
    }

    /// How many are held, and how many wait.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        (self.held.len(), self.held.values().map(|lock| lock.queue.len()).sum())
    }

    /// The last number that was given.
    #[must_use]
    pub const fn last(&self) -> u64 {
        self.last
    }

    /// Somebody wants the lock; who `must` have it is never refused.
    #[must_use]
    pub fn ask(&self, key: &str, by: Claimant, must: bool, now_ms: u64) -> LockDecision {
        let mut decision = LockDecision { key: key.to_owned(), ..LockDecision::default() };
        let Some(lock) = self.held.get(key) else {
            decision.grant(by, self.last + 1, now_ms);
            decision.waited_ms = Some(0);
            return decision;
        };
        if lock.holder.by == by {
            decision.said.push((by, LockSaid::Holds { token: lock.holder.token }));
        } else if lock.queue.iter().any(|waiter| waiter.by == by) {
            // It is in its place.
        } else if lock.queue.len() >= LOCK_WAITERS_MAX && !must {
            let message = format!(
                "{LOCK_WAITERS_MAX} sagas wait for the lock `{key}` already, which saga {} holds; the bound is fixed \
                 (`LOCK_WAITERS_MAX`): start fewer at a time, or use a finer key",
                lock.holder.by.instance
            );
            let failure = Failure { code: codes::LOCK_QUEUE_FULL.to_owned(), message };
            decision.said.push((by, LockSaid::Refused { failure }));
        } else {
            decision.changes.push(Change::Queued(Waiter { by, ticket: self.last + 1, since_ms: now_ms }));
            decision.look_at = Some(lock.holder.by.instance);
        }
        decision
    }

    /// Who held the lock or waited for it does not any more. Nothing, if it did neither.
    #[must_use]
    pub fn leave(&self, key: &str, by: Claimant, now_ms: u64) -> LockDecision {
        let mut decision = LockDecision { key: key.to_owned(), ..LockDecision::default() };
        let Some(lock) = self.held.get(key) else { return decision };
        if lock.holder.by == by {
            self.pass_on(lock, now_ms, &mut decision);
        } else if let Some(waiter) = lock.queue.iter().find(|waiter| waiter.by == by) {
            decision.changes.push(Change::Gone(waiter.ticket));
        }
        decision
    }

    /// An operator takes the lock away from who holds it, if that is the one with this token. `None`: it is not held so.
    #[must_use]
    pub fn take_away(
        &self,
        key: &str,
        token: Option<u64>,
        (actor, reason): (Option<String>, Option<String>),
        now_ms: u64,
    ) -> Option<LockDecision> {
        let lock = self.held.get(key).filter(|lock| token.is_none_or(|token| lock.holder.token == token))?;
        let mut decision = LockDecision { key: key.to_owned(), ..LockDecision::default() };
        decision.said.push((lock.holder.by, LockSaid::Broken { token: lock.holder.token, actor, reason }));
        self.pass_on(lock, now_ms, &mut decision);
        Some(decision)
    }

    /// The first who waits has it; if nobody does, it is forgotten.
    fn pass_on(&self, lock: &Lock, now_ms: u64, decision: &mut LockDecision) {
        let Some(first) = lock.queue.front() else { return decision.changes.push(Change::Free) };
        decision.changes.push(Change::Gone(first.ticket));
        decision.grant(first.by, self.last + 1, now_ms);
        decision.waited_ms = Some(now_ms.saturating_sub(first.since_ms));
        // Who waits on does so for another one now: that may close a circle.
        decision.look_at = (lock.queue.len() > 1).then_some(first.by.instance);
    }

    /// Applies what was decided: the only way the locks change.
    ///
    /// # Panics
    /// When the decision was made on another state.
    pub fn apply(&mut self, decision: &LockDecision) {
        let key = &decision.key;
        for change in &decision.changes {
            match *change {
                Change::Held(holder) => {
                    assert!(holder.token > self.last, "a token is larger than all before");
                    self.last = holder.token;
                    match self.held.get_mut(key) {
                        Some(lock) => lock.holder = holder,
                        None => _ = self.held.insert(key.clone(), Lock { holder, queue: VecDeque::new() }),
                    }
                }
                Change::Free => {
                    let lock = self.held.remove(key).expect("what is held is let go");
                    assert!(lock.queue.is_empty(), "who waits gets it");
                }
                Change::Queued(waiter) => {
                    assert!(waiter.ticket > self.last, "who comes later waits behind all others");
                    self.last = waiter.ticket;
                    self.held.get_mut(key).expect("only what is held is waited for").queue.push_back(waiter);
                }
                Change::Gone(ticket) => {
                    let queue = &mut self.held.get_mut(key).expect("only what is held is waited for").queue;
                    let at = queue.iter().position(|waiter| waiter.ticket == ticket).expect("who is gone had waited");
                    queue.remove(at);
                }
            }
        }
    }
}

impl LockDecision {
    fn grant(&mut self, by: Claimant, token: u64, now_ms: u64) {
        self.changes.push(Change::Held(Holder { by, token, since_ms: now_ms }));
        self.said.push((by, LockSaid::Granted { token }));
    }

    /// Whether nothing follows.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        self.changes.is_empty() && self.said.is_empty()
    }
}
