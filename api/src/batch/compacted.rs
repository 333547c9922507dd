//! What compaction leaves of batches: one batch that takes all their offsets, with gaps where records are gone. Nobody who reads finds a part
//! of the log missing.

use super::compression::Compression;
use super::encode::{self, Shape};
use super::encoded::Batch;
use super::error::EncodeError;
use super::header::BatchHeader;
use super::layout::HEADER_LEN;
use super::new::compress;
use super::record::StoredRecord;
use crate::ids::Offset;
use bytes::BytesMut;
use core::ops::Range;

/// Most offsets of one batch: the format has 31 bits for them.
pub const OFFSETS_MAX: u64 = 0x7fff_ffff;

impl Batch {
    /// A batch that takes these offsets and holds these records, which lie within them, in their order, compressed if that makes it smaller.
    /// Without any, its times are those that are given: of what was there.
    ///
    /// # Errors
    /// When the records do not fit one batch.
    ///
    /// # Panics
    /// When the range is empty or takes more than [`OFFSETS_MAX`], or a record lies outside.
    pub fn compacted(
        offsets: Range<Offset>,
        records: &[StoredRecord],
        times_ms: (i64, i64),
        compression: Compression,
    ) -> Result<Self, EncodeError> {
        let (out, header) = write(&offsets, records.iter(), times_ms)?;
        let (out, header) = compress(&out, header, compression).unwrap_or((out, header));
        Ok(at(out, offsets.start, header))
    }

    /// A batch of some records of a partition, with gaps where others are: they are in the order of their offsets.
    ///
    /// # Errors
    /// When there is none, or they do not fit one batch.
    ///
    /// # Panics
    /// When they take more than [`OFFSETS_MAX`] offsets.
    pub fn picked<'a>(records: impl Iterator<Item = &'a StoredRecord> + Clone) -> Result<Self, EncodeError> {
        let (Some(first), Some(last)) = (records.clone().next(), records.clone().last()) else { return Err(EncodeError::Empty) };
        let offsets = first.offset..last.offset.next();
        let (out, header) = write(&offsets, records, (0, 0))?;
        Ok(at(out, offsets.start, header))
    }
}

/// The bytes of a batch that takes these offsets, and its header, as if the first were 0. Without records it has these times.
fn write<'a>(
    offsets: &Range<Offset>,
    records: impl Iterator<Item = &'a StoredRecord> + Clone,
    times_ms: (i64, i64),
) -> Result<(BytesMut, BatchHeader), EncodeError> {
    assert!(offsets.start < offsets.end && offsets.end.0 - offsets.start.0 <= OFFSETS_MAX, "a batch takes some offsets: {offsets:?}");
    let (mut records_count, mut bytes) = (0, HEADER_LEN);
    let mut times = None;
    for record in records.clone() {
        assert!(offsets.contains(&record.offset), "a batch has the records of its own offsets");
        let (lowest_ms, highest_ms) = times.unwrap_or((record.timestamp_ms, record.timestamp_ms));
        times = Some((record.timestamp_ms.min(lowest_ms), record.timestamp_ms.max(highest_ms)));
        bytes = bytes.saturating_add(encode::record_bytes_max(&record.payload));
        records_count += 1;
    }
    let (lowest_ms, highest_ms) = times.unwrap_or(times_ms);
    if highest_ms.checked_sub(lowest_ms).is_none() {
        return Err(EncodeError::TimestampsTooFarApart { lowest_ms, highest_ms });
    }
    if i32::try_from(bytes).is_err() {
        return Err(EncodeError::TooLarge { bytes });
    }
    let last_offset_delta = u32::try_from(offsets.end.0 - offsets.start.0 - 1).expect("31 bits were looked at");
    let shape = Shape { records_count, last_offset_delta, lowest_ms, highest_ms };
    let mut out = BytesMut::with_capacity(bytes);
    let each = records.map(|record| {
        let delta = i64::try_from(record.offset.0 - offsets.start.0).expect("31 bits were looked at");
        (delta, record.timestamp_ms, &record.payload)
    });
    let header = encode::sparse(&mut out, each, shape);
    Ok((out, header))
}

fn at(mut out: BytesMut, start: Offset, header: BatchHeader) -> Batch {
    let wire = i64::try_from(start.0).expect("offsets stay below 2^63");
    out[..8].copy_from_slice(&wire.to_be_bytes());
    Batch::known(out.freeze(), BatchHeader { base_offset: start, ..header })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{BatchError, NewBatch, ReceivedBatch, Record};
    use crate::record::Payload;
    use proptest::prelude::*;

    fn of(base: u64, count: u64) -> Vec<StoredRecord> {
        let record = |n: u64| Record {
            timestamp_ms: 1_000 + n.cast_signed(),
            payload: Payload {
                key: Some(n.to_string().into()),
                value: (!n.is_multiple_of(3)).then(|| vec![7; n as usize].into()),
                ..Payload::default()
            },
        };
        let records: Vec<Record> = (0..count).map(record).collect();
        NewBatch::encode(&records).expect("encodes").at(Offset(base)).records().expect("its own")
    }

    #[test]
    fn a_producer_sends_no_batch_without_records() {
        let left = Batch::compacted(Offset(0)..Offset(1), &[], (5, 9), Compression::None).expect("it fits");
        let parsed = ReceivedBatch::parse(BytesMut::from(left.bytes().as_ref()));
        assert!(matches!(parsed, Err(BatchError::Header(_))), "{parsed:?}");
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn some_of_the_records_come_back_at_their_offsets(base in 0..1_u64 << 40, picked in proptest::collection::vec(any::<bool>(), 1..40)) {
            let all = of(base, picked.len() as u64);
            let some: Vec<StoredRecord> = all.iter().zip(&picked).filter(|(_, picked)| **picked).map(|(record, _)| record.clone()).collect();
            match Batch::picked(some.iter()) {
                Ok(batch) => prop_assert_eq!(Batch::parse(batch.into_bytes()).and_then(|batch| batch.records()).expect("its own form"), some),
                Err(error) => prop_assert!(some.is_empty() && error == EncodeError::Empty),
            }
        }

        #[test]
        fn what_is_left_comes_back_at_its_offsets(base in 0..1_u64 << 40, kept in proptest::collection::vec(any::<bool>(), 1..40), before in 0..5_u64, behind in 0..1_000_000_u64, compression in proptest::sample::select(Compression::ALL.to_vec())) {
            let all = of(base + before, kept.len() as u64);
            let left: Vec<StoredRecord> = all.iter().zip(&kept).filter(|(_, kept)| **kept).map(|(record, _)| record.clone()).collect();
            let end = Offset(base + before + kept.len() as u64 + behind);
            let batch = Batch::compacted(Offset(base)..end, &left, (5, 9), compression).expect("it fits");
            let parsed = Batch::parse(batch.bytes().clone()).expect("its own form");
            prop_assert_eq!(&parsed, &batch);
            prop_assert_eq!((parsed.base_offset(), parsed.next_offset(), parsed.records_count() as usize), (Offset(base), end, left.len()));
            prop_assert_eq!(&parsed.records().expect("its own form"), &left);
            prop_assert_eq!(parsed.max_timestamp(), left.last().map_or(9, |record| record.timestamp_ms));
        }
    }
}
