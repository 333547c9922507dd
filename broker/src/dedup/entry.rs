//! The value of an idempotency entry.
//!
//! Big-endian, 50 bytes: version u8 = 2, kind u8, place 12 bytes by kind, time of arrival i64, end of the window u64, number of
//! records u32, fingerprint 16 bytes. Kind 0, stored: base offset u64, and 4 bytes 0. Kind 1, claimed: number of the claim u64, number of
//! the topic's partitions u32.

use crate::dedup::Hash;
use sagamq_api::Offset;

/// Where the records of a key are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In the entry's own partition, one after the other from here on.
    Stored { base: Offset },
    /// A request's, dealt over the topic: each partition has an entry of its own for its share, under the claim's number. With the
    /// number of partitions each record's partition follows, because it depends on what the fingerprint covers and on nothing else.
    Claimed { claim: u64, partitions: u32 },
}

/// What an idempotency key stands for until its window is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) place: Place,
    /// The time that records without one of their own got.
    pub(crate) arrived_ms: i64,
    pub(crate) ends_at_ms: u64,
    /// Number of records.
    pub(crate) count: u32,
    pub(crate) fingerprint: Hash,
}

impl Entry {
    const VERSION: u8 = 2;
    const LEN: usize = 1 + 1 + 8 + 4 + 8 + 8 + 4 + 16;

    /// Whether the window is not over. After a clock stepped back it lasts longer.
    pub(crate) fn counts_at(&self, now_ms: u64) -> bool {
        now_ms <= self.ends_at_ms
    }

    pub(crate) fn encode(self) -> Vec<u8> {
        let (kind, number, partitions) = match self.place {
            Place::Stored { base } => (0, base.0, 0),
            Place::Claimed { claim, partitions } => (1, claim, partitions),
        };
        let mut bytes = Vec::with_capacity(Self::LEN);
        bytes.extend_from_slice(&[Self::VERSION, kind]);
        bytes.extend_from_slice(&number.to_be_bytes());
        bytes.extend_from_slice(&partitions.to_be_bytes());
        bytes.extend_from_slice(&self.arrived_ms.to_be_bytes());
        bytes.extend_from_slice(&self.ends_at_ms.to_be_bytes());
        bytes.extend_from_slice(&self.count.to_be_bytes());
        bytes.extend_from_slice(&self.fingerprint);
        bytes
    }

    /// `None` if the bytes are no entry of this version.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (&[version, kind], rest) = bytes.split_first_chunk()?;
        if version != Self::VERSION || bytes.len() != Self::LEN {
            return None;
        }
        let (number, rest) = rest.split_first_chunk()?;
        let (partitions, rest) = rest.split_first_chunk()?;
        let (arrived_ms, rest) = rest.split_first_chunk()?;
        let (ends_at_ms, rest) = rest.split_first_chunk()?;
        let (count, rest) = rest.split_first_chunk()?;
        let (fingerprint, _) = rest.split_first_chunk()?;
        let (number, partitions) = (u64::from_be_bytes(*number), u32::from_be_bytes(*partitions));
        let place = match (kind, partitions) {
            (0, 0) => Place::Stored { base: Offset(number) },
            (1, 1..) => Place::Claimed { claim: number, partitions },
            _ => return None,
        };
        Some(Self {
            place,
            arrived_ms: i64::from_be_bytes(*arrived_ms),
            ends_at_ms: u64::from_be_bytes(*ends_at_ms),
            count: u32::from_be_bytes(*count),
            fingerprint: *fingerprint,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn place() -> impl Strategy<Value = Place> {
        prop_oneof![
            any::<u64>().prop_map(|base| Place::Stored { base: Offset(base) }),
            (any::<u64>(), 1..=u32::MAX).prop_map(|(claim, partitions)| Place::Claimed { claim, partitions }),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn entries_round_trip(place in place(), arrived_ms: i64, ends_at_ms: u64, count: u32, fingerprint: Hash) {
            let entry = Entry { place, arrived_ms, ends_at_ms, count, fingerprint };
            prop_assert_eq!(Entry::decode(&entry.encode()), Some(entry));
        }

        #[test]
        fn one_entry_has_one_form(mut bytes in proptest::collection::vec(any::<u8>(), 0..60), ours: bool) {
            if ours && bytes.len() > 1 {
                (bytes[0], bytes[1]) = (Entry::VERSION, bytes[1] % 3);
            }
            if let Some(entry) = Entry::decode(&bytes) {
                prop_assert_eq!(entry.encode(), bytes);
            }
        }
    }

    #[test]
    fn golden_bytes() {
        let entry = Entry {
            place: Place::Claimed { claim: 1, partitions: 2 },
            arrived_ms: 3,
            ends_at_ms: 4,
            count: 5,
            fingerprint: *b"0123456789abcdef",
        };
        let claimed = b"\x02\x01\0\0\0\0\0\0\0\x01\0\0\0\x02\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0\x04\0\0\0\x050123456789abcdef";
        assert_eq!(entry.encode(), claimed);
        let stored = b"\x02\0\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0\x04\0\0\0\x050123456789abcdef";
        assert_eq!(Entry { place: Place::Stored { base: Offset(1) }, ..entry }.encode(), stored);
    }
}
