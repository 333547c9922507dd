//! Bodies of what is done with dead letters: list, redrive, discard.

use crate::ids::{Offset, PartitionId};
use crate::json::JsonText;
use crate::record::{ConsumedRecord, Headers};
use serde::{Deserialize, Serialize};
#[cfg(feature = "openapi")]
use utoipa::{IntoParams, ToSchema};

/// Query of `GET …/dead-letters`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema, IntoParams))]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", into_params(parameter_in = Query))]
pub struct DeadLetterQuery {
    /// Most dead letters (default 100, at most 1,000), oldest first in each partition.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub max_records: Option<u32>,
    /// Go on where an earlier answer said with `next_cursor`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cursor: Option<String>,
}

/// `GET …/dead-letters`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct DeadLetterList {
    /// The dead letters.
    pub dead_letters: Vec<DeadLetter>,
    /// Where to go on, if the answer ends before the last one: it is bounded in bytes as well.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub next_cursor: Option<String>,
}

/// A record that was given up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct DeadLetter {
    /// Why: `delivery_limit` or `terminated`.
    pub cause: String,
    /// What the consumer said last.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
    /// How often it was delivered.
    pub attempts: u32,
    /// Its offset in the topic it was produced to (same partition).
    pub origin_offset: Offset,
    /// When it was given up, in milliseconds since 1970.
    pub dead_at_ms: u64,
    /// The record as it lies in the dead-letter topic.
    pub record: ConsumedRecord,
}

/// `POST …:redrive`: deliver dead letters to the group again, with a fresh count of deliveries. Only this group gets them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct RedriveRequest {
    /// Only dead letters with this cause.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// Only dead letters of this partition.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition: Option<PartitionId>,
    /// Only these offsets of the dead-letter topic, at most 1,000; needs `partition`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub offsets: Vec<Offset>,
    /// Most dead letters to redrive (default and at most 1,000 a request).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_records: Option<u32>,
    /// Go on where an earlier answer said with `next_cursor`. Not together with `offsets`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// How many of them may be delivered in a second, the first at once (1 to 10,000; default: all at once). Counts within one request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_second: Option<u32>,
    /// Deliver this instead of the record. Needs `partition` and one offset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub edit: Option<LetterEdit>,
}

/// What a dead letter is delivered as, to its group only, until it is settled. What is left out stays as it was; the key stays always. The
/// record says in its headers (`x-dlq-…`) where it comes from, why it was given up, and that it was edited.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct LetterEdit {
    /// The value, as a record is produced with: any JSON.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "crate::record::value_in")]
    pub value: Option<JsonText>,
    /// The value, any bytes, in base64. Not together with `value`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value_base64: Option<String>,
    /// All headers, instead of those that the record has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub headers: Option<Headers>,
}

/// Answer of `redrive`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct RedriveResponse {
    /// Dead letters that will be delivered again.
    pub redriven: u64,
    /// Dead letters that are left.
    pub remaining: u64,
    /// Where to go on, if the request ended before it had looked at all dead letters that it may redrive: one request looks at 10,000.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub next_cursor: Option<String>,
    /// What kept dead letters from being redriven: try again when records are settled.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub limit: Option<RedriveLimit>,
}

/// `POST …:discard`: take dead letters off the list without delivering them again. Their records stay in the dead-letter topic. What is
/// meant has to be said: `all`, or at least one of `cause`, `partition` and `offsets`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct DiscardRequest {
    /// Every dead letter of the group. Not together with `cause`, `partition` and `offsets`.
    #[serde(skip_serializing_if = "core::ops::Not::not")]
    pub all: bool,
    /// Only dead letters with this cause.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// Only dead letters of this partition.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition: Option<PartitionId>,
    /// Only these offsets of the dead-letter topic, at most 1,000; needs `partition`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub offsets: Vec<Offset>,
    /// Most dead letters to discard (default and at most 1,000 a request).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_records: Option<u32>,
    /// Go on where an earlier answer said with `next_cursor`. Not together with `offsets`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// Answer of `discard`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct DiscardResponse {
    /// Dead letters that are off the list now.
    pub discarded: u64,
    /// Dead letters that are left.
    pub remaining: u64,
    /// Where to go on, if the request ended before it had looked at all dead letters that it may discard: one request looks at 10,000.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub next_cursor: Option<String>,
    /// What kept dead letters from being discarded.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub limit: Option<RedriveLimit>,
}

/// A bound of a group that keeps dead letters from being redriven or discarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum RedriveLimit {
    /// The group has as many records leased or waiting for a redelivery as one partition allows. Never of a discard.
    PendingLimit,
    /// The dead letters that are done with lie so scattered that noting them would pass the bound on ranges: redrive or discard older
    /// ones first.
    SettledRangesLimit,
    /// The group has as many edited records as one partition allows (100, and 1 MiB together): some must be settled first. Never of a discard.
    EditedLimit,
    /// The record of a dead letter was taken by its topic's retention, so it cannot be delivered again. The dead letter holds a copy of it:
    /// produce that anew, and discard the dead letter. Never of a discard.
    RecordTrimmed,
}
