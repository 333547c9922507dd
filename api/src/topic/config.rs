//! The configuration of a topic.

use super::{CleanupPolicy, TopicDurability};
use crate::limits;
use serde::{Deserialize, Serialize};
#[cfg(feature = "openapi")]
use utoipa::ToSchema;

/// Configuration of a topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct TopicConfig {
    /// Number of partitions, 1 to 1,024 (default 4).
    pub partitions: u32,
    /// Largest record (key, value and headers), in bytes (default 1 MiB, at most 16 MiB).
    pub record_bytes_max: u32,
    /// How long a duplicate is recognised, in milliseconds (default 24 h, 1 min to 7 d).
    pub dedup_window_ms: u64,
    /// Deliveries to one group before a record becomes a dead letter (default 5; 0: no limit).
    pub delivery_limit: u32,
    /// First redelivery backoff, in milliseconds (default 1 s); it doubles at each delivery, with full jitter.
    pub backoff_initial_ms: u64,
    /// Longest redelivery backoff, in milliseconds (default 5 min).
    pub backoff_max_ms: u64,
    /// How long records are kept, counted from their times, in milliseconds (default 7 d, at least 1 s; 0: for ever).
    pub retention_ms: u64,
    /// How many bytes of a partition are kept, as they are stored (at least 1 MiB; default 0: any number). The newest batch always is.
    pub retention_bytes: u64,
    /// When records, and what queue groups settle of them, are on the disk (default `sync`: before the answer).
    pub durability: TopicDurability,
    /// Whether queue groups deliver the records of one key one after the other (default: they do not).
    pub ordering: Ordering,
    /// What becomes of records (default `delete`).
    pub cleanup_policy: CleanupPolicy,
    /// With compaction: no record goes for a newer one of its key before it is so old, counted from its time, in milliseconds (default 0).
    pub min_compaction_lag_ms: u64,
    /// With compaction: how long a record that says that its key is gone stays after its key was compacted, in milliseconds (default 24 h).
    pub delete_retention_ms: u64,
}

/// Which order queue groups keep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Ordering {
    /// None beyond the order of first deliveries.
    #[default]
    None,
    /// A record is delivered to a group only when every earlier one of its key in the partition is settled: acknowledged, or a dead letter.
    /// Records without a key are free.
    Key,
}

impl Default for TopicConfig {
    fn default() -> Self {
        Self {
            partitions: limits::PARTITIONS_DEFAULT,
            record_bytes_max: limits::RECORD_BYTES_DEFAULT,
            dedup_window_ms: limits::DEDUP_WINDOW_MS_DEFAULT,
            delivery_limit: limits::DELIVERY_LIMIT_DEFAULT,
            backoff_initial_ms: limits::BACKOFF_INITIAL_MS_DEFAULT,
            backoff_max_ms: limits::BACKOFF_MAX_MS_DEFAULT,
            retention_ms: limits::RETENTION_MS_DEFAULT,
            retention_bytes: 0,
            ordering: Ordering::None,
            durability: TopicDurability::Sync,
            cleanup_policy: CleanupPolicy::Delete,
            min_compaction_lag_ms: 0,
            delete_retention_ms: limits::DELETE_RETENTION_MS_DEFAULT,
        }
    }
}

impl TopicConfig {
    /// Every fault of the configuration; none if it can be used.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut check = |name: &str, value: u64, min: u64, max: u64| {
            if !(min..=max).contains(&value) {
                faults.push(format!("`{name}` is {value}, allowed is {min} to {max}"));
            }
        };
        check("partitions", self.partitions.into(), 1, limits::PARTITIONS_MAX.into());
        check("record_bytes_max", self.record_bytes_max.into(), 1, limits::RECORD_BYTES_MAX.into());
        check("dedup_window_ms", self.dedup_window_ms, limits::DEDUP_WINDOW_MS_MIN, limits::DEDUP_WINDOW_MS_MAX);
        check("delivery_limit", self.delivery_limit.into(), 0, limits::DELIVERY_LIMIT_MAX.into());
        check("backoff_initial_ms", self.backoff_initial_ms, 0, limits::NACK_DELAY_MS_MAX);
        check("backoff_max_ms", self.backoff_max_ms, self.backoff_initial_ms, limits::NACK_DELAY_MS_MAX);
        if self.retention_ms > 0 {
            check("retention_ms", self.retention_ms, limits::RETENTION_MS_MIN, limits::RETENTION_MS_MAX);
        }
        if self.retention_bytes > 0 {
            check("retention_bytes", self.retention_bytes, limits::RETENTION_BYTES_MIN, limits::RETENTION_BYTES_MAX);
        }
        check("min_compaction_lag_ms", self.min_compaction_lag_ms, 0, limits::RETENTION_MS_MAX);
        check("delete_retention_ms", self.delete_retention_ms, 0, limits::RETENTION_MS_MAX);
        faults
    }
}
