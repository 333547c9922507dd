//! Idempotency entries: where the first record with a key was stored, and how a later one is answered.
//!
//! An entry lies on the shard of its partition, in a bucket of the time when it ends. So entries of all windows expire by one
//! range deletion a bucket and never by a tombstone a key, and none is kept much longer than its topic's window. A look-up asks the
//! buckets that the shard has and that are not over, newest first; Bloom filters make the misses cheap. A clock that steps back
//! makes entries last longer, never less long. A duplicate does not refresh an entry, an acknowledgement does not clear it, and it
//! survives a restart.
//!
//! What a request's key means is decided in [`request`]. What takes the place of keys where a producer counts its records is in [`sequence`].

mod entry;
pub(crate) mod producer_row;
pub(crate) mod request;
pub(crate) mod sequence;

pub(crate) use entry::{Entry, Place};

use crate::ids::ShardId;
use crate::storage::keys::dedup_bucket;
use crate::storage::{Direction, Family, Storage, StorageError};
use core::ops::ControlFlow;
use sagamq_api::headers::{TRACEPARENT, TRACESTATE, cloud_event};
use sagamq_api::record::{Header, Payload};
use sagamq_api::{Offset, PartitionId};
use std::collections::BTreeSet;

/// Width of a bucket of time: an eighth of the default window.
pub(crate) const BUCKET_MS: u64 = 3 * 60 * 60 * 1000;

/// How long an entry stays after its end: longer than a request that met it can still be on its way to another shard.
pub(crate) const KEPT_AFTER_END_MS: u64 = 10 * 60 * 1000;

/// First 16 bytes of a BLAKE3 hash.
pub(crate) type Hash = [u8; 16];

/// The bucket of an entry that ends at a moment.
pub(crate) fn bucket(ends_at_ms: u64) -> u32 {
    u32::try_from(ends_at_ms / BUCKET_MS).expect("buckets of three hours last for a million years")
}

/// The buckets that a shard has entries in.
#[derive(Debug, Default)]
pub(crate) struct Buckets(BTreeSet<u32>);

impl Buckets {
    /// Finds them in storage: one seek a bucket.
    pub(crate) fn load(storage: &dyn Storage, shard: ShardId) -> Result<Self, StorageError> {
        let mut buckets = BTreeSet::new();
        let all = shard.dedup_from(0);
        let mut start = all.start;
        loop {
            let mut found = None;
            storage.scan(Family::Dedup, &start[..]..&all.end[..], Direction::Forward, &mut |key, _| {
                found = dedup_bucket(key);
                ControlFlow::Break(())
            })?;
            let Some(bucket) = found else { return Ok(Self(buckets)) };
            buckets.insert(bucket);
            let Some(next) = bucket.checked_add(1) else { return Ok(Self(buckets)) };
            start = shard.dedup_from(next).start;
        }
    }

    pub(crate) fn insert(&mut self, bucket: u32) {
        self.0.insert(bucket);
    }

    /// Those with entries that may not be over, the newest first. Newer ones than the clock would fill today count as well: it may
    /// have stepped back.
    pub(crate) fn at(&self, now_ms: u64) -> impl Iterator<Item = u32> {
        self.0.range(bucket(now_ms)..).rev().copied()
    }

    /// Forgets the buckets whose entries are all over; gives the first that is kept, if there is something to delete.
    pub(crate) fn expire(&mut self, now_ms: u64) -> Option<u32> {
        let kept = bucket(now_ms.saturating_sub(KEPT_AFTER_END_MS));
        let is_over = self.0.first().is_some_and(|&oldest| oldest < kept);
        self.0.retain(|&bucket| bucket >= kept);
        is_over.then_some(kept)
    }
}

/// When a record is to be appended, as its producer says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// At this time, in milliseconds since 1970.
    At(u64),
    /// So many milliseconds after it arrived.
    After(u64),
}

/// What a key is for: a key of a request and the same key of a record are two keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyScope {
    Request,
    Record,
}

/// Hash of an idempotency key.
pub(crate) fn hash_key(scope: KeyScope, key: &[u8]) -> Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(match scope {
        KeyScope::Request => b"Q",
        KeyScope::Record => b"R",
    });
    hasher.update(key);
    truncate(hasher.finalize())
}

/// Under which a partition keeps that it has its share of a claimed request.
pub(crate) fn hash_share(claim: u64, request: Hash) -> Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"S");
    hasher.update(&claim.to_be_bytes());
    hasher.update(&request);
    truncate(hasher.finalize())
}

/// Under which a partition keeps one record of a claimed request some of whose records are to wait for their time: each has a key of its own then.
pub(crate) fn hash_of_share(claim: u64, request: Hash, place: usize) -> Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"P");
    hasher.update(&claim.to_be_bytes());
    hasher.update(&request);
    hasher.update(&(place as u64).to_be_bytes());
    truncate(hasher.finalize())
}

/// Under which a partition keeps that these leases of a group were acknowledged together, with records.
pub(crate) fn hash_of_leases(group: u32, leases: &[(Offset, u64)]) -> Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"A");
    hasher.update(&group.to_be_bytes());
    for (offset, lease_id) in leases {
        hasher.update(&offset.0.to_be_bytes());
        hasher.update(&lease_id.to_be_bytes());
    }
    truncate(hasher.finalize())
}

/// Hash of what a record says; a retry says the same. The time the broker gives to a record without one is not part of it, and neither is
/// what caused the record: a retry is caused by another span.
pub(crate) fn fingerprint(payload: &Payload, partition: Option<PartitionId>, timestamp_ms: Option<i64>, due: Option<Due>) -> Hash {
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
    let is_of_a_trace = |name: &str| matches!(name, TRACEPARENT | TRACESTATE | cloud_event::TRACEPARENT | cloud_event::TRACESTATE);
    for header in headers.into_iter().filter(|header| !is_of_a_trace(&header.name)) {
        field(Some(header.name.as_bytes()));
        field(header.value.as_deref());
    }
    field(partition.map(|p| p.0.to_be_bytes()).as_ref().map(<[u8; 4]>::as_slice));
    field(timestamp_ms.map(i64::to_be_bytes).as_ref().map(<[u8; 8]>::as_slice));
    // As it was given: a retry that comes later says the same delay.
    match due {
        None => {}
        Some(Due::At(ms)) => field(Some([&b"at"[..], &ms.to_be_bytes()].concat().as_slice())),
        Some(Due::After(ms)) => field(Some([&b"after"[..], &ms.to_be_bytes()].concat().as_slice())),
    }
    truncate(hasher.finalize())
}

/// Hash of what a batch says that its producer encoded: its bytes but for what the broker writes, and the partition he named.
pub(crate) fn fingerprint_batch(sent: &[u8], partition: Option<PartitionId>) -> Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"B");
    hasher.update(&partition.map_or(u64::MAX, |partition| partition.0.into()).to_be_bytes());
    hasher.update(sent);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{PartitionKey, TopicId};
    use crate::storage::memory::MemoryStorage;
    use crate::storage::{Durability, Mutation};
    use bytes::Bytes;

    fn payload(value: &str) -> Payload {
        Payload { value: Some(Bytes::copy_from_slice(value.as_bytes())), ..Payload::default() }
    }

    #[test]
    fn buckets_that_are_not_over_are_asked_whatever_the_clock_says_now() {
        let mut buckets = Buckets::default();
        for bucket in [5, 7, 90] {
            buckets.insert(bucket);
        }
        assert_eq!(buckets.at(7 * BUCKET_MS).collect::<Vec<_>>(), [90, 7]);
        assert_eq!(buckets.at(2 * BUCKET_MS).collect::<Vec<_>>(), [90, 7, 5], "the clock stepped back: all of them");
        assert_eq!(buckets.at(91 * BUCKET_MS).count(), 0);
    }

    #[test]
    fn a_bucket_goes_when_its_last_entry_is_over_for_a_while() {
        let mut buckets = Buckets::default();
        buckets.insert(5);
        assert_eq!(buckets.expire(6 * BUCKET_MS + KEPT_AFTER_END_MS - 1), None);
        assert_eq!(buckets.expire(6 * BUCKET_MS + KEPT_AFTER_END_MS), Some(6));
        assert_eq!(buckets.expire(9 * BUCKET_MS), None, "once is enough");
    }

    #[test]
    fn buckets_are_found_again_in_storage() {
        let storage = MemoryStorage::new();
        let key = |shard, partition, bucket| {
            let of = PartitionKey { shard: ShardId(shard), topic: TopicId(1), partition: PartitionId(partition) };
            Mutation::Put { family: Family::Dedup, key: of.dedup(bucket, [0xff; 16]), value: Bytes::new() }
        };
        let entries = [key(3, 0, 5), key(3, 1, 5), key(3, 0, 9), key(3, 0, u32::MAX), key(2, 0, 1), key(4, 0, 2)];
        storage.write(&entries, Durability::Synced).expect("written");
        assert_eq!(Buckets::load(&storage, ShardId(3)).expect("reads").0.into_iter().collect::<Vec<_>>(), [5, 9, u32::MAX]);
        assert!(Buckets::load(&storage, ShardId(5)).expect("reads").0.is_empty());
    }

    #[test]
    fn a_fingerprint_tells_payloads_apart() {
        let plain = fingerprint(&payload("a"), None, None, None);
        assert_eq!(plain, fingerprint(&payload("a"), None, None, None));
        let keyed = Payload { key: Some(Bytes::from_static(b"a")), ..Payload::default() };
        assert_ne!(plain, fingerprint(&keyed, None, None, None));
        assert_ne!(plain, fingerprint(&payload("a"), Some(PartitionId(0)), None, None));
        assert_ne!(plain, fingerprint(&payload("a"), None, Some(0), None));
        let with = |headers: &[(&str, &str)]| {
            fingerprint(&Payload { headers: headers.iter().copied().collect(), ..payload("a") }, None, None, None)
        };
        assert_eq!(with(&[("a", "1"), ("b", "2")]), with(&[("b", "2"), ("a", "1")]));
        assert_ne!(with(&[("a", "1"), ("a", "2")]), with(&[("a", "2"), ("a", "1")]));
        assert_eq!(
            with(&[("a", "1"), (TRACEPARENT, "00-1"), (TRACESTATE, "x=1")]),
            with(&[(TRACEPARENT, "00-2"), ("a", "1"), (cloud_event::TRACEPARENT, "00-3"), (cloud_event::TRACESTATE, "y=1")]),
            "a retry's span is another"
        );
        let due = |due| fingerprint(&payload("a"), None, None, Some(due));
        assert_eq!(due(Due::At(5)), due(Due::At(5)));
        assert!(due(Due::At(5)) != plain && due(Due::At(5)) != due(Due::At(6)) && due(Due::At(5)) != due(Due::After(5)));
        assert_ne!(hash_of_share(1, plain, 0), hash_of_share(1, plain, 1), "each record of a share has its own");
        assert_ne!(hash_key(KeyScope::Request, b"k"), hash_key(KeyScope::Record, b"k"));
        assert_ne!(hash_share(1, plain), hash_share(2, plain), "each claim of a key has shares of its own");
    }
}
