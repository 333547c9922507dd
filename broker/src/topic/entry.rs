//! What the catalogue stores, in the `meta` family. JSON: it is written rarely, and an operator can read it.

use sagamq_api::topic::TopicConfig;
use sagamq_api::{GroupName, TopicName};
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
}

/// What a topic is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum TopicKind {
    /// Made by a user or the embedder.
    Plain,
    /// Holds the dead letters of one group; it goes when the group goes.
    DeadLetters,
}

/// A queue group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GroupEntry {
    pub(crate) id: u32,
    pub(crate) name: GroupName,
    /// Id of the topic.
    pub(crate) topic: u32,
    /// Where the group began in each partition: its state there until something changes.
    pub(crate) start: Vec<u64>,
    /// Id of the topic that takes the dead letters.
    pub(crate) dead_letter_topic: u32,
    /// Id of the group whose settled records are the dead letters that are done with.
    pub(crate) redrive: u32,
    pub(crate) created_at_ms: u64,
    /// Whether the embedder needs it: it cannot be deleted.
    pub(crate) owned: bool,
}

/// The next free numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NextIds {
    pub(crate) topic: u32,
    pub(crate) group: u32,
}
