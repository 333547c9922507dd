//! Why records were not stored, and how the shard says so.

use crate::log::batch::{BatchError, EncodeError};
use crate::shard::commit::WriteError;
use crate::shard::core::Core;
use crate::storage::StorageError;
use sagamq_api::Offset;
use std::sync::Arc;
use tokio::sync::OwnedSemaphorePermit;

/// Why records were not stored.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AppendError {
    /// The partition's topic is deleted.
    #[error("the topic is deleted")]
    TopicDeleted,
    /// The idempotency key of a record was used with another payload. Nothing was stored.
    #[error("its idempotency key was used with another payload, {}", stored_at(*first))]
    KeyReused {
        /// Index of the record among those sent to the shard.
        index: usize,
        /// Where the first one lies; none if it stands in the same request.
        first: Option<Offset>,
    },
    /// The idempotency key of the request was used with other records. Nothing was stored.
    #[error("the request's idempotency key was used in this topic with other records{}", from_offset(*first))]
    RequestKeyReused {
        /// Where the first one lies, if it lies in one place.
        first: Option<Offset>,
    },
    /// The durable write failed or is not tried any more.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// Idempotency entries could not be read.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The records cannot be written as a batch.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// A batch that was just made cannot be read.
    #[error(transparent)]
    Batch(#[from] BatchError),
}

impl AppendError {
    /// The error of a record behind so many others.
    pub(super) fn behind(self, others: usize) -> Self {
        match self {
            Self::KeyReused { index, first } => Self::KeyReused { index: index + others, first },
            other => other,
        }
    }
}

/// Answers when everything staged so far is written: what a refusal tells of must be durable too. The permit is given back before.
pub(super) fn answer<T: Send + 'static>(
    core: &mut Core,
    permit: Option<Arc<OwnedSemaphorePermit>>,
    reply: impl FnOnce(Result<T, AppendError>) + Send + 'static,
    result: Result<T, AppendError>,
) {
    core.answer(move |written| {
        drop(permit);
        reply(written.map_err(AppendError::from).and(result));
    });
}

fn from_offset(first: Option<Offset>) -> String {
    first.map_or_else(String::new, |first| format!(", stored from offset {first} of the key's partition on"))
}

fn stored_at(first: Option<Offset>) -> String {
    first.map_or_else(|| "by a record before it".to_owned(), |first| format!("stored at offset {first}"))
}
