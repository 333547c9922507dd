//! Bodies of the routes that produce and read.

use crate::ids::{Offset, PartitionId, ScheduleId};
use crate::record::{ConsumedRecord, ProduceRecord};
use serde::{Deserialize, Serialize};
#[cfg(feature = "openapi")]
use utoipa::{IntoParams, ToSchema};

/// Query of `POST /v1/topics/{topic}/records`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(IntoParams), into_params(parameter_in = Query))]
#[serde(deny_unknown_fields, default)]
pub struct ProduceQuery {
    /// For how many partitions of the topic the request was made. If the topic has another number, nothing is stored (`PARTITIONS_CHANGED`): whoever
    /// finds the partitions of keys himself says it, and looks anew.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partitions: Option<u32>,
}

/// `POST /v1/topics/{topic}/records`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ProduceRequest {
    /// Records, stored in this order within each partition; 1 to 10,000, with at most 200,000 headers together.
    #[serde(deserialize_with = "crate::record::records_in")]
    pub records: Vec<ProduceRecord>,
}

/// Answer to a produce request: everything in it is stored, or scheduled, and on the disk as the topic's `durability` says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct ProduceResponse {
    /// One entry a record, in the order of the request.
    pub records: Vec<ProducedRecord>,
}

/// Where a record was stored, or under which id it waits for its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct ProducedRecord {
    /// Partition of the topic.
    pub partition: PartitionId,
    /// Place in the partition; none as long as the record waits for its time.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub offset: Option<Offset>,
    /// Names the record as long as it waits for its time.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub schedule: Option<ScheduleId>,
    /// Time of the record, in milliseconds since 1970; of one that waits, when it is due.
    pub timestamp_ms: i64,
    /// Whether the record was stored or scheduled by an earlier request; what the answer says is that one's.
    pub duplicate: bool,
}

/// Answer to a produce request with binary batches: everything in it is on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct ProduceBatchesResponse {
    /// One entry a batch, in the order of the request.
    pub batches: Vec<ProducedBatch>,
}

/// Where a binary batch was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct ProducedBatch {
    /// Partition of the topic.
    pub partition: PartitionId,
    /// Offset of its first record; the others follow it without a gap.
    pub offset: Offset,
    /// How many records it has.
    pub records: u32,
    /// The highest time of its records, in milliseconds since 1970.
    pub timestamp_ms: i64,
    /// Whether it was stored by an earlier request; partition and offset are that one's.
    pub duplicate: bool,
}

/// Query of `GET /v1/topics/{topic}/partitions/{partition}/records`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema, IntoParams))]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", into_params(parameter_in = Query))]
pub struct ReadQuery {
    /// First offset to read. Without `offset` and `timestamp_ms` reading begins at the oldest record.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub offset: Option<Offset>,
    /// Read from the first record of this time or later, in milliseconds since 1970. Not together with `offset`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub timestamp_ms: Option<i64>,
    /// Most records to return (default 100, at most 1,000). Of binary batches (no bound by default), none begins behind so many records.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub max_records: Option<u32>,
    /// Most bytes of records to return, at most 16 MiB (default 16 MiB, of binary batches 4 MiB). Compressed batches count with what they become. One
    /// record or one batch is always returned.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub max_bytes: Option<u32>,
    /// How long to wait for a record if there is none, in milliseconds (default 0, at most 20,000).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub wait_ms: Option<u64>,
}

/// Records of one partition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct ReadResponse {
    /// Records in the order of their offsets.
    pub records: Vec<ConsumedRecord>,
    /// Where to read on.
    pub next_offset: Offset,
    /// First offset that is still there.
    pub log_start_offset: Offset,
    /// Offset after the last durable record.
    pub high_watermark: Offset,
}
