//! Who waits in a circle: probes that follow the waits from a holder on, over the lanes, until one comes back to it.
//!
//! A wait is an edge from an instance to who holds what it waits for. The last edge of a circle to come into being sends a probe along all others,
//! because they are there by then: messages of a pair of lanes keep their order, so a probe never overtakes the claim that it follows.
//! Every probe that closes the same circle names the same instance to give way, so one does.
//!
//! A wait may end while a probe follows it, by a timeout for one, and then what closes is no circle. So a probe that has come back goes round
//! once more, by the same way and no other: the same claims, and the same holders by their tokens. A claim waits once and a token is given once,
//! so what was there on both rounds was there between them, all of it at one time. Where the second round meets what has changed, a new probe sets
//! out: an instance is looked at once for a probe, so this one may have come by a way that was about to end, and not by one that stays. Each such
//! start is paid for by a change, so there is an end to them.

use super::claimant::Claimant;
use super::table::Locks;
use crate::protocol::codes;
use sagamq_api::limits::LOCK_PROBE_HOPS_MAX;
use sagamq_api::saga::Failure;
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use xxhash_rust::xxh3::xxh3_64;

/// Most waits of a circle that a message names.
const NAMED_MAX: usize = 8;

/// A probe under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Probe {
    /// What tells it from others: an instance is looked at once for each.
    pub id: u64,
    /// The holder from which it set out.
    pub from: Uuid,
    /// The waits that it followed.
    pub path: Vec<Hop>,
    /// The waits of the round before, on the second one: it follows these only, in this order.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub confirms: Vec<Hop>,
}

/// A wait that a probe followed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hop {
    /// Who waits.
    pub by: Claimant,
    /// For which key.
    pub key: String,
    /// When that instance started, in milliseconds since 1970.
    pub started_at_ms: u64,
    /// Whether it can give way: it is not past its pivot.
    pub may_fail: bool,
    /// The token of who holds the key, once that was looked at.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub token: Option<u64>,
}

/// What an instance waits for, as its protocol tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    /// The key.
    pub key: String,
    /// The number of its claim.
    pub number: u64,
    /// Whether whatever waits for it can fail.
    pub may_fail: bool,
}

/// Where a probe goes from a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// To who holds it.
    LookAt(Uuid, Probe),
    /// It has come back, and goes round once more, from where it set out.
    Confirm(Probe),
    /// On the second round something has changed: a new one sets out from this one.
    Anew(Uuid),
    /// It has come back twice.
    Circle(Circle),
}

/// A circle of waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Circle {
    /// Whose wait is to end, and for which key; `None`: each of them has to have its lock.
    pub gives_way: Option<(Claimant, String)>,
    /// The circle in words.
    pub failure: Failure,
}

impl Hop {
    fn is_of(&self, instance: Uuid, wait: &Wait) -> bool {
        self.by == Claimant { instance, number: wait.number } && self.key == wait.key
    }
}

impl Probe {
    /// One that sets out from a holder.
    #[must_use]
    pub const fn new(id: u64, from: Uuid) -> Self {
        Self { id, from, path: Vec::new(), confirms: Vec::new() }
    }

    /// The keys that are looked at next, from an instance that waits for these; `started_at_ms` is when that one started. Nothing: the way ends here.
    #[must_use]
    pub fn follow(&self, instance: Uuid, started_at_ms: u64, waits: &[Wait]) -> Vec<(String, Self)> {
        let was_here = self.path.iter().any(|hop| hop.by.instance == instance);
        if was_here || self.path.len() >= LOCK_PROBE_HOPS_MAX {
            return Vec::new();
        }
        let next = |wait: &Wait| {
            let Wait { key, number, may_fail } = wait.clone();
            let by = Claimant { instance, number };
            let mut probe = self.clone();
            probe.path.push(Hop { by, key: key.clone(), started_at_ms, may_fail, token: None });
            (key, probe)
        };
        let is_wanted =
            |wait: &&Wait| self.confirms.is_empty() || self.confirms.get(self.path.len()).is_some_and(|hop| hop.is_of(instance, wait));
        waits.iter().filter(is_wanted).map(next).collect()
    }

    /// Whether this instance has ended a wait behind the probe, which looks for it on its second round; the arguments are those of `follow`.
    #[must_use]
    pub fn is_outdated_by(&self, instance: Uuid, waits: &[Wait]) -> bool {
        let expected = self.confirms.get(self.path.len()).filter(|hop| hop.by.instance == instance);
        expected.is_some_and(|hop| !waits.iter().any(|wait| hop.is_of(instance, wait)))
    }

    /// Where it goes from the key of its last wait. `None`: that one waits no more, so the way ends here.
    #[must_use]
    pub fn at_key(mut self, locks: &Locks) -> Option<Next> {
        let at = self.path.len().checked_sub(1)?;
        let hop = &mut self.path[at];
        let lock = locks.get(&hop.key).filter(|lock| lock.queue.iter().any(|waiter| waiter.by == hop.by));
        hop.token = lock.map(|lock| lock.holder.token);
        if self.confirms.get(at).is_some_and(|before| before.token != self.path[at].token) {
            return Some(Next::Anew(self.from));
        }
        let holder = lock?.holder.by.instance;
        if holder == self.from { self.closed() } else { Some(Next::LookAt(holder, self)) }
    }

    /// Where it goes from an instance if that is the one from which it set out: it may come back by way of a sub-saga, which holds what is waited for
    /// and waits for its parent. `None`: it has not come back.
    #[must_use]
    pub fn at_origin(&self, instance: Uuid) -> Option<Next> {
        if instance == self.from && !self.path.is_empty() { self.closed() } else { None }
    }

    /// It has come back. `None`: on the second round by a shorter way than before.
    fn closed(&self) -> Option<Next> {
        if self.confirms.is_empty() {
            Some(Next::Confirm(Self { confirms: self.path.clone(), ..Self::new(self.second_id(), self.from) }))
        } else {
            (self.path.len() == self.confirms.len()).then(|| Next::Circle(self.circle()))
        }
    }

    /// What tells its looks at an instance apart: one that was looked at for it is not looked at again. On the first round that is so on whatever way it
    /// comes. On the second one it follows one way, and may come to who is on it before his turn, by way of a parent or a sub-saga.
    #[must_use]
    pub fn look(&self) -> u64 {
        if self.confirms.is_empty() {
            return self.id;
        }
        let hops = u64::try_from(self.path.len()).unwrap_or(u64::MAX);
        xxh3_64([self.id.to_be_bytes(), hops.to_be_bytes()].as_flattened())
    }

    /// Its id on the second round. Each instance is looked at once for an id, and one that set out may come back on several ways: each of them is
    /// followed by itself.
    fn second_id(&self) -> u64 {
        let mut bytes = self.id.to_be_bytes().to_vec();
        for Hop { by, token, .. } in &self.path {
            bytes.extend(by.instance.as_bytes());
            bytes.extend(by.number.to_be_bytes());
            bytes.extend(token.unwrap_or_default().to_be_bytes());
        }
        xxh3_64(&bytes)
    }

    /// The youngest of those who can gives way: it has done least, and the oldest always comes through.
    fn circle(&self) -> Circle {
        let youngest = self.path.iter().filter(|hop| hop.may_fail).max_by_key(|hop| (hop.started_at_ms, hop.by.instance));
        let failure = |message| Failure { code: codes::LOCK_DEADLOCK.to_owned(), message };
        let gives_way = youngest.map(|hop| (hop.by, hop.key.clone()));
        if let [Hop { by, key, .. }] = self.path.as_slice() {
            let message = format!(
                "saga {} waits for the lock `{key}`, which saga {} or a sub-saga of it holds, and that one waits for this one: a saga and its \
                 sub-sagas have no part in each other's locks",
                by.instance, self.from
            );
            return Circle { gives_way, failure: failure(message) };
        }
        let named = self.path.iter().take(NAMED_MAX).map(|hop| format!("saga {} waits for `{}`", hop.by.instance, hop.key));
        let more = self.path.len().saturating_sub(NAMED_MAX);
        let more = if more > 0 { format!(", and {more} more") } else { String::new() };
        let message = format!(
            "sagas wait for each other's locks in a circle: {}{more}; the youngest gives way",
            named.collect::<Vec<_>>().join(", ")
        );
        Circle { gives_way, failure: failure(message) }
    }
}
