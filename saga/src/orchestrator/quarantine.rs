//! Instances that are set aside, of all lanes: their history cannot be read, or a decision about them panicked.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use uuid::Uuid;

/// The register; clones are the same one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Quarantine(Arc<RwLock<BTreeMap<Uuid, String>>>);

impl Quarantine {
    /// Sets an instance aside; tells it in the log.
    pub(crate) fn add(&self, id: Uuid, reason: String) {
        tracing::error!(saga = %id, %reason, "a saga is set aside; all others go on");
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(id, reason);
    }

    /// Why the instance is set aside, if it is.
    pub(crate) fn reason(&self, id: Uuid) -> Option<String> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }
}
