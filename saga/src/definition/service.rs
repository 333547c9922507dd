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
    /// Most calls at a time; 0: any number.
    #[serde(default)]
    pub(crate) max_in_flight: u32,
    /// Most calls that begin in a second; 0: any number.
    #[serde(default)]
    pub(crate) calls_per_second: u32,
    /// Calls in a row without an answer after which nobody calls it for a while; 0: never.
    #[serde(default)]
    pub(crate) break_after: u32,
    /// How long nobody calls it then, in milliseconds.
    #[serde(default)]
    pub(crate) break_ms: u64,
    /// When it was put, in milliseconds since 1970.
    pub(crate) updated_at_ms: u64,
}
