//! Idempotency keys as they come with records, and what the shard answers to them.

use crate::dedup::Hash;
use crate::dedup::request::Claim;
use crate::dedup::sequence::Sequenced;
use crate::shard::log::append_error::AppendError;
use crate::shard::log::at::At;
use crate::shard::log::part::Part;
use core::ops::Range;
use tokio::sync::oneshot;

/// Idempotency keys of the records of one append.
#[derive(Clone, Debug)]
pub(crate) enum Keys {
    /// None has one.
    None,
    /// The records of each partition are its share of a request that was claimed.
    Share { claim: Claim, request: Hash },
    /// None has one: the one batch says which of its producer's it is. `is_outdated`: it was made for another number of partitions, and is only answered
    /// if it was stored before.
    Sequence { sent: Sequenced, is_outdated: bool },
    /// One for each that has one: hash of the key, fingerprint of the record.
    Records(Vec<Option<(Hash, Hash)>>),
}

/// The keys of one part of the records.
#[derive(Clone, Copy, Debug)]
pub(super) enum PartKeys<'a> {
    None,
    Share { claim: Claim, request: Hash },
    Records(&'a [Option<(Hash, Hash)>]),
}

impl Keys {
    /// Those of the records in this range.
    pub(super) fn of(&self, records: Range<usize>) -> PartKeys<'_> {
        match self {
            Self::None | Self::Sequence { .. } => PartKeys::None,
            Self::Share { claim, request } => PartKeys::Share { claim: *claim, request: *request },
            Self::Records(keys) => PartKeys::Records(&keys[records]),
        }
    }
}

/// Asks whether keys of records were used with another payload.
pub(crate) struct CheckRequest {
    pub(crate) parts: Vec<Part>,
    /// Of the records of all parts, one part behind the other.
    pub(crate) keys: Vec<Option<(Hash, Hash)>>,
    pub(crate) reply: oneshot::Sender<Result<(), AppendError>>,
}

/// Where a record lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Placed {
    pub(crate) at: At,
    /// When the first one arrived, if this is a duplicate.
    pub(crate) duplicate_of_ms: Option<i64>,
}
