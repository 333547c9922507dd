//! The row of a producer in a partition.
//!
//! Big-endian: version u8 = 1, epoch u16, time of the last batch u64, then its newest batches, the oldest first, 1 to 5 with 28 bytes each: base
//! sequence u32, number of records u32, checksum as it was sent u32, base offset u64, time of arrival i64.

use crate::dedup::sequence::{KeptBatch, ProducerState};
use sagamq_api::Offset;
use sagamq_api::batch::{EPOCH_MAX, SEQUENCE_MAX};
use sagamq_api::limits::PRODUCER_BATCHES_KEPT;

const VERSION: u8 = 1;
const HEAD_LEN: usize = 1 + 2 + 8;
const BATCH_LEN: usize = 4 + 4 + 4 + 8 + 8;

pub(crate) fn encode(state: &ProducerState) -> Vec<u8> {
    let mut row = Vec::with_capacity(HEAD_LEN + state.batches.len() * BATCH_LEN);
    row.push(VERSION);
    row.extend_from_slice(&state.epoch.to_be_bytes());
    row.extend_from_slice(&state.used_ms.to_be_bytes());
    for KeptBatch { sequence, records, crc, base, arrived_ms } in &state.batches {
        for number in [sequence, records, crc] {
            row.extend_from_slice(&number.to_be_bytes());
        }
        row.extend_from_slice(&base.0.to_be_bytes());
        row.extend_from_slice(&arrived_ms.to_be_bytes());
    }
    row
}

/// `None`: that is no such row.
pub(crate) fn decode(row: &[u8]) -> Option<ProducerState> {
    let (&version, rest) = row.split_first()?;
    let (epoch, rest) = rest.split_first_chunk()?;
    let (used_ms, rest) = rest.split_first_chunk()?;
    let (epoch, used_ms) = (u16::from_be_bytes(*epoch), u64::from_be_bytes(*used_ms));
    let is_whole = rest.len().is_multiple_of(BATCH_LEN) && (1..=PRODUCER_BATCHES_KEPT).contains(&(rest.len() / BATCH_LEN));
    if version != VERSION || !is_whole || epoch > EPOCH_MAX {
        return None;
    }
    let mut batches = Vec::with_capacity(PRODUCER_BATCHES_KEPT);
    for batch in rest.chunks_exact(BATCH_LEN) {
        let number = |at: usize| Some(u32::from_be_bytes(batch.get(at..at + 4)?.try_into().ok()?));
        let (sequence, records, crc) = (number(0)?, number(4)?, number(8)?);
        let base = u64::from_be_bytes(batch.get(12..20)?.try_into().ok()?);
        let arrived_ms = i64::from_be_bytes(batch.get(20..)?.try_into().ok()?);
        if sequence > SEQUENCE_MAX || records == 0 || base.checked_add(records.into()).is_none() {
            return None;
        }
        batches.push(KeptBatch { sequence, records, crc, base: Offset(base), arrived_ms });
    }
    Some(ProducerState { epoch, used_ms, batches })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn state(batches: usize) -> ProducerState {
        let batch = |n: usize| KeptBatch { sequence: n as u32, records: 1, crc: 2, base: Offset(3), arrived_ms: -1 };
        ProducerState { epoch: 4, used_ms: 5, batches: (0..batches).map(batch).collect() }
    }

    #[test]
    fn golden_bytes() {
        let row = encode(&state(1));
        assert_eq!(row[..11], *b"\x01\0\x04\0\0\0\0\0\0\0\x05");
        assert_eq!(row[11..], *b"\0\0\0\0\0\0\0\x01\0\0\0\x02\0\0\0\0\0\0\0\x03\xff\xff\xff\xff\xff\xff\xff\xff");
        for batches in 1..=5 {
            assert_eq!(decode(&encode(&state(batches))), Some(state(batches)));
        }
        for wrong in [encode(&state(0)), encode(&state(6)), row[..38].to_vec(), [&[2], &row[1..]].concat(), Vec::new()] {
            assert_eq!(decode(&wrong), None, "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn other_bytes_are_refused_or_mean_what_they_say(row in proptest::collection::vec(any::<u8>(), 0..160)) {
            if let Some(state) = decode(&row) {
                prop_assert_eq!(encode(&state), row);
            }
        }
    }
}
