//! How the records of a batch are compressed: the lowest three bits of its attributes.

use super::error::BatchError;
use core::fmt;
use core::str::FromStr;

/// Attributes: the bits that name the compression.
pub(super) const BITS: i16 = 0b111;

/// How the records of a batch are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// LZ4, in its frame format: the fastest.
    Lz4,
    /// Zstandard: the smallest.
    Zstd,
}

/// A name that is no compression's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no compression: there are `none`, `lz4` and `zstd`")]
pub struct CompressionError(String);

impl Compression {
    /// Every compression.
    pub const ALL: [Self; 3] = [Self::None, Self::Lz4, Self::Zstd];

    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }

    /// What attributes say.
    pub(super) const fn of(attributes: i16) -> Result<Self, BatchError> {
        match attributes & BITS {
            0 => Ok(Self::None),
            3 => Ok(Self::Lz4),
            4 => Ok(Self::Zstd),
            1 => Err(BatchError::Compression("gzip")),
            2 => Err(BatchError::Compression("snappy")),
            _ => Err(BatchError::Compression("an unknown codec")),
        }
    }

    /// What attributes say of it.
    pub(super) const fn bits(self) -> i16 {
        match self {
            Self::None => 0,
            Self::Lz4 => 3,
            Self::Zstd => 4,
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Compression {
    type Err = CompressionError;

    fn from_str(name: &str) -> Result<Self, CompressionError> {
        Self::ALL.into_iter().find(|of| of.as_str() == name).ok_or_else(|| CompressionError(name.chars().take(40).collect()))
    }
}
