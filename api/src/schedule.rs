//! Records that wait for their time: the bodies of their listing.

use crate::ids::{PartitionId, ScheduleId};
use serde::{Deserialize, Serialize};
#[cfg(feature = "openapi")]
use utoipa::{IntoParams, ToSchema};

/// Query of `GET …/schedules`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema, IntoParams))]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", into_params(parameter_in = Query))]
pub struct ScheduleQuery {
    /// Most schedules (default 100, at most 1,000).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub max_records: Option<u32>,
    /// Go on where an earlier answer said with `next_cursor`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cursor: Option<String>,
}

/// `GET …/schedules`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct ScheduleList {
    /// Records that wait, in the order in which they are due.
    pub schedules: Vec<Schedule>,
    /// Where to go on, if there are more.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub next_cursor: Option<String>,
}

/// A record that waits for its time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct Schedule {
    /// Names it.
    pub schedule: ScheduleId,
    /// The partition that it will be appended to.
    pub partition: PartitionId,
    /// When it is due, in milliseconds since 1970.
    pub deliver_at: u64,
    /// When it arrived, in milliseconds since 1970.
    pub scheduled_at_ms: u64,
    /// The record's key, if it has one and that is text.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub key: Option<String>,
    /// The record's key, in base64, if it has one and that is no text.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub key_base64: Option<String>,
    /// Bytes of key, value and headers.
    pub bytes: u64,
}
