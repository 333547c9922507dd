//! What holds a call back that waits to be sent.

use sagamq_api::saga::HeldBy;

/// What holds it back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) by: HeldBy,
    /// Until when, in milliseconds since 1970, if that is known.
    pub(crate) until_ms: Option<u64>,
}
