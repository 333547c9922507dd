//! A record batch: the unit that is stored, checked and numbered together, in the bytes of Kafka's RecordBatch v2.
//!
//! Kafka's format was chosen because its base offset lies in front of the checksummed part: a batch is encoded and hashed where
//! the request arrives, and gets its offset later for the price of eight bytes ([`Batch::with_base_offset`]).
//!
//! | bytes | field | written |
//! |---|---|---|
//! | 0..8 | base offset, i64 | 0 until an offset is assigned |
//! | 8..12 | length of what follows, i32 | |
//! | 12..16 | partition leader epoch, i32 | -1 |
//! | 16 | magic, i8 | 2 |
//! | 17..21 | CRC-32C of everything behind it, u32 | |
//! | 21..23 | attributes, i16 | 0: not compressed, times of creation |
//! | 23..27 | last offset delta, i32 | |
//! | 27..35 | base timestamp in ms, i64 | the lowest of the batch |
//! | 35..43 | maximum timestamp in ms, i64 | |
//! | 43..51 | producer id, i64 | -1 |
//! | 51..53 | producer epoch, i16 | -1 |
//! | 53..57 | base sequence, i32 | -1 |
//! | 57..61 | number of records, i32 | |
//! | 61.. | records | |
//!
//! Records are written by `encode` and read by `decode` beside this file. They are our own, because the crate `kafka-protocol` keeps
//! headers in a map, which loses repeated ones, and its decoder trusts lengths; the tests read and write with that crate as well.

mod decode;
mod encode;
#[cfg(test)]
mod tests;

use bytes::{BufMut as _, Bytes, BytesMut};
use sagamq_api::Offset;
use sagamq_api::record::Payload;

/// A record before it has an offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Milliseconds since 1970.
    pub timestamp_ms: i64,
    /// Key, value and headers.
    pub payload: Payload,
}

/// A record read from a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRecord {
    /// Its place in the partition.
    pub offset: Offset,
    /// Milliseconds since 1970.
    pub timestamp_ms: i64,
    /// Key, value and headers. Key and value share the memory of the batch.
    pub payload: Payload,
}

impl StoredRecord {
    /// The record without its offset.
    #[must_use]
    pub fn into_record(self) -> Record {
        Record { timestamp_ms: self.timestamp_ms, payload: self.payload }
    }
}

/// What the first 61 bytes of a batch say, as far as the broker uses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// Offset of the first record.
    pub base_offset: Offset,
    /// Bytes that follow the length field; the whole batch is 12 bytes longer.
    pub length: u32,
    /// CRC-32C of everything behind the checksum itself.
    pub crc: u32,
    /// Offset of the last record minus the base offset.
    pub last_offset_delta: u32,
    /// Lowest timestamp, in milliseconds since 1970.
    pub base_timestamp: i64,
    /// Highest timestamp, in milliseconds since 1970.
    pub max_timestamp: i64,
    /// Number of records, at least 1.
    pub records_count: u32,
    attributes: i16,
}

/// A record batch whose header and checksum are known to be right. Clones share the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    bytes: Bytes,
    header: BatchHeader,
}

/// Why records cannot become a batch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// There is no record.
    #[error("a batch needs at least one record")]
    Empty,
    /// The format counts bytes in 31 bits.
    #[error("the records take up to {bytes} bytes; a batch holds at most {}", i32::MAX)]
    TooLarge {
        /// Upper bound of the batch's size.
        bytes: usize,
    },
    /// The format stores timestamps as distances from the lowest.
    #[error("the timestamps {lowest_ms} and {highest_ms} are too far apart for one batch")]
    TimestampsTooFarApart {
        /// Lowest of the batch.
        lowest_ms: i64,
        /// Highest of the batch.
        highest_ms: i64,
    },
}

/// Why bytes are no batch, or a batch holds what is not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// Fewer bytes than a header has.
    #[error("a record batch has at least {HEADER_LEN} bytes, these are {0}")]
    Truncated(usize),
    /// Another format, or no batch at all.
    #[error("record batch format {0} is not supported, only 2 is")]
    Magic(i8),
    /// The bytes are not exactly one batch.
    #[error("the record batch says it has {stated} bytes, but these are {actual}")]
    Length {
        /// What the header says.
        stated: i64,
        /// How many there are.
        actual: usize,
    },
    /// The bytes were changed after they were written.
    #[error("checksum of the record batch does not match: it says {stated:#010x}, its bytes give {actual:#010x}")]
    Checksum {
        /// What the header says.
        stated: u32,
        /// What the bytes give.
        actual: u32,
    },
    /// A field of the header makes no sense.
    #[error("header of the record batch: {0}")]
    Header(&'static str),
    /// The batch uses a part of the format that this broker does not read.
    #[error("the record batch uses {0}, which is not supported")]
    Unsupported(&'static str),
    /// A record makes no sense, or holds what a payload cannot express (nothing is dropped or replaced silently).
    #[error("record {index} of the batch: {reason}")]
    Record {
        /// Place in the batch, counted from 0.
        index: u32,
        /// What is wrong.
        reason: &'static str,
    },
}

/// Bytes before the first record.
pub const HEADER_LEN: usize = 61;
/// Bytes up to and including the length field, which the length does not count.
const LENGTH_END: usize = 12;
/// Where the checksummed part begins.
const CRC_END: usize = 21;
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
    /// When a record cannot be read. A header whose name is no UTF-8 is such a case: what a [`Payload`] cannot hold is refused, not
    /// changed. So is a batch that is compressed or holds control records. None of this happens to a batch of [`Batch::encode`].
    pub fn records(&self) -> Result<Vec<StoredRecord>, BatchError> {
        decode::records(self)
    }
}

impl BatchHeader {
    /// The offset behind the last record.
    #[must_use]
    pub fn next_offset(&self) -> Offset {
        self.base_offset.plus(u64::from(self.last_offset_delta)).next()
    }

    /// Reads the header of bytes that should be exactly one batch. The checksum is not looked at.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, BatchError> {
        let Some(header) = bytes.first_chunk::<HEADER_LEN>() else {
            return Err(BatchError::Truncated(bytes.len()));
        };
        // Magic first: its place is the same in every format, so another format is called by its name.
        let [magic] = field(header, 16);
        if magic != 2 {
            return Err(BatchError::Magic(i8::from_be_bytes([magic])));
        }
        let length = i32::from_be_bytes(field(header, 8));
        if usize::try_from(length) != Ok(bytes.len() - LENGTH_END) {
            return Err(BatchError::Length { stated: i64::from(length) + LENGTH_END as i64, actual: bytes.len() });
        }
        let base_offset = u64::try_from(i64::from_be_bytes(field(header, 0))).map_err(|_| BatchError::Header("negative base offset"))?;
        let last_offset_delta =
            u32::try_from(i32::from_be_bytes(field(header, 23))).map_err(|_| BatchError::Header("negative last offset delta"))?;
        let records_count =
            u32::try_from(i32::from_be_bytes(field(header, 57))).map_err(|_| BatchError::Header("negative number of records"))?;
        // A compacted batch may have gaps, so more offsets than records are legal, fewer are not.
        if records_count == 0 || records_count - 1 > last_offset_delta {
            return Err(BatchError::Header("number of records and last offset delta contradict each other"));
        }
        Ok(Self {
            base_offset: Offset(base_offset),
            length: length.unsigned_abs(),
            crc: u32::from_be_bytes(field(header, 17)),
            last_offset_delta,
            base_timestamp: i64::from_be_bytes(field(header, 27)),
            max_timestamp: i64::from_be_bytes(field(header, 35)),
            records_count,
            attributes: i16::from_be_bytes(field(header, 21)),
        })
    }
}

/// `N` bytes of the header from `at`.
fn field<const N: usize>(header: &[u8; HEADER_LEN], at: usize) -> [u8; N] {
    header[at..at + N].try_into().expect("every field lies within the header")
}
