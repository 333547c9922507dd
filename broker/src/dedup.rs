//! Idempotency entries: where the first record with a key was stored, and how a later one is answered.
//!
//! An entry lies on the shard of its record's partition, in a bucket of time, so that expiry is one range deletion and never a
//! tombstone a key. A look-up asks every bucket of the topic's window, newest first; Bloom filters make the misses cheap.
//! A duplicate does not refresh an entry, an acknowledgement does not clear it, and it survives a restart.
//!
//! Value of an entry, big-endian: version u8 = 1, base offset u64, record count u32, timestamp i64, time stored u64,
//! fingerprint of the payload 16 bytes.

use sagamq_api::record::{Header, Payload};
use sagamq_api::{Offset, PartitionId};

/// Width of a bucket of time: an eighth of the default window.
pub(crate) const BUCKET_MS: u64 = 3 * 60 * 60 * 1000;

/// First 16 bytes of a BLAKE3 hash.
pub(crate) type Hash = [u8; 16];

/// The bucket of a moment.
pub(crate) fn bucket(at_ms: u64) -> u32 {
    u32::try_from(at_ms / BUCKET_MS).expect("buckets of three hours last for a million years")
}

/// The buckets that can hold an entry that is not older than `window_ms`, newest first.
pub(crate) fn buckets(now_ms: u64, window_ms: u64) -> impl Iterator<Item = u32> {
    (bucket(now_ms.saturating_sub(window_ms))..=bucket(now_ms)).rev()
}

/// What a key is for: a key of a request and the same key of a record are two keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyScope {
    Request,
    Record,
}

/// Hash of an idempotency key.
pub(crate) fn hash_key(scope: KeyScope, key: &str) -> Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(match scope {
        KeyScope::Request => b"Q",
        KeyScope::Record => b"R",
    });
    hasher.update(key.as_bytes());
    truncate(hasher.finalize())
}

/// Hash of what a record says; a retry says the same. The time the broker gives to a record without one is not part of it.
pub(crate) fn fingerprint(payload: &Payload, partition: Option<PartitionId>, timestamp_ms: Option<i64>) -> Hash {
    let mut hasher = blake3::Hasher::new();
    let mut field = |bytes: Option<&[u8]>| {
        // Lengths are part of the hash, so that no two payloads run together.
        hasher.update(&bytes.map_or(u64::MAX, |b| b.len() as u64).to_be_bytes());
        hasher.update(bytes.unwrap_or_default());
    };
    field(payload.key.as_deref());
    field(payload.value.as_deref());
    // In order of names, because the maps of clients have none; the order of one name's values counts.
    let mut headers: Vec<&Header> = payload.headers.iter().collect();
    headers.sort_by_key(|header| header.name.as_str());
    for header in headers {
        field(Some(header.name.as_bytes()));
        field(header.value.as_deref());
    }
    field(partition.map(|p| p.0.to_be_bytes()).as_ref().map(<[u8; 4]>::as_slice));
    field(timestamp_ms.map(i64::to_be_bytes).as_ref().map(<[u8; 8]>::as_slice));
    truncate(hasher.finalize())
}

/// Fingerprint of a request: of all its records in order.
pub(crate) fn combine<'a>(fingerprints: impl IntoIterator<Item = &'a Hash>) -> Hash {
    let mut hasher = blake3::Hasher::new();
    for fingerprint in fingerprints {
        hasher.update(fingerprint);
    }
    truncate(hasher.finalize())
}

fn truncate(hash: blake3::Hash) -> Hash {
    let mut first = [0; 16];
    first.copy_from_slice(&hash.as_bytes()[..16]);
    first
}

/// Where the first record (or run of records) with a key was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) base: Offset,
    pub(crate) count: u32,
    pub(crate) timestamp_ms: i64,
    pub(crate) stored_at_ms: u64,
    pub(crate) fingerprint: Hash,
}

impl Entry {
    const VERSION: u8 = 1;
    const LEN: usize = 1 + 8 + 4 + 8 + 8 + 16;

    pub(crate) fn encode(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(Self::LEN);
        bytes.push(Self::VERSION);
        bytes.extend_from_slice(&self.base.0.to_be_bytes());
        bytes.extend_from_slice(&self.count.to_be_bytes());
        bytes.extend_from_slice(&self.timestamp_ms.to_be_bytes());
        bytes.extend_from_slice(&self.stored_at_ms.to_be_bytes());
        bytes.extend_from_slice(&self.fingerprint);
        bytes
    }

    /// `None` if the bytes are no entry of this version.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (&version, rest) = bytes.split_first()?;
        if version != Self::VERSION || bytes.len() != Self::LEN {
            return None;
        }
        let (base, rest) = rest.split_first_chunk()?;
        let (count, rest) = rest.split_first_chunk()?;
        let (timestamp_ms, rest) = rest.split_first_chunk()?;
        let (stored_at_ms, rest) = rest.split_first_chunk()?;
        let (fingerprint, _) = rest.split_first_chunk()?;
        Some(Self {
            base: Offset(u64::from_be_bytes(*base)),
            count: u32::from_be_bytes(*count),
            timestamp_ms: i64::from_be_bytes(*timestamp_ms),
            stored_at_ms: u64::from_be_bytes(*stored_at_ms),
            fingerprint: *fingerprint,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use proptest::prelude::*;

    fn payload(value: &str) -> Payload {
        Payload { value: Some(Bytes::copy_from_slice(value.as_bytes())), ..Payload::default() }
    }

    #[test]
    fn the_window_is_covered_by_its_buckets() {
        let day = 24 * 60 * 60 * 1000;
        let now = 1_000 * BUCKET_MS + 5;
        assert_eq!(buckets(now, day).collect::<Vec<_>>(), (992..=1000).rev().collect::<Vec<_>>());
        assert_eq!(buckets(now, 1).collect::<Vec<_>>(), [1000]);
        assert_eq!(buckets(now, 10).collect::<Vec<_>>(), [1000, 999]);
    }

    #[test]
    fn a_fingerprint_tells_payloads_apart() {
        let plain = fingerprint(&payload("a"), None, None);
        assert_eq!(plain, fingerprint(&payload("a"), None, None));
        let keyed = Payload { key: Some(Bytes::from_static(b"a")), ..Payload::default() };
        assert_ne!(plain, fingerprint(&keyed, None, None));
        assert_ne!(plain, fingerprint(&payload("a"), Some(PartitionId(0)), None));
        assert_ne!(plain, fingerprint(&payload("a"), None, Some(0)));
        let with =
            |headers: &[(&str, &str)]| fingerprint(&Payload { headers: headers.iter().copied().collect(), ..payload("a") }, None, None);
        assert_eq!(with(&[("a", "1"), ("b", "2")]), with(&[("b", "2"), ("a", "1")]));
        assert_ne!(with(&[("a", "1"), ("a", "2")]), with(&[("a", "2"), ("a", "1")]));
        assert_ne!(hash_key(KeyScope::Request, "k"), hash_key(KeyScope::Record, "k"));
    }

    proptest! {
        #[test]
        fn entries_round_trip(base: u64, count: u32, timestamp_ms: i64, stored_at_ms: u64, fingerprint: Hash) {
            let entry = Entry { base: Offset(base), count, timestamp_ms, stored_at_ms, fingerprint };
            prop_assert_eq!(Entry::decode(&entry.encode()), Some(entry));
        }

        #[test]
        fn other_bytes_are_no_entry(bytes: Vec<u8>) {
            prop_assume!(bytes.first() != Some(&Entry::VERSION) || bytes.len() != Entry::LEN);
            prop_assert_eq!(Entry::decode(&bytes), None);
        }
    }
}
