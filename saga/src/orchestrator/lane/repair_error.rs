//! Why a repair is not started, found or operated.

use crate::protocol::repair::{BadRepair, RepairRefused};
use crate::store::StoreError;
use sagamq_api::limits::OPEN_REPAIRS_MAX;
use sagamq_broker::WriteError;
use std::sync::Arc;
use uuid::Uuid;

/// Why a lane cannot do what is asked of a repair. Nothing was decided, except where a write failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RepairError {
    /// The request is no repair.
    #[error(transparent)]
    Bad(#[from] BadRepair),
    /// No such repair.
    #[error("there is no repair {0}")]
    NotFound(Uuid),
    /// The key started a repair that does something else.
    #[error("the key `{key}` started repair {id} with another request")]
    KeyConflict {
        /// The key.
        key: String,
        /// The repair.
        id: Uuid,
    },
    /// Too many of its lane are not at their end.
    #[error("{OPEN_REPAIRS_MAX} repairs of its lane are not at their end, which is the bound: wait for one, or cancel one")]
    TooManyOpen,
    /// The repair is in no state for it.
    #[error(transparent)]
    Refused(#[from] RepairRefused),
    /// Something stored cannot be read.
    #[error("{0}")]
    Store(Arc<StoreError>),
    /// The lane takes no inputs, or what it decided did not become durable, as far as it is known.
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl From<StoreError> for RepairError {
    fn from(error: StoreError) -> Self {
        Self::Store(Arc::new(error))
    }
}
