//! Bodies of the topic, produce and read routes.

mod change;
mod cleanup;
mod config;
mod description;
mod durability;
mod records;

pub use change::{TopicConfigChange, UpdateTopic};
pub use cleanup::{CleanupPolicy, NoSuchPolicy};
pub use config::{Ordering, TopicConfig};
pub use description::{HotKey, PartitionDescription, TopicDescription, TopicList};
pub use durability::TopicDurability;
pub use records::{
    ProduceBatchesResponse, ProduceQuery, ProduceRequest, ProduceResponse, ProducedBatch, ProducedRecord, ReadQuery, ReadResponse,
};

use crate::names::TopicName;
use serde::{Deserialize, Serialize};
#[cfg(feature = "openapi")]
use utoipa::ToSchema;

/// `POST /v1/topics`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
#[serde(deny_unknown_fields)]
pub struct CreateTopic {
    /// Name of the topic.
    pub name: TopicName,
    /// Its configuration; what is left out has the default.
    #[serde(default)]
    pub config: TopicConfig,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_configuration_names_every_fault() {
        assert!(TopicConfig::default().faults().is_empty());
        let bad = TopicConfig { partitions: 0, dedup_window_ms: 1, backoff_initial_ms: 10, backoff_max_ms: 1, ..TopicConfig::default() };
        assert_eq!(bad.faults().len(), 3, "{:?}", bad.faults());
        let bad = TopicConfig { retention_ms: 999, retention_bytes: 1024 * 1024 - 1, ..TopicConfig::default() };
        assert_eq!(bad.faults().len(), 2, "{:?}", bad.faults());
        assert!(TopicConfig { retention_ms: 0, retention_bytes: 0, ..TopicConfig::default() }.faults().is_empty(), "0 is no limit");
    }

    #[test]
    fn a_change_names_what_changes_and_leaves_the_rest() {
        let before = TopicConfig { partitions: 7, record_bytes_max: 5, ..TopicConfig::default() };
        assert_eq!(TopicConfigChange::default().apply(&before), before);
        let all = r#"{"partitions":8,"record_bytes_max":1,"dedup_window_ms":2,"delivery_limit":3,"backoff_initial_ms":4,"backoff_max_ms":5,"retention_ms":6,"retention_bytes":7,"ordering":"key","durability":"memory","cleanup_policy":"compact,delete","min_compaction_lag_ms":8,"delete_retention_ms":9}"#;
        let change: TopicConfigChange = serde_json::from_str(all).expect("a change");
        let after = TopicConfig {
            partitions: 8,
            record_bytes_max: 1,
            dedup_window_ms: 2,
            delivery_limit: 3,
            backoff_initial_ms: 4,
            backoff_max_ms: 5,
            retention_ms: 6,
            retention_bytes: 7,
            ordering: Ordering::Key,
            durability: TopicDurability::Memory,
            cleanup_policy: CleanupPolicy::DeleteAndCompact,
            min_compaction_lag_ms: 8,
            delete_retention_ms: 9,
        };
        assert_eq!(change.apply(&before), after);
        assert!(serde_json::from_str::<TopicConfigChange>(r#"{"name":"other"}"#).is_err(), "a name is not a setting");
    }

    #[test]
    fn a_durability_is_one_of_three_words() {
        for durability in TopicDurability::ALL {
            assert_eq!(durability.name().parse(), Ok(durability));
            assert_eq!(serde_json::to_value(durability).expect("a word"), durability.name());
        }
        assert!("fsync".parse::<TopicDurability>().is_err_and(|error| error.contains("sync, interval or memory")));
        assert!(serde_json::from_str::<CreateTopic>(r#"{"name":"t","config":{"durability":"none"}}"#).is_err());
    }

    #[test]
    fn a_policy_is_written_as_the_field_writes_it() {
        for policy in CleanupPolicy::ALL {
            assert_eq!((serde_json::to_value(policy).expect("JSON"), policy.as_str().parse()), (policy.as_str().into(), Ok(policy)));
        }
        assert_eq!("compact,delete".parse(), Ok(CleanupPolicy::DeleteAndCompact));
        assert!("compacted".parse::<CleanupPolicy>().is_err());
    }

    #[test]
    fn unknown_fields_are_refused() {
        assert!(serde_json::from_str::<CreateTopic>(r#"{"name":"t","config":{"partition":3}}"#).is_err());
        assert!(serde_json::from_str::<ProduceRequest>(r#"{"records":[{"val":1}]}"#).is_err());
    }
}
