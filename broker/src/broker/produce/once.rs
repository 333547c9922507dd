//! A request under an idempotency key of its own, which holds over the whole topic: the key is claimed first, then the partitions
//! store their shares, and a retry goes on from the claim ([`crate::dedup::request`]).

use super::append::Request;
use super::error::ProduceError;
use super::former::Former;
use super::record::Produced;
use crate::broker::Broker;
use crate::dedup::request::{Claim, Decision, decide};
use crate::dedup::{self, Hash, KeyScope};
use crate::metrics::TopicLabel;
use crate::shard::input::Input;
use crate::shard::log::LogOp;
use crate::shard::log::append_error::AppendError;
use crate::shard::log::at::At;
use crate::shard::log::claim::{ClaimRequest, Claimed};
use crate::shard::log::keys::{Keys, Placed};
use crate::storage::StorageError;
use crate::topic::Topic;
use sagamq_api::PartitionId;
use sagamq_api::partitioner::partition_of;
use std::sync::Arc;

impl Broker {
    pub(super) async fn produce_under_key(
        &self,
        topic: &Arc<Topic>,
        key: &[u8],
        former: Option<Former>,
        mut request: Request,
    ) -> Result<Vec<Produced>, ProduceError> {
        if let Some(former) = former {
            return self.produce_under_former_key(topic, dedup::hash_key(KeyScope::Request, key), former, request).await;
        }
        let partitions = topic.partitions.count();
        let partition_of_home = partition_of(key, partitions);
        let home = topic.partitions.at(partition_of_home.0 as usize);
        let key = dedup::hash_key(KeyScope::Request, key);
        let batches = match &mut request.shares[..] {
            // What some records wait for is decided record by record: the claim alone comes first. So does that of every retry, also of one
            // that comes when nothing is left to wait for.
            _ if request.prints.is_some() => Vec::new(),
            [only] if only.parts.len() == 1 && only.parts[0].partition.key == home.key => std::mem::take(&mut only.batches),
            _ => Vec::new(),
        };
        let is_at_home = !batches.is_empty();
        let config = topic.config.get();
        let claim = |reply| {
            Input::Log(LogOp::Claim(ClaimRequest {
                home: Arc::clone(home),
                topic: topic.name.as_str().into(),
                key,
                fingerprint: request.fingerprint,
                count: u32::try_from(request.places.order.len()).expect("a request has at most ten thousand records"),
                batches,
                partitions,
                dedup_window_ms: config.dedup_window_ms,
                durability: config.durability,
                arrived_ms: request.arrived_ms,
                permit: Arc::clone(&request.permit),
                reply,
            }))
        };
        match self.0.ask(home.key, claim).await.map_err(AppendError::from)?? {
            Claimed::Stored(placed) => Ok(at_home(&request, partition_of_home, placed)),
            Claimed::GoOn(claim) if claim.partitions == partitions && !is_at_home => {
                request.go_on_from(claim, key);
                self.append_all(topic, request).await
            }
            // The records would go elsewhere than those of the first attempt. What was claimed for another number of partitions was found
            // before, so this is damage.
            Claimed::GoOn(claim) => {
                let reason = format!("an idempotency key was claimed for {} partitions, the topic has {partitions}", claim.partitions);
                Err(AppendError::from(StorageError::Corrupt(reason)).into())
            }
        }
    }

    /// As [`Broker::produce_under_key`], where something happened under the key before partitions were added: the request was dealt as it was then.
    async fn produce_under_former_key(
        &self,
        topic: &Arc<Topic>,
        key: Hash,
        former: Former,
        mut request: Request,
    ) -> Result<Vec<Produced>, ProduceError> {
        // By the time of its arrival: the key counted when it was asked, which was later.
        match decide(Some(former.entry), request.arrived_ms.cast_unsigned(), request.fingerprint) {
            Decision::Stored { base, arrived_ms } => {
                let count = former.entry.count;
                self.0.metrics.duplicate_records.get_or_create(&TopicLabel { topic: topic.name.to_string() }).inc_by(count.into());
                let placed = (0..u64::from(count)).map(|index| Placed { at: At::Log(base.plus(index)), duplicate_of_ms: Some(arrived_ms) });
                Ok(at_home(&request, former.home, placed.collect()))
            }
            Decision::GoOn(claim) => {
                request.go_on_from(claim, key);
                let produced = self.append_all(topic, request).await?;
                if claim.partitions != topic.partitions.count() {
                    // Also what an attempt before this one has stored: it may have ended before it noted that.
                    let stored = produced.iter().filter_map(|record| Some((record.partition, record.offset?))).collect();
                    self.note_late(topic, claim.partitions, stored).await.map_err(AppendError::from)?;
                }
                Ok(produced)
            }
            Decision::Refuse { first } => Err(AppendError::RequestKeyReused { first }.into()),
            Decision::Claim => unreachable!("an entry that counts is not claimed anew"),
        }
    }
}

/// What is told of records that lie in the home of their request's key, one behind the other as in the request.
fn at_home(request: &Request, home: PartitionId, placed: Vec<Placed>) -> Vec<Produced> {
    placed.into_iter().enumerate().map(|(place, placed)| request.places.told(place, home, placed, request.arrived_ms)).collect()
}

impl Request {
    /// Each partition stores its share under the claim, if it has not yet.
    fn go_on_from(&mut self, claim: Claim, key: Hash) {
        for share in &mut self.shares {
            share.keys = match &self.prints {
                None => Keys::Share { claim, request: key },
                Some(prints) => {
                    let places = self.places.order[share.order.clone()].iter();
                    Keys::Records(places.map(|&at| Some((dedup::hash_of_share(claim.number, key, at), prints[at]))).collect())
                }
            };
        }
    }
}
