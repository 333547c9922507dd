//! The header of a batch.

use super::codec;
use super::compression::{self, Compression};
use super::error::BatchError;
use super::layout::{HEADER_LEN, LENGTH_END, STAMP_START};
use super::stamp::Stamp;
use crate::ids::Offset;

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
    /// Number of records; 0 if compaction left none.
    pub records_count: u32,
    /// Who sent it, if the producer said so.
    pub stamp: Option<Stamp>,
    pub(super) attributes: i16,
}

impl BatchHeader {
    /// The offset behind the last record.
    #[must_use]
    pub fn next_offset(&self) -> Offset {
        self.base_offset.plus(u64::from(self.last_offset_delta)).next()
    }

    /// How the records are compressed.
    ///
    /// # Errors
    /// When it is in a way that is not known here.
    pub const fn compression(&self) -> Result<Compression, BatchError> {
        Compression::of(self.attributes)
    }

    /// Whether the records are compressed, in whatever way.
    #[must_use]
    pub const fn is_compressed(&self) -> bool {
        self.attributes & compression::BITS != 0
    }

    /// Bytes that the records of the batch with this header have, decompressed, at most; more than `max` are refused.
    pub(super) fn unpacked_bytes_max(&self, batch: &[u8], max: usize) -> usize {
        match self.compression() {
            Ok(Compression::None) | Err(_) => batch.len(),
            Ok(compression) => codec::len_max(&batch[HEADER_LEN..], compression, max),
        }
    }

    /// Reads the header of bytes that should be exactly one batch. The checksum is not looked at.
    pub fn parse(bytes: &[u8]) -> Result<Self, BatchError> {
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
        // A compacted batch may have gaps, or no record at all, so more offsets than records are legal, fewer are not.
        if records_count.saturating_sub(1) > last_offset_delta {
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
            stamp: Stamp::read(field(header, STAMP_START))?,
            attributes: i16::from_be_bytes(field(header, 21)),
        })
    }
}

/// `N` bytes of the header from `at`.
fn field<const N: usize>(header: &[u8; HEADER_LEN], at: usize) -> [u8; N] {
    header[at..at + N].try_into().expect("every field lies within the header")
}
