//! A member of a stream group.

use crate::ids::TopicId;
use core::fmt;
use sagamq_api::{InstanceId, PartitionId};
use std::collections::{BTreeMap, BTreeSet};

/// A partition of one of the group's topics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// The topic.
    pub topic: TopicId,
    /// Its partition.
    pub partition: PartitionId,
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of topic number {}", self.partition, self.topic.0)
    }
}

/// A member of a stream group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Number of its row: never used again in the group.
    pub(super) number: u64,
    /// A program that comes back under another member id and takes this member's place.
    pub(super) instance: Option<InstanceId>,
    /// It left to come back: its partitions wait for it until the session ends.
    pub(super) is_away: bool,
    pub(super) session_ms: u64,
    pub(super) topics: BTreeSet<TopicId>,
    /// Its epoch when it joined: whoever asks with a lower one is an earlier process of that id.
    pub(super) joined: u64,
    /// Rises with everything that is given to it.
    pub(super) epoch: u64,
    /// What it holds, each with the epoch under which it was given.
    pub(super) held: BTreeMap<TopicPartition, u64>,
    /// What it is to hold.
    pub(super) target: BTreeSet<TopicPartition>,
}

impl Member {
    /// What it is to hand back.
    pub(super) fn revoked(&self) -> impl Iterator<Item = TopicPartition> {
        self.held.keys().filter(|held| !self.target.contains(held)).copied()
    }

    /// Whether it has something to hand back.
    pub(super) fn is_revoking(&self) -> bool {
        self.revoked().next().is_some()
    }

    /// The instance, if it is a static member.
    #[must_use]
    pub fn instance(&self) -> Option<&InstanceId> {
        self.instance.as_ref()
    }

    /// Whether it left to come back.
    #[must_use]
    pub fn is_away(&self) -> bool {
        self.is_away
    }

    /// Its epoch.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// What it holds and may commit.
    pub fn held(&self) -> impl Iterator<Item = TopicPartition> {
        self.held.keys().copied()
    }

    /// What it is to hold.
    #[must_use]
    pub fn target(&self) -> &BTreeSet<TopicPartition> {
        &self.target
    }

    /// The topics it reads.
    #[must_use]
    pub fn topics(&self) -> &BTreeSet<TopicId> {
        &self.topics
    }
}
