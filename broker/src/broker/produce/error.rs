//! Why records were not produced.

use crate::broker::topics::TopicError;
use crate::log::batch::EncodeError;
use crate::shard::log::append_error::AppendError;
use sagamq_api::limits::{IDEMPOTENCY_KEY_BYTES_MAX, PRODUCE_RECORDS_MAX, SCHEDULE_AHEAD_MS_MAX, TIMESTAMP_AHEAD_MS_MAX, TIMESTAMP_MS_MIN};
use sagamq_api::{PartitionId, TopicName};

/// Why records were not produced. Save for a write error and for [`ProduceError::InPart`] nothing was stored.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ProduceError {
    /// No such topic.
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// The number of records is out of range.
    #[error("the request has {0} records, allowed is 1 to {PRODUCE_RECORDS_MAX}")]
    RecordsCount(usize),
    /// No such partition.
    #[error("record {index}: topic `{topic}` has {partitions} partitions, counted from 0; there is no partition {partition}")]
    PartitionNotFound {
        /// Index of the record.
        index: usize,
        /// The topic.
        topic: TopicName,
        /// The partition that was asked for.
        partition: PartitionId,
        /// How many there are.
        partitions: u32,
    },
    /// The request was made for another number of partitions.
    #[error(
        "the request was made for {asked} partitions, and topic `{topic}` has {partitions}: nothing was stored; find the partitions of its keys anew"
    )]
    PartitionsChanged {
        /// The topic.
        topic: TopicName,
        /// How many the request was made for.
        asked: u32,
        /// How many there are.
        partitions: u32,
    },
    /// A record is larger than the topic allows.
    #[error("record {index} has {bytes} bytes, topic `{topic}` allows {max}")]
    RecordTooLarge {
        /// Index of the record.
        index: usize,
        /// The topic.
        topic: TopicName,
        /// Bytes of key, value and headers.
        bytes: usize,
        /// The topic's bound.
        max: u32,
    },
    /// The time of a record lies too far ahead.
    #[error(
        "record {index}: its time {timestamp_ms} lies more than {} min ahead of the broker's clock, which is at {now_ms}: records behind it \
         would not go when their time is over; leave `timestamp_ms` out, or set the clock right", TIMESTAMP_AHEAD_MS_MAX / 60_000
    )]
    TimeAhead {
        /// Index of the record.
        index: usize,
        /// What it says, in milliseconds since 1970.
        timestamp_ms: i64,
        /// The broker's time.
        now_ms: i64,
    },
    /// The time of a record lies too far back.
    #[error("record {index}: its time {timestamp_ms} is no time in milliseconds since 1970: the earliest is {TIMESTAMP_MS_MIN}")]
    TimeBehind {
        /// Index of the record.
        index: usize,
        /// What it says, in milliseconds since 1970.
        timestamp_ms: i64,
    },
    /// A binary batch has records with keys and names no partition.
    #[error(
        "batch {0} has records with keys and no partition: say the one that their keys hash to (XXH3-64 of the key modulo the number of \
         partitions), or send them as JSON"
    )]
    KeyWithoutPartition(usize),
    /// A record of a compacted topic has no key.
    #[error("record {index} has no key: topic `{topic}` is compacted and keeps the newest record of each key; give it a `key`")]
    WithoutKey {
        /// Index of the record.
        index: usize,
        /// The topic.
        topic: TopicName,
    },
    /// A record of a binary batch for a compacted topic has no key.
    #[error(
        "batch {index} has records without a key: topic `{topic}` is compacted and keeps the newest record of each key; give each a key"
    )]
    BatchWithoutKeys {
        /// Index of the batch.
        index: usize,
        /// The topic.
        topic: TopicName,
    },
    /// A record is scheduled too far ahead.
    #[error("record {index} is to wait until {due_ms}, which is more than {} days ahead", SCHEDULE_AHEAD_MS_MAX / 86_400_000)]
    DueAhead {
        /// Index of the record.
        index: usize,
        /// When it would be due, in milliseconds since 1970.
        due_ms: u64,
    },
    /// A scheduled record has a time of its own.
    #[error(
        "record {0} is to be appended later and has a `timestamp_ms`: its time will be that of its appending; put another one into a header"
    )]
    DueWithTime(usize),
    /// An idempotency key is empty or too long.
    #[error("an idempotency key has {0} bytes, allowed is 1 to {IDEMPOTENCY_KEY_BYTES_MAX}")]
    IdempotencyKey(usize),
    /// Both the request and a record have an idempotency key.
    #[error("record {0} has an idempotency key, and the request has one for all its records: give one or the other")]
    TwoIdempotencyKeys(usize),
    /// The idempotency key of a record was used with another payload.
    #[error("record {index}: {reason}")]
    KeyReused {
        /// Index of the record.
        index: usize,
        /// Where the first one lies.
        reason: AppendError,
    },
    /// A batch says who sent it, and the request has an idempotency key.
    #[error("the batch has a producer id, and the request an idempotency key: give one or the other")]
    StampWithKey,
    /// A batch says who sent it, and there are others beside it.
    #[error("batch {0} has a producer id: send each such batch with a request of its own")]
    StampedBeside(usize),
    /// A batch says who sent it, and not for which partition it is.
    #[error("the batch has a producer id and no partition: a producer counts its records by partition, so say which one")]
    StampWithoutPartition,
    /// The queue in front of the disk is full.
    #[error("more than {0} bytes wait for the disk")]
    Overloaded(usize),
    /// A shard refused its share of the request, and another one has stored its own.
    #[error("some shards have stored their share of the request, and another one has not: {0}; send it again under its idempotency key")]
    InPart(Box<ProduceError>),
    /// The records cannot be encoded.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The shard refused, or the write failed.
    #[error(transparent)]
    Append(#[from] AppendError),
}

/// What became of a request of which shares were refused; others were stored if `is_in_part`. What is not known goes before what is, and a topic that is
/// gone takes along what was stored.
pub(super) fn of_shares(refused: Vec<ProduceError>, is_in_part: bool) -> Option<ProduceError> {
    let unknown = |error: &ProduceError| matches!(error, ProduceError::Append(error) if error.may_be_stored());
    let deleted = |error: &ProduceError| matches!(error, ProduceError::Append(AppendError::TopicDeleted));
    let at = refused.iter().position(unknown).or_else(|| refused.iter().position(deleted)).unwrap_or(0);
    let error = refused.into_iter().nth(at)?;
    Some(if is_in_part && !unknown(&error) && !deleted(&error) { ProduceError::InPart(Box::new(error)) } else { error })
}
