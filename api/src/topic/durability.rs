//! When the records of a topic are synced.

use serde::{Deserialize, Serialize};
#[cfg(feature = "openapi")]
use utoipa::ToSchema;

/// When a topic's records are on the disk, and so what an answer about them means.
///
/// There is one log for everything, so whatever is synced syncs all that was written before it: a power cut takes the end of what was
/// written, and never a record without what was acknowledged of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum TopicDurability {
    /// Synced before the answer: they survive a power cut.
    #[default]
    Sync,
    /// Written before the answer, so that they survive the death of the server, and synced within the server's `sync_interval` (200 ms
    /// unless set): a power cut takes what is younger.
    Interval,
    /// Written before the answer, so that they survive the death of the server, and synced when something else is, or at a shutdown: a power
    /// cut takes what was written since.
    Memory,
}

impl TopicDurability {
    /// All of them, by name.
    pub const ALL: [Self; 3] = [Self::Sync, Self::Interval, Self::Memory];

    /// Its name, as in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sync => "sync",
            Self::Interval => "interval",
            Self::Memory => "memory",
        }
    }
}

impl core::fmt::Display for TopicDurability {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.pad(self.name())
    }
}

impl core::str::FromStr for TopicDurability {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|durability| durability.name() == text);
        found.ok_or_else(|| format!("`{text}` is no durability: expected sync, interval or memory"))
    }
}
