//! Why an instance cannot be asked: what all operations on instances have in common.

use super::quarantine::SetAside;
use crate::store::StoreError;
use sagamq_api::SagaName;
use sagamq_broker::WriteError;
use std::sync::Arc;
use uuid::Uuid;

/// Why an instance cannot be asked. Nothing was decided, except where a variant says otherwise.
#[derive(Clone, Debug, thiserror::Error)]
pub enum InstanceError {
    /// No such instance.
    #[error("there is no saga {0}")]
    NotFound(Uuid),
    /// The business key has started none.
    #[error("the key `{key}` has started no saga `{saga}`")]
    KeyNotFound {
        /// Name of the definition.
        saga: SagaName,
        /// The key.
        key: String,
    },
    /// The instance is set aside and does not run.
    #[error("saga {id} is set aside: {reason}")]
    Quarantined {
        /// The instance.
        id: Uuid,
        /// Why.
        reason: SetAside,
    },
    /// Something stored cannot be read.
    #[error("{0}")]
    Store(Arc<StoreError>),
    /// The lane takes no inputs, or what it decided did not become durable, as far as it is known.
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl From<StoreError> for InstanceError {
    fn from(error: StoreError) -> Self {
        Self::Store(Arc::new(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_saga_that_is_set_aside_says_whether_it_is_damaged_or_a_decision_panicked() {
        let told = |reason| InstanceError::Quarantined { id: Uuid::nil(), reason }.to_string();
        let damaged = told(SetAside::Unreadable("event 3 is missing".to_owned()));
        assert!(damaged.contains("cannot be read: event 3 is missing") && !damaged.contains("panicked"), "{damaged}");
        let panicked = told(SetAside::Panicked);
        assert!(panicked.contains("panicked") && panicked.contains("history is sound"), "{panicked}");
    }
}
