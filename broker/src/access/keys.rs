//! [`ApiKeys`]: all keys in memory, and a request's hold on one.

use super::entry::KeyEntry;
use super::secret::{Secret, SecretHash};
use crate::env::Clock;
use core::time::Duration;
use sagamq_api::KeyName;
use sagamq_api::access::{KeyQuota, KeyState, Rights};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock};
use tokio_util::sync::CancellationToken;

/// All keys; clones are the same ones. Changes go through the broker, one at a time, and are durable before they are seen here.
#[derive(Clone, Debug, Default)]
pub struct ApiKeys(Arc<RwLock<Keys>>);

#[derive(Debug, Default)]
struct Keys {
    by_id: HashMap<u64, Arc<Known>>,
    by_name: BTreeMap<KeyName, u64>,
}

/// A key as it is until it is changed.
#[derive(Debug)]
struct Known {
    entry: KeyEntry,
    /// What logs and histories call it.
    principal: String,
    rights: Rights,
    /// Cancelled when there is another in its place, or none.
    changed: CancellationToken,
}

/// Why a secret is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyRefused {
    /// No key has it. Of a key that is there and has another secret, nothing else is told.
    #[error("the key is not known")]
    Unknown,
    /// The key was taken away.
    #[error("the key `{0}` is revoked")]
    Revoked(KeyName),
    /// Its time is over.
    #[error("the key `{0}` has expired")]
    Expired(KeyName),
    /// The secret was changed, and the time is over in which the one from before works too.
    #[error("the key `{0}` has another secret since it was rotated")]
    Rotated(KeyName),
}

/// A valid key that was presented.
#[derive(Clone, Debug)]
pub(crate) struct KeySession {
    keys: ApiKeys,
    known: Arc<Known>,
    hash: SecretHash,
}

impl ApiKeys {
    pub(crate) fn new(stored: Vec<KeyEntry>) -> Self {
        let keys = Self::default();
        stored.into_iter().for_each(|entry| keys.insert(entry));
        keys
    }

    /// Looks whether a secret is that of a key that is valid now.
    ///
    /// # Errors
    /// [`KeyRefused`].
    pub(crate) fn verify(&self, secret: &Secret, now_ms: u64) -> Result<KeySession, KeyRefused> {
        self.check(secret.id(), secret.hash(), now_ms)
    }

    /// Whether a secret is that of a key that is valid now and an administrator's.
    #[must_use]
    pub fn is_admins(&self, secret: &Secret, now_ms: u64) -> bool {
        self.verify(secret, now_ms).is_ok_and(|session| session.rights().is_admin())
    }

    fn check(&self, id: u64, hash: SecretHash, now_ms: u64) -> Result<KeySession, KeyRefused> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner).by_id.get(&id).cloned().ok_or(KeyRefused::Unknown)?;
        let entry = &known.entry;
        let is_current = entry.hash == hash;
        let previous = entry.previous.filter(|previous| previous.hash == hash);
        let name = || entry.name.clone();
        if !is_current && previous.is_none() {
            return Err(KeyRefused::Unknown);
        }
        match entry.state(now_ms) {
            KeyState::Revoked => Err(KeyRefused::Revoked(name())),
            KeyState::Expired => Err(KeyRefused::Expired(name())),
            KeyState::Active if !is_current && previous.is_some_and(|previous| previous.until_ms <= now_ms) => {
                Err(KeyRefused::Rotated(name()))
            }
            KeyState::Active => Ok(KeySession { keys: self.clone(), known, hash }),
        }
    }

    pub(crate) fn get(&self, name: &KeyName) -> Option<KeyEntry> {
        let keys = self.0.read().unwrap_or_else(PoisonError::into_inner);
        keys.by_name.get(name).and_then(|id| keys.by_id.get(id)).map(|known| known.entry.clone())
    }

    pub(crate) fn all(&self) -> Vec<KeyEntry> {
        let keys = self.0.read().unwrap_or_else(PoisonError::into_inner);
        keys.by_name.values().filter_map(|id| keys.by_id.get(id)).map(|known| known.entry.clone()).collect()
    }

    /// Whether a key has this id, or had it when its secret was brought.
    pub(crate) fn had_id(&self, id: u64) -> bool {
        let keys = self.0.read().unwrap_or_else(PoisonError::into_inner);
        keys.by_id.contains_key(&id) || keys.by_id.values().any(|known| known.entry.retired.contains(&id))
    }

    /// The key is this from now on, in the place of what had its id or its name.
    pub(crate) fn insert(&self, entry: KeyEntry) {
        let mut keys = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let (id, name) = (entry.id, entry.name.clone());
        let (principal, rights) = (format!("key:{name}"), Rights::new(entry.roles.clone()));
        let known = Known { principal, rights, entry, changed: CancellationToken::new() };
        let before = keys.by_id.insert(id, Arc::new(known));
        if let Some(other) = before.as_ref().map(|known| &known.entry.name).filter(|other| **other != name) {
            keys.by_name.remove(other);
        }
        let former = keys.by_name.insert(name, id).filter(|former| *former != id);
        let former = former.and_then(|former| keys.by_id.remove(&former));
        before.into_iter().chain(former).for_each(|known| known.changed.cancel());
    }

    pub(crate) fn remove(&self, name: &KeyName) {
        let mut keys = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let known = keys.by_name.remove(name).and_then(|id| keys.by_id.remove(&id));
        known.into_iter().for_each(|known| known.changed.cancel());
    }
}

impl KeySession {
    /// Waits until the secret is not valid any more: its key is revoked or has expired, or the time of an older secret is over.
    pub(crate) async fn ended(mut self, clock: Arc<dyn Clock>) {
        loop {
            let now_ms = clock.now_ms();
            let Ok(session) = self.keys.check(self.known.entry.id, self.hash, now_ms) else { return };
            self = session;
            let entry = &self.known.entry;
            let older_until_ms = entry.previous.filter(|_| entry.hash != self.hash).map(|previous| previous.until_ms);
            let ends_at_ms = older_until_ms.into_iter().chain(entry.expires_at_ms).min();
            let changed = self.known.changed.cancelled();
            match ends_at_ms {
                Some(at_ms) => {
                    let _ = tokio::time::timeout(pause(at_ms, now_ms), changed).await;
                }
                None => changed.await,
            }
        }
    }

    pub(crate) fn principal(&self) -> &str {
        &self.known.principal
    }

    pub(super) fn rights(&self) -> &Rights {
        &self.known.rights
    }

    pub(super) fn quota(&self) -> KeyQuota {
        self.known.entry.quota
    }
}

/// How long to wait for a time: a little longer than it is until then, so that it is over when it is looked again; a clock that stands still costs
/// a look a second.
pub(super) fn pause(at_ms: u64, now_ms: u64) -> Duration {
    Duration::from_millis(at_ms.saturating_sub(now_ms).clamp(1_000, 86_400_000))
}
