//! The keys of locks, and where each has its home.

use sagamq_api::limits::LOCK_KEY_BYTES_MAX;

/// Sets these hashes apart from those of business keys. Never changed.
const CONTEXT: &str = "lock/";

/// The lane that has the lock of a key: the same on every node, for all time.
///
/// # Panics
/// When there are no lanes.
#[must_use]
pub fn lane_of_lock(key: &str, lanes: u16) -> u16 {
    let hash = xxhash_rust::xxh3::xxh3_64(format!("{CONTEXT}{key}").as_bytes());
    u16::try_from(hash % u64::from(lanes)).expect("the remainder is below the number of lanes")
}

/// Whether a text can be the key of a lock. Control characters are kept out of headers and listings, and end the key in a stored row.
#[must_use]
pub fn is_lock_key(key: &str) -> bool {
    (1..=LOCK_KEY_BYTES_MAX).contains(&key.len()) && !key.chars().any(char::is_control)
}
