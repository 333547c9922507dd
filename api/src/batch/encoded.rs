//! A batch whose bytes are known to be right.

use super::decode;
use super::error::BatchError;
use super::header::BatchHeader;
use super::layout::{CRC_END, HEADER_LEN};
use super::record::StoredRecord;
use crate::ids::Offset;
use crate::limits::DECOMPRESSED_BYTES_MAX;
use bytes::Bytes;

/// A record batch whose header and checksum are known to be right. Clones share the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    bytes: Bytes,
    header: BatchHeader,
}

/// Checks the format, the length and the checksum of bytes that should be exactly one batch. The records are not looked at.
///
/// # Errors
/// When they are not exactly one batch or were changed since they were written.
pub fn check(bytes: &[u8]) -> Result<BatchHeader, BatchError> {
    let header = BatchHeader::parse(bytes)?;
    let actual = crc32c::crc32c(&bytes[CRC_END..]);
    if actual != header.crc {
        return Err(BatchError::Checksum { stated: header.crc, actual });
    }
    Ok(header)
}

impl Batch {
    /// Bytes that were just written with this header.
    pub(super) const fn known(bytes: Bytes, header: BatchHeader) -> Self {
        Self { bytes, header }
    }

    /// The batch whose bytes these are: they were taken out of one.
    pub fn again(bytes: Bytes) -> Self {
        let header = BatchHeader::parse(&bytes).expect("nobody changed the bytes since");
        Self { bytes, header }
    }

    /// Takes bytes for a batch after its format, length and checksum were checked. The records behind the header are not looked at.
    ///
    /// # Errors
    /// When the bytes are not exactly one batch or were changed since they were written.
    pub fn parse(bytes: Bytes) -> Result<Self, BatchError> {
        let header = check(&bytes)?;
        Ok(Self { bytes, header })
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

    /// Number of records; 0 if compaction left none.
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

    /// Never: a batch has a header.
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

    /// Whether its records are compressed.
    #[must_use]
    pub const fn is_compressed(&self) -> bool {
        self.header.is_compressed()
    }

    /// Bytes that its records have when they are decompressed, as they say themselves; `None` if they do not. Of a batch that is not
    /// compressed those that they have.
    #[must_use]
    pub fn stated_bytes(&self) -> Option<u64> {
        let compression = self.header.compression().ok()?;
        super::codec::stated_len(&self.bytes[HEADER_LEN..], compression)
    }

    /// The records, in order of their offsets. Keys and values are not copied: they keep the batch in memory, or what it was decompressed to.
    ///
    /// # Errors
    /// When a record cannot be read. A header whose name is no UTF-8 is such a case: what a [`Payload`](crate::record::Payload) cannot hold is refused, not
    /// changed. So is a batch that holds control records, or is compressed in another way than those of [`Compression`](super::Compression) or to
    /// more than [`DECOMPRESSED_BYTES_MAX`]. None of this happens to a batch of [`NewBatch`](super::NewBatch).
    pub fn records(&self) -> Result<Vec<StoredRecord>, BatchError> {
        decode::records(&decode::body(&self.bytes, &self.header, DECOMPRESSED_BYTES_MAX)?, &self.header)
    }
}
