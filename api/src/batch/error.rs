//! Why there is no batch.

use super::layout::HEADER_LEN;
use crate::limits::{BATCH_BYTES_MAX, BATCH_RECORDS_MAX};

/// Why records cannot become a batch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// There is no record.
    #[error("a batch needs at least one record")]
    Empty,
    /// The format counts bytes in 31 bits.
    #[error("the records take up to {bytes} bytes; a batch holds at most {}", i32::MAX)]
    TooLarge {
        /// Upper bound of the batch's size.
        bytes: usize,
    },
    /// The format stores timestamps as distances from the lowest.
    #[error("the timestamps {lowest_ms} and {highest_ms} are too far apart for one batch")]
    TimestampsTooFarApart {
        /// Lowest of the batch.
        lowest_ms: i64,
        /// Highest of the batch.
        highest_ms: i64,
    },
}

/// Why bytes are no batch, or a batch holds what is not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// Fewer bytes than a header has.
    #[error("a record batch has at least {HEADER_LEN} bytes, these are {0}")]
    Truncated(usize),
    /// Another format, or no batch at all.
    #[error("record batch format {0} is not supported, only 2 is")]
    Magic(i8),
    /// The bytes are not exactly one batch.
    #[error("the record batch says it has {stated} bytes, but these are {actual}")]
    Length {
        /// What the header says.
        stated: i64,
        /// How many there are.
        actual: usize,
    },
    /// The bytes were changed after they were written.
    #[error("checksum of the record batch does not match: it says {stated:#010x}, its bytes give {actual:#010x}")]
    Checksum {
        /// What the header says.
        stated: u32,
        /// What the bytes give.
        actual: u32,
    },
    /// A field of the header makes no sense.
    #[error("header of the record batch: {0}")]
    Header(&'static str),
    /// The batch uses a part of the format that this broker does not read.
    #[error("the record batch uses {0}, which is not supported")]
    Unsupported(&'static str),
    /// The records are compressed in a way that is not read here.
    #[error("the records are compressed with {0}, which is not supported: send them with lz4, zstd or not compressed")]
    Compression(&'static str),
    /// The compressed records are damaged, or are something else.
    #[error("the records cannot be decompressed: {0}")]
    Compressed(String),
    /// The records have more bytes than a reader should need memory for.
    #[error("the records have more than {0} bytes when they are decompressed")]
    DecompressedTooLarge(usize),
    /// A producer's batch is larger than a reader should decode for one of its records.
    #[error(
        "the record batch has {records} records and {bytes} bytes; allowed are {BATCH_RECORDS_MAX} records and {BATCH_BYTES_MAX} bytes, or one \
         larger record: send smaller batches side by side"
    )]
    TooLarge {
        /// How many records it has.
        records: u32,
        /// Its size.
        bytes: usize,
    },
    /// A record makes no sense, or holds what a payload cannot express (nothing is dropped or replaced silently).
    #[error("record {index} of the batch: {reason}")]
    Record {
        /// Place in the batch, counted from 0.
        index: u32,
        /// What is wrong.
        reason: &'static str,
    },
}
