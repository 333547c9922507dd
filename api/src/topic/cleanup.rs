//! What becomes of the records of a topic.

use serde::{Deserialize, Serialize};
#[cfg(feature = "openapi")]
use utoipa::ToSchema;

/// What becomes of the records of a topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub enum CleanupPolicy {
    /// They go when `retention_ms` or `retention_bytes` says so.
    #[default]
    #[serde(rename = "delete")]
    Delete,
    /// Compaction: of each key the newest record stays for ever, and older ones go. A record without a value says that its key is gone, and goes
    /// itself after `delete_retention_ms`. Records without a key are refused.
    #[serde(rename = "compact")]
    Compact,
    /// Both.
    #[serde(rename = "delete,compact", alias = "compact,delete")]
    DeleteAndCompact,
}

impl CleanupPolicy {
    /// Every policy.
    pub const ALL: [Self; 3] = [Self::Delete, Self::Compact, Self::DeleteAndCompact];

    /// As it stands in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Delete => "delete",
            Self::Compact => "compact",
            Self::DeleteAndCompact => "delete,compact",
        }
    }

    /// Whether older records of a key go.
    #[must_use]
    pub const fn compacts(self) -> bool {
        matches!(self, Self::Compact | Self::DeleteAndCompact)
    }

    /// Whether records go by their age and their bytes.
    #[must_use]
    pub const fn deletes(self) -> bool {
        matches!(self, Self::Delete | Self::DeleteAndCompact)
    }
}

/// No policy has this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no cleanup policy: it is one of {list}", list = CleanupPolicy::ALL.map(CleanupPolicy::as_str).join("; "))]
pub struct NoSuchPolicy(String);

impl core::str::FromStr for CleanupPolicy {
    type Err = NoSuchPolicy;

    fn from_str(name: &str) -> Result<Self, NoSuchPolicy> {
        let named = |policy: &Self| policy.as_str() == name || (*policy == Self::DeleteAndCompact && name == "compact,delete");
        Self::ALL.into_iter().find(named).ok_or_else(|| NoSuchPolicy(name.to_owned()))
    }
}

impl core::fmt::Display for CleanupPolicy {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.pad(self.as_str())
    }
}
