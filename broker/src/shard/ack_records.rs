//! Acknowledge records and store what was made of them, in one commit. What belongs to other shards goes there as messages of that commit.

use crate::dedup::{Entry, Hash, Place};
use crate::ids::{GroupKey, ShardId};
use crate::log::batch::NewBatch;
use crate::log::partition::Partition;
use crate::shard::commit::WriteError;
use crate::shard::core::Core;
use crate::shard::log::Log;
use crate::shard::log::append_error::AppendError;
use crate::shard::outbox::owner::Outbox;
use crate::shard::permit::Permit;
use crate::shard::queues::Queues;
use crate::shard::queues::request::QueueError;
use crate::topic::Topic;
use sagamq_api::Offset;
use std::sync::Arc;
use tokio::sync::oneshot;

/// Why nothing was acknowledged and nothing stored.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AckRecordsRefused {
    /// A lease does not count any more.
    #[error("the lease of receipt {0} is over, or its record was settled by another request: nothing was acknowledged, nothing stored")]
    Stale(usize),
    /// The receipts were acknowledged with other records.
    #[error("these receipts were acknowledged before, with other records")]
    OtherRecords,
    /// A topic of the records is deleted.
    #[error("topic `{0}` is deleted")]
    TopicDeleted(sagamq_api::TopicName),
    /// The group refused.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// Idempotency entries could not be read.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// The durable write failed or is not tried any more.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// Records for a partition of this shard.
pub(crate) struct OwnRecords {
    pub(crate) topic: Arc<Topic>,
    pub(crate) partition: Arc<Partition>,
    pub(crate) batches: Vec<NewBatch>,
}

/// Acknowledge records, and store what was made of them.
pub(crate) struct AckRecords {
    pub(crate) key: GroupKey,
    /// Each named once.
    pub(crate) leases: Vec<(Offset, u64)>,
    /// Hash of the receipts, under which it is known that it happened.
    pub(crate) receipts: Hash,
    /// Of all the records.
    pub(crate) fingerprint: Hash,
    pub(crate) count: u32,
    pub(crate) dedup_window_ms: u64,
    pub(crate) arrived_ms: i64,
    pub(crate) own: Vec<OwnRecords>,
    /// Messages to other shards.
    pub(crate) others: Vec<(ShardId, Vec<u8>)>,
    pub(crate) permit: Permit,
    pub(crate) reply: oneshot::Sender<Result<AckedRecords, AckRecordsRefused>>,
}

/// What happened.
#[derive(Clone, Debug)]
pub(crate) enum AckedRecords {
    /// All of it, now: the first offset of each of the shard's own.
    Now(Vec<Offset>),
    /// All of it, by the same request before.
    Before { arrived_ms: i64 },
}

pub(super) fn handle(core: &mut Core, log: &mut Log, queues: &mut Queues, relays: &mut Outbox, mut request: AckRecords) {
    let (own, others) = (std::mem::take(&mut request.own), std::mem::take(&mut request.others));
    let result = decide(core, log, queues, relays, &request, own, others);
    let AckRecords { permit, reply, .. } = request;
    core.answer(move |written| {
        drop(permit);
        // A client that went away does not hear the answer; what he asked for is done all the same.
        let _ = reply.send(written.map_err(AckRecordsRefused::from).and(result));
    });
}

/// Everything that can refuse comes before anything is staged.
fn decide(
    core: &mut Core,
    log: &mut Log,
    queues: &mut Queues,
    relays: &mut Outbox,
    request: &AckRecords,
    own: Vec<OwnRecords>,
    others: Vec<(ShardId, Vec<u8>)>,
) -> Result<AckedRecords, AckRecordsRefused> {
    let AckRecords { key, leases, receipts, fingerprint, count, dedup_window_ms, arrived_ms, .. } = request;
    let home = key.partition;
    if let Some(entry) = log.counting_entry(core, home, *receipts)? {
        return match entry.fingerprint == *fingerprint {
            true => Ok(AckedRecords::Before { arrived_ms: entry.arrived_ms }),
            false => Err(AckRecordsRefused::OtherRecords),
        };
    }
    if let Some(index) = queues.first_stale(*key, leases)? {
        return Err(AckRecordsRefused::Stale(index));
    }
    if let Some(deleted) = own.iter().find(|own| !core.owns(&own.partition)) {
        return Err(AckRecordsRefused::TopicDeleted(deleted.topic.name.clone()));
    }
    queues.ack_all(core, *key, leases)?;
    let stage = |OwnRecords { topic, partition, batches }: OwnRecords, core: &mut Core| {
        core.count_produced(topic.id, topic.name.as_str(), &batches);
        core.stage_batches(partition, batches)
    };
    let bases: Vec<Offset> = own.into_iter().map(|own| stage(own, core)).collect();
    relays.exchange(core, &[], others);
    let ends_at_ms = core.clock.now_ms().saturating_add(*dedup_window_ms);
    let place = Place::Stored { base: bases.first().copied().unwrap_or(Offset(0)) };
    let entry = Entry { place, arrived_ms: *arrived_ms, ends_at_ms, count: *count, fingerprint: *fingerprint };
    log.remember(core, home, *receipts, entry);
    core.commit.require_sync();
    Ok(AckedRecords::Now(bases))
}
