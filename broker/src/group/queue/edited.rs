//! Records of a queue that were redriven from what their dead letters kept, edited by an operator or as they were: what is delivered to the group in
//! their places, also where the log has them no more, until they are settled.
//!
//! | field | form |
//! |---|---|
//! | version | one byte, 1 |
//! | number of records, at least 1 | varint |
//! | each, in order of offsets: number of bytes | varint |
//! | … a record batch with this one record, at its offset | bytes |

use crate::group::decode_error::DecodeError;
use crate::group::varint::{Input, put};
use crate::log::batch::{Batch, NewBatch, Record, StoredRecord};
use bytes::Bytes;
use sagamq_api::Offset;
use sagamq_api::limits::{EDITED_BYTES_MAX, EDITED_RECORDS_MAX};
use sagamq_api::record::Payload;
use std::collections::BTreeMap;

const VERSION: u8 = 1;

/// The edited records of a queue that are not settled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct EditedRecords {
    records: BTreeMap<Offset, Record>,
    bytes: usize,
}

impl EditedRecords {
    pub(crate) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// What is delivered in the place of the record at this offset.
    pub(crate) fn get(&self, offset: Offset) -> Option<&Record> {
        self.records.get(&offset)
    }

    /// Whether one more fits: one always does, so that a large one can be edited.
    pub(crate) fn has_room(&self, offset: Offset, payload: &Payload) -> bool {
        let before = self.records.get(&offset).map_or(0, |record| record.payload.len());
        let others = self.records.len() - usize::from(self.records.contains_key(&offset));
        others == 0 || (others < EDITED_RECORDS_MAX && self.bytes - before + payload.len() <= EDITED_BYTES_MAX)
    }

    /// Puts a record in the place of the one at this offset.
    pub(crate) fn put(&mut self, offset: Offset, record: Record) {
        self.bytes += record.payload.len();
        if let Some(before) = self.records.insert(offset, record) {
            self.bytes -= before.payload.len();
        }
    }

    /// Forgets those of which this is so. Whether there were any.
    pub(crate) fn forget(&mut self, is_done: impl Fn(Offset) -> bool) -> bool {
        let before = self.records.len();
        self.records.retain(|&offset, _| !is_done(offset));
        self.bytes = self.records.values().map(|record| record.payload.len()).sum();
        self.records.len() < before
    }

    /// The bytes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        put(&mut out, self.records.len() as u64);
        for (&offset, record) in &self.records {
            let batch = NewBatch::encode(core::slice::from_ref(record)).expect("one record that was admitted fits a batch").at(offset);
            put(&mut out, batch.len() as u64);
            out.extend_from_slice(&batch.into_bytes());
        }
        out
    }

    /// What was written.
    ///
    /// # Errors
    /// When the bytes were not made by [`EditedRecords::encode`].
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut input = Input(bytes);
        let version = input.byte()?;
        if version != VERSION {
            return Err(DecodeError::Version(version));
        }
        let mut edited = Self::default();
        for _ in 0..input.varint("the number of edited records")? {
            let length = usize::try_from(input.varint("the length of an edited record")?).unwrap_or(usize::MAX);
            let (batch, rest) = input.0.split_at_checked(length).ok_or(DecodeError::Truncated)?;
            input.0 = rest;
            let batch = Batch::parse(Bytes::copy_from_slice(batch)).and_then(|batch| batch.records());
            let records = batch.map_err(|_| DecodeError::Contradiction("an edited record is no sound record batch"))?;
            let [record] = <[StoredRecord; 1]>::try_from(records).map_err(|_| DecodeError::Number("records of an edited record"))?;
            if edited.records.last_key_value().is_some_and(|(&last, _)| last >= record.offset) {
                return Err(DecodeError::Contradiction("edited records are not in order"));
            }
            edited.put(record.offset, Record { timestamp_ms: record.timestamp_ms, payload: record.payload });
        }
        match input.0 {
            _ if edited.is_empty() => Err(DecodeError::Contradiction("nothing is stored of no edited records")),
            [] => Ok(edited),
            rest => Err(DecodeError::TrailingBytes(rest.len())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(value: impl Into<Bytes>) -> Payload {
        record(value).payload
    }

    fn record(value: impl Into<Bytes>) -> Record {
        let payload = Payload { key: Some("k".into()), value: Some(value.into()), headers: [("a", "b")].into_iter().collect() };
        Record { timestamp_ms: 77, payload }
    }

    #[test]
    fn what_was_written_is_read_and_damage_is_told() {
        let mut edited = EditedRecords::default();
        edited.put(Offset(9), record("nine"));
        edited.put(Offset(4), record("four"));
        edited.put(Offset(4), record("four again"));
        let bytes = edited.encode();
        assert_eq!(EditedRecords::decode(&bytes).as_ref(), Ok(&edited));
        assert_eq!(edited.get(Offset(4)).expect("there").payload.value.as_deref(), Some(&b"four again"[..]));
        for length in 0..bytes.len() {
            assert!(EditedRecords::decode(&bytes[..length]).is_err(), "{length}");
        }
        let mut flipped = bytes;
        *flipped.last_mut().expect("bytes") ^= 1;
        assert!(EditedRecords::decode(&flipped).is_err());
        assert_eq!(EditedRecords::decode(&[1, 0]), Err(DecodeError::Contradiction("nothing is stored of no edited records")));
        assert!(edited.forget(|offset| offset == Offset(9)) && !edited.forget(|offset| offset == Offset(9)));
        assert_eq!((edited.records.len(), edited.bytes), (1, payload("four again").len()));
    }

    #[test]
    fn one_always_fits_and_more_within_the_bound() {
        let mut edited = EditedRecords::default();
        let large = record(vec![0; 2 * EDITED_BYTES_MAX]);
        assert!(edited.has_room(Offset(1), &large.payload));
        edited.put(Offset(1), large.clone());
        assert!(edited.has_room(Offset(1), &large.payload), "in its own place");
        assert!(!edited.has_room(Offset(2), &payload("small")));
        assert!(edited.forget(|_| true));
        (0..EDITED_RECORDS_MAX as u64).for_each(|at| edited.put(Offset(at), record("small")));
        assert!(!edited.has_room(Offset(1_000), &payload("small")));
    }
}
