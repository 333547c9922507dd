//! An item of a step that fans out.

use super::StepState;
use crate::ids::ItemIndex;
use crate::json::JsonText;
use serde::{Deserialize, Serialize};
#[cfg(feature = "openapi")]
use utoipa::ToSchema;

/// An item of a step of an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct ItemDescription {
    /// Its place in the list, counted from 0.
    pub item: ItemIndex,
    /// State.
    pub state: StepState,
    /// Attempts of its action.
    pub attempts: u32,
    /// Attempts of its compensation.
    pub compensation_attempts: u32,
    /// What its action returned, as long as the step has no output, which holds those of all items.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub output: Option<JsonText>,
    /// When the next attempt or the end of this one is due, in milliseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub due_at_ms: Option<u64>,
    /// Whether an operator left its compensation out: its effect stands.
    #[serde(skip_serializing_if = "core::ops::Not::not", default)]
    pub skipped: bool,
}
