//! What a data directory is: its first row, which is in the first commit of the control shard.

use crate::env::Random;
use crate::ids::ShardId;
use crate::storage::keys::MetaKey;
use crate::storage::{Family, Mutation, Storage, StorageError};
use bytes::Bytes;

/// Version of everything on disk.
pub(super) const FORMAT_VERSION: u32 = 12;

/// Most shards of a data directory.
pub(super) const SHARDS_MAX: u16 = ShardId::COUNT_MAX;

/// Why the format cannot be read, or made.
#[derive(Debug, thiserror::Error)]
pub(super) enum FormatError {
    #[error("the number of shards is out of range")]
    Shards(u16),
    #[error("written by a newer version")]
    Newer { found: u32 },
    #[error("written by an older version")]
    Older { found: u32 },
    #[error("its format entry cannot be read")]
    Damaged,
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// What a data directory is: version u32, shards u16, secret 32 bytes.
pub(super) struct Format {
    pub(super) shards: u16,
    /// Signs receipts.
    pub(super) secret: [u8; 32],
}

impl Format {
    /// What is stored; none in a directory that is made now.
    pub(super) fn load(storage: &dyn Storage) -> Result<Option<Self>, FormatError> {
        storage.get(Family::Meta, &MetaKey::Format.encode())?.map(|bytes| Self::decode(&bytes)).transpose()
    }

    /// Of a directory that is made now.
    pub(super) fn new(shards: u16, random: &mut Random) -> Result<Self, FormatError> {
        if !(1..=SHARDS_MAX).contains(&shards) {
            return Err(FormatError::Shards(shards));
        }
        Ok(Self { shards, secret: random.bytes() })
    }

    /// What stores it.
    pub(super) fn put(&self) -> Mutation {
        Mutation::Put { family: Family::Meta, key: MetaKey::Format.encode(), value: self.encode() }
    }

    fn encode(&self) -> Bytes {
        let mut bytes = FORMAT_VERSION.to_be_bytes().to_vec();
        bytes.extend_from_slice(&self.shards.to_be_bytes());
        bytes.extend_from_slice(&self.secret);
        bytes.into()
    }

    fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let damaged = || FormatError::Damaged;
        let (version, rest) = bytes.split_first_chunk().ok_or_else(damaged)?;
        let found = u32::from_be_bytes(*version);
        if found > FORMAT_VERSION {
            return Err(FormatError::Newer { found });
        }
        if (1..FORMAT_VERSION).contains(&found) {
            return Err(FormatError::Older { found });
        }
        let (shards, rest) = rest.split_first_chunk().ok_or_else(damaged)?;
        let shards = u16::from_be_bytes(*shards);
        let secret = rest.try_into().map_err(|_| damaged())?;
        if found != FORMAT_VERSION || !(1..=SHARDS_MAX).contains(&shards) {
            return Err(damaged());
        }
        Ok(Self { shards, secret })
    }
}
