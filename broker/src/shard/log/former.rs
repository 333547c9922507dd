//! Idempotency keys that may have been stored in another partition, before partitions were added: what is known of them there.

use crate::dedup::{Entry, Hash};
use crate::ids::PartitionKey;
use crate::shard::core::Core;
use crate::shard::log::append_error::{self, AppendError};
use crate::shard::log::idempotency::Idempotency;
use crate::shard::log::keys::Placed;
use crate::shard::log::part::Part;
use crate::shard::log::schedules::Schedules;
use sagamq_api::topic::TopicDurability;
use std::sync::Arc;
use tokio::sync::oneshot;

/// Asks where records are that their keys say were stored before.
pub(crate) struct FormerRecords {
    /// Name of the topic.
    pub(crate) topic: Arc<str>,
    /// The partitions of before, each with how many keys are asked of it.
    pub(crate) parts: Vec<Part>,
    /// Of all parts, one part behind the other: hash of the key, fingerprint of the record.
    pub(crate) keys: Vec<Option<(Hash, Hash)>>,
    /// What the topic promises.
    pub(crate) durability: TopicDurability,
    /// One place a key; none if the partition does not know it.
    pub(crate) reply: oneshot::Sender<Result<Vec<Option<Placed>>, AppendError>>,
}

/// Asks what happened under the key of a request.
pub(crate) struct FormerKey {
    /// The partition that it hashed to.
    pub(crate) home: PartitionKey,
    pub(crate) key: Hash,
    /// What the topic promises.
    pub(crate) durability: TopicDurability,
    pub(crate) reply: oneshot::Sender<Result<Option<Entry>, AppendError>>,
}

pub(super) fn records(core: &mut Core, idempotency: &Idempotency, schedules: &Schedules, request: FormerRecords) {
    let FormerRecords { topic, parts, keys, durability, reply } = request;
    let result = idempotency.record_places(core, schedules, &parts, &keys);
    let found = result.as_ref().map_or(0, |places| places.iter().flatten().count());
    if found > 0 {
        core.count_duplicates(&topic, found as u64);
        // What is told may have been stored when the topic promised less.
        core.commit.require(durability);
    }
    append_error::answer(core, None, |result| drop(reply.send(result)), result);
}

pub(super) fn key(core: &mut Core, idempotency: &Idempotency, request: FormerKey) {
    let FormerKey { home, key, durability, reply } = request;
    let now_ms = core.clock.now_ms();
    let result = idempotency.entry(core, home, key).map(|entry| entry.filter(|entry| entry.counts_at(now_ms)));
    if matches!(result, Ok(Some(_))) {
        core.commit.require(durability);
    }
    append_error::answer(core, None, |result| drop(reply.send(result)), result);
}
