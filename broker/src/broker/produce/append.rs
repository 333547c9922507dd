//! Hands the shares of a request to their shards, one input a shard, and waits until all are stored.

use super::deal::{Places, Share};
use super::error::{ProduceError, of_shares};
use super::record::Produced;
use crate::broker::Broker;
use crate::dedup::Hash;
use crate::shard::commit::WriteError;
use crate::shard::gather::gather;
use crate::shard::input::Input;
use crate::shard::log::LogOp;
use crate::shard::log::append::{AppendRequest, Scheduled};
use crate::shard::log::append_error::AppendError;
use crate::shard::log::at::At;
use crate::shard::log::keys::{CheckRequest, Keys, Placed};
use crate::shard::permit::Permit;
use crate::topic::Topic;
use futures_util::future::try_join_all;
use sagamq_api::PartitionId;
use std::sync::Arc;

/// A request that is ready for its shards.
pub(super) struct Request {
    pub(super) shares: Vec<Share>,
    pub(super) places: Places,
    /// Of all records together, if the request has a key.
    pub(super) fingerprint: Hash,
    /// Of each record, if the request has a key and some of its records are to wait.
    pub(super) prints: Option<Vec<Hash>>,
    /// When it arrived: the time of its records without one of their own.
    pub(super) arrived_ms: i64,
    pub(super) permit: Arc<Permit>,
}

impl Broker {
    /// Records with keys of their own over several shards ask all of these before anything is stored, so that a key that was used
    /// with another payload refuses the whole request. One shard stores all of its share or nothing.
    pub(super) async fn check_keys(&self, request: &Request) -> Result<(), ProduceError> {
        if request.shares.len() < 2 {
            return Ok(());
        }
        let checks = request.shares.iter().filter_map(|share| match &share.keys {
            Keys::Records(keys) => Some((share, keys)),
            Keys::None | Keys::Share { .. } | Keys::Sequence { .. } => None,
        });
        try_join_all(checks.map(|(share, keys)| async {
            let make = |reply| Input::Log(LogOp::Check(CheckRequest { parts: share.parts.clone(), keys: keys.clone(), reply }));
            let answer = self.0.shard(share.shard).ask(make).await.map_err(AppendError::from)?;
            answer.map_err(|error| at_place(error, share.order.clone().map(|at| request.places.order[at])))
        }))
        .await
        .map(|_| ())
    }

    /// Hands each share to its shard, and waits until all are stored.
    pub(super) async fn append_all(&self, topic: &Arc<Topic>, request: Request) -> Result<Vec<Produced>, ProduceError> {
        let Request { shares, places, arrived_ms, permit, .. } = request;
        let name: Arc<str> = topic.name.as_str().into();
        let (answers, replies) = gather(shares.len());
        let mut asked = Vec::with_capacity(shares.len());
        let config = topic.config.get();
        for (Share { shard, order, parts, batches, to_wait, keys }, reply) in shares.into_iter().zip(replies) {
            let request = AppendRequest {
                topic: Arc::clone(&name),
                parts,
                batches,
                scheduled: (!to_wait.is_empty()).then(|| Scheduled { topic: Arc::clone(topic), records: to_wait }),
                keys,
                dedup_window_ms: config.dedup_window_ms,
                durability: config.durability,
                arrived_ms,
                permit: Arc::clone(&permit),
                reply,
            };
            let sent = self.0.shard(shard).send(Input::Log(LogOp::Append(request))).await;
            // What was handed over before is stored perhaps.
            sent.map_err(|error| if asked.is_empty() { error } else { WriteError::lost(&self.0.liveness) }).map_err(AppendError::from)?;
            asked.push(order);
        }
        let mut produced = places.unanswered();
        let (mut refused, shares) = (Vec::new(), asked.len());
        // All of them are at work, and all are waited for: a refusal is told when it is known what became of the others.
        for (order, answer) in asked.into_iter().zip(answers.all().await) {
            let order = &places.order[order];
            // The shard ended with the request in its hands: whether it was stored is not known here.
            match answer.unwrap_or_else(|| Err(WriteError::lost(&self.0.liveness).into())) {
                Ok(placed) => places.answer(&mut produced, order, placed, arrived_ms),
                Err(error) => refused.push(at_place(error, order.iter().copied())),
            }
        }
        let is_in_part = refused.len() < shares;
        of_shares(refused, is_in_part).map_or(Ok(produced), Err)
    }
}

impl Places {
    /// A list with room for the answer of each record.
    pub(super) fn unanswered(&self) -> Vec<Produced> {
        let none = Produced { partition: PartitionId(0), offset: None, schedule: None, timestamp_ms: 0, duplicate: false };
        vec![none; self.partitions.len()]
    }

    /// As [`Places::unanswered`], with the partition and time of each: its offset is not known yet.
    pub(super) fn on_their_way(&self, arrived_ms: i64, duplicate: bool) -> Vec<Produced> {
        let times = self.given_ms.iter().map(|given| given.unwrap_or(arrived_ms));
        let of =
            |(&partition, timestamp_ms): (&PartitionId, i64)| Produced { partition, offset: None, schedule: None, timestamp_ms, duplicate };
        self.partitions.iter().zip(times).map(of).collect()
    }

    /// Puts the answers for these places where they belong.
    pub(super) fn answer(&self, produced: &mut [Produced], order: &[usize], placed: Vec<Placed>, arrived_ms: i64) {
        assert_eq!(order.len(), placed.len(), "every record is answered");
        for (&place, placed) in order.iter().zip(placed) {
            produced[place] = self.told(place, self.partitions[place], placed, arrived_ms);
        }
    }

    /// The answer for a place whose record is in this partition.
    pub(super) fn told(&self, place: usize, partition: PartitionId, placed: Placed, arrived_ms: i64) -> Produced {
        let Placed { at, duplicate_of_ms } = placed;
        let (offset, schedule, timestamp_ms) = match at {
            // A duplicate says the same time as the first one, or like that one says none and got its time of arrival.
            At::Log(offset) => (Some(offset), None, self.given_ms[place].or(duplicate_of_ms).unwrap_or(arrived_ms)),
            At::Schedule(id) => (None, Some(id), i64::try_from(id.due_ms).unwrap_or(i64::MAX)),
        };
        Produced { partition, offset, schedule, timestamp_ms, duplicate: duplicate_of_ms.is_some() }
    }
}

/// Says which record of the request it was.
pub(super) fn at_place(error: AppendError, mut places: impl Iterator<Item = usize>) -> ProduceError {
    match error {
        AppendError::KeyReused { index, .. } => ProduceError::KeyReused { index: places.nth(index).unwrap_or(index), reason: error },
        other => other.into(),
    }
}
