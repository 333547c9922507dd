//! Keys of records that wait for their time.

use super::successor;
use crate::ids::{PartitionKey, ShardId, TopicId};
use core::ops::Range;
use sagamq_api::ScheduleId;

/// The rows of a topic's records that wait for their time: how many there are, the records, and their idempotency keys.
const WAITING_TOTALS: u8 = 0;
const WAITING_RECORDS: u8 = 1;
const WAITING_KEYS: u8 = 2;

impl PartitionKey {
    /// Key of which record with an idempotency key waits for its time. `hash` is of the idempotency key.
    #[must_use]
    pub fn waiting_key(self, hash: [u8; 16]) -> Vec<u8> {
        [&self.shard.waiting(self.topic, WAITING_KEYS)[..], &self.partition.0.to_be_bytes(), &hash].concat()
    }
}

impl ShardId {
    fn waiting(self, topic: TopicId, row: u8) -> Vec<u8> {
        [&self.0.to_be_bytes()[..], &topic.0.to_be_bytes(), &[row]].concat()
    }

    /// Key of how many records of a topic wait for their time on this shard.
    #[must_use]
    pub fn waiting_totals(self, topic: TopicId) -> Vec<u8> {
        self.waiting(topic, WAITING_TOTALS)
    }

    /// The topic in such a key.
    #[must_use]
    pub fn of_waiting_totals(key: &[u8]) -> Option<TopicId> {
        let (_, rest) = key.split_first_chunk::<2>()?;
        let (topic, row) = rest.split_first_chunk()?;
        (row == [WAITING_TOTALS]).then_some(TopicId(u32::from_be_bytes(*topic)))
    }

    /// Key of a record of this shard that waits for its time.
    ///
    /// # Panics
    /// When it is another shard's.
    #[must_use]
    pub fn waiting_record(self, topic: TopicId, id: ScheduleId) -> Vec<u8> {
        assert_eq!(id.shard, self.0, "a record waits on its own shard");
        let ScheduleId { due_ms, commit, index, .. } = id;
        [&self.waiting(topic, WAITING_RECORDS)[..], &due_ms.to_be_bytes(), &commit.to_be_bytes(), &index.to_be_bytes()].concat()
    }

    /// The records of a topic that wait on this shard, from this one on.
    ///
    /// # Panics
    /// When it is another shard's.
    #[must_use]
    pub fn waiting_from(self, topic: TopicId, first: ScheduleId) -> Range<Vec<u8>> {
        self.waiting_record(topic, first)..successor(&self.waiting(topic, WAITING_RECORDS))
    }

    /// Which record waits under a key.
    #[must_use]
    pub fn of_waiting_record(key: &[u8]) -> Option<ScheduleId> {
        let (shard, rest) = key.split_first_chunk()?;
        let (_, rest) = rest.split_first_chunk::<4>()?;
        let (due_ms, rest) = rest.strip_prefix(&[WAITING_RECORDS])?.split_first_chunk()?;
        let (commit, index) = rest.split_first_chunk()?;
        Some(ScheduleId {
            due_ms: u64::from_be_bytes(*due_ms),
            shard: u16::from_be_bytes(*shard),
            commit: u64::from_be_bytes(*commit),
            index: u32::from_be_bytes(index.try_into().ok()?),
        })
    }
}
