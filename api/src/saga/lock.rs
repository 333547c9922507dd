//! Semantic locks: what sagas hold, and who waits for it.

use serde::{Deserialize, Serialize};
#[cfg(feature = "openapi")]
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

/// The lock under which a participant is called. Whoever keeps the largest token that it has seen of a key, and refuses a call with a smaller
/// one, is safe from a saga that has lost the lock and does not know it yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct FencedLock {
    /// The key.
    pub key: String,
    /// Larger than that of every holder of the key before.
    pub token: u64,
}

/// The lock of a step, in the description of a saga.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct StepLock {
    /// The key.
    pub key: String,
    /// The token, once the saga has the lock; absent while it waits.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub token: Option<u64>,
}

/// `GET /v1/saga-locks`: which locks are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema, IntoParams))]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", into_params(parameter_in = Query))]
pub struct LockQuery {
    /// Only the lock of this key.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub key: Option<String>,
    /// Only what this saga holds or waits for.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub saga_id: Option<Uuid>,
    /// Only locks that somebody waits for.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub contended: Option<bool>,
    /// Only keys behind this one: the last of the page before.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub after: Option<String>,
    /// Most locks of the answer, 1 to 1,000; 100 if it is left out.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub limit: Option<u32>,
}

/// Locks that are held, by key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct LockList {
    /// The locks.
    pub locks: Vec<LockDescription>,
    /// Where the next page begins: `after` of its request. Absent: these are all.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub next: Option<String>,
}

/// A lock that is held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct LockDescription {
    /// The key.
    pub key: String,
    /// The saga that holds it.
    pub held_by: Uuid,
    /// Its fencing token.
    pub token: u64,
    /// Since when, in milliseconds since 1970.
    pub since_ms: u64,
    /// How many sagas wait for it.
    pub waiting: u64,
    /// The first of them, in the order in which they get it.
    pub waiters: Vec<LockWaiter>,
}

/// A saga that waits for a lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct LockWaiter {
    /// The saga.
    pub saga_id: Uuid,
    /// Since when, in milliseconds since 1970.
    pub since_ms: u64,
}

/// `POST /v1/saga-locks:break`: takes a lock away from the saga that holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
#[serde(deny_unknown_fields)]
pub struct BreakLock {
    /// The key.
    pub key: String,
    /// Only if it is held under this token: so nobody takes it from the next one who has it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub token: Option<u64>,
    /// Who does it, for the history of the saga that loses it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub actor: Option<String>,
    /// Why, for that history.
    pub reason: String,
}

/// A lock that was taken away. It is durable then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct BrokenLock {
    /// The key.
    pub key: String,
    /// The saga that held it. Its calls bear the old token still.
    pub taken_from: Uuid,
    /// The token that it had.
    pub token: u64,
    /// The saga that has it now, if one waited.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub held_by: Option<Uuid>,
}
