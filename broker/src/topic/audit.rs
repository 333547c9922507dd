//! [`AuditLog`]: the topic of the audit log, apart from all others: no door of topics finds it.

use crate::ids::ShardId;
use crate::log::partition::Partition;
use crate::topic::catalog::Topic;
use sagamq_api::PartitionId;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

/// The topic of the audit log. It has a partition for each shard, so that an entry lies on the shard of its change.
#[derive(Debug)]
pub(crate) struct AuditLog {
    topic: OnceLock<Arc<Topic>>,
    is_kept: AtomicBool,
    /// The data that its entries are of.
    source: String,
}

impl AuditLog {
    /// The one that the catalogue has, if it has one. Nothing is written to it before it is kept.
    pub(crate) fn new(topic: Option<Arc<Topic>>, source: String) -> Self {
        Self { topic: topic.map_or_else(OnceLock::new, OnceLock::from), is_kept: AtomicBool::new(false), source }
    }

    /// The topic, also if nothing is written to it any more.
    pub(crate) fn topic(&self) -> Option<&Arc<Topic>> {
        self.topic.get()
    }

    /// Entries are written from now on, to this topic unless there is one.
    pub(crate) fn keep(&self, topic: Arc<Topic>) {
        self.topic.get_or_init(|| topic);
        self.is_kept.store(true, Ordering::Release);
    }

    /// Whether entries are written.
    pub(crate) fn is_kept(&self) -> bool {
        self.is_kept.load(Ordering::Acquire)
    }

    /// The partition of a shard.
    pub(crate) fn partition(&self, shard: ShardId) -> Option<&Arc<Partition>> {
        self.topic()?.partition(PartitionId(u32::from(shard.0)))
    }

    pub(crate) fn source(&self) -> &str {
        &self.source
    }
}
