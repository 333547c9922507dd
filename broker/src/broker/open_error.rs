//! Why a data directory cannot be opened.

use crate::broker::catalogue::CatalogueError;
use crate::broker::format::{FORMAT_VERSION, FormatError, SHARDS_MAX};
use crate::group::queue::DecodeError;
use crate::log::recovery::RecoveryError;
use crate::shard::commit::WriteError;
use crate::shard::log::schedules::find::FindSchedulesError;
use crate::shard::outbox::find::FindError;
use crate::shard::recovery::ShardError;
use crate::storage::StorageError;
use sagamq_api::PartitionId;

/// Why a data directory cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The number of shards is out of range.
    #[error("`shards` is {0}, allowed is 1 to {SHARDS_MAX}")]
    Shards(u16),
    /// The data was written by a newer version.
    #[error("the data directory has format version {found}, this sagamq reads up to {FORMAT_VERSION}: start a newer sagamq on it")]
    NewerFormat {
        /// Version of the data.
        found: u32,
    },
    /// The data was written by an older version whose format is not read any more.
    #[error(
        "the data directory has format version {found}, this sagamq reads {FORMAT_VERSION}: start the older sagamq on it, or choose a \
         new directory"
    )]
    OlderFormat {
        /// Version of the data.
        found: u32,
    },
    /// Something that was stored cannot be understood.
    #[error("the data directory is damaged: {0}; restore it from a backup")]
    Damaged(String),
    /// A partition cannot be opened.
    #[error("the data directory is damaged: {0}; restore it from a backup")]
    Partition(#[from] RecoveryError),
    /// A group's state cannot be read.
    #[error("the data directory is damaged: state of group {group} in partition {partition}: {reason}; restore it from a backup")]
    Group {
        /// Id of the group.
        group: u32,
        /// Number of the partition.
        partition: PartitionId,
        /// What is wrong.
        reason: DecodeError,
    },
    /// A stream group's state cannot be read.
    #[error("the data directory is damaged: state of stream group {group}: {reason}; restore it from a backup")]
    StreamGroup {
        /// Id of the group.
        group: u32,
        /// What is wrong.
        reason: DecodeError,
    },
    /// The device failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The first commits failed.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// No thread could be started.
    #[error("the committer's thread cannot be started: {0}")]
    Thread(#[from] std::io::Error),
}

impl From<ShardError> for OpenError {
    fn from(error: ShardError) -> Self {
        match error {
            ShardError::Partition(error) => Self::Partition(error),
            ShardError::Group { key, reason } => Self::Group { group: key.group.0, partition: key.partition.partition, reason },
            ShardError::Stream { group, reason } => Self::StreamGroup { group: group.0, reason },
            ShardError::Damaged(reason) => Self::Damaged(reason),
            ShardError::Outbox(FindError::Storage(error)) => Self::Storage(error),
            ShardError::Outbox(error @ FindError::Damaged { .. }) => Self::Damaged(error.to_string()),
            ShardError::Schedules(FindSchedulesError::Storage(error)) => Self::Storage(error),
            ShardError::Schedules(error @ FindSchedulesError::Damaged { .. }) => Self::Damaged(error.to_string()),
            ShardError::Storage(error) => Self::Storage(error),
        }
    }
}

impl From<FormatError> for OpenError {
    fn from(error: FormatError) -> Self {
        match error {
            FormatError::Shards(shards) => Self::Shards(shards),
            FormatError::Newer { found } => Self::NewerFormat { found },
            FormatError::Older { found } => Self::OlderFormat { found },
            FormatError::Damaged => Self::Damaged("its format entry cannot be read".to_owned()),
            FormatError::Storage(error) => Self::Storage(error),
        }
    }
}

impl From<CatalogueError> for OpenError {
    fn from(error: CatalogueError) -> Self {
        match error {
            CatalogueError::Entry(_) => Self::Damaged(error.to_string()),
            CatalogueError::Storage(error) => Self::Storage(error),
        }
    }
}
