//! A batch that has no offset yet: it is encoded where its records arrive, and its partition gives the offset.

use super::codec;
use super::compression::Compression;
use super::decode;
use super::encode;
use super::encoded::Batch;
use super::error::{BatchError, EncodeError};
use super::header::BatchHeader;
use super::layout::{CRC_END, HEADER_LEN, LENGTH_END, STAMP_START};
use super::record::{Record, StoredRecord};
use super::stamp::{STAMP_LEN, Stamp};
use crate::ids::Offset;
use crate::limits::DECOMPRESSED_BYTES_MAX;
use bytes::{Bytes, BytesMut};

/// Memory that small batches of one request share: the allocation is made once for all of them, and goes with the last.
const SHARED_BYTES: usize = 32 * 1024;

/// A record batch without an offset. Nobody shares its bytes, so giving it one costs eight bytes and no copy.
#[derive(Debug, PartialEq, Eq)]
pub struct NewBatch {
    bytes: BytesMut,
    header: BatchHeader,
}

/// Where batches are encoded one behind the other.
#[derive(Debug, Default)]
pub struct BatchBuffer {
    /// Room that is left.
    room: BytesMut,
    /// Bytes that are still to come, about.
    expected: usize,
}

impl BatchBuffer {
    /// For these many batches of so many records with so many bytes of payload together, about.
    pub fn expecting(batches: usize, records: usize, payload_bytes: usize) -> Self {
        Self { room: BytesMut::new(), expected: batches * HEADER_LEN + records * encode::RECORD_OVERHEAD + payload_bytes }
    }

    /// An empty buffer with room for so many bytes.
    fn room(&mut self, bytes: usize) -> &mut BytesMut {
        if self.room.capacity() < bytes {
            // What is left of the memory before stays with the batches in it.
            self.room = BytesMut::with_capacity(bytes.max(self.expected.min(SHARED_BYTES)));
        }
        self.expected = self.expected.saturating_sub(bytes);
        &mut self.room
    }
}

impl NewBatch {
    /// Encodes records as one batch, not compressed. Record *i* gets offset delta *i*.
    ///
    /// # Errors
    /// When there is no record, or they do not fit one batch.
    pub fn encode(records: &[Record]) -> Result<Self, EncodeError> {
        Self::encode_each(records.iter(), &mut BatchBuffer::default())
    }

    /// As [`NewBatch::encode`], of records that lie anywhere, in memory that others may share.
    pub fn encode_each<'a>(records: impl Iterator<Item = &'a Record> + Clone, buffer: &mut BatchBuffer) -> Result<Self, EncodeError> {
        let (mut count, mut bytes) = (0, HEADER_LEN);
        let (mut lowest_ms, mut highest_ms) = (i64::MAX, i64::MIN);
        for record in records.clone() {
            bytes = bytes.saturating_add(encode::record_bytes_max(&record.payload));
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
        let room = buffer.room(bytes);
        let header = encode::batch(room, records, count, lowest_ms, highest_ms);
        Ok(Self { bytes: room.split(), header })
    }

    /// Bytes that were just checked against this header.
    pub(super) const fn known(bytes: BytesMut, header: BatchHeader) -> Self {
        Self { bytes, header }
    }

    /// The same batch with this time, in milliseconds since 1970, as that of its first record. The checksum covers it, so it is made anew.
    pub(super) fn at_time(mut self, time_ms: i64) -> Self {
        self.bytes[27..35].copy_from_slice(&time_ms.to_be_bytes());
        self.bytes[35..43].copy_from_slice(&time_ms.to_be_bytes());
        self.header = BatchHeader { crc: self.seal(), base_timestamp: time_ms, max_timestamp: time_ms, ..self.header };
        self
    }

    /// The same batch, saying who sends it. The checksum covers that, so it is made anew.
    ///
    /// # Panics
    /// When a number of the stamp is above the highest that the format holds.
    #[must_use]
    pub fn stamped(mut self, stamp: Stamp) -> Self {
        self.bytes[STAMP_START..STAMP_START + STAMP_LEN].copy_from_slice(&stamp.bytes());
        self.header = BatchHeader { crc: self.seal(), stamp: Some(stamp), ..self.header };
        self
    }

    /// Makes the checksum anew.
    fn seal(&mut self) -> u32 {
        let crc = crc32c::crc32c(&self.bytes[CRC_END..]);
        self.bytes[17..CRC_END].copy_from_slice(&crc.to_be_bytes());
        crc
    }

    /// The same batch with its records compressed; as it is if that makes it no smaller, or if they are compressed already.
    #[must_use]
    pub fn compressed(self, compression: Compression) -> Self {
        match compress(&self.bytes, self.header, compression) {
            Some((bytes, header)) => Self { bytes, header },
            None => self,
        }
    }

    /// A batch that was encoded before, and gets its offset only now.
    #[must_use]
    pub fn again(batch: &Batch) -> Self {
        Self { bytes: BytesMut::from(batch.bytes().as_ref()), header: *batch.header() }
    }

    /// The same batch in memory of its own: what it was encoded beside may go.
    pub fn on_its_own(self) -> Self {
        Self { bytes: BytesMut::from(self.bytes.as_ref()), header: self.header }
    }

    /// The batch at an offset. The checksum does not cover it, so nothing is hashed, and nothing is copied.
    ///
    /// # Panics
    /// When `base` is above `i64::MAX`: the format cannot hold it, and no partition gets there.
    #[must_use]
    pub fn at(mut self, base: Offset) -> Batch {
        let wire = i64::try_from(base.0).expect("offsets stay below 2^63");
        self.bytes[..8].copy_from_slice(&wire.to_be_bytes());
        Batch::known(self.bytes.freeze(), BatchHeader { base_offset: base, ..self.header })
    }

    /// Number of offsets it takes.
    #[must_use]
    pub fn offsets_count(&self) -> u64 {
        u64::from(self.header.last_offset_delta) + 1
    }

    /// Number of records, at least 1.
    #[must_use]
    pub const fn records_count(&self) -> u32 {
        self.header.records_count
    }

    /// Size in bytes, header included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Never: a new batch has a header and at least one record.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Highest timestamp of the records, in milliseconds since 1970.
    #[must_use]
    pub const fn max_timestamp(&self) -> i64 {
        self.header.max_timestamp
    }

    /// The bytes with base offset 0, as a producer sends them.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether its records are compressed.
    #[must_use]
    pub const fn is_compressed(&self) -> bool {
        self.header.is_compressed()
    }

    /// The records, as if the first had offset 0.
    ///
    /// # Errors
    /// As [`Batch::records`], which does not happen to what was just encoded.
    pub fn into_records(self) -> Result<Vec<StoredRecord>, BatchError> {
        let bytes = self.bytes.freeze();
        decode::records(&decode::body(&bytes, &self.header, DECOMPRESSED_BYTES_MAX)?, &self.header)
    }
}

/// The bytes of a batch with its records compressed. `None`: it would not be smaller, is compressed already, or these bytes are no batch.
#[must_use]
pub fn compressed(batch: &[u8], compression: Compression) -> Option<Bytes> {
    let header = BatchHeader::parse(batch).ok()?;
    compress(batch, header, compression).map(|(bytes, _)| bytes.freeze())
}

/// The bytes of a batch with its records compressed, and its header then. `None`: it would not be smaller, or is compressed already.
pub(super) fn compress(batch: &[u8], header: BatchHeader, compression: Compression) -> Option<(BytesMut, BatchHeader)> {
    if header.is_compressed() {
        return None;
    }
    let records = codec::compress(&batch[HEADER_LEN..], compression)?;
    let mut bytes = BytesMut::with_capacity(HEADER_LEN + records.len());
    bytes.extend_from_slice(&batch[..HEADER_LEN]);
    bytes.extend_from_slice(&records);
    let attributes = header.attributes | compression.bits();
    let length = u32::try_from(bytes.len() - LENGTH_END).expect("it is smaller than a batch that fits");
    bytes[8..LENGTH_END].copy_from_slice(&length.to_be_bytes());
    bytes[21..23].copy_from_slice(&attributes.to_be_bytes());
    let crc = crc32c::crc32c(&bytes[CRC_END..]);
    bytes[17..CRC_END].copy_from_slice(&crc.to_be_bytes());
    Some((bytes, BatchHeader { length, crc, attributes, ..header }))
}
