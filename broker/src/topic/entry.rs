//! What the catalogue stores, in the `meta` family. JSON: it is written rarely, and an operator can read it.

use crate::topic::growth::Growth;
use sagamq_api::topic::TopicConfig;
use sagamq_api::{GroupName, Offset, ProducerName, TopicName};
use serde::{Deserialize, Serialize};

/// A topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TopicEntry {
    pub(crate) id: u32,
    pub(crate) name: TopicName,
    pub(crate) config: TopicConfig,
    pub(crate) created_at_ms: u64,
    pub(crate) kind: TopicKind,
    /// Whether the embedder needs it: it cannot be deleted.
    pub(crate) owned: bool,
    /// When partitions were added, the oldest first; what is of no use any more is left out.
    pub(crate) growths: Vec<Growth>,
    /// Until when idempotency keys may count that were stored while the window was longer, in milliseconds since 1970.
    pub(crate) keys_until_ms: u64,
}

/// What a topic is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum TopicKind {
    /// Made by a user or the embedder.
    Plain,
    /// Holds the dead letters of one group; it goes when the group goes.
    DeadLetters,
    /// The audit log. It is in the stored catalogue, and in no list of topics.
    Audit,
}

/// A queue group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GroupEntry {
    pub(crate) id: u32,
    pub(crate) name: GroupName,
    /// Id of the topic.
    pub(crate) topic: u32,
    /// Where the group begins in each partition.
    pub(crate) start: GroupStart,
    /// Id of the topic that takes the dead letters.
    pub(crate) dead_letter_topic: u32,
    pub(crate) created_at_ms: u64,
    /// Whether the embedder needs it: it cannot be deleted.
    pub(crate) owned: bool,
    /// Whether nothing is delivered to it.
    #[serde(default)]
    pub(crate) paused: bool,
}

/// A stream group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StreamEntry {
    pub(crate) id: u32,
    pub(crate) name: GroupName,
    /// The topics that it has read.
    pub(crate) topics: Vec<StreamTopicEntry>,
    pub(crate) created_at_ms: u64,
}

/// A topic of a stream group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StreamTopicEntry {
    /// Id of the topic.
    pub(crate) topic: u32,
    /// Where the group begins in each partition.
    pub(crate) start: GroupStart,
}

/// Where a group begins: its state until something is stored of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum GroupStart {
    /// With the oldest record of each partition.
    Earliest,
    /// At an offset in each partition.
    At(Vec<Offset>),
}

impl GroupStart {
    /// The offset in a partition. The oldest record may lie behind it.
    pub(crate) fn of(&self, partition: usize) -> Offset {
        match self {
            Self::Earliest => Offset(0),
            Self::At(offsets) => offsets.get(partition).copied().unwrap_or_default(),
        }
    }
}

/// The producer that has a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProducerEntry {
    /// Number of the name, never used twice.
    pub(crate) number: u32,
    pub(crate) name: ProducerName,
    /// How often it was taken over.
    pub(crate) generation: u32,
    pub(crate) registered_at_ms: u64,
}

/// The next free numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NextIds {
    pub(crate) topic: u32,
    pub(crate) group: u32,
    /// Of a name of a producer.
    #[serde(default)]
    pub(crate) producer: u32,
}
