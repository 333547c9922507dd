//! The lock that a step is called under.

use crate::expression::Template;
use core::time::Duration;
use jiff::fmt::serde::unsigned_duration::friendly::compact;
use serde::{Deserialize, Serialize};

/// The lock of a step: the instance has it before the step begins, and until it is at its end itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    /// Its key, over `input`, `steps` and `saga`: text or a number. Asked once, when the step's turn has come.
    pub key: Template,
    /// How long the step waits for it; `None`: as long as the saga may take.
    #[serde(with = "compact::optional", default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
}
