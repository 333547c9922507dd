//! Reads a frame of LZ4 (its "LZ4 Frame Format", version 1.6.2) straight into the memory for what it becomes. The decoder of the crate that
//! decompresses its blocks would take the memory of a whole block, which is up to 4 MiB, however few bytes are in it.

use super::error::BatchError;
use lz4_flex::block::{DecompressError, decompress_into, decompress_into_with_dict};
use xxhash_rust::xxh32::xxh32;

/// Bytes that one byte of a block stands for, at most.
pub(super) const RATIO_MAX: usize = 255;

const MAGIC: [u8; 4] = 0x184d_2204_u32.to_le_bytes();

/// How far a block may reach back into those before it.
const WINDOW: usize = 64 * 1024;

/// Of the size of a block: it is not compressed.
const AS_IT_IS: u32 = 1 << 31;

/// A frame whose head was read.
pub(super) struct Frame<'a> {
    /// Its blocks, and what is behind them.
    rest: &'a [u8],
    flags: u8,
    block_bytes_max: usize,
    /// What it becomes, as it says itself.
    pub(super) content_size: Option<u64>,
}

fn broken(what: &str) -> BatchError {
    BatchError::Compressed(format!("LZ4: {what}"))
}

impl<'a> Frame<'a> {
    const IS_INDEPENDENT: u8 = 1 << 5;
    const HAS_BLOCK_CHECKSUMS: u8 = 1 << 4;
    const HAS_SIZE: u8 = 1 << 3;
    const HAS_CHECKSUM: u8 = 1 << 2;
    const HAS_DICTIONARY: u8 = 1;

    /// Reads the head.
    pub(super) fn open(bytes: &'a [u8]) -> Result<Self, BatchError> {
        let Some((_, rest)) = bytes.split_first_chunk::<4>().filter(|(magic, _)| **magic == MAGIC) else { return Err(broken("no frame")) };
        let cut = || broken("the head of the frame is cut");
        let &[flags, block] = rest.first_chunk::<2>().ok_or_else(cut)?;
        if flags >> 6 != 1 || flags & 0b10 != 0 || block & 0b1000_1111 != 0 {
            return Err(broken("a later version of the frame"));
        }
        if flags & Self::HAS_DICTIONARY != 0 {
            return Err(BatchError::Compression("LZ4 and a dictionary"));
        }
        // Each number stands for four times as much as the one before, from 4 on: 64 KiB.
        let block_bytes_max = match block >> 4 {
            number @ 4..=7 => WINDOW << (2 * (number - 4)),
            _ => return Err(broken("the size of the frame's blocks is not known")),
        };
        let mut described = 2;
        let mut content_size = None;
        if flags & Self::HAS_SIZE != 0 {
            content_size = Some(u64::from_le_bytes(*rest[described..].first_chunk().ok_or_else(cut)?));
            described += 8;
        }
        let (descriptor, rest) = rest.split_at(described);
        let (check, rest) = rest.split_first().ok_or_else(cut)?;
        if (xxh32(descriptor, 0) >> 8) as u8 != *check {
            return Err(broken("the checksum of the frame's head"));
        }
        Ok(Self { rest, flags, block_bytes_max, content_size })
    }

    /// Reads what it becomes: no more than `max` bytes, and about so many as are `expected`. Nothing may stand behind it.
    pub(super) fn read(mut self, expected: usize, max: usize) -> Result<Vec<u8>, BatchError> {
        let mut out = Vec::with_capacity(if self.content_size.is_some() { expected } else { expected.min(4 * self.rest.len()) });
        // One that says how much it becomes needs memory for no more, however large its blocks may be.
        let limit = self.content_size.and_then(|size| usize::try_from(size).ok()).map_or(max, |size| size.min(max));
        let too_large = || if limit < max { broken("the frame becomes more than it says") } else { BatchError::DecompressedTooLarge(max) };
        loop {
            let size = u32::from_le_bytes(*self.take(4)?.first_chunk().expect("four bytes"));
            if size == 0 {
                break;
            }
            let block = self.take((size & !AS_IT_IS) as usize)?;
            if self.flags & Self::HAS_BLOCK_CHECKSUMS != 0 && xxh32(block, 0).to_le_bytes() != *self.take(4)? {
                return Err(broken("the checksum of a block"));
            }
            if !self.append(&mut out, block, size & AS_IT_IS == 0, limit)? {
                return Err(too_large());
            }
        }
        if self.flags & Self::HAS_CHECKSUM != 0 && xxh32(&out, 0).to_le_bytes() != *self.take(4)? {
            return Err(broken("the checksum of the content"));
        }
        if !self.rest.is_empty() {
            return Err(broken("there are bytes behind the frame"));
        }
        Ok(out)
    }

    fn take(&mut self, bytes: usize) -> Result<&'a [u8], BatchError> {
        let (taken, rest) = self.rest.split_at_checked(bytes).ok_or_else(|| broken("the frame is cut"))?;
        self.rest = rest;
        Ok(taken)
    }

    /// Whether the block fits.
    fn append(&self, out: &mut Vec<u8>, block: &[u8], is_compressed: bool, limit: usize) -> Result<bool, BatchError> {
        let (start, left) = (out.len(), limit - out.len());
        if !is_compressed {
            let fits = block.len() <= left;
            out.extend_from_slice(if fits { block } else { &[] });
            return Ok(fits);
        }
        let of_block = self.block_bytes_max.min(block.len().saturating_mul(RATIO_MAX).saturating_add(WINDOW / 1_024));
        out.resize(start + of_block.min(left), 0);
        let (before, room) = out.split_at_mut(start);
        let decompressed = if self.flags & Self::IS_INDEPENDENT != 0 {
            decompress_into(block, room)
        } else {
            decompress_into_with_dict(block, room, &before[start.saturating_sub(WINDOW)..])
        };
        match decompressed {
            Ok(bytes) => {
                out.truncate(start + bytes);
                Ok(true)
            }
            Err(DecompressError::OutputTooSmall { .. }) if left < of_block => Ok(false),
            Err(reason) => Err(broken(&reason.to_string())),
        }
    }
}
