//! [`KeyQuota`]: how much whoever shows a key may have.

use serde::{Deserialize, Serialize};
#[cfg(feature = "openapi")]
use utoipa::ToSchema;

/// How much whoever shows a key may have in a second. What is left out is the server's bound for each client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
#[serde(deny_unknown_fields)]
pub struct KeyQuota {
    /// Requests in a second, up to 1,000,000,000; 0: no bound.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub requests_per_second: Option<u64>,
    /// Bytes in a second, of the bodies of requests and answers together, up to 1 TiB; 0: no bound.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub bytes_per_second: Option<u64>,
}

impl KeyQuota {
    /// Whether it says nothing of its own.
    #[must_use]
    pub fn is_the_servers(&self) -> bool {
        *self == Self::default()
    }
}
