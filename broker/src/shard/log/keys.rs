//! Idempotency keys as they come with records, and what the shard answers to them.

use crate::dedup::Hash;
use crate::dedup::request::Claim;
use crate::ids::PartitionKey;
use crate::shard::log::append_error::AppendError;
use sagamq_api::Offset;
use tokio::sync::oneshot;

/// Idempotency keys of the records of one append.
#[derive(Clone, Debug)]
pub(crate) enum Keys {
    /// None has one.
    None,
    /// The records are the partition's share of a request that was claimed.
    Share { claim: Claim, request: Hash },
    /// One for each that has one: hash of the key, fingerprint of the record.
    Records(Vec<Option<(Hash, Hash)>>),
}

/// Asks whether keys of records were used with another payload.
pub(crate) struct CheckRequest {
    pub(crate) partition: PartitionKey,
    pub(crate) keys: Vec<Option<(Hash, Hash)>>,
    pub(crate) reply: oneshot::Sender<Result<(), AppendError>>,
}

/// Where a record lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Placed {
    pub(crate) offset: Offset,
    /// When the first one arrived, if this is a duplicate.
    pub(crate) duplicate_of_ms: Option<i64>,
}
