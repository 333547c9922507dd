//! What can be chosen of storage on RocksDB.

use std::time::Duration;

/// What can be chosen when a data directory is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RocksOptions {
    /// Memory for blocks read from disk: a fourth of it for the log, the rest for all other families.
    pub block_cache_bytes: usize,
    /// Memory for new log batches before they are written to a sorted file.
    pub log_buffer_bytes: usize,
    /// Opens a directory although acknowledged commits are or may be missing, with what is left.
    pub accept_data_loss: bool,
    /// How often the commit guard is brought up to date: what a crash leaves unguarded.
    pub guard_interval: Duration,
    /// How often the space of deleted batches is looked after.
    pub space_interval: Duration,
    /// So many bytes of deleted batches may stay on disk, however little there is beside them.
    pub dead_bytes_max: u64,
}

impl Default for RocksOptions {
    fn default() -> Self {
        Self {
            block_cache_bytes: 128 << 20,
            log_buffer_bytes: 16 << 20,
            accept_data_loss: false,
            guard_interval: Duration::from_secs(1),
            space_interval: Duration::from_secs(10),
            dead_bytes_max: 64 << 20,
        }
    }
}
