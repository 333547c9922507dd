//! Why records were not stored, and how the shard says so.

use crate::log::batch::{BatchError, EncodeError, Stamp};
use crate::shard::commit::WriteError;
use crate::shard::core::Core;
use crate::shard::log::at::At;
use crate::shard::permit::Permit;
use crate::storage::StorageError;
use sagamq_api::Offset;
use sagamq_api::limits::{PARTITION_PRODUCERS_MAX, PRODUCER_IDLE_MS_MIN, PRODUCER_ONCE_IDLE_MS_MIN, PRODUCERS_MAX};
use std::sync::Arc;

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
        first: Option<At>,
    },
    /// As many records of the shard as may wait for their time do so. Nothing was stored.
    #[error(
        "of the records of shard {shard}, {records} with {bytes} bytes wait for their time, at most {records_max} with {bytes_max} bytes may: \
         cancel some, try again when some were due, or set `schedule_records_max` or `schedule_bytes_max` of the server higher"
    )]
    ScheduleLimit {
        /// The shard.
        shard: u16,
        /// How many wait.
        records: u64,
        /// Their bytes, as they are stored.
        bytes: u64,
        /// How many may.
        records_max: u64,
        /// How many bytes.
        bytes_max: u64,
    },
    /// The idempotency key of the request was used with other records. Nothing was stored.
    #[error("the request's idempotency key was used in this topic with other records{}", from_offset(*first))]
    RequestKeyReused {
        /// Where the first one lies, if it lies in one place.
        first: Option<Offset>,
    },
    /// Another batch of the producer is to come before this one, or came in its place. Nothing was stored.
    #[error(
        "producer {} in epoch {} sends sequence {} to the partition, whose next is {expected}: send the batches in order, and those whose answers \
         were lost again as they were", stamp.producer, stamp.epoch, stamp.sequence
    )]
    OutOfOrder {
        /// What the batch says.
        stamp: Stamp,
        /// The sequence that is next.
        expected: u32,
    },
    /// The producer has used the sequence for other records. Nothing was stored.
    #[error(
        "producer {} in epoch {} has used sequence {} of the partition for other records, which lie at offset {first}: a batch that is sent again \
         has the same bytes", stamp.producer, stamp.epoch, stamp.sequence
    )]
    SequenceReused {
        /// What the batch says.
        stamp: Stamp,
        /// Where the others lie.
        first: Offset,
    },
    /// The producer has begun a newer epoch. Nothing was stored.
    #[error("producer {} is in epoch {epoch} in the partition, the batch is of epoch {}", stamp.producer, stamp.epoch)]
    Fenced {
        /// What the batch says.
        stamp: Stamp,
        /// The epoch of the producer.
        epoch: u16,
    },
    /// Another producer has the name that this one had. Nothing was stored.
    #[error("the name of producer {} was taken over or taken away: another one may send in its place", stamp.producer)]
    NameTaken {
        /// What the batch says.
        stamp: Stamp,
    },
    /// The partition knows nothing of the producer, and the batch is not its first. Nothing was stored.
    #[error(
        "the partition knows nothing of producer {}, and sequence {} is not its first: begin with sequence 0 in a new epoch or under a new id",
        stamp.producer, stamp.sequence
    )]
    UnknownProducer {
        /// What the batch says.
        stamp: Stamp,
    },
    /// The batch was made for another number of partitions, and was not stored while the topic had that one. Nothing was stored.
    #[error("the topic has another number of partitions than the batch was made for")]
    PartitionsChanged,
    /// As many producers are known as may be, and all of them were heard of lately. Nothing was stored.
    #[error(
        "a partition knows at most {PARTITION_PRODUCERS_MAX} producers and a server {PRODUCERS_MAX} in all partitions, and each of them was heard of \
         within {} min, or within {} if it has sent one batch: use fewer producers for longer, send under idempotency keys, or try again later",
        PRODUCER_IDLE_MS_MIN / 60_000, PRODUCER_ONCE_IDLE_MS_MIN / 60_000
    )]
    ProducerLimit,
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
    /// Whether the records may be stored all the same.
    pub(crate) fn may_be_stored(&self) -> bool {
        matches!(self, Self::Write(WriteError::Failed(_) | WriteError::Lost(_)))
    }

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
    permit: Option<Arc<Permit>>,
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

fn stored_at(first: Option<At>) -> String {
    match first {
        None => "by a record before it".to_owned(),
        Some(At::Log(offset)) => format!("stored at offset {offset}"),
        Some(At::Schedule(id)) => format!("which waits as schedule {id}"),
    }
}
