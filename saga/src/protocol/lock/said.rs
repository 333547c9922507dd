//! What an instance is told of its claim to a lock.

use sagamq_api::saga::Failure;
use serde::{Deserialize, Serialize};

/// What becomes of a claim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", content = "data", rename_all = "snake_case", deny_unknown_fields)]
pub enum LockSaid {
    /// It has the lock from now on. Said once.
    Granted {
        /// Larger than that of every holder before.
        token: u64,
    },
    /// It holds the lock, as it was told before: who has held it for long while others wait is told so again, and who does not know of it any
    /// more leaves it.
    Holds {
        /// The token that it has.
        token: u64,
    },
    /// It does not get it.
    Refused {
        /// Why.
        failure: Failure,
    },
    /// An operator took it away.
    Broken {
        /// The token that it had.
        token: u64,
        /// Who.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        actor: Option<String>,
        /// Why.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        reason: Option<String>,
    },
}
