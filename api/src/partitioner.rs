//! From a record's key to its partition. The hash is named and has golden values, because it must never drift: XXH3, 64 bits.

use crate::ids::PartitionId;
use xxhash_rust::xxh3::xxh3_64;

/// The partition of a key among `count` partitions.
///
/// # Panics
/// When `count` is 0: no topic is without a partition.
#[must_use]
pub fn partition_of(key: &[u8], count: u32) -> PartitionId {
    let index = xxh3_64(key) % u64::from(count);
    PartitionId(u32::try_from(index).expect("the remainder is below a u32"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_does_not_drift() {
        let partitions = ["", "a", "order-1", "order-2", "Zürich"].map(|key| partition_of(key.as_bytes(), 16).0);
        assert_eq!(partitions, ["", "a", "order-1", "order-2", "Zürich"].map(|k| (xxh3_64(k.as_bytes()) % 16) as u32));
        assert_eq!(xxh3_64(b""), 0x2d06_8005_38d3_94c2, "XXH3's published value for no bytes");
    }
}
