//! Batches that producers encoded: each is for one partition and is stored as it came.

use super::deal::{Places, Share, check_time, partition_in};
use super::error::ProduceError;
use super::record::Produced;
use crate::dedup::sequence::Sequenced;
use crate::dedup::{self, Hash};
use crate::log::batch::ReceivedBatch;
use crate::shard::log::keys::Keys;
use crate::shard::log::part::Part;
use crate::topic::Topic;
use sagamq_api::limits::PRODUCE_RECORDS_MAX;
use sagamq_api::{Offset, PartitionId};
use std::sync::Arc;

/// A batch to store.
#[derive(Debug)]
pub struct SentBatch {
    /// Its partition; without one the broker chooses, which it does not for records with keys: a key decides.
    pub partition: Option<PartitionId>,
    /// Its records.
    pub batch: ReceivedBatch,
}

/// Where a batch was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducedBatch {
    /// Partition of the topic.
    pub partition: PartitionId,
    /// Offset of its first record; the others follow it without a gap.
    pub offset: Offset,
    /// How many records it has.
    pub records: u32,
    /// The highest time of its records, in milliseconds since 1970.
    pub timestamp_ms: i64,
    /// Whether it was stored by an earlier request; partition and offset are that one's.
    pub duplicate: bool,
}

/// Batches that were checked and dealt to their shards.
pub(super) struct Dealt {
    pub(super) shares: Vec<Share>,
    pub(super) places: Places,
    /// Of all batches together, if the request has a key.
    pub(super) fingerprint: Hash,
    /// How many records each batch has, in the order of the request.
    pub(super) records: Vec<u32>,
}

/// Checks every batch and finds its partition. `is_outdated`: they were made for another number of partitions.
pub(super) fn deal(
    topic: &Topic,
    batches: Vec<SentBatch>,
    is_keyed: bool,
    sticky: PartitionId,
    arrived_ms: i64,
    is_outdated: bool,
) -> Result<Dealt, ProduceError> {
    let counts: Vec<u32> = batches.iter().map(|sent| sent.batch.records_count()).collect();
    let total: usize = counts.iter().map(|&count| count as usize).sum();
    if !(1..=PRODUCE_RECORDS_MAX).contains(&total) {
        return Err(ProduceError::RecordsCount(total));
    }
    let sequence = sequenced(&batches, is_keyed)?;
    let mut fingerprints = Vec::new();
    let mut placed = Vec::with_capacity(batches.len());
    let mut places =
        Places { partitions: Vec::with_capacity(total), given_ms: Vec::with_capacity(total), order: Vec::with_capacity(total) };
    for (index, SentBatch { partition, batch }) in batches.into_iter().enumerate() {
        let of = check(topic, index, partition, &batch, sticky, arrived_ms)?;
        if is_keyed {
            fingerprints.push(dedup::fingerprint_batch(batch.sent(), partition));
        }
        let (first, count) = (places.partitions.len(), batch.records_count() as usize);
        places.partitions.resize(first + count, of);
        places.given_ms.resize(first + count, batch.max_timestamp());
        placed.push((of, first..first + count, batch));
    }
    // A stable sort: batches of one partition stay in the order of the request.
    let shard = |of: PartitionId| topic.partitions.key(of.0 as usize).shard;
    placed.sort_by_key(|&(of, ..)| (shard(of), of));
    let mut shares: Vec<Share> = Vec::new();
    for (of, records, batch) in placed {
        let start = places.order.len();
        places.order.extend(records.clone());
        if shares.last().is_none_or(|share| share.shard != shard(of)) {
            let (shard, order) = (shard(of), start..start);
            shares.push(Share { shard, order, parts: Vec::new(), batches: Vec::new(), to_wait: Vec::new(), keys: Keys::None });
        }
        let share = shares.last_mut().expect("there is one for its shard");
        share.order.end = places.order.len();
        share.batches.push(batch.arrived_at(arrived_ms));
        match share.parts.last_mut().filter(|part| part.partition.key.partition == of) {
            Some(part) => (part.records, part.batches) = (part.records + records.len(), part.batches + 1),
            None => {
                let partition = Arc::clone(topic.partitions.at(of.0 as usize));
                share.parts.push(Part { partition, records: records.len(), batches: 1, is_scheduled: false });
            }
        }
    }
    if let (Some(sent), [share]) = (sequence, &mut shares[..]) {
        share.keys = Keys::Sequence { sent, is_outdated };
    }
    Ok(Dealt { shares, places, fingerprint: dedup::combine(&fingerprints), records: counts })
}

/// Whether a batch says who sent it.
pub(super) fn is_sequenced(batches: &[SentBatch]) -> bool {
    batches.iter().any(|sent| sent.batch.stamp().is_some())
}

/// What the batch says of its producer: one that says something is alone, so that it is stored or refused and nothing in between.
fn sequenced(batches: &[SentBatch], is_keyed: bool) -> Result<Option<Sequenced>, ProduceError> {
    let Some(index) = batches.iter().position(|sent| sent.batch.stamp().is_some()) else { return Ok(None) };
    let [SentBatch { partition, batch }] = batches else { return Err(ProduceError::StampedBeside(index)) };
    if is_keyed {
        return Err(ProduceError::StampWithKey);
    }
    if partition.is_none() {
        return Err(ProduceError::StampWithoutPartition);
    }
    Ok(batch.stamp().map(|stamp| Sequenced { stamp, records: batch.records_count(), crc: batch.sent_crc() }))
}

/// The partition of a batch that may be stored.
fn check(
    topic: &Topic,
    index: usize,
    partition: Option<PartitionId>,
    batch: &ReceivedBatch,
    sticky: PartitionId,
    arrived_ms: i64,
) -> Result<PartitionId, ProduceError> {
    let (bytes, max) = (batch.record_bytes_max(), topic.config.get().record_bytes_max);
    if bytes > max as usize {
        return Err(ProduceError::RecordTooLarge { index, topic: topic.name.clone(), bytes, max });
    }
    if batch.keys() < batch.records_count() as usize && topic.config.get().cleanup_policy.compacts() {
        return Err(ProduceError::BatchWithoutKeys { index, topic: topic.name.clone() });
    }
    if let Some(timestamp_ms) = batch.max_timestamp() {
        check_time(index, timestamp_ms, arrived_ms)?;
        check_time(index, batch.min_timestamp(), arrived_ms)?;
    }
    match partition {
        Some(partition) => partition_in(topic, index, partition),
        None if batch.keys() > 0 => Err(ProduceError::KeyWithoutPartition(index)),
        None => Ok(sticky),
    }
}

/// What became of each batch, as its first record was answered: the others of a batch lie behind it and are what it is.
pub(super) fn told(records: &[u32], produced: &[Produced]) -> Vec<ProducedBatch> {
    let mut first = 0;
    let tell = |&records: &u32| {
        let Produced { partition, offset, timestamp_ms, duplicate, .. } = produced[first];
        let offset = offset.expect("a batch is stored at once");
        first += records as usize;
        ProducedBatch { partition, offset, records, timestamp_ms, duplicate }
    };
    records.iter().map(tell).collect()
}
