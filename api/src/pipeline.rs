//! Acknowledge-with-records: what a consumer read is done, and what it made of it is stored, in one commit.

use crate::names::TopicName;
use crate::record::{ProduceRecord, RecordIn, records_in};
use crate::topic::ProducedRecord;
use serde::{Deserialize, Serialize};
#[cfg(feature = "openapi")]
use utoipa::ToSchema;

/// `POST …/groups/{group}:ack-with-records`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
#[serde(deny_unknown_fields)]
pub struct AckWithRecordsRequest {
    /// Receipts of records of one partition, 1 to 1,000. If the lease of one is over, nothing is acknowledged and nothing stored.
    pub receipts: Vec<String>,
    /// What was made of these records; 1 to 10,000 records together.
    pub produce: Vec<ProduceTo>,
}

/// Records for one topic.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ProduceTo {
    /// The topic.
    pub topic: TopicName,
    /// Its records, stored in this order within each partition. They have no `idempotency_key`, because the receipts are their key, and no
    /// `deliver_at` and `delay_ms`.
    #[serde(deserialize_with = "records_in")]
    pub records: Vec<ProduceRecord>,
}

impl ProduceTo {
    /// These records for this topic.
    pub fn new(topic: TopicName, records: impl IntoIterator<Item = ProduceRecord>) -> Self {
        Self { topic, records: records.into_iter().collect() }
    }
}

/// Both are durable: the acknowledgement and the records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct AckWithRecordsResponse {
    /// Whether the same request did all of this before. Then this one changed nothing, and no offsets are told.
    pub duplicate: bool,
    /// Where the records are, as in the request. One without an offset is on its way to its partition, and is there soon, once.
    pub produced: Vec<ProducedTo>,
}

/// Where the records for one topic are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct ProducedTo {
    /// The topic.
    pub topic: TopicName,
    /// One entry a record, in the order of the request.
    pub records: Vec<ProducedRecord>,
}

/// An [`AckWithRecordsRequest`], read without copies.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AckWithRecordsIn<'a> {
    /// Receipts of records of one partition.
    pub receipts: Vec<String>,
    /// What was made of these records.
    #[serde(borrow)]
    pub produce: Vec<ProduceToIn<'a>>,
}

/// A [`ProduceTo`], read without copies.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProduceToIn<'a> {
    /// The topic.
    pub topic: TopicName,
    /// Its records.
    #[serde(borrow, deserialize_with = "records_in")]
    pub records: Vec<RecordIn<'a>>,
}
