//! What a shard finds at open of its records that wait: how many of each topic, and where they begin. One look a topic.

use super::row::Totals;
use crate::ids::{ShardId, TopicId};
use crate::storage::keys::successor;
use crate::storage::{Direction, Family, Storage, StorageError};
use bytes::Bytes;
use core::ops::{ControlFlow, Range};
use std::collections::BTreeMap;

/// Why they cannot be taken over.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FindSchedulesError {
    /// What is stored contradicts itself.
    #[error("records of shard {} that wait: {reason}", shard.0)]
    Damaged {
        /// The shard.
        shard: ShardId,
        /// What is wrong.
        reason: String,
    },
    /// The device failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Finds them, by topic.
pub(crate) fn find(storage: &dyn Storage, shard: ShardId) -> Result<BTreeMap<TopicId, Totals>, FindSchedulesError> {
    let damaged = |reason: String| FindSchedulesError::Damaged { shard, reason };
    let (mut found, mut rest) = (BTreeMap::new(), shard.all());
    while let Some((key, row)) = first(storage, &rest)? {
        let topic = ShardId::of_waiting_totals(&key).ok_or_else(|| damaged(format!("{key:02x?} is there, and not how many there are")))?;
        let totals = Totals::decode(&row, shard.0);
        let totals = totals.ok_or_else(|| damaged(format!("how many there are of topic {} cannot be read", topic.0)))?;
        let waiting = first(storage, &shard.waiting_from(topic, totals.first))?;
        // One whose row cannot be read keeps no other back, here as well as when it is due.
        let is_record = |(key, _): &(Vec<u8>, Bytes)| ShardId::of_waiting_record(key).is_some();
        if waiting.is_some() != (totals.records > 0) || !waiting.iter().all(is_record) {
            return Err(damaged(format!("{} are there of topic {}, and the first of them is not", totals.records, topic.0)));
        }
        found.insert(topic, totals);
        rest.start = successor(&shard.topic(topic).start);
    }
    Ok(found)
}

fn first(storage: &dyn Storage, range: &Range<Vec<u8>>) -> Result<Option<(Vec<u8>, Bytes)>, StorageError> {
    let mut first = None;
    storage.scan(Family::Schedule, &range.start..&range.end, Direction::Forward, &mut |key, row| {
        first = Some((key.to_vec(), Bytes::copy_from_slice(row)));
        ControlFlow::Break(())
    })?;
    Ok(first)
}
