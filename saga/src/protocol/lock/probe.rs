//! Who waits in a circle: probes that follow the waits from a holder on, over the lanes, until one comes back to it.
//!
//! A wait is an edge from an instance to who holds what it waits for. The last edge of a circle to come into being sends a probe along all others,
//! because they are there by then: messages of a pair of lanes keep their order, so a probe never overtakes the claim that it follows.
//! Every probe that closes the same circle names the same instance to give way, so one does.

use super::claimant::Claimant;
use super::table::Locks;
use crate::protocol::codes;
use sagamq_api::limits::LOCK_PROBE_HOPS_MAX;
use sagamq_api::saga::Failure;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

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
    LookAt(Uuid),
    /// It has come back.
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

impl Probe {
    /// What it looks at next, from an instance that waits for these; `started_at_ms` is when that one started. Nothing: the way ends here.
    #[must_use]
    pub fn follow(&self, instance: Uuid, started_at_ms: u64, waits: &[Wait]) -> Vec<(String, Claimant, Self)> {
        let was_here = self.path.iter().any(|hop| hop.by.instance == instance);
        if was_here || self.path.len() >= LOCK_PROBE_HOPS_MAX {
            return Vec::new();
        }
        let next = |wait: &Wait| {
            let Wait { key, number, may_fail } = wait.clone();
            let by = Claimant { instance, number };
            let mut probe = self.clone();
            probe.path.push(Hop { by, key: key.clone(), started_at_ms, may_fail });
            (key, by, probe)
        };
        waits.iter().map(next).collect()
    }

    /// Where it goes from a key for which this one waits. `None`: it waits no more, so the way ends here.
    #[must_use]
    pub fn at_key(&self, locks: &Locks, key: &str, by: Claimant) -> Option<Next> {
        let lock = locks.get(key).filter(|lock| lock.queue.iter().any(|waiter| waiter.by == by))?;
        let holder = lock.holder.by.instance;
        Some(if holder == self.from { Next::Circle(self.circle()) } else { Next::LookAt(holder) })
    }

    /// The youngest of those who can gives way: it has done least, and the oldest always comes through.
    fn circle(&self) -> Circle {
        let youngest = self.path.iter().filter(|hop| hop.may_fail).max_by_key(|hop| (hop.started_at_ms, hop.by.instance));
        let named = self.path.iter().take(NAMED_MAX).map(|hop| format!("saga {} waits for `{}`", hop.by.instance, hop.key));
        let more = self.path.len().saturating_sub(NAMED_MAX);
        let more = if more > 0 { format!(", and {more} more") } else { String::new() };
        let message = format!(
            "sagas wait for each other's locks in a circle: {}{more}; the youngest gives way",
            named.collect::<Vec<_>>().join(", ")
        );
        let failure = Failure { code: codes::LOCK_DEADLOCK.to_owned(), message };
        Circle { gives_way: youngest.map(|hop| (hop.by, hop.key.clone())), failure }
    }
}
