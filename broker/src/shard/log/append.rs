//! Storing records: duplicates are found, offsets given, batches staged.

use crate::log::batch::Batch;
use crate::log::cut::encode_cut;
use crate::log::partition::Partition;
use crate::shard::core::Core;
use crate::shard::log::append_error::{self, AppendError};
use crate::shard::log::idempotency::{Idempotency, Verdict};
use crate::shard::log::keys::{Keys, Placed};
use sagamq_api::Offset;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

/// Records for one partition.
pub(crate) struct AppendRequest {
    pub(crate) partition: Arc<Partition>,
    pub(crate) topic: Arc<str>,
    /// The records, encoded where they arrived.
    pub(crate) batches: Vec<Batch>,
    pub(crate) keys: Keys,
    pub(crate) dedup_window_ms: u64,
    /// The time of records without one of their own.
    pub(crate) arrived_ms: i64,
    /// The request's share of the bound on bytes that are not durable; given back when all of them are.
    pub(crate) permit: Arc<OwnedSemaphorePermit>,
    pub(crate) reply: oneshot::Sender<Result<Vec<Placed>, AppendError>>,
}

pub(super) fn append(core: &mut Core, idempotency: &mut Idempotency, mut request: AppendRequest) {
    let batches = std::mem::take(&mut request.batches);
    let result = if core.owns(&request.partition) { place(core, idempotency, &request, batches) } else { Err(AppendError::TopicDeleted) };
    let AppendRequest { permit, reply, .. } = request;
    append_error::answer(core, Some(permit), reply, result);
}

fn place(core: &mut Core, idempotency: &mut Idempotency, request: &AppendRequest, batches: Vec<Batch>) -> Result<Vec<Placed>, AppendError> {
    let AppendRequest { partition, topic, keys, arrived_ms, .. } = request;
    let count: usize = batches.iter().map(|batch| batch.records_count() as usize).sum();
    let verdicts = idempotency.verdicts(core, partition.key, count, keys)?;
    let duplicates = verdicts.iter().filter(|verdict| !matches!(verdict, Verdict::Fresh)).count();
    core.count_duplicates(topic, duplicates as u64);
    let fresh = if duplicates == 0 { batches } else { without_duplicates(&batches, &verdicts)? };
    let mut base = Offset(0);
    if !fresh.is_empty() {
        core.count_produced(topic, &fresh);
        base = core.stage_batches(partition, fresh);
    }
    let mut next = base;
    let placed: Vec<Placed> = verdicts
        .into_iter()
        .map(|verdict| match verdict {
            Verdict::Duplicate(placed) => placed,
            Verdict::Again(first) => Placed { offset: base.plus(first as u64), duplicate_of_ms: Some(*arrived_ms) },
            Verdict::Fresh => {
                let offset = next;
                next = next.next();
                Placed { offset, duplicate_of_ms: None }
            }
        })
        .collect();
    if duplicates < count {
        idempotency.stage_all(core, partition.key, keys, &placed, request.dedup_window_ms, *arrived_ms);
    }
    Ok(placed)
}

/// The same records without the duplicates, encoded anew. Rare: only a retry of a part comes here.
fn without_duplicates(batches: &[Batch], verdicts: &[Verdict]) -> Result<Vec<Batch>, AppendError> {
    let mut verdicts = verdicts.iter();
    let mut fresh = Vec::new();
    for batch in batches {
        for record in batch.records()? {
            if matches!(verdicts.next(), Some(Verdict::Fresh)) {
                fresh.push(record.into_record());
            }
        }
    }
    Ok(encode_cut(&fresh)?)
}
