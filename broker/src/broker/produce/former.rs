//! Retries over the adding of partitions: their keys are asked of the partitions that they had before, as long as they count there.

use super::append::at_place;
use super::deal::Dealt;
use super::error::ProduceError;
use crate::broker::Broker;
use crate::dedup::{self, Entry, KeyScope};
use crate::shard::input::Input;
use crate::shard::log::LogOp;
use crate::shard::log::append_error::AppendError;
use crate::shard::log::former::{FormerKey, FormerRecords};
use crate::shard::log::keys::Placed;
use crate::shard::log::part::Part;
use crate::topic::{Growth, Topic};
use futures_util::future::try_join_all;
use sagamq_api::PartitionId;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What happened under the key of a request, in a partition that the key hashed to before partitions were added. It may be its home still.
#[derive(Clone, Copy, Debug)]
pub(super) struct Former {
    pub(super) home: PartitionId,
    pub(super) entry: Entry,
}

impl Broker {
    /// What happened under the key of a request while it had another home.
    pub(super) async fn former_request(&self, topic: &Topic, key: &[u8], arrived_ms: i64) -> Result<Option<Former>, ProduceError> {
        let durability = topic.config.get().durability;
        for home in Growth::homes(&topic.growths.get(), key, arrived_ms.cast_unsigned()) {
            let (of, key) = (topic.partitions.key(home.0 as usize), dedup::hash_key(KeyScope::Request, key));
            let ask = |reply| Input::Log(LogOp::FormerKey(FormerKey { home: of, key, durability, reply }));
            if let Some(entry) = self.0.ask(of, ask).await.map_err(AppendError::from)?? {
                return Ok(Some(Former { home, entry }));
            }
        }
        Ok(None)
    }

    /// The records that were stored while their keys had another home, by their places: each with its partition of then. An error if such a key was
    /// used with another payload; nothing is stored then.
    pub(super) async fn former_records(
        &self,
        topic: &Topic,
        dealt: &Dealt,
    ) -> Result<BTreeMap<usize, (PartitionId, Placed)>, ProduceError> {
        let asked = dealt.former_keys(topic);
        let shard = |home: PartitionId| topic.partitions.key(home.0 as usize).shard;
        let name: Arc<str> = topic.name.as_str().into();
        let durability = topic.config.get().durability;
        let asks = asked.chunk_by(|&(_, a, _), &(_, b, _)| shard(a) == shard(b)).map(|of_shard| {
            let parts = of_shard.chunk_by(|&(_, a, _), &(_, b, _)| a == b).map(|of_partition| Part {
                partition: Arc::clone(topic.partitions.at(of_partition[0].1.0 as usize)),
                records: of_partition.len(),
                batches: 0,
                is_scheduled: false,
            });
            let (parts, keys) = (parts.collect(), of_shard.iter().map(|&(.., key)| Some(key)).collect());
            let topic = Arc::clone(&name);
            let ask = move |reply| Input::Log(LogOp::FormerRecords(FormerRecords { topic, parts, keys, durability, reply }));
            async move {
                let answer = self.0.shard(shard(of_shard[0].1)).ask(ask).await.map_err(AppendError::from)?;
                let places = answer.map_err(|error| at_place(error, of_shard.iter().map(|&(place, ..)| place)))?;
                let known = of_shard.iter().zip(places).filter_map(|(&(place, home, _), placed)| Some((place, (home, placed?))));
                Ok::<_, ProduceError>(known.collect::<Vec<_>>())
            }
        });
        Ok(try_join_all(asks).await?.into_iter().flatten().collect())
    }
}
