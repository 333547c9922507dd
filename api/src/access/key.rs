//! Bodies of the key routes. The secret of a key is in the answer that makes it, and nowhere after that.

use super::grant::Grant;
use super::quota::KeyQuota;
use crate::names::KeyName;
use core::fmt;
use serde::{Deserialize, Serialize};
#[cfg(feature = "openapi")]
use utoipa::ToSchema;

/// `POST /v1/keys`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
#[serde(deny_unknown_fields)]
pub struct CreateKey {
    /// What logs and histories call whoever presents it, 1 to 64 bytes. No two keys have one name; that of a revoked key can be given anew.
    pub name: KeyName,
    /// What it may do, 1 to 64 of them: `admin`, `produce:topic=orders*`, `consume:topic=orders,group=billing`, `operate:saga=checkout`.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    pub roles: Vec<Grant>,
    /// How long it is valid, in milliseconds (1 s to 10 years); left out: until it is revoked.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub expires_in_ms: Option<u64>,
    /// How much whoever shows it may have; left out: as much as each client.
    #[serde(skip_serializing_if = "KeyQuota::is_the_servers", default)]
    pub quota: KeyQuota,
}

/// `POST /v1/keys/{key}:rotate`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
#[serde(deny_unknown_fields)]
pub struct RotateKey {
    /// How long the secret from before works beside the new one, in milliseconds (default 1 h, at most 30 d); 0: no longer.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub grace_ms: Option<u64>,
}

/// A key with its secret, which is told this once.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct CreatedKey {
    /// What is presented: `authorization: Bearer sq_…`. The server keeps a hash of it.
    pub secret: String,
    /// The key.
    pub key: KeyDescription,
}

impl fmt::Debug for CreatedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CreatedKey").field("secret", &"(secret)").field("key", &self.key).finish()
    }
}

/// A key without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct KeyDescription {
    /// Its name.
    pub name: KeyName,
    /// What its secret begins with, to tell which one it is.
    pub begins: String,
    /// What it may do.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    pub roles: Vec<Grant>,
    /// Whether it can be used.
    pub state: KeyState,
    /// When it was made, in milliseconds since 1970.
    pub created_at_ms: u64,
    /// Until when it is valid.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub expires_at_ms: Option<u64>,
    /// When it got its secret last, if that was changed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub rotated_at_ms: Option<u64>,
    /// Until when the secret from before works too.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub previous_until_ms: Option<u64>,
    /// When it was revoked.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub revoked_at_ms: Option<u64>,
    /// How much whoever shows it may have, where that is another than the server's bound for each client.
    #[serde(skip_serializing_if = "KeyQuota::is_the_servers", default)]
    pub quota: KeyQuota,
}

/// Whether a key can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum KeyState {
    /// It can.
    Active,
    /// Its time is over.
    Expired,
    /// It was taken away.
    Revoked,
}

impl fmt::Display for KeyState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Active => "active",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        })
    }
}

/// Every key, by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct KeyList {
    /// The keys.
    pub keys: Vec<KeyDescription>,
}
