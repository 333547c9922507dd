//! What instances and the homes of locks tell each other, as it is sent from lane to lane.

use super::claimant::Claimant;
use super::probe::Probe;
use super::said::LockSaid;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A message about a lock. What is sent is never renamed or given another meaning.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", content = "data", rename_all = "snake_case", deny_unknown_fields)]
pub enum LockMessage {
    /// To the home: somebody wants the lock.
    Ask {
        /// The key.
        key: String,
        /// Who.
        by: Claimant,
        /// Whether it waits however many others do: it was refused, and cannot fail.
        #[serde(skip_serializing_if = "core::ops::Not::not", default)]
        must: bool,
    },
    /// To the home: who held it, or waited for it, does not any more.
    Leave {
        /// The key.
        key: String,
        /// Who.
        by: Claimant,
    },
    /// To the home of the key of its last wait: a probe follows that wait.
    LookAtKey {
        /// The probe.
        probe: Probe,
    },
    /// To the lane of the instance: what became of its claim.
    Said {
        /// The key.
        key: String,
        /// Whose claim.
        to: Claimant,
        /// What became of it.
        said: LockSaid,
    },
    /// To the lane of the instance: a probe wants to know what it waits for.
    LookAtInstance {
        /// The instance, which holds what somebody waits for.
        instance: Uuid,
        /// The probe.
        probe: Probe,
    },
}
