//! The events of an instance, in pages.

use crate::json::JsonText;
use serde::{Deserialize, Serialize};
#[cfg(feature = "openapi")]
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

/// Query of `GET /v1/sagas/{id}/history`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema, IntoParams))]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", into_params(parameter_in = Query))]
pub struct HistoryQuery {
    /// Only events behind the one with this sequence.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub after: Option<u64>,
    /// Most events (default and at most 1,000); a page ends before it has more than 16 MiB, but has one event at least.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub limit: Option<u32>,
}

/// `GET /v1/sagas/{id}/history`: events, oldest first. The state of the instance is the fold of these and of nothing else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct SagaHistory {
    /// Id of the instance.
    pub id: Uuid,
    /// Its events.
    pub events: Vec<HistoryEvent>,
    /// What to pass as `after` for the next page, if there is one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub next: Option<u64>,
}

/// One event of an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct HistoryEvent {
    /// Place in the history, counted from 0.
    pub sequence: u64,
    /// Milliseconds since 1970.
    pub at_ms: u64,
    /// Kind of the event, for example `step_succeeded`.
    pub r#type: String,
    /// What it says, by kind.
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub data: JsonText,
}
