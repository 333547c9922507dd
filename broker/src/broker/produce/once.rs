//! A request under an idempotency key of its own, which holds over the whole topic: the key is claimed first, then the partitions
//! store their shares, and a retry goes on from the claim ([`crate::dedup::request`]).

use super::append::Request;
use super::error::ProduceError;
use super::record::Produced;
use crate::broker::Broker;
use crate::dedup::{self, KeyScope};
use crate::shard::input::Input;
use crate::shard::log::LogOp;
use crate::shard::log::append_error::AppendError;
use crate::shard::log::claim::{ClaimRequest, Claimed};
use crate::shard::log::keys::Keys;
use crate::storage::StorageError;
use crate::topic::Topic;
use sagamq_api::partitioner::partition_of;
use std::sync::Arc;

impl Broker {
    pub(super) async fn produce_under_key(
        &self,
        topic: &Arc<Topic>,
        key: &[u8],
        mut request: Request,
    ) -> Result<Vec<Produced>, ProduceError> {
        let partitions = topic.partitions.count();
        let home = topic.partitions.at(partition_of(key, partitions).0 as usize);
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
            Claimed::Stored(placed) => {
                // All of them lie at home, one behind the other as in the request.
                let mut produced = request.places.unanswered();
                let as_sent: Vec<usize> = (0..produced.len()).collect();
                request.places.answer(&mut produced, &as_sent, placed, request.arrived_ms);
                Ok(produced)
            }
            Claimed::GoOn(claim) if claim.partitions == partitions && !is_at_home => {
                for share in &mut request.shares {
                    share.keys = match &request.prints {
                        None => Keys::Share { claim, request: key },
                        Some(prints) => {
                            let places = request.places.order[share.order.clone()].iter();
                            Keys::Records(places.map(|&at| Some((dedup::hash_of_share(claim.number, key, at), prints[at]))).collect())
                        }
                    };
                }
                self.append_all(topic, request).await
            }
            // The records would go elsewhere than those of the first attempt. A topic's partitions do not change, so this is damage.
            Claimed::GoOn(claim) => {
                let reason = format!("an idempotency key was claimed for {} partitions, the topic has {partitions}", claim.partitions);
                Err(AppendError::from(StorageError::Corrupt(reason)).into())
            }
        }
    }
}
