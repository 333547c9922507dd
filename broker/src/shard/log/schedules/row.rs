//! The rows of records that wait for their time, as bytes: big-endian, each with its version in front.

use crate::dedup::Hash;
use bytes::Bytes;
use sagamq_api::{PartitionId, ScheduleId};

const VERSION: u8 = 1;

/// How many records of one topic wait on one shard: version u8, records u64, bytes u64, idempotency keys u64, and the place of the first (due
/// u64, commit u64, index u32), before which nothing is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) records: u64,
    /// Bytes of their rows.
    pub(crate) bytes: u64,
    /// Those that have an idempotency key.
    pub(crate) keys: u64,
    /// No record waits before this place. Behind it are no rows of records that were appended, so reading begins here.
    pub(crate) first: ScheduleId,
}

/// A record that waits: version u8, partition u32, time of arrival u64, bytes of key, value and headers u32, whether it has an idempotency key
/// u8, if so the hash of that key and the record's fingerprint, 16 bytes each; then the record, as a batch of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) partition: PartitionId,
    /// When it arrived, in milliseconds since 1970.
    pub(crate) arrived_ms: u64,
    /// Bytes of key, value and headers.
    pub(crate) record_bytes: u32,
    /// Hash of its idempotency key, and its fingerprint.
    pub(crate) key: Option<(Hash, Hash)>,
    pub(crate) batch: Bytes,
}

/// Which record with an idempotency key waits: version u8, due u64, commit u64, index u32, time of arrival u64, fingerprint 16 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KeyRow {
    pub(crate) id: ScheduleId,
    /// When it arrived, in milliseconds since 1970.
    pub(crate) arrived_ms: u64,
    pub(crate) fingerprint: Hash,
}

fn put_id(bytes: &mut Vec<u8>, id: ScheduleId) {
    bytes.extend_from_slice(&id.due_ms.to_be_bytes());
    bytes.extend_from_slice(&id.commit.to_be_bytes());
    bytes.extend_from_slice(&id.index.to_be_bytes());
}

fn u64_of(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (number, rest) = bytes.split_first_chunk()?;
    Some((u64::from_be_bytes(*number), rest))
}

fn u32_of(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (number, rest) = bytes.split_first_chunk()?;
    Some((u32::from_be_bytes(*number), rest))
}

fn id_of(bytes: &[u8], shard: u16) -> Option<(ScheduleId, &[u8])> {
    let (due_ms, rest) = u64_of(bytes)?;
    let (commit, rest) = u64_of(rest)?;
    let (index, rest) = u32_of(rest)?;
    Some((ScheduleId { due_ms, shard, commit, index }, rest))
}

impl Totals {
    pub(super) fn encode(self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        for number in [self.records, self.bytes, self.keys] {
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        put_id(&mut bytes, self.first);
        bytes
    }

    /// `None`: that is no such row.
    pub(crate) fn decode(bytes: &[u8], shard: u16) -> Option<Self> {
        let (records, rest) = u64_of(bytes.strip_prefix(&[VERSION])?)?;
        let (bytes, rest) = u64_of(rest)?;
        let (keys, rest) = u64_of(rest)?;
        let (first, rest) = id_of(rest, shard)?;
        (rest.is_empty() && keys <= records).then_some(Self { records, bytes, keys, first })
    }
}

impl Row {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(1 + 4 + 8 + 4 + 1 + 32 + self.batch.len());
        bytes.push(VERSION);
        bytes.extend_from_slice(&self.partition.0.to_be_bytes());
        bytes.extend_from_slice(&self.arrived_ms.to_be_bytes());
        bytes.extend_from_slice(&self.record_bytes.to_be_bytes());
        bytes.push(u8::from(self.key.is_some()));
        if let Some((hash, fingerprint)) = &self.key {
            bytes.extend_from_slice(hash);
            bytes.extend_from_slice(fingerprint);
        }
        bytes.extend_from_slice(&self.batch);
        bytes
    }

    /// `None`: that is no such row. The batch is not looked at.
    pub(crate) fn decode(bytes: &Bytes) -> Option<Self> {
        let (partition, rest) = u32_of(bytes.strip_prefix(&[VERSION])?)?;
        let (arrived_ms, rest) = u64_of(rest)?;
        let (record_bytes, rest) = u32_of(rest)?;
        let (key, rest) = match rest.split_first()? {
            (0, rest) => (None, rest),
            (1, rest) => {
                let (hash, rest) = rest.split_first_chunk()?;
                let (fingerprint, rest) = rest.split_first_chunk()?;
                (Some((*hash, *fingerprint)), rest)
            }
            _ => return None,
        };
        Some(Self { partition: PartitionId(partition), arrived_ms, record_bytes, key, batch: bytes.slice_ref(rest) })
    }
}

impl KeyRow {
    pub(super) fn encode(self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        put_id(&mut bytes, self.id);
        bytes.extend_from_slice(&self.arrived_ms.to_be_bytes());
        bytes.extend_from_slice(&self.fingerprint);
        bytes
    }

    /// `None`: that is no such row.
    pub(super) fn decode(bytes: &[u8], shard: u16) -> Option<Self> {
        let (id, rest) = id_of(bytes.strip_prefix(&[VERSION])?, shard)?;
        let (arrived_ms, rest) = u64_of(rest)?;
        Some(Self { id, arrived_ms, fingerprint: rest.try_into().ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: ScheduleId = ScheduleId { due_ms: 3, shard: 7, commit: 4, index: 5 };

    #[test]
    fn rows_have_their_golden_bytes_and_others_are_refused() {
        let totals = Totals { records: 2, bytes: 9, keys: 1, first: ID };
        let golden = b"\x01\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x09\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0\x04\0\0\0\x05";
        assert_eq!((&totals.encode()[..], Totals::decode(golden, 7)), (&golden[..], Some(totals)));
        assert_eq!(Totals::decode(&golden[..44], 7), None);
        assert_eq!(Totals::decode(&Totals { keys: 3, ..totals }.encode(), 7), None, "more keys than records");
        let key = KeyRow { id: ID, arrived_ms: 6, fingerprint: *b"0123456789abcdef" };
        let golden = b"\x01\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0\x04\0\0\0\x05\0\0\0\0\0\0\0\x060123456789abcdef";
        assert_eq!((&key.encode()[..], KeyRow::decode(golden, 7)), (&golden[..], Some(key)));
        assert_eq!(KeyRow::decode(&golden[1..], 7), None);
        let row = Row { partition: PartitionId(2), arrived_ms: 6, record_bytes: 5, key: None, batch: Bytes::from_static(b"batch") };
        let golden = Bytes::from_static(b"\x01\0\0\0\x02\0\0\0\0\0\0\0\x06\0\0\0\x05\0batch");
        assert_eq!((&row.encode()[..], Row::decode(&golden)), (&golden[..], Some(row.clone())));
        let keyed = Row { key: Some((*b"0123456789abcdef", *b"fedcba9876543210")), ..row };
        let golden = Bytes::from_static(b"\x01\0\0\0\x02\0\0\0\0\0\0\0\x06\0\0\0\x05\x010123456789abcdeffedcba9876543210batch");
        assert_eq!((&keyed.encode()[..], Row::decode(&golden)), (&golden[..], Some(keyed)));
        assert_eq!(Row::decode(&golden.slice(..20)), None);
        assert_eq!(Row::decode(&Bytes::from_static(b"\x01\0\0\0\x02\0\0\0\0\0\0\0\x06\0\0\0\x05\x02")), None);
    }
}
