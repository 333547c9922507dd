//! API keys: make, rotate, revoke. A change is durable when its method returns, and in force for every request from then on.

use crate::access::{ApiKeys, KeyEntry, PreviousSecret, Secret};
use crate::broker::Broker;
use crate::broker::topics::{delete, put};
use crate::shard::commit::WriteError;
use crate::storage::keys::MetaKey;
use sagamq_api::KeyName;
use sagamq_api::access::{CreateKey, CreatedKey, Grant, KeyDescription, KeyQuota, KeyState, RotateKey};
use sagamq_api::audit::AuditOutcome;
use sagamq_api::limits::{
    KEY_EXPIRES_MS_MAX, KEY_EXPIRES_MS_MIN, KEY_GRACE_MS_DEFAULT, KEY_GRACE_MS_MAX, KEY_ROLES_MAX, KEYS_MAX, QUOTA_BYTES_MAX,
    QUOTA_REQUESTS_MAX,
};

/// Name of the key whose secret a file brings. No other key can be made under it: the next start with another file would take its place.
pub const BROUGHT_KEY: &str = "bootstrap";

/// Why a key was not made or changed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum KeyError {
    /// No key has the name.
    #[error("no key has the name `{0}`")]
    NotFound(KeyName),
    /// A key has the name that is not revoked.
    #[error("the key `{0}` exists: revoke it first, or rotate it to give it another secret")]
    Exists(KeyName),
    /// The key is revoked.
    #[error("the key `{0}` is revoked, which is for good: make a new one of that name")]
    Revoked(KeyName),
    /// As many keys are valid as may be.
    #[error("{KEYS_MAX} keys are valid, and no more may be: revoke those that are not used any more")]
    TooMany,
    /// The name is kept for the key that a file brings.
    #[error("the name `{0}` is kept for the key whose secret a file brings (bootstrap_key_file): choose another")]
    Reserved(KeyName),
    /// It would be allowed nothing, or has too many roles.
    #[error("`roles` has {0} entries, allowed are 1 to {KEY_ROLES_MAX}")]
    Roles(usize),
    /// It would be valid for too short or too long.
    #[error("`expires_in_ms` is {0}, allowed is {KEY_EXPIRES_MS_MIN} to {KEY_EXPIRES_MS_MAX}")]
    Expires(u64),
    /// The secret from before would work for too long.
    #[error("`grace_ms` is {0}, at most {KEY_GRACE_MS_MAX} is allowed")]
    Grace(u64),
    /// It would be given more than a quota can say.
    #[error("`{name}` is {given}, at most {max} is allowed; 0 is no bound")]
    Quota {
        /// Which bound.
        name: &'static str,
        /// What was asked for.
        given: u64,
        /// What is allowed.
        max: u64,
    },
    /// The durable write failed or is not tried any more.
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl Broker {
    /// All keys in memory, to look secrets up.
    #[must_use]
    pub fn api_keys(&self) -> ApiKeys {
        self.0.api_keys.clone()
    }

    /// Every key by name, without its secret.
    #[must_use]
    pub fn keys(&self) -> Vec<KeyDescription> {
        let now_ms = self.0.clock.now_ms();
        self.0.api_keys.all().iter().map(|entry| entry.description(now_ms)).collect()
    }

    /// Makes a key. Its secret is in what is returned, and nowhere after that.
    ///
    /// # Errors
    /// When a valid key has the name, something is out of bounds, or the write fails.
    pub async fn create_key(&self, request: CreateKey) -> Result<CreatedKey, KeyError> {
        let CreateKey { name, roles, expires_in_ms, quota } = request;
        require_in_bounds(quota)?;
        if let Some(expires) = expires_in_ms.filter(|expires| !(KEY_EXPIRES_MS_MIN..=KEY_EXPIRES_MS_MAX).contains(expires)) {
            return Err(KeyError::Expires(expires));
        }
        if name.as_str() == BROUGHT_KEY {
            return Err(KeyError::Reserved(name));
        }
        let broker = self.clone();
        self.finish(async move {
            let _changes = broker.0.catalog.changes.lock().await;
            if broker.0.api_keys.get(&name).is_some_and(|known| known.state(broker.0.clock.now_ms()) != KeyState::Revoked) {
                return Err(KeyError::Exists(name));
            }
            let mut random = broker.random();
            let secret = std::iter::repeat_with(|| Secret::new(&mut random)).find(|secret| !broker.0.api_keys.had_id(secret.id()));
            let secret = secret.expect("the iterator has no end");
            let key = broker.store_key(NewKey { name, roles, expires_in_ms, quota, is_brought: false }, &secret).await?;
            Ok(CreatedKey { secret: secret.reveal(), key })
        })
        .await
    }

    /// Makes a key with a secret that somebody brings, in the place of the one that has the name. `None`: a key has the id of this secret, or had
    /// it, under whatever name, and everything stays as it is. So a secret that was rotated, revoked or replaced since does not count again
    /// because it is brought again.
    ///
    /// # Errors
    /// When something is out of bounds, or the write fails.
    pub async fn bring_key(&self, name: KeyName, roles: Vec<Grant>, secret: Secret) -> Result<Option<KeyDescription>, KeyError> {
        let broker = self.clone();
        self.finish(async move {
            let _changes = broker.0.catalog.changes.lock().await;
            if broker.0.api_keys.had_id(secret.id()) {
                return Ok(None);
            }
            let new = NewKey { name, roles, expires_in_ms: None, quota: KeyQuota::default(), is_brought: true };
            broker.store_key(new, &secret).await.map(Some)
        })
        .await
    }

    /// Stores a key in the place of the one that has its name. The lock of the catalogue's changes is held.
    async fn store_key(&self, new: NewKey, secret: &Secret) -> Result<KeyDescription, KeyError> {
        let NewKey { name, roles, expires_in_ms, quota, is_brought } = new;
        if !(1..=KEY_ROLES_MAX).contains(&roles.len()) {
            return Err(KeyError::Roles(roles.len()));
        }
        self.require_room()?;
        let (keys, now_ms) = (&self.0.api_keys, self.0.clock.now_ms());
        let (former, all) = (keys.get(&name), keys.all());
        let mut forgotten = None;
        if former.is_none() && all.len() >= KEYS_MAX {
            forgotten = Some(longest_ended(&all, now_ms).ok_or(KeyError::TooMany)?);
        }
        let entry = KeyEntry {
            id: secret.id(),
            name,
            roles,
            hash: secret.hash(),
            created_at_ms: now_ms,
            expires_at_ms: expires_in_ms.map(|expires| now_ms.saturating_add(expires)),
            rotated_at_ms: None,
            previous: None,
            revoked_at_ms: None,
            is_brought,
            retired: former.as_ref().map(KeyEntry::retiring).unwrap_or_default(),
            quota,
        };
        let gone = former.iter().chain(forgotten).filter(|gone| gone.id != entry.id);
        let mut mutations: Vec<_> = gone.map(|gone| delete(MetaKey::ApiKey(gone.id))).collect();
        mutations.push(put(MetaKey::ApiKey(entry.id), &entry));
        let note = self.note(AuditOutcome::Created, &[("key", &entry.name)]);
        let note = former.iter().fold(note, |note, former| note.before(&former.description(now_ms))).after(&entry.description(now_ms));
        self.write_meta(mutations, note).await?;
        if let Some(forgotten) = forgotten {
            keys.remove(&forgotten.name);
        }
        keys.insert(entry.clone());
        tracing::info!(key = %entry.name, roles = %shown(&entry.roles), "a key is made");
        Ok(entry.description(now_ms))
    }

    /// Gives a key another secret. The one from before works too for a while.
    ///
    /// # Errors
    /// When there is no such key, it is revoked, or the write fails.
    pub async fn rotate_key(&self, name: &KeyName, request: RotateKey) -> Result<CreatedKey, KeyError> {
        let grace_ms = request.grace_ms.unwrap_or(KEY_GRACE_MS_DEFAULT);
        if grace_ms > KEY_GRACE_MS_MAX {
            return Err(KeyError::Grace(grace_ms));
        }
        let (broker, name) = (self.clone(), name.clone());
        self.finish(async move {
            let _changes = broker.0.catalog.changes.lock().await;
            let now_ms = broker.0.clock.now_ms();
            let mut entry = broker.0.api_keys.get(&name).ok_or(KeyError::NotFound(name))?;
            if entry.revoked_at_ms.is_some() {
                return Err(KeyError::Revoked(entry.name));
            }
            let secret = Secret::of_key(entry.id, &mut broker.random());
            let until_ms = now_ms.saturating_add(grace_ms);
            let before = entry.description(now_ms);
            entry.previous = (grace_ms > 0).then_some(PreviousSecret { hash: entry.hash, until_ms });
            entry.hash = secret.hash();
            entry.rotated_at_ms = Some(now_ms);
            let note = broker.note(AuditOutcome::Changed, &[("key", &entry.name)]).before(&before).after(&entry.description(now_ms));
            broker.write_meta(vec![put(MetaKey::ApiKey(entry.id), &entry)], note).await?;
            broker.0.api_keys.insert(entry.clone());
            tracing::info!(key = %entry.name, grace_ms, "a key is rotated");
            Ok(CreatedKey { secret: secret.reveal(), key: entry.description(now_ms) })
        })
        .await
    }

    /// Says how much whoever shows a key may have from the next request on; what is left out is the server's bound for each client.
    ///
    /// # Errors
    /// When there is no such key, it is revoked, a bound is too large, or the write fails.
    pub async fn limit_key(&self, name: &KeyName, quota: KeyQuota) -> Result<KeyDescription, KeyError> {
        require_in_bounds(quota)?;
        let (broker, name) = (self.clone(), name.clone());
        self.finish(async move {
            let _changes = broker.0.catalog.changes.lock().await;
            let now_ms = broker.0.clock.now_ms();
            let mut entry = broker.0.api_keys.get(&name).ok_or(KeyError::NotFound(name))?;
            if entry.revoked_at_ms.is_some() {
                return Err(KeyError::Revoked(entry.name));
            }
            if entry.quota != quota {
                let before = entry.description(now_ms);
                entry.quota = quota;
                let note = broker.note(AuditOutcome::Changed, &[("key", &entry.name)]).before(&before).after(&entry.description(now_ms));
                broker.write_meta(vec![put(MetaKey::ApiKey(entry.id), &entry)], note).await?;
                broker.0.api_keys.insert(entry.clone());
                tracing::info!(key = %entry.name, ?quota, "a key has another quota");
            }
            Ok(entry.description(now_ms))
        })
        .await
    }

    /// Takes a key away for good. Once more changes nothing.
    ///
    /// # Errors
    /// When there is no such key, or the write fails.
    pub async fn revoke_key(&self, name: &KeyName) -> Result<KeyDescription, KeyError> {
        let (broker, name) = (self.clone(), name.clone());
        self.finish(async move {
            let _changes = broker.0.catalog.changes.lock().await;
            let now_ms = broker.0.clock.now_ms();
            let mut entry = broker.0.api_keys.get(&name).ok_or(KeyError::NotFound(name))?;
            if entry.revoked_at_ms.is_none() {
                let before = entry.description(now_ms);
                entry.revoked_at_ms = Some(now_ms);
                entry.previous = None;
                let note = broker.note(AuditOutcome::Deleted, &[("key", &entry.name)]).before(&before);
                broker.write_meta(vec![put(MetaKey::ApiKey(entry.id), &entry)], note).await?;
                broker.0.api_keys.insert(entry.clone());
                tracing::info!(key = %entry.name, "a key is revoked");
            }
            Ok(entry.description(now_ms))
        })
        .await
    }
}

/// A key that is to be stored.
struct NewKey {
    name: KeyName,
    roles: Vec<Grant>,
    expires_in_ms: Option<u64>,
    quota: KeyQuota,
    is_brought: bool,
}

fn require_in_bounds(quota: KeyQuota) -> Result<(), KeyError> {
    let bounds = [
        ("requests_per_second", quota.requests_per_second, QUOTA_REQUESTS_MAX),
        ("bytes_per_second", quota.bytes_per_second, QUOTA_BYTES_MAX),
    ];
    for (name, given, max) in bounds {
        if let Some(given) = given.filter(|given| *given > max) {
            return Err(KeyError::Quota { name, given, max });
        }
    }
    Ok(())
}

fn shown(roles: &[Grant]) -> String {
    roles.iter().map(Grant::to_string).collect::<Vec<_>>().join(" ")
}

/// The key that has been of no use for longest. What must not count again is not forgotten: there is no more of it than starts brought or made.
fn longest_ended(keys: &[KeyEntry], now_ms: u64) -> Option<&KeyEntry> {
    let ended = keys.iter().filter(|entry| entry.retiring().is_empty());
    let ended = ended.filter_map(|entry| Some((entry.ended_at_ms(now_ms)?, entry)));
    ended.min_by_key(|(at_ms, _)| *at_ms).map(|(_, entry)| entry)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::Random;

    #[test]
    fn room_is_made_by_what_ended_first_and_never_by_what_must_not_count_again() {
        let secret = Secret::new(&mut Random::from_seed(1));
        let key = |id: u64, revoked_at_ms: Option<u64>, is_brought: bool, retired: &[u64]| KeyEntry {
            id,
            name: format!("key-{id}").parse().expect("a name"),
            roles: Vec::new(),
            hash: secret.hash(),
            created_at_ms: 0,
            expires_at_ms: (id == 6).then_some(900),
            rotated_at_ms: None,
            previous: None,
            revoked_at_ms,
            is_brought,
            retired: retired.to_vec(),
            quota: KeyQuota::default(),
        };
        let valid = [key(1, None, false, &[])];
        let kept = [key(2, Some(1), true, &[]), key(3, Some(1), false, &[9])];
        let ended = [key(4, Some(50), false, &[]), key(5, Some(40), false, &[]), key(6, None, false, &[])];
        let found = |keys: &[KeyEntry], now_ms| longest_ended(keys, now_ms).map(|entry| entry.id);
        assert_eq!(found(&[&valid[..], &kept, &ended].concat(), 1_000), Some(5));
        assert_eq!(found(&[&valid[..], &kept].concat(), 1_000), None);
        assert_eq!((found(&ended[2..], 899), found(&ended[2..], 900)), (None, Some(6)));
    }
}
