//! Instances that are set aside, of all lanes: they cannot be read, or a decision about them panicked.

use core::fmt;
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use uuid::Uuid;

/// Why an instance is set aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetAside {
    /// Its history or its definition cannot be read: what is at fault.
    Unreadable(String),
    /// A decision about it panicked. What is stored of it is sound.
    Panicked,
}

impl fmt::Display for SetAside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(reason) => write!(f, "it cannot be read: {reason}"),
            Self::Panicked => f.write_str("a decision about it panicked, which is a bug; the log says where, and its history is sound"),
        }
    }
}

/// The register; clones are the same one.
#[derive(Clone, Debug, Default)]
pub(super) struct Quarantine(Arc<RwLock<BTreeMap<Uuid, SetAside>>>);

impl Quarantine {
    /// Sets an instance aside; tells it in the log.
    pub(super) fn add(&self, id: Uuid, reason: SetAside) {
        tracing::error!(saga = %id, %reason, "a saga is set aside; all others go on");
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(id, reason);
    }

    /// All that are set aside.
    pub(super) fn ids(&self) -> Vec<Uuid> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).keys().copied().collect()
    }

    /// Why the instance is set aside, if it is.
    pub(super) fn reason(&self, id: Uuid) -> Option<SetAside> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }
}
