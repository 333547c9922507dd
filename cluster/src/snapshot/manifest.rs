//! The manifest of a snapshot: JSON, and in a second line the BLAKE3 of the first.

use crate::log::Pos;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

const FORMAT: u32 = 1;

/// What a snapshot is. It is never changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    format: u32,
    /// Unlike that of every other.
    pub id: Uuid,
    /// Of which shard.
    pub shard: u16,
    /// All entries up to and with this place are in it, and none behind.
    #[serde(with = "place")]
    pub pos: Pos,
    /// What the fold knows of its position beside the place. Not looked into here.
    #[serde(with = "row")]
    pub position: Bytes,
    /// When it was begun, in milliseconds since 1970.
    pub made_ms: u64,
    /// By which node.
    pub made_by: String,
    /// How many rows it has.
    pub rows: u64,
    /// Its chunks, in order.
    pub chunks: Vec<Chunk>,
}

/// One object of rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    /// The bytes of its rows.
    pub raw: u64,
    /// The bytes of the object, compressed.
    pub bytes: u64,
    /// BLAKE3 of the object, in hexadecimal digits.
    pub blake3: String,
}

/// Why an object is no manifest.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Its digest is not that of its text.
    #[error("its bytes are not those that were written")]
    Damaged,
    /// It is of another version of the program.
    #[error("it cannot be read: {0}")]
    Unreadable(#[from] serde_json::Error),
    /// It is of a later version of the program.
    #[error("its format is {0}, and this program knows {FORMAT}")]
    Format(u32),
    /// It stands where another one belongs.
    #[error("it is that of snapshot {0} of shard {1}")]
    Elsewhere(Uuid, u16),
}

impl Manifest {
    #[expect(clippy::too_many_arguments, reason = "each is a field, and nobody else makes one")]
    pub(super) fn new(
        id: Uuid,
        shard: u16,
        pos: Pos,
        position: Bytes,
        made_ms: u64,
        made_by: String,
        rows: u64,
        chunks: Vec<Chunk>,
    ) -> Self {
        Self { format: FORMAT, id, shard, pos, position, made_ms, made_by, rows, chunks }
    }

    /// The bytes of all its rows.
    #[must_use]
    pub fn raw_bytes(&self) -> u64 {
        self.chunks.iter().map(|chunk| chunk.raw).sum()
    }

    /// The bytes of all its chunks as they are stored.
    #[must_use]
    pub fn stored_bytes(&self) -> u64 {
        self.chunks.iter().map(|chunk| chunk.bytes).sum()
    }

    pub(super) fn to_object(&self) -> Bytes {
        let mut text = serde_json::to_vec(self).expect("numbers and texts");
        let digest = blake3::hash(&text).to_hex();
        text.push(b'\n');
        text.extend_from_slice(digest.as_bytes());
        text.push(b'\n');
        text.into()
    }

    pub(super) fn parse(object: &[u8], shard: u16, id: Uuid) -> Result<Self, ManifestError> {
        let lines = object.strip_suffix(b"\n").and_then(|object| object.split_at_checked(object.len().checked_sub(65)?));
        let (text, digest) = lines.ok_or(ManifestError::Damaged)?;
        if digest.strip_prefix(b"\n") != Some(blake3::hash(text).to_hex().as_bytes()) {
            return Err(ManifestError::Damaged);
        }
        /// What every version has.
        #[derive(Deserialize)]
        struct Versioned {
            format: u32,
        }
        let Versioned { format } = serde_json::from_slice(text)?;
        if format != FORMAT {
            return Err(ManifestError::Format(format));
        }
        let manifest: Self = serde_json::from_slice(text)?;
        if (manifest.shard, manifest.id) != (shard, id) {
            return Err(ManifestError::Elsewhere(manifest.id, manifest.shard));
        }
        Ok(manifest)
    }
}

pub(super) fn folder(shard: u16) -> String {
    format!("snapshot/shard-{shard:05}/manifest")
}

pub(super) fn key(shard: u16, id: Uuid) -> String {
    format!("snapshot/shard-{shard:05}/manifest/{id}")
}

mod place {
    use super::Pos;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(pos: &Pos, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(pos.0)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Pos, D::Error> {
        u64::deserialize(deserializer).map(Pos)
    }
}

mod row {
    use super::Bytes;
    use base64::Engine as _;
    use base64::prelude::BASE64_STANDARD;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(row: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64_STANDARD.encode(row))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        let text = String::deserialize(deserializer)?;
        BASE64_STANDARD.decode(text).map(Bytes::from).map_err(D::Error::custom)
    }
}
