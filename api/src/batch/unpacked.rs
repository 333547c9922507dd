//! The records of a batch whose bytes belong to somebody else.

use super::codec;
use super::decode::Records;
use super::encoded::check;
use super::error::BatchError;
use super::header::BatchHeader;
use super::layout::HEADER_LEN;
use crate::limits::DECOMPRESSED_BYTES_MAX;
use bytes::Bytes;

/// The records of a batch, in memory of their own.
#[derive(Clone, Debug)]
pub struct Unpacked {
    header: BatchHeader,
    body: Bytes,
}

impl Unpacked {
    /// Checks what should be exactly one batch, and copies or decompresses its records. They are not looked at.
    ///
    /// # Errors
    /// As [`check`], and when they cannot be decompressed.
    pub fn read(batch: &[u8]) -> Result<Self, BatchError> {
        let header = check(batch)?;
        let behind = &batch[HEADER_LEN..];
        let body = match header.compression()? {
            super::Compression::None => Bytes::copy_from_slice(behind),
            compression => codec::decompress(behind, compression, DECOMPRESSED_BYTES_MAX)?.into(),
        };
        Ok(Self { header, body })
    }

    /// Its header.
    #[must_use]
    pub const fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// Bytes that its records keep in memory together: any of them keeps all.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.body.len()
    }

    /// Its records, in order of their offsets; an error where one cannot be read, see [`Batch::records`](super::Batch::records).
    #[must_use]
    pub fn records(&self) -> Records<'_> {
        Records::of(&self.body, &self.header)
    }
}

/// Bytes that [`Unpacked::read`] needs for the records of what should be a batch, at most. Nothing but the header is looked at.
#[must_use]
pub fn unpacked_bytes_max(batch: &[u8]) -> usize {
    let Ok(header) = BatchHeader::parse(batch) else { return batch.len() };
    header.unpacked_bytes_max(batch, DECOMPRESSED_BYTES_MAX)
}

/// As [`unpacked_bytes_max`] of a batch that a producer sent: it is refused if its records need more.
#[must_use]
pub fn sent_unpacked_bytes_max(batch: &[u8]) -> usize {
    let Ok(header) = BatchHeader::parse(batch) else { return batch.len() };
    header.unpacked_bytes_max(batch, super::received::unpacked_bytes_max(&header, DECOMPRESSED_BYTES_MAX))
}
