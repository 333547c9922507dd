//! The locks of an instance: what it holds, and what it waits for.

use crate::protocol::lock::Claimant;
use std::collections::BTreeMap;
use uuid::Uuid;

/// The claims of an instance, by key. Several steps that want one key have one claim.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claims(pub(super) BTreeMap<String, Claim>);

/// A claim to a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The place of the event with which it was made.
    pub number: u64,
    /// The fencing token, once the lock is held.
    pub token: Option<u64>,
}

/// The lock of a step, from the moment that it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepLock {
    /// The key.
    pub key: String,
    /// The fencing token, once the instance has the lock. It stays if the lock is taken away.
    pub token: Option<u64>,
    /// Since when the step waits, or waited, in milliseconds since 1970.
    pub since_ms: u64,
    /// Until when, in milliseconds since 1970, if that is bounded.
    pub until_ms: Option<u64>,
}

impl Claims {
    /// The claim to a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<Claim> {
        self.0.get(key).copied()
    }

    /// All of them, by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Claim)> {
        self.0.iter().map(|(key, claim)| (key.as_str(), *claim))
    }

    /// Those that are not among the others.
    pub(super) fn beside<'a>(&'a self, others: &'a Self, instance: Uuid) -> impl Iterator<Item = (&'a str, Claimant)> {
        let is_new = move |(key, claim): &(&str, Claim)| others.get(key).is_none_or(|other| other.number != claim.number);
        self.iter().filter(is_new).map(move |(key, claim)| (key, Claimant { instance, number: claim.number }))
    }
}
