//! Bodies of the topic, produce and read routes.

use crate::ids::{Offset, PartitionId, ScheduleId};
use crate::limits;
use crate::names::TopicName;
use crate::record::{ConsumedRecord, ProduceRecord};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
#[cfg(feature = "openapi")]
use utoipa::{IntoParams, ToSchema};

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

/// When a topic's records are on the disk, and so what an answer about them means.
///
/// There is one log for everything, so whatever is synced syncs all that was written before it: a power cut takes the end of what was
/// written, and never a record without what was acknowledged of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum TopicDurability {
    /// Synced before the answer: they survive a power cut.
    #[default]
    Sync,
    /// Written before the answer, so that they survive the death of the server, and synced within the server's `sync_interval` (200 ms
    /// unless set): a power cut takes what is younger.
    Interval,
    /// Written before the answer, so that they survive the death of the server, and synced when something else is, or at a shutdown: a power
    /// cut takes what was written since.
    Memory,
}

impl TopicDurability {
    /// All of them, by name.
    pub const ALL: [Self; 3] = [Self::Sync, Self::Interval, Self::Memory];

    /// Its name, as in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sync => "sync",
            Self::Interval => "interval",
            Self::Memory => "memory",
        }
    }
}

impl core::fmt::Display for TopicDurability {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.pad(self.name())
    }
}

impl core::str::FromStr for TopicDurability {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|durability| durability.name() == text);
        found.ok_or_else(|| format!("`{text}` is no durability: expected sync, interval or memory"))
    }
}

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

/// What becomes of the records of a topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub enum CleanupPolicy {
    /// They go when `retention_ms` or `retention_bytes` says so.
    #[default]
    #[serde(rename = "delete")]
    Delete,
    /// Compaction: of each key the newest record stays for ever, and older ones go. A record without a value says that its key is gone, and goes
    /// itself after `delete_retention_ms`. Records without a key are refused.
    #[serde(rename = "compact")]
    Compact,
    /// Both.
    #[serde(rename = "delete,compact", alias = "compact,delete")]
    DeleteAndCompact,
}

impl CleanupPolicy {
    /// Every policy.
    pub const ALL: [Self; 3] = [Self::Delete, Self::Compact, Self::DeleteAndCompact];

    /// As it stands in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Delete => "delete",
            Self::Compact => "compact",
            Self::DeleteAndCompact => "delete,compact",
        }
    }

    /// Whether older records of a key go.
    #[must_use]
    pub const fn compacts(self) -> bool {
        matches!(self, Self::Compact | Self::DeleteAndCompact)
    }

    /// Whether records go by their age and their bytes.
    #[must_use]
    pub const fn deletes(self) -> bool {
        matches!(self, Self::Delete | Self::DeleteAndCompact)
    }
}

/// No policy has this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no cleanup policy: it is one of {list}", list = CleanupPolicy::ALL.map(CleanupPolicy::as_str).join("; "))]
pub struct NoSuchPolicy(String);

impl core::str::FromStr for CleanupPolicy {
    type Err = NoSuchPolicy;

    fn from_str(name: &str) -> Result<Self, NoSuchPolicy> {
        let named = |policy: &Self| policy.as_str() == name || (*policy == Self::DeleteAndCompact && name == "compact,delete");
        Self::ALL.into_iter().find(named).ok_or_else(|| NoSuchPolicy(name.to_owned()))
    }
}

impl core::fmt::Display for CleanupPolicy {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.pad(self.as_str())
    }
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

/// A topic with its partitions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct TopicDescription {
    /// Name of the topic.
    pub name: TopicName,
    /// Its configuration.
    pub config: TopicConfig,
    /// Milliseconds since 1970.
    pub created_at_ms: u64,
    /// The partitions in order.
    pub partitions: Vec<PartitionDescription>,
    /// The record keys that the topic gets most of, the most frequent first; at most 5, of at least a hundredth of all records. From a sample
    /// of what came in the last minutes, not stored, and never more than is true.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub hottest_keys: Vec<HotKey>,
}

/// A record key that a topic gets much of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct HotKey {
    /// The key, if it is text.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub key: Option<String>,
    /// The key in base64, if it is not.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub key_base64: Option<String>,
    /// Its share of the records with a key, 0 to 1.
    pub share: f64,
}

impl HotKey {
    /// A key of these bytes.
    #[must_use]
    pub fn new(key: &[u8], share: f64) -> Self {
        match core::str::from_utf8(key) {
            Ok(text) => Self { key: Some(text.to_owned()), key_base64: None, share },
            Err(_) => Self { key: None, key_base64: Some(STANDARD.encode(key)), share },
        }
    }
}

/// One partition: which offsets can be read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct PartitionDescription {
    /// Number of the partition.
    pub partition: PartitionId,
    /// First offset that is still there.
    pub log_start_offset: Offset,
    /// Offset after the last durable record: readers see what is below.
    pub high_watermark: Offset,
    /// Bytes of its batches, as they are stored.
    pub bytes: u64,
    /// Records that came in a second, as it was looked last: every 15 s, since the look before.
    pub records_per_second: f64,
    /// The same in bytes, by the mean size of a record.
    pub bytes_per_second: f64,
}

/// `GET /v1/topics`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct TopicList {
    /// Topics by name.
    pub topics: Vec<TopicDescription>,
}

/// Query of `POST /v1/topics/{topic}/records`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(IntoParams), into_params(parameter_in = Query))]
#[serde(deny_unknown_fields, default)]
pub struct ProduceQuery {
    /// For how many partitions of the topic the request was made. If the topic has another number, nothing is stored (`PARTITIONS_CHANGED`): whoever
    /// finds the partitions of keys himself says it, and looks anew.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partitions: Option<u32>,
}

/// `POST /v1/topics/{topic}/records`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ProduceRequest {
    /// Records, stored in this order within each partition; 1 to 10,000, with at most 200,000 headers together.
    #[serde(deserialize_with = "crate::record::records_in")]
    pub records: Vec<ProduceRecord>,
}

/// Answer to a produce request: everything in it is stored, or scheduled, and on the disk as the topic's `durability` says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct ProduceResponse {
    /// One entry a record, in the order of the request.
    pub records: Vec<ProducedRecord>,
}

/// Where a record was stored, or under which id it waits for its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct ProducedRecord {
    /// Partition of the topic.
    pub partition: PartitionId,
    /// Place in the partition; none as long as the record waits for its time.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub offset: Option<Offset>,
    /// Names the record as long as it waits for its time.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub schedule: Option<ScheduleId>,
    /// Time of the record, in milliseconds since 1970; of one that waits, when it is due.
    pub timestamp_ms: i64,
    /// Whether the record was stored or scheduled by an earlier request; what the answer says is that one's.
    pub duplicate: bool,
}

/// Answer to a produce request with binary batches: everything in it is on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct ProduceBatchesResponse {
    /// One entry a batch, in the order of the request.
    pub batches: Vec<ProducedBatch>,
}

/// Where a binary batch was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct ProducedBatch {
    /// Partition of the topic.
    pub partition: PartitionId,
    /// Offset of its first record; the others follow it without a gap.
    pub offset: Offset,
    /// How many records it has.
    pub records: u32,
    /// The highest time of its records, in milliseconds since 1970.
    pub timestamp_ms: i64,
    /// Whether it was stored by an earlier request; partition and offset are that one's.
    pub duplicate: bool,
}

/// Query of `GET /v1/topics/{topic}/partitions/{partition}/records`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema, IntoParams))]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", into_params(parameter_in = Query))]
pub struct ReadQuery {
    /// First offset to read. Without `offset` and `timestamp_ms` reading begins at the oldest record.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub offset: Option<Offset>,
    /// Read from the first record of this time or later, in milliseconds since 1970. Not together with `offset`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub timestamp_ms: Option<i64>,
    /// Most records to return (default 100, at most 1,000). Of binary batches (no bound by default), none begins behind so many records.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub max_records: Option<u32>,
    /// Most bytes of records to return, at most 16 MiB (default 16 MiB, of binary batches 4 MiB). One record or one batch is always returned.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub max_bytes: Option<u32>,
    /// How long to wait for a record if there is none, in milliseconds (default 0, at most 20,000).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub wait_ms: Option<u64>,
}

/// Records of one partition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct ReadResponse {
    /// Records in the order of their offsets.
    pub records: Vec<ConsumedRecord>,
    /// Where to read on.
    pub next_offset: Offset,
    /// First offset that is still there.
    pub log_start_offset: Offset,
    /// Offset after the last durable record.
    pub high_watermark: Offset,
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
