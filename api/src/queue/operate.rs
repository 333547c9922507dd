//! Bodies of what operators do to a queue group: pause, resume, purge, seek.

use crate::ids::{Offset, PartitionId};
use serde::{Deserialize, Serialize};
#[cfg(feature = "openapi")]
use utoipa::ToSchema;

/// Answer of `pause` and `resume`. Durable when it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct GroupPause {
    /// Whether nothing is delivered to the group.
    pub paused: bool,
}

/// `POST …:purge`: settle every record that is there now, those that are leased included. Dead letters stay on their list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct PurgeRequest {
    /// Only this partition; else all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition: Option<PartitionId>,
}

/// Answer of `purge`. Durable when it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct PurgeResponse {
    /// Records that were not settled and are now.
    pub purged: u64,
}

/// `POST …:seek`: set where a group stands. Everything below is settled, and everything from there on is delivered, also what was settled
/// before, with deliveries counted from the start. Leases end: their receipts settle nothing any more. Dead letters stay on their list.
/// Exactly one of `offset`, `timestamp_ms` and `position` says where to; each partition is moved by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct GroupSeek {
    /// Only this partition; else all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition: Option<PartitionId>,
    /// To this offset; needs `partition`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<Offset>,
    /// To the first record whose time is at least this, in milliseconds since 1970; the end if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timestamp_ms: Option<i64>,
    /// To the oldest record, or behind the newest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<SeekPosition>,
}

/// An end of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum SeekPosition {
    /// The oldest record that is there.
    Start,
    /// Behind the newest record.
    End,
}

/// Answer of `seek`. Durable when it is sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct GroupSeekResponse {
    /// Records that were not settled and are now, over all partitions.
    pub skipped: u64,
    /// Records that were settled and are delivered again, over all partitions.
    pub again: u64,
    /// The partitions that were moved, in order.
    pub partitions: Vec<GroupSought>,
}

/// Where a group stands in a partition after a `seek`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct GroupSought {
    /// Number of the partition.
    pub partition: PartitionId,
    /// The first record that is delivered next.
    pub offset: Offset,
    /// Records that were not settled and are now.
    pub skipped: u64,
    /// Records that were settled and are delivered again.
    pub again: u64,
}
