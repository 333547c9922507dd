//! Ids of instances: a UUID that says which lane owns the instance, and that follows from what the instance is about.
//!
//! The same saga and business key have the same id on every node and after every restore of a backup, so participants that remember the
//! calls of an instance recognise them. A key whose instance was removed starts the next *generation*, under another id: what participants
//! remember of the one before must not answer for it.

use sagamq_api::SagaName;
use uuid::Uuid;

/// Sets these hashes apart from all others. Never changed.
const CONTEXT: &str = "sagamq 2026-11 id of a saga instance";

/// The generation of a key's first instance.
pub const FIRST_GENERATION: u64 = 1;

/// The id of an instance of this lane.
///
/// A UUID of version 8: its first two bytes are the lane, big-endian, and the rest (106 bits after version and variant) is a hash of the
/// saga's name, the business key and the generation. So any request with an id, and any record with one, finds its lane without a look-up.
#[must_use]
pub fn instance_id(lane: u16, saga: &SagaName, key: &str, generation: u64) -> Uuid {
    let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
    // A name holds no byte 0, and the generation has a fixed width: no two sagas and keys give the same bytes.
    hasher.update(saga.as_str().as_bytes()).update(&[0]).update(key.as_bytes()).update(&generation.to_be_bytes());
    let mut bytes = [0; 16];
    bytes[..2].copy_from_slice(&lane.to_be_bytes());
    bytes[2..].copy_from_slice(&hasher.finalize().as_bytes()[..14]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

/// The lane in an id. Any UUID has one; whether that lane exists is for the caller to check.
#[must_use]
pub fn lane_of(id: Uuid) -> u16 {
    let bytes = id.as_bytes();
    u16::from_be_bytes([bytes[0], bytes[1]])
}

/// The lane of a business key: the same on every node, for all time.
///
/// # Panics
/// When there are no lanes.
#[must_use]
pub fn lane_of_key(saga: &SagaName, key: &str, lanes: u16) -> u16 {
    let hash = xxhash_rust::xxh3::xxh3_64(format!("{saga}/{key}").as_bytes());
    u16::try_from(hash % u64::from(lanes)).expect("the remainder is below the number of lanes")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn saga(name: &str) -> SagaName {
        name.parse().expect("legal")
    }

    #[test]
    fn the_lane_survives_version_and_variant() {
        for lane in [0, 1, 15, 0x8000, u16::MAX] {
            let id = instance_id(lane, &saga("s"), "k", 1);
            assert_eq!((lane_of(id), id.get_version_num()), (lane, 8));
        }
    }

    #[test]
    fn an_id_has_its_golden_bytes() {
        assert_eq!(instance_id(3, &saga("order"), "o-1", 1).to_string(), "000304c8-5bfe-8492-8f11-4e26d553c709");
        assert_eq!(instance_id(3, &saga("order"), "o-1", 2).to_string(), "000397f8-1df5-88f8-bf4c-9f61d3d65153");
    }

    #[test]
    fn saga_key_and_generation_each_make_another_id() {
        let ids = [("s", "k", 1), ("s", "k", 2), ("s", "k2", 1), ("sk", "", 1), ("s", "", 1), ("s", "\u{0}k", 1)];
        let ids: BTreeSet<Uuid> = ids.map(|(name, key, generation)| instance_id(0, &saga(name), key, generation)).into();
        assert_eq!(ids.len(), 6);
    }
}
