//! A batch whose bytes are known to be right.

use super::error::{BatchError, EncodeError};
use super::header::BatchHeader;
use super::layout::{CRC_END, HEADER_LEN};
use super::record::{Record, StoredRecord};
use super::{decode, encode};
use bytes::{BufMut as _, Bytes, BytesMut};
use sagamq_api::Offset;

/// A record batch whose header and checksum are known to be right. Clones share the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    bytes: Bytes,
    header: BatchHeader,
}

/// Most bytes a record takes beside its payload: its size, attributes, time, offset delta and the lengths of its parts.
const RECORD_OVERHEAD: usize = 5 + 1 + 10 + 5 + 5 + 5 + 5;
/// Most bytes a header takes beside name and value: their lengths.
const RECORD_HEADER_OVERHEAD: usize = 5 + 5;

impl Batch {
    /// Encodes records as one batch with base offset 0, not compressed. Record *i* gets offset delta *i*.
    ///
    /// # Errors
    /// When there is no record, or they do not fit one batch.
    pub fn encode(records: &[Record]) -> Result<Self, EncodeError> {
        Self::encode_each(records.iter())
    }

    /// As [`Batch::encode`], of records that lie anywhere.
    pub(crate) fn encode_each<'a>(records: impl Iterator<Item = &'a Record> + Clone) -> Result<Self, EncodeError> {
        let (mut count, mut bytes) = (0, HEADER_LEN);
        let (mut lowest_ms, mut highest_ms) = (i64::MAX, i64::MIN);
        for record in records.clone() {
            let headers = record.payload.headers.len().saturating_mul(RECORD_HEADER_OVERHEAD);
            bytes = bytes.saturating_add(RECORD_OVERHEAD).saturating_add(headers).saturating_add(record.payload.len());
            (lowest_ms, highest_ms) = (lowest_ms.min(record.timestamp_ms), highest_ms.max(record.timestamp_ms));
            count += 1;
        }
        if count == 0 {
            return Err(EncodeError::Empty);
        }
        if highest_ms.checked_sub(lowest_ms).is_none() {
            return Err(EncodeError::TimestampsTooFarApart { lowest_ms, highest_ms });
        }
        if i32::try_from(bytes).is_err() {
            return Err(EncodeError::TooLarge { bytes });
        }
        // The size is known, so the bytes are written once and never moved.
        let bytes: Bytes = encode::batch(records, count, lowest_ms, highest_ms, bytes).into();
        let header = BatchHeader::parse(&bytes).expect("the header was just written");
        Ok(Self { bytes, header })
    }

    /// Takes bytes for a batch after its format, length and checksum were checked. The records behind the header are not looked at.
    ///
    /// # Errors
    /// When the bytes are not exactly one batch or were changed since they were written.
    pub fn parse(bytes: Bytes) -> Result<Self, BatchError> {
        let header = BatchHeader::parse(&bytes)?;
        let actual = crc32c::crc32c(&bytes[CRC_END..]);
        if actual != header.crc {
            return Err(BatchError::Checksum { stated: header.crc, actual });
        }
        Ok(Self { bytes, header })
    }

    /// The same records beginning at `base`. The checksum does not cover the base offset, so nothing is hashed; the bytes are
    /// copied only if somebody else shares them.
    ///
    /// # Panics
    /// When `base` is above `i64::MAX`: the format cannot hold it, and no partition gets there.
    #[must_use]
    pub fn with_base_offset(self, base: Offset) -> Self {
        let wire = i64::try_from(base.0).expect("offsets stay below 2^63");
        let mut bytes = self.bytes.try_into_mut().unwrap_or_else(|shared| BytesMut::from(shared.as_ref()));
        bytes[..8].as_mut().put_i64(wire);
        Self { bytes: bytes.freeze(), header: BatchHeader { base_offset: base, ..self.header } }
    }

    /// The header.
    #[must_use]
    pub const fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// Offset of the first record.
    #[must_use]
    pub const fn base_offset(&self) -> Offset {
        self.header.base_offset
    }

    /// The offset behind the last record.
    #[must_use]
    pub fn next_offset(&self) -> Offset {
        self.header.next_offset()
    }

    /// Number of offsets it takes: a compacted batch has fewer records.
    #[must_use]
    pub fn offsets_count(&self) -> u64 {
        u64::from(self.header.last_offset_delta) + 1
    }

    /// Number of records, at least 1.
    #[must_use]
    pub const fn records_count(&self) -> u32 {
        self.header.records_count
    }

    /// Highest timestamp of the records, in milliseconds since 1970.
    #[must_use]
    pub const fn max_timestamp(&self) -> i64 {
        self.header.max_timestamp
    }

    /// Size in bytes, header included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Never: a batch has a header and at least one record.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The bytes, as they are stored and sent.
    #[must_use]
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The bytes, as they are stored and sent.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }

    /// The records, in order of their offsets. Keys and values are not copied: they keep the batch in memory.
    ///
    /// # Errors
    /// When a record cannot be read. A header whose name is no UTF-8 is such a case: what a [`Payload`](sagamq_api::record::Payload) cannot hold is refused, not
    /// changed. So is a batch that is compressed or holds control records. None of this happens to a batch of [`Batch::encode`].
    pub fn records(&self) -> Result<Vec<StoredRecord>, BatchError> {
        decode::records(&self.bytes, &self.header)
    }
}
