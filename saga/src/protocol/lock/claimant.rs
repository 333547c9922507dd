//! Whose claim to a lock it is.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Who wants a lock: an instance, and which of its claims. One that gave up and asks again has another number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claimant {
    /// The instance.
    pub instance: Uuid,
    /// The place of the event in its history with which it asked.
    pub number: u64,
}
