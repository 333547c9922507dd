//! Compressed records: an LZ4 frame or Zstandard frames, as Kafka has them behind the header of a batch. What they become is bounded before
//! anything is allocated for it, whatever they say about themselves.

use super::compression::Compression;
use super::error::BatchError;
use super::lz4_frame::{self, Frame};
use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
use std::cell::Cell;
use std::io::{self, Write as _};
use zstd::bulk::Decompressor;
use zstd::zstd_safe::get_frame_content_size;

/// The level of Zstandard: its own default, as Kafka's.
const ZSTD_LEVEL: i32 = 3;

/// Compresses records. `None`: they would not be smaller.
pub(super) fn compress(records: &[u8], compression: Compression) -> Option<Vec<u8>> {
    let compressed = match compression {
        Compression::None => return None,
        Compression::Lz4 => lz4(records).ok()?,
        Compression::Zstd => zstd::bulk::compress(records, ZSTD_LEVEL).ok()?,
    };
    (compressed.len() < records.len()).then_some(compressed)
}

fn lz4(records: &[u8]) -> io::Result<Vec<u8>> {
    const SMALL: usize = 64 * 1024;
    // A reader gets memory for a whole block, however few bytes are in it.
    let block_size = if records.len() <= SMALL { BlockSize::Max64KB } else { BlockSize::Max256KB };
    // Kafka's readers take independent blocks only.
    let info = FrameInfo::new().block_mode(BlockMode::Independent).block_size(block_size).content_size(Some(records.len() as u64));
    let mut encoder = FrameEncoder::with_frame_info(info, Vec::with_capacity(records.len() / 2));
    encoder.write_all(records)?;
    Ok(encoder.finish()?)
}

/// How many bytes compressed records become, as their frame says; `None` if it does not.
pub(super) fn stated_len(compressed: &[u8], compression: Compression) -> Option<u64> {
    match compression {
        Compression::None => Some(compressed.len() as u64),
        Compression::Lz4 => Frame::open(compressed).ok()?.content_size,
        Compression::Zstd => get_frame_content_size(compressed).ok().flatten(),
    }
}

/// How many bytes compressed records become, at most.
pub(super) fn len_max(compressed: &[u8], compression: Compression, max: usize) -> usize {
    let possible = match compression {
        Compression::None => compressed.len(),
        Compression::Lz4 => compressed.len().saturating_mul(lz4_frame::RATIO_MAX),
        Compression::Zstd => max,
    };
    let stated = stated_len(compressed, compression).map_or(usize::MAX, |stated| usize::try_from(stated).unwrap_or(usize::MAX));
    stated.min(possible).min(max)
}

/// Decompresses records that become no more than `max` bytes.
pub(super) fn decompress(compressed: &[u8], compression: Compression, max: usize) -> Result<Vec<u8>, BatchError> {
    let stated = stated_len(compressed, compression);
    if stated.is_some_and(|stated| stated > max as u64) {
        return Err(BatchError::DecompressedTooLarge(max));
    }
    let expected = len_max(compressed, compression, max);
    let mut records = match compression {
        Compression::None => compressed.to_vec(),
        Compression::Lz4 => Frame::open(compressed)?.read(expected, max)?,
        Compression::Zstd => read_zstd(compressed, expected, max)?,
    };
    if stated.is_some_and(|stated| stated != records.len() as u64) {
        return Err(BatchError::Compressed("the frame says another size than its records have".to_owned()));
    }
    if stated.is_none() {
        records.shrink_to_fit();
    }
    Ok(records)
}

fn read_zstd(compressed: &[u8], expected: usize, max: usize) -> Result<Vec<u8>, BatchError> {
    use zstd::zstd_safe::zstd_sys::ZSTD_ErrorCode;
    thread_local! {
        // Making one takes longer than decompressing a small batch.
        static DECODER: Cell<Option<Decompressor<'static>>> = const { Cell::new(None) };
    }
    let decoder = DECODER.take().map_or_else(Decompressor::new, Ok);
    let decompressed = decoder.and_then(|mut decoder| {
        let decompressed = decoder.decompress(compressed, expected);
        DECODER.set(Some(decoder));
        decompressed
    });
    decompressed.map_err(|reason| {
        let is_short = reason
            .get_ref()
            .and_then(|reason| reason.downcast_ref::<zstd::Error>())
            .is_some_and(|reason| reason.is(ZSTD_ErrorCode::ZSTD_error_dstSize_tooSmall));
        if is_short && expected == max { BatchError::DecompressedTooLarge(max) } else { BatchError::Compressed(reason.to_string()) }
    })
}
