//! Why something stored cannot be used.

use super::codec::CodecError;
use sagamq_broker::storage::StorageError;
use uuid::Uuid;

/// Why something cannot be read back.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The device failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A value cannot be understood.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// The events of an instance do not fit together.
    #[error("the history of saga {id} is damaged: {reason}")]
    History {
        /// The instance.
        id: Uuid,
        /// What does not fit.
        reason: String,
    },
}
