//! What is stored of a key.

use super::secret::{SecretHash, begins};
use sagamq_api::KeyName;
use sagamq_api::access::{Grant, KeyDescription, KeyQuota, KeyState};
use serde::{Deserialize, Serialize};

/// A key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeyEntry {
    pub(crate) id: u64,
    pub(crate) name: KeyName,
    pub(crate) roles: Vec<Grant>,
    pub(crate) hash: SecretHash,
    pub(crate) created_at_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) expires_at_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) rotated_at_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) previous: Option<PreviousSecret>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) revoked_at_ms: Option<u64>,
    /// Whether somebody brought its secret, and did not get it from the server.
    #[serde(skip_serializing_if = "core::ops::Not::not", default)]
    pub(crate) is_brought: bool,
    /// Ids of secrets that were brought for keys of this name before: none of them ever counts again. One more for each start with another file.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub(crate) retired: Vec<u64>,
    /// How much whoever shows it may have.
    #[serde(skip_serializing_if = "KeyQuota::is_the_servers", default)]
    pub(crate) quota: KeyQuota,
}

/// The secret from before the last rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PreviousSecret {
    pub(crate) hash: SecretHash,
    /// Until when it works.
    pub(crate) until_ms: u64,
}

impl KeyEntry {
    pub(crate) fn state(&self, now_ms: u64) -> KeyState {
        if self.revoked_at_ms.is_some() {
            KeyState::Revoked
        } else if self.expires_at_ms.is_some_and(|at_ms| at_ms <= now_ms) {
            KeyState::Expired
        } else {
            KeyState::Active
        }
    }

    /// Since when it cannot be used, if it cannot.
    pub(crate) fn ended_at_ms(&self, now_ms: u64) -> Option<u64> {
        self.revoked_at_ms.or(self.expires_at_ms.filter(|at_ms| *at_ms <= now_ms))
    }

    /// Ids of brought secrets that must not count again once another key has the name.
    pub(crate) fn retiring(&self) -> Vec<u64> {
        self.retired.iter().copied().chain(self.is_brought.then_some(self.id)).collect()
    }

    pub(crate) fn description(&self, now_ms: u64) -> KeyDescription {
        KeyDescription {
            name: self.name.clone(),
            begins: begins(self.id),
            roles: self.roles.clone(),
            state: self.state(now_ms),
            created_at_ms: self.created_at_ms,
            expires_at_ms: self.expires_at_ms,
            rotated_at_ms: self.rotated_at_ms,
            previous_until_ms: self.previous.map(|previous| previous.until_ms).filter(|until_ms| *until_ms > now_ms),
            revoked_at_ms: self.revoked_at_ms,
            quota: self.quota,
        }
    }
}
