//! Ids of requests: what a client calls its request, or a name that no other one has.

use crate::web::names;
use axum::http::{HeaderMap, HeaderValue};
use std::sync::atomic::{AtomicU64, Ordering};
use uuid::{Builder, Uuid};
use xxhash_rust::xxh3::xxh3_128_with_seed;

/// Longest id of a request that is taken from a client, in bytes; it ends up in every line of the log.
const REQUEST_ID_BYTES_MAX: usize = 128;

/// Makes ids. Each is a hash of a number that counts up, with what differs from process to process.
#[derive(Debug)]
pub(super) struct RequestIds {
    process: Uuid,
    next: AtomicU64,
}

impl Default for RequestIds {
    fn default() -> Self {
        // An id only has to differ from others: nothing that is stored depends on it, so no seed has to repeat it. The system is asked
        // once, because asking costs as much as half of a small request.
        Self { process: Uuid::new_v4(), next: AtomicU64::new(0) }
    }
}

impl RequestIds {
    /// The client's id if it is short visible ASCII, else a new one: it must not be able to forge lines of the log.
    pub(super) fn of(&self, headers: &HeaderMap) -> HeaderValue {
        let is_usable = |id: &&HeaderValue| {
            let bytes = id.as_bytes();
            (1..=REQUEST_ID_BYTES_MAX).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_graphic)
        };
        headers.get(&names::REQUEST_ID).filter(is_usable).cloned().unwrap_or_else(|| self.make())
    }

    fn make(&self) -> HeaderValue {
        let hash = xxh3_128_with_seed(self.process.as_bytes(), self.next.fetch_add(1, Ordering::Relaxed));
        let id = Builder::from_random_bytes(hash.to_be_bytes()).into_uuid();
        HeaderValue::from_str(id.hyphenated().encode_lower(&mut Uuid::encode_buffer())).expect("it is hexadecimal digits and hyphens")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn no_two_requests_get_one_id_and_no_two_processes() {
        let (one, other) = (RequestIds::default(), RequestIds::default());
        let ids: HashSet<_> = (0..10_000).flat_map(|_| [one.make(), other.make()]).map(|id| id.as_bytes().to_vec()).collect();
        assert_eq!(ids.len(), 20_000);
    }
}
