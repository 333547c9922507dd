//! Where a service is, whatever definitions say: what is stored under its name.

use serde::{Deserialize, Serialize};

/// The endpoints of a service, and how they are got along with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ServiceAddress {
    /// Base URLs, without a slash at their ends.
    pub(crate) endpoints: Vec<String>,
    /// Connection failures in a row after which an endpoint is left alone; 0: never.
    pub(crate) eject_after: u32,
    /// How long it is left alone, in milliseconds.
    pub(crate) eject_ms: u64,
    /// When it was put, in milliseconds since 1970.
    pub(crate) updated_at_ms: u64,
}
