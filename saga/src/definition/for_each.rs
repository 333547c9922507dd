//! A step that fans out: it is called once for each item of a list.

use crate::expression::Template;
use serde::{Deserialize, Serialize};

/// What a step fans out over.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForEach {
    /// What gives the list, over `input`, `steps` and `saga`: computed once, when the turn of the step has come.
    pub items: Template,
    /// Most items that are called at a time.
    pub max_parallel: u32,
}

/// Items that are called at a time when the definition does not say: enough to hide the time that calls take, and few enough that one saga does
/// not fill its participants.
pub const MAX_PARALLEL_DEFAULT: u32 = 10;
