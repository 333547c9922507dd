//! [`QuotaLimits`]: what a client may have.

use sagamq_api::access::KeyQuota;

/// What each client may have; 0 is no bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QuotaLimits {
    /// Requests in a second.
    pub requests_per_second: u64,
    /// Bytes in a second, of the bodies of requests and answers together.
    pub bytes_per_second: u64,
}

impl QuotaLimits {
    /// These, save where a key has its own.
    pub(super) fn of_key(self, own: KeyQuota) -> Self {
        Self {
            requests_per_second: own.requests_per_second.unwrap_or(self.requests_per_second),
            bytes_per_second: own.bytes_per_second.unwrap_or(self.bytes_per_second),
        }
    }
}
