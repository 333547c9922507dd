//! A chunk of rows: each one a family's byte, the lengths of key and value as four bytes little-endian each, the key, the value. All
//! of them compressed together with Zstandard.

use super::manifest::Chunk;
use bytes::Bytes;
use uuid::Uuid;

/// Faster than the storage takes the result, and half the size for most data.
const LEVEL: i32 = 1;
const ROW_HEAD: usize = 9;

/// Rows before they are compressed.
#[derive(Debug, Default)]
pub(super) struct Rows {
    raw: Vec<u8>,
}

impl Rows {
    /// Adds a row.
    ///
    /// # Panics
    /// When key or value has four gigabytes or more: no store of ours takes such ones.
    pub(super) fn push(&mut self, family: u8, key: &[u8], value: &[u8]) {
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).expect("a key and a value have less than four gigabytes").to_le_bytes();
        self.raw.push(family);
        self.raw.extend_from_slice(&length(key));
        self.raw.extend_from_slice(&length(value));
        self.raw.extend_from_slice(key);
        self.raw.extend_from_slice(value);
    }

    pub(super) fn len(&self) -> usize {
        self.raw.len()
    }

    /// The object, and what the manifest says of it. Takes tens of milliseconds for megabytes.
    pub(super) fn compress(self) -> std::io::Result<(Bytes, Chunk)> {
        let object = Bytes::from(zstd::bulk::compress(&self.raw, LEVEL)?);
        let chunk = Chunk { raw: self.raw.len() as u64, bytes: object.len() as u64, blake3: blake3::hash(&object).to_hex().to_string() };
        Ok((object, chunk))
    }
}

/// Why an object is not the chunk that the manifest names.
#[derive(Debug, thiserror::Error)]
pub enum ChunkError {
    /// Its length or its digest is another one.
    #[error("its bytes are not those that were written")]
    Damaged,
    /// Its digest is right, and it is none: it was written so.
    #[error("its rows cannot be read")]
    Unreadable,
}

/// The rows of a chunk, one after the other. Takes tens of milliseconds for megabytes.
pub(super) fn decompress(object: &[u8], chunk: &Chunk) -> Result<Vec<u8>, ChunkError> {
    if object.len() as u64 != chunk.bytes || blake3::hash(object).to_hex().as_str() != chunk.blake3 {
        return Err(ChunkError::Damaged);
    }
    let length = usize::try_from(chunk.raw).map_err(|_| ChunkError::Unreadable)?;
    let raw = zstd::bulk::decompress(object, length).map_err(|_| ChunkError::Unreadable)?;
    if raw.len() != length {
        return Err(ChunkError::Unreadable);
    }
    Ok(raw)
}

/// One row of a chunk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row<'a> {
    pub(super) family: u8,
    pub(super) key: &'a [u8],
    pub(super) value: &'a [u8],
}

/// Takes the first row off. Gives it and what is behind it.
pub(super) fn split_row(raw: &[u8]) -> Option<(Row<'_>, &[u8])> {
    let (head, rest) = raw.split_at_checked(ROW_HEAD)?;
    let length = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().expect("four bytes")) as usize;
    let (key, rest) = rest.split_at_checked(length(1))?;
    let (value, rest) = rest.split_at_checked(length(5))?;
    Some((Row { family: head[0], key, value }, rest))
}

pub(super) fn folder(shard: u16) -> String {
    format!("snapshot/shard-{shard:05}/chunk")
}

pub(super) fn key(shard: u16, id: Uuid, number: usize) -> String {
    format!("snapshot/shard-{shard:05}/chunk/{id}/{number:06}")
}
