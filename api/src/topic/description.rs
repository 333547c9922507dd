//! What is told of a topic.

use super::TopicConfig;
use crate::ids::{Offset, PartitionId};
use crate::names::TopicName;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
#[cfg(feature = "openapi")]
use utoipa::ToSchema;

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
