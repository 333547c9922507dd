//! How far a partition is compacted, as it is stored.

use crate::ids::PartitionKey;
use crate::storage::keys::MetaKey;
use crate::storage::{Family, Mutation, Storage, StorageError};
use sagamq_api::Offset;

const VERSION: u8 = 1;

/// Bytes of a row: the version and seven numbers.
const LEN: usize = 1 + 7 * 8;

/// How far a partition is compacted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Compacted {
    /// Below this offset no key has two records: the last whole pass ended here.
    pub(crate) end: Offset,
    /// Bytes of the log below it, after that pass.
    pub(crate) bytes: u64,
    /// Tombstones below it, after that pass.
    pub(crate) tombstones: u64,
    /// Below this offset tombstones may go, from the next time on.
    pub(crate) horizon: Offset,
    /// When the log was compacted up to the horizon, in milliseconds since 1970.
    pub(crate) horizon_ms: u64,
    /// So many bytes are to be added to those of the entries of the index below the next offset: what lay behind them has become less, and
    /// where the log begins in bytes has risen instead.
    pub(crate) shift: u64,
    /// Where the shift ends.
    pub(crate) shift_below: Offset,
}

impl Compacted {
    /// The row of a partition; none is that of one that was never compacted.
    pub(crate) fn read(storage: &dyn Storage, key: PartitionKey) -> Result<Self, StorageError> {
        match storage.get(Family::Meta, &MetaKey::Compacted(key).encode())? {
            None => Ok(Self::default()),
            Some(row) => Self::decode(&row).ok_or_else(|| {
                StorageError::Corrupt(format!("topic {} partition {}: how far it is compacted cannot be read", key.topic.0, key.partition))
            }),
        }
    }

    /// Whether compaction has gone through any of a partition, and may have taken any of its records.
    pub(crate) fn is_stored(storage: &dyn Storage, key: PartitionKey) -> Result<bool, StorageError> {
        Ok(storage.get(Family::Meta, &MetaKey::Compacted(key).encode())?.is_some())
    }

    /// The bytes of an entry of the index at this offset, as they are counted now.
    pub(crate) fn shifted(&self, base: Offset, bytes: u64) -> u64 {
        if base < self.shift_below { bytes + self.shift } else { bytes }
    }

    pub(crate) fn put(&self, key: PartitionKey) -> Mutation {
        Mutation::Put { family: Family::Meta, key: MetaKey::Compacted(key).encode(), value: self.encode().into() }
    }

    fn encode(&self) -> Vec<u8> {
        let Self { end, bytes, tombstones, horizon, horizon_ms, shift, shift_below } = *self;
        let mut row = Vec::with_capacity(LEN);
        row.push(VERSION);
        for number in [end.0, bytes, tombstones, horizon.0, horizon_ms, shift, shift_below.0] {
            row.extend_from_slice(&number.to_be_bytes());
        }
        row
    }

    fn decode(row: &[u8]) -> Option<Self> {
        let numbers = row.strip_prefix(&[VERSION]).filter(|_| row.len() == LEN)?;
        let mut numbers = numbers.chunks_exact(8).map(|number| u64::from_be_bytes(number.try_into().expect("eight bytes each")));
        let mut next = || numbers.next().expect("the length was checked");
        Some(Self {
            end: Offset(next()),
            bytes: next(),
            tombstones: next(),
            horizon: Offset(next()),
            horizon_ms: next(),
            shift: next(),
            shift_below: Offset(next()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_bytes() {
        let row =
            Compacted { end: Offset(1), bytes: 2, tombstones: 3, horizon: Offset(4), horizon_ms: 5, shift: 6, shift_below: Offset(7) };
        let bytes = row.encode();
        assert_eq!(bytes[..9], *b"\x01\0\0\0\0\0\0\0\x01");
        assert_eq!((bytes.len(), Compacted::decode(&bytes)), (57, Some(row)));
        for wrong in [&bytes[1..], &bytes[..56], &[2; 57], &[]] {
            assert_eq!(Compacted::decode(wrong), None);
        }
        assert_eq!((row.shifted(Offset(6), 10), row.shifted(Offset(7), 10)), (16, 10));
    }
}
