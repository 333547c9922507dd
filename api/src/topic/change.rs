//! Changes of the configuration of a topic.

use super::{CleanupPolicy, Ordering, TopicConfig, TopicDurability};
use serde::{Deserialize, Serialize};
#[cfg(feature = "openapi")]
use utoipa::ToSchema;

/// `PATCH /v1/topics/{topic}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
#[serde(deny_unknown_fields)]
pub struct UpdateTopic {
    /// What changes of its configuration.
    pub config: TopicConfigChange,
}

/// A change of a topic's configuration: what is left out stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct TopicConfigChange {
    /// Number of partitions: more than before, which are added, or as many. Records that are there stay where they are; a key's next records
    /// may go to another partition.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partitions: Option<u32>,
    /// Largest record, in bytes. Records that are there stay.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record_bytes_max: Option<u32>,
    /// How long a duplicate is recognised, in milliseconds, of records that are stored from now on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dedup_window_ms: Option<u64>,
    /// Deliveries to one group before a record becomes a dead letter. Looked at when a delivery fails.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delivery_limit: Option<u32>,
    /// First redelivery backoff, in milliseconds, of deliveries that fail from now on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backoff_initial_ms: Option<u64>,
    /// Longest redelivery backoff, in milliseconds, of deliveries that fail from now on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backoff_max_ms: Option<u64>,
    /// How long records are kept, in milliseconds; 0: for ever. Holds for records that are there as well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention_ms: Option<u64>,
    /// How many bytes of a partition are kept; 0: any number. Holds for records that are there as well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention_bytes: Option<u64>,
    /// Whether queue groups deliver the records of one key one after the other, from their next receive on. What is leased stays leased.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ordering: Option<Ordering>,
    /// When records are on the disk, of what is stored or settled from now on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub durability: Option<TopicDurability>,
    /// What becomes of records. Holds for records that are there as well; with compaction those without a key stay.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cleanup_policy: Option<CleanupPolicy>,
    /// With compaction: how old a record is at least that goes for a newer one, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_compaction_lag_ms: Option<u64>,
    /// With compaction: how long a record stays that says that its key is gone, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delete_retention_ms: Option<u64>,
}

impl TopicConfigChange {
    /// The configuration after the change.
    #[must_use]
    pub fn apply(&self, to: &TopicConfig) -> TopicConfig {
        let Self {
            partitions,
            record_bytes_max,
            dedup_window_ms,
            delivery_limit,
            backoff_initial_ms,
            backoff_max_ms,
            retention_ms,
            retention_bytes,
            ordering,
            durability,
            cleanup_policy,
            min_compaction_lag_ms,
            delete_retention_ms,
        } = *self;
        TopicConfig {
            partitions: partitions.unwrap_or(to.partitions),
            record_bytes_max: record_bytes_max.unwrap_or(to.record_bytes_max),
            dedup_window_ms: dedup_window_ms.unwrap_or(to.dedup_window_ms),
            delivery_limit: delivery_limit.unwrap_or(to.delivery_limit),
            backoff_initial_ms: backoff_initial_ms.unwrap_or(to.backoff_initial_ms),
            backoff_max_ms: backoff_max_ms.unwrap_or(to.backoff_max_ms),
            retention_ms: retention_ms.unwrap_or(to.retention_ms),
            retention_bytes: retention_bytes.unwrap_or(to.retention_bytes),
            ordering: ordering.unwrap_or(to.ordering),
            durability: durability.unwrap_or(to.durability),
            cleanup_policy: cleanup_policy.unwrap_or(to.cleanup_policy),
            min_compaction_lag_ms: min_compaction_lag_ms.unwrap_or(to.min_compaction_lag_ms),
            delete_retention_ms: delete_retention_ms.unwrap_or(to.delete_retention_ms),
        }
    }
}
