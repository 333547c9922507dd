//! The claim of a request's idempotency key, on the shard of the partition that the key hashes to.

use crate::dedup::request::{Claim, Decision, decide};
use crate::dedup::{Entry, Hash, Place};
use crate::log::batch::NewBatch;
use crate::log::partition::Partition;
use crate::shard::core::Core;
use crate::shard::log::append_error::{self, AppendError};
use crate::shard::log::at::At;
use crate::shard::log::idempotency::Idempotency;
use crate::shard::log::keys::Placed;
use crate::shard::permit::Permit;
use sagamq_api::Offset;
use sagamq_api::topic::TopicDurability;
use std::sync::Arc;
use tokio::sync::oneshot;

/// Claims the key of a request.
pub(crate) struct ClaimRequest {
    pub(crate) home: Arc<Partition>,
    pub(crate) topic: Arc<str>,
    /// Hash of the key.
    pub(crate) key: Hash,
    /// Of all the request's records.
    pub(crate) fingerprint: Hash,
    pub(crate) count: u32,
    /// The records if all of them lie at home: they are stored in the commit of the claim.
    pub(crate) batches: Vec<NewBatch>,
    pub(crate) partitions: u32,
    pub(crate) dedup_window_ms: u64,
    /// What the topic promises.
    pub(crate) durability: TopicDurability,
    pub(crate) arrived_ms: i64,
    pub(crate) permit: Arc<Permit>,
    pub(crate) reply: oneshot::Sender<Result<Claimed, AppendError>>,
}

/// What became of a claim.
#[derive(Debug)]
pub(crate) enum Claimed {
    /// The records are stored, now or before.
    Stored(Vec<Placed>),
    /// The partitions may store their shares.
    GoOn(Claim),
}

pub(super) fn claim(core: &mut Core, idempotency: &mut Idempotency, mut request: ClaimRequest) {
    let batches = std::mem::take(&mut request.batches);
    let result = if core.owns(&request.home) { decide_claim(core, idempotency, &request, batches) } else { Err(AppendError::TopicDeleted) };
    let ClaimRequest { reply, permit, .. } = request;
    // A client that went away does not hear the answer; what he asked for is done all the same.
    append_error::answer(core, Some(permit), |result| drop(reply.send(result)), result);
}

fn decide_claim(
    core: &mut Core,
    idempotency: &mut Idempotency,
    request: &ClaimRequest,
    batches: Vec<NewBatch>,
) -> Result<Claimed, AppendError> {
    let home = request.home.key;
    let known = idempotency.entry(core, home, request.key)?;
    let places = |base: Offset, duplicate_of_ms| {
        (0..u64::from(request.count)).map(|index| Placed { at: At::Log(base.plus(index)), duplicate_of_ms }).collect()
    };
    match decide(known, core.clock.now_ms(), request.fingerprint) {
        Decision::Claim => {
            let ends_at_ms = core.clock.now_ms().saturating_add(request.dedup_window_ms);
            let (place, claimed) = if batches.is_empty() {
                let (number, partitions) = (core.random.next_u64(), request.partitions);
                (Place::Claimed { claim: number, partitions }, Claimed::GoOn(Claim { number, partitions, ends_at_ms }))
            } else {
                core.count_produced(home.topic, &request.topic, &batches);
                let base = core.stage_batches_as(request.durability, Arc::clone(&request.home), batches);
                (Place::Stored { base }, Claimed::Stored(places(base, None)))
            };
            let (arrived_ms, count, fingerprint) = (request.arrived_ms, request.count, request.fingerprint);
            idempotency.stage(core, home, request.key, Entry { place, arrived_ms, ends_at_ms, count, fingerprint });
            core.commit.require(request.durability);
            Ok(claimed)
        }
        Decision::Stored { base, arrived_ms } => {
            core.count_duplicates(&request.topic, request.count.into());
            // It may have been stored when the topic promised less.
            core.commit.require(request.durability);
            Ok(Claimed::Stored(places(base, Some(arrived_ms))))
        }
        Decision::GoOn(claim) => Ok(Claimed::GoOn(claim)),
        Decision::Refuse { first } => Err(AppendError::RequestKeyReused { first }),
    }
}
