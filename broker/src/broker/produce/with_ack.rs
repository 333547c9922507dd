//! Acknowledge-with-records: a consumer's receipts and what it made of their records, in one commit.

use super::deal::{Places, Share, deal};
use super::error::ProduceError;
use super::record::{NewRecord, Produced};
use crate::broker::Broker;
use crate::broker::parameter::{ParameterError, in_range};
use crate::broker::queue::FindGroupError;
use crate::broker::topics::TopicError;
use crate::dedup::{self, Hash, KeyScope};
use crate::group::queue::ReceiptError;
use crate::ids::{PartitionKey, ShardId, TopicId};
use crate::log::batch::NewBatch;
use crate::shard::ack_records::{AckRecords, AckRecordsRefused, AckedRecords, OwnRecords};
use crate::shard::commit::WriteError;
use crate::shard::input::Input;
use crate::shard::log::at::At;
use crate::shard::log::keys::Placed;
use crate::shard::permit::Permit;
use crate::shard::relay;
use crate::topic::{Dealing, Topic, TopicKind};
use sagamq_api::limits::{PRODUCE_RECORDS_MAX, RECEIPTS_MAX};
use sagamq_api::{GroupName, Offset, PartitionId, TopicName};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Why nothing was acknowledged and nothing stored. After a write error both may be.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AckRecordsError {
    /// No such topic or group.
    #[error(transparent)]
    Find(#[from] FindGroupError),
    /// A parameter is out of range, or does not go with another one.
    #[error(transparent)]
    Parameter(#[from] ParameterError),
    /// A receipt was not issued by this broker to whoever asks.
    #[error("receipt {index}: {reason}")]
    Receipt {
        /// Index in the request.
        index: usize,
        /// What is wrong with it.
        reason: ReceiptError,
    },
    /// A receipt is for another topic or group.
    #[error("receipt {0} was issued for another topic or group, or for one that was deleted since")]
    ForeignReceipt(usize),
    /// Records cannot be produced.
    #[error("records for topic `{topic}`: {reason}")]
    Produce {
        /// Their topic.
        topic: TopicName,
        /// Why.
        reason: ProduceError,
    },
    /// The shard refused, or the write failed.
    #[error(transparent)]
    Refused(#[from] AckRecordsRefused),
}

/// What was acknowledged and stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AckedWithRecords {
    /// Whether the same request did it before: this one changed nothing.
    pub duplicate: bool,
    /// Of the records of each topic, in the order of the request: the partition, and the offset if it is known already.
    pub produced: Vec<Vec<Produced>>,
}

/// The records for one topic, ready to be stored.
struct Ready {
    topic: Arc<Topic>,
    places: Places,
    shares: Vec<Share>,
}

impl Broker {
    /// Acknowledges records and stores what was made of them, all of it or nothing. The receipts are of one partition; records for
    /// partitions of its shard are in the commit of the acknowledgement, others are sent by it and are appended soon, once each. The same
    /// request again stores nothing. Durable when it returns.
    ///
    /// # Errors
    /// When something about the request is not valid, a lease is over (nothing is acknowledged and nothing stored), or the write fails.
    pub async fn ack_with_records(
        &self,
        topic: &TopicName,
        group: &GroupName,
        receipts: &[String],
        produce: Vec<(TopicName, Vec<NewRecord>)>,
    ) -> Result<AckedWithRecords, AckRecordsError> {
        let (topic, group) = self.group(topic, group)?;
        let (partition, leases) = self.leases_of_one_partition(&topic, &group, receipts)?;
        let queue = group.queue(partition.0 as usize).key();
        let arrived_ms = i64::try_from(self.0.clock.now_ms()).expect("the year is below 292 million");
        let count: usize = produce.iter().map(|(_, records)| records.len()).sum();
        in_range("number of records", count, 1, PRODUCE_RECORDS_MAX)?;
        let (mut prints, mut ready) = (Vec::new(), Vec::with_capacity(produce.len()));
        let mut dealing: Vec<(TopicId, Dealing)> = Vec::with_capacity(produce.len());
        for (name, records) in produce {
            let failed = |reason: ProduceError| AckRecordsError::Produce { topic: name.clone(), reason };
            if let Some(index) = records.iter().position(|record| record.idempotency_key.is_some() || record.due.is_some()) {
                let what = "has an `idempotency_key`, `deliver_at` or `delay_ms`: the receipts are its key, and it is stored at once";
                return Err(ParameterError::new(format!("record {index} for topic `{name}` {what}")).into());
            }
            let to = self.topic(&name).map_err(|error| failed(error.into()))?;
            // Once a topic: whoever adds partitions waits for the first, and would never let go of a second.
            if dealing.iter().all(|(id, _)| *id != to.id) {
                dealing.push((to.id, to.deal().await));
            }
            let (of, fingerprint) = self.make_ready(to, records, queue.partition, arrived_ms).map_err(failed)?;
            prints.extend([dedup::hash_key(KeyScope::Request, name.as_str().as_bytes()), fingerprint]);
            ready.push(of);
        }
        let (own, others, mut taken) = split(&mut ready, queue.partition.shard);
        if let Some(reason) = self.0.write_stops.reason(queue.partition.shard) {
            return Err(AckRecordsRefused::from(WriteError::Stopped(reason.to_owned())).into());
        }
        self.require_room().map_err(AckRecordsRefused::from)?;
        let stored: usize = own.iter().flat_map(|own| &own.batches).map(NewBatch::len).sum();
        let bytes = stored + others.iter().map(|(_, body)| body.len()).sum::<usize>();
        let permit = self.reserve_bytes(bytes).map_err(|reason| AckRecordsError::Produce { topic: topic.name.clone(), reason })?;
        let dedup_window_ms = topic.config.get().dedup_window_ms;
        let ask = |reply| {
            Input::AckRecords(Box::new(AckRecords {
                key: queue,
                receipts: dedup::hash_of_leases(group.id.0, &leases),
                leases,
                fingerprint: dedup::combine(&prints),
                count: u32::try_from(count).expect("a request has at most ten thousand records"),
                dedup_window_ms,
                arrived_ms,
                own,
                others,
                permit: Permit::new(permit, dealing.into_iter().map(|(_, dealing)| dealing).collect()),
                reply,
            }))
        };
        let acked = self.0.ask(queue.partition, ask).await.map_err(AckRecordsRefused::from)??;
        let (duplicate, arrived_ms, bases) = match acked {
            AckedRecords::Now(bases) => (false, arrived_ms, bases),
            AckedRecords::Before { arrived_ms } => (true, arrived_ms, Vec::new()),
        };
        let mut bases = bases.into_iter();
        let answers = ready.into_iter().map(|Ready { places, .. }| places);
        let produced = answers.zip(taken.drain(..)).map(|(places, own)| answer(&places, &own, &mut bases, arrived_ms, duplicate));
        Ok(AckedWithRecords { duplicate, produced: produced.collect() })
    }

    fn leases_of_one_partition(
        &self,
        topic: &Topic,
        group: &crate::topic::Group,
        receipts: &[String],
    ) -> Result<(PartitionId, Vec<(Offset, u64)>), AckRecordsError> {
        in_range("number of receipts", receipts.len(), 1, RECEIPTS_MAX)?;
        let (mut leases, mut partitions, mut named) = (Vec::with_capacity(receipts.len()), BTreeSet::new(), BTreeSet::new());
        for (index, text) in receipts.iter().enumerate() {
            let receipt = self.receipt_in(text).map_err(|reason| AckRecordsError::Receipt { index, reason })?;
            let is_known = (receipt.partition.0 as usize) < group.queues().len();
            if receipt.topic != topic.id || receipt.group != group.id || !is_known {
                return Err(AckRecordsError::ForeignReceipt(index));
            }
            if !named.insert((receipt.partition, receipt.offset)) {
                return Err(ParameterError::new(format!("receipt {index} names a record that another one names already")).into());
            }
            partitions.insert(receipt.partition);
            leases.push((receipt.offset, receipt.lease_id));
        }
        let first = partitions.pop_first().expect("there is a receipt");
        if let Some(other) = partitions.first() {
            let what =
                format!("the receipts are of partitions {first} and {other}: records are acknowledged with others of their partition only");
            return Err(ParameterError::new(what).into());
        }
        Ok((first, leases))
    }

    fn make_ready(
        &self,
        topic: Arc<Topic>,
        records: Vec<NewRecord>,
        beside: PartitionKey,
        arrived_ms: i64,
    ) -> Result<(Ready, Hash), ProduceError> {
        if topic.kind == TopicKind::DeadLetters {
            return Err(TopicError::DeadLetters(topic.name.clone()).into());
        }
        let partitions = topic.partitions.count();
        let sticky = partition_beside(beside, partitions, self.shards());
        let dealt = deal(&topic, partitions, records, true, sticky, arrived_ms)?;
        let fingerprint = dealt.fingerprint;
        let (shares, places) = dealt.encode(&topic)?;
        Ok((Ready { topic, places, shares }, fingerprint))
    }
}

/// The partition of records without a key: one on the same shard if there is one, and always the same for the same receipts.
fn partition_beside(beside: PartitionKey, partitions: u32, shards: u16) -> PartitionId {
    let (shards, shard) = (u32::from(shards), u32::from(beside.shard.0));
    if shard >= partitions {
        return PartitionId(beside.partition.0 % partitions);
    }
    let on_shard = (partitions - shard).div_ceil(shards);
    PartitionId(shard + shards * (beside.partition.0 / shards % on_shard))
}

/// What is stored on the shard of the receipts, what is sent to others, and of each topic the places of the first in the order of storing.
type Split = (Vec<OwnRecords>, Vec<(ShardId, Vec<u8>)>, Vec<Vec<Vec<usize>>>);

fn split(ready: &mut [Ready], shard: ShardId) -> Split {
    let (mut own, mut others, mut taken) = (Vec::new(), Vec::new(), Vec::with_capacity(ready.len()));
    for Ready { topic, places, shares } in ready {
        let mut of_topic = Vec::new();
        for Share { shard: to, order, parts, batches, .. } in shares.drain(..) {
            let (mut batches, mut order) = (batches.into_iter(), places.order[order].iter().copied());
            for part in parts {
                let batches: Vec<NewBatch> = batches.by_ref().take(part.batches).collect();
                let order: Vec<usize> = order.by_ref().take(part.records).collect();
                if to == shard {
                    own.push(OwnRecords { topic: Arc::clone(topic), partition: part.partition, batches });
                    of_topic.push(order);
                } else {
                    let to_message = |batch: NewBatch| relay::encode(topic.id, part.partition.key.partition, batch.at(Offset(0)).bytes());
                    others.extend(batches.into_iter().map(|batch| (to, to_message(batch))));
                }
            }
        }
        taken.push(of_topic);
    }
    (own, others, taken)
}

fn answer(
    places: &Places,
    own: &[Vec<usize>],
    bases: &mut impl Iterator<Item = Offset>,
    arrived_ms: i64,
    duplicate: bool,
) -> Vec<Produced> {
    let mut produced = places.on_their_way(arrived_ms, duplicate);
    for order in own {
        let Some(base) = bases.next() else { continue };
        let placed = (0..order.len() as u64).map(|index| Placed { at: At::Log(base.plus(index)), duplicate_of_ms: None }).collect();
        places.answer(&mut produced, order, placed, arrived_ms);
    }
    produced
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_without_a_key_stay_on_the_shard_where_they_can() {
        for shards in [1_u16, 3, 16] {
            for (from, to) in (0..40_u32).flat_map(|from| (1..40_u32).map(move |to| (from, to))) {
                let beside = PartitionKey::of(TopicId(1), PartitionId(from), shards);
                let found = partition_beside(beside, to, shards);
                assert!(found.0 < to);
                let is_possible = u32::from(beside.shard.0) < to;
                assert_eq!(ShardId::of(found, shards) == beside.shard, is_possible || ShardId::of(found, shards) == beside.shard);
                if from < to {
                    assert_eq!(found.0, from, "topics with as many partitions go side by side: {shards} {from} {to}");
                }
            }
        }
    }
}
