//! Why a part of a log cannot be read.

use crate::log::batch::BatchError;
use crate::log::partition::Partition;
use crate::storage::StorageError;
use sagamq_api::Offset;

/// Why records could not be read.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ReadError {
    /// The offset is below the first record or above the high watermark.
    #[error("offset {offset} is outside of {log_start}..={high_watermark}")]
    OutOfRange {
        /// What was asked for.
        offset: Offset,
        /// First offset that is still there.
        log_start: Offset,
        /// Offset after the last durable record.
        high_watermark: Offset,
    },
    /// A batch does not match its checksum or cannot be decoded.
    #[error("the batch at offset {base} is damaged: {reason}")]
    Damaged {
        /// Where the batch begins.
        base: Offset,
        /// What is wrong with it.
        reason: BatchError,
    },
    /// No batch holds the offset, although it lies between the log's start and its end.
    #[error("no batch holds offset {offset}: a part of the log is missing")]
    Missing {
        /// The offset.
        offset: Offset,
    },
    /// The device failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl ReadError {
    /// Why nothing is at `offset`, for who reads from `from` on: retention took it meanwhile, or a part of the log is missing.
    pub(super) fn missing(partition: &Partition, from: Offset, offset: Offset) -> Self {
        let (log_start, high_watermark) = (partition.cut_at(), partition.high_watermark());
        if offset < log_start { Self::OutOfRange { offset: from, log_start, high_watermark } } else { Self::Missing { offset } }
    }
}
