//! Storing records: duplicates are found, offsets given, batches staged. What a request has for the shard is stored as a whole or not at all.

use crate::log::batch::{NewBatch, StoredRecord};
use crate::log::cut::encode_cut;
use crate::shard::core::Core;
use crate::shard::gather::Answer;
use crate::shard::log::append_error::{self, AppendError};
use crate::shard::log::at::At;
use crate::shard::log::idempotency::{Idempotency, Verdict};
use crate::shard::log::keys::{Keys, PartKeys, Placed};
use crate::shard::log::part::Part;
use crate::shard::log::schedules::Schedules;
use crate::shard::log::schedules::row::Row;
use crate::shard::permit::Permit;
use crate::topic::Topic;
use bytes::Bytes;
use sagamq_api::Offset;
use sagamq_api::topic::TopicDurability;
use std::sync::Arc;

/// Records for partitions of one topic, all of this shard.
pub(crate) struct AppendRequest {
    /// Name of the topic.
    pub(crate) topic: Arc<str>,
    pub(crate) parts: Vec<Part>,
    /// The records of all parts, one part behind the other, encoded where they arrived.
    pub(crate) batches: Vec<NewBatch>,
    /// Those of the parts that wait for their time, and their topic.
    pub(crate) scheduled: Option<Scheduled>,
    /// Those of all records, in the same order.
    pub(crate) keys: Keys,
    pub(crate) dedup_window_ms: u64,
    /// What the topic promises.
    pub(crate) durability: TopicDurability,
    /// The time of records without one of their own.
    pub(crate) arrived_ms: i64,
    /// Given back when all of them are durable.
    pub(crate) permit: Arc<Permit>,
    /// One place a record, in the same order.
    pub(crate) reply: Answer<Result<Vec<Placed>, AppendError>>,
}

/// Records that are to wait.
pub(crate) struct Scheduled {
    pub(crate) topic: Arc<Topic>,
    pub(crate) records: Vec<NewSchedule>,
}

/// A record that is to wait.
pub(crate) struct NewSchedule {
    /// When it is due, in milliseconds since 1970.
    pub(crate) due_ms: u64,
    /// Bytes of key, value and headers.
    pub(crate) record_bytes: u32,
    /// The record, as a batch of its own.
    pub(crate) batch: Bytes,
}

pub(super) fn append(core: &mut Core, idempotency: &mut Idempotency, schedules: &mut Schedules, mut request: AppendRequest) {
    let (parts, batches) = (std::mem::take(&mut request.parts), std::mem::take(&mut request.batches));
    let result = place(core, idempotency, schedules, &request, parts, batches);
    let AppendRequest { permit, reply, .. } = request;
    append_error::answer(core, Some(permit), |result| reply.send(result), result);
}

fn place(
    core: &mut Core,
    idempotency: &mut Idempotency,
    schedules: &mut Schedules,
    request: &AppendRequest,
    mut parts: Vec<Part>,
    mut batches: Vec<NewBatch>,
) -> Result<Vec<Placed>, AppendError> {
    let AppendRequest { topic, keys, dedup_window_ms, durability, arrived_ms, .. } = request;
    if !parts.iter().all(|part| core.owns(&part.partition)) {
        return Err(AppendError::TopicDeleted);
    }
    // Everything that can refuse comes before anything is staged.
    let verdicts = idempotency.verdicts(core, schedules, &parts, keys)?;
    if let Some(scheduled) = &request.scheduled {
        check_room(core, schedules, scheduled, &parts, verdicts.as_deref())?;
    }
    if let Some(verdicts) = &verdicts {
        let duplicates = verdicts.iter().filter(|verdict| !verdict.is_fresh()).count();
        core.count_duplicates(topic, duplicates as u64);
        // What a duplicate is told of may have been stored when the topic promised less.
        core.commit.require(*durability);
        batches = without_duplicates(&mut parts, batches, verdicts)?;
    }
    if let Some(part) = parts.first() {
        core.count_produced(part.partition.key.topic, topic, &batches);
    }
    let mut placed = Vec::with_capacity(parts.iter().map(|part| part.records).sum());
    let mut batches = batches.into_iter();
    let mut to_wait = request.scheduled.iter().flat_map(|scheduled| &scheduled.records);
    for Part { partition, records, batches: count, is_scheduled } in parts {
        let (first, key) = (placed.len(), partition.key);
        if let (true, Some(Scheduled { topic, .. })) = (is_scheduled, &request.scheduled) {
            let mut fresh = Vec::new();
            for (index, new) in to_wait.by_ref().take(records).enumerate() {
                placed.push(match verdicts.as_ref().map(|verdicts| verdicts[first + index]) {
                    None | Some(Verdict::Fresh) => {
                        let key = match keys.of(first..first + records) {
                            PartKeys::Records(keys) => keys[index],
                            PartKeys::None | PartKeys::Share { .. } => None,
                        };
                        let NewSchedule { due_ms, record_bytes, ref batch } = *new;
                        let arrived_ms = u64::try_from(*arrived_ms).unwrap_or(0);
                        let row = Row { partition: partition.key.partition, arrived_ms, record_bytes, key, batch: batch.clone() };
                        let id = schedules.add(core, topic, due_ms, &row);
                        fresh.push(id);
                        Placed { at: At::Schedule(id), duplicate_of_ms: None }
                    }
                    Some(Verdict::Duplicate(placed)) => placed,
                    Some(Verdict::Again(first)) => Placed { at: At::Schedule(fresh[first]), duplicate_of_ms: Some(*arrived_ms) },
                });
            }
            continue;
        }
        // Where all are duplicates there is nothing to place.
        let base = if count == 0 { Offset(0) } else { core.stage_batches_as(*durability, partition, batches.by_ref().take(count)) };
        match &verdicts {
            None => placed.extend((0..records as u64).map(|index| Placed { at: At::Log(base.plus(index)), duplicate_of_ms: None })),
            Some(verdicts) => place_verdicts(&verdicts[first..first + records], base, *arrived_ms, &mut placed),
        }
        if count > 0 {
            let keys = keys.of(first..first + records);
            idempotency.stage_all(core, key, keys, &placed[first..], *dedup_window_ms, *arrived_ms);
        }
    }
    Ok(placed)
}

/// Looks whether the records that are to wait find room.
fn check_room(
    core: &Core,
    schedules: &Schedules,
    scheduled: &Scheduled,
    parts: &[Part],
    verdicts: Option<&[Verdict]>,
) -> Result<(), AppendError> {
    let places = parts.iter().flat_map(|part| core::iter::repeat_n(part.is_scheduled, part.records)).enumerate();
    let to_wait = places.filter(|(_, is_scheduled)| *is_scheduled).map(|(place, _)| place);
    let fresh = to_wait.zip(&scheduled.records).filter(|(place, _)| verdicts.is_none_or(|verdicts| verdicts[*place].is_fresh()));
    let (records, bytes) = fresh.fold((0, 0), |(records, bytes), (_, new)| (records + 1, bytes + new.batch.len() as u64));
    if records == 0 { Ok(()) } else { schedules.check_room(core, records, bytes) }
}

fn place_verdicts(verdicts: &[Verdict], base: Offset, arrived_ms: i64, placed: &mut Vec<Placed>) {
    let mut next = base;
    placed.extend(verdicts.iter().map(|verdict| match *verdict {
        Verdict::Duplicate(placed) => placed,
        Verdict::Again(first) => Placed { at: At::Log(base.plus(first as u64)), duplicate_of_ms: Some(arrived_ms) },
        Verdict::Fresh => {
            let offset = next;
            next = next.next();
            Placed { at: At::Log(offset), duplicate_of_ms: None }
        }
    }));
}

/// The same records without the duplicates; where there are some, encoded anew. Rare: only a retry of a part comes here.
fn without_duplicates(parts: &mut [Part], batches: Vec<NewBatch>, verdicts: &[Verdict]) -> Result<Vec<NewBatch>, AppendError> {
    let (mut batches, mut verdicts) = (batches.into_iter(), verdicts);
    let mut left = Vec::with_capacity(batches.len());
    for part in parts {
        let (own, others) = verdicts.split_at(part.records);
        let of_part = batches.by_ref().take(part.batches);
        let before = left.len();
        if own.iter().all(Verdict::is_fresh) {
            // The duplicates beside it were encoded in the same memory, and would be kept with it as long as it is read from memory.
            left.extend(of_part.map(NewBatch::on_its_own));
        } else {
            let (mut fresh, mut own) = (Vec::new(), own.iter());
            for batch in of_part {
                let is_fresh = |_: &StoredRecord| own.next().is_some_and(Verdict::is_fresh);
                fresh.extend(batch.into_records()?.into_iter().filter(is_fresh).map(StoredRecord::into_record));
            }
            left.extend(encode_cut(&fresh)?);
        }
        (verdicts, part.batches) = (others, left.len() - before);
    }
    Ok(left)
}
