//! How many records of a shard may wait for their time.

use sagamq_api::limits::{SCHEDULE_BYTES_DEFAULT, SCHEDULE_RECORDS_DEFAULT};

/// How many records of a shard may wait for their time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScheduleConfig {
    /// Records of one shard.
    pub records_max: u64,
    /// Their bytes, as they are stored.
    pub bytes_max: u64,
}

impl Default for ScheduleConfig {
    fn default() -> Self {
        Self { records_max: SCHEDULE_RECORDS_DEFAULT, bytes_max: SCHEDULE_BYTES_DEFAULT }
    }
}
