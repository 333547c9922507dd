//! Why a data directory was not opened. Each message says what was found and what to do; nothing was changed by the refusal.

use std::path::PathBuf;

/// Why a data directory was not opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Another process, or this one, has it open.
    #[error("the data directory {path} is in use: stop the other broker, or choose another directory")]
    InUse {
        /// The data directory.
        path: PathBuf,
    },
    /// It holds something that this program did not write.
    #[error("{path} is not a data directory of SagaMQ ({reason}): choose an empty directory or the right one")]
    Foreign {
        /// The data directory.
        path: PathBuf,
        /// How that shows.
        reason: String,
    },
    /// A later version of this program wrote it.
    #[error("the data directory {path} was written by a later version of SagaMQ ({reason}): use that version or a later one")]
    Newer {
        /// The data directory.
        path: PathBuf,
        /// How that shows.
        reason: String,
    },
    /// The file system does not allow it.
    #[error("the data directory {path} cannot be written ({reason}): give this user the right to read and write everything in it")]
    NotWritable {
        /// The data directory.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// Its files contradict each other or their checksums.
    #[error(
        "the data directory {path} is damaged ({reason}): keep a copy of it, then restore a backup, or try to open what is left \
         with --accept-data-loss"
    )]
    Damaged {
        /// The data directory.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// The database ends before the last commit that was known to be synced: acknowledged commits are missing.
    #[error(
        "acknowledged commits are missing in the data directory {path}: it ends at sequence number {found}, but {recorded} was \
         recorded: keep a copy of it, then restore a backup, or open what is left with --accept-data-loss"
    )]
    LostWrites {
        /// The data directory.
        path: PathBuf,
        /// Sequence number that was synced.
        recorded: u64,
        /// Sequence number that the database reaches.
        found: u64,
    },
    /// It cannot be told whether acknowledged commits are missing.
    #[error(
        "the data directory {path} may miss acknowledged commits: its file commit-guard is {reason}: restore that file or a \
         backup, or open what is there with --accept-data-loss"
    )]
    Unguarded {
        /// The data directory.
        path: PathBuf,
        /// `missing` or `damaged`.
        reason: &'static str,
    },
    /// The device or the file system failed.
    #[error("the data directory {path} cannot be opened: {reason}")]
    Io {
        /// The data directory.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
}
