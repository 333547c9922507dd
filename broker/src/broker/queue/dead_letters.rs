//! Dead letters of a group, listed: each request within bounds and with a place to go on.

use super::cursor::Cursor;
use super::find::FindGroupError;
use crate::broker::parameter::{ParameterError, in_range};
use crate::broker::{Broker, Held};
use crate::log::batch::StoredRecord;
use crate::log::{ReadError, ReadMemoryFull};
use crate::shard::queues::request::{LetterRange, QueueError, QueueOp};
use sagamq_api::headers::dead_letter;
use sagamq_api::limits::{RECEIVE_RECORDS_DEFAULT, RECEIVE_RECORDS_MAX};
use sagamq_api::queue::DeadLetterQuery;
use sagamq_api::{GroupName, Offset, PartitionId, TopicName};
use std::sync::Arc;

/// Why dead letters were not listed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum DeadLetterError {
    /// No such topic or group.
    #[error(transparent)]
    Find(#[from] FindGroupError),
    /// A parameter is out of range, or does not go with another.
    #[error(transparent)]
    Parameter(#[from] ParameterError),
    /// The group's shard refused.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The dead letters could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// There is no memory for the dead letters now.
    #[error(transparent)]
    Overloaded(#[from] ReadMemoryFull),
}

/// Dead letters of a group.
#[derive(Clone, Debug)]
pub struct DeadLetters {
    /// Oldest first in each partition.
    pub dead_letters: Vec<DeadLetter>,
    /// Where to go on, if there are more.
    pub next_cursor: Option<String>,
}

/// A record that was given up.
#[derive(Clone, Debug)]
pub struct DeadLetter {
    /// Why: `delivery_limit` or `terminated`.
    pub cause: String,
    /// What the consumer said last.
    pub reason: Option<String>,
    /// How often it was delivered.
    pub attempts: u32,
    /// Its offset in the topic it was produced to (same partition).
    pub origin_offset: Offset,
    /// When it was given up, in milliseconds since 1970.
    pub dead_at_ms: u64,
    /// Partition of the dead-letter topic.
    pub partition: PartitionId,
    /// The record as it lies there.
    pub record: StoredRecord,
}

impl Broker {
    /// The group's dead letters that were neither redriven nor discarded, oldest first in each partition.
    ///
    /// # Errors
    /// When there is no such group, a parameter is out of range, or storage fails.
    pub async fn dead_letters(
        &self,
        topic: &TopicName,
        group: &GroupName,
        query: &DeadLetterQuery,
    ) -> Result<DeadLetters, DeadLetterError> {
        Ok(self.dead_letters_held(topic, group, query).await?.into_value())
    }

    /// [`Broker::dead_letters`] with the answer's share of the memory, to be kept until it is sent.
    ///
    /// # Errors
    /// As [`Broker::dead_letters`].
    pub async fn dead_letters_held(
        &self,
        topic: &TopicName,
        group: &GroupName,
        query: &DeadLetterQuery,
    ) -> Result<Held<DeadLetters>, DeadLetterError> {
        let (_, group) = self.group(topic, group)?;
        let max = in_range("max_records", query.max_records.unwrap_or(RECEIVE_RECORDS_DEFAULT), 1, RECEIVE_RECORDS_MAX)? as usize;
        let begin = Cursor::parse(query.cursor.as_deref(), &group)?;
        let mut list = DeadLetters { dead_letters: Vec::new(), next_cursor: None };
        let mut wanted = Vec::new();
        let mut left = max;
        for of in group.queues().skip(begin.partition) {
            let from = if of.index == begin.partition { begin.offset } else { Offset(0) };
            // One more than fits, to know whether there is one.
            let which = LetterRange::From { from, max: left + 1 };
            let mut offsets = self.0.queue(of, |reply| QueueOp::DeadLetters { which, reply }).await?;
            if offsets.len() > left {
                list.next_cursor = Some(Cursor { partition: of.index, offset: offsets[left] }.to_string());
                offsets.truncate(left);
            }
            left -= offsets.len();
            if !offsets.is_empty() {
                wanted.push((of.index, Arc::clone(of.letters()), offsets));
            }
            if list.next_cursor.is_some() {
                break;
            }
        }
        let pairs = wanted.iter().map(|(_, letters, offsets)| (Arc::clone(letters), offsets.clone())).collect();
        let (found, budget) = self.read_offsets(pairs, RECEIVE_RECORDS_MAX).await?;
        for ((index, letters, offsets), found) in wanted.iter().zip(found) {
            if let Some(error) = found.error {
                return Err(error.into());
            }
            let read = found.records.len() + found.gone.len();
            list.dead_letters.extend(found.records.into_iter().map(|record| dead_letter_of(letters.key.partition, record)));
            if let Some(&offset) = offsets.get(read) {
                // The bytes are used up.
                list.next_cursor = Some(Cursor { partition: *index, offset }.to_string());
                break;
            }
        }
        Ok(Held::new(list, budget.into_share()))
    }
}

fn dead_letter_of(partition: PartitionId, record: StoredRecord) -> DeadLetter {
    let header = |name: &str| record.payload.headers.get(name).map(str::to_owned);
    let number = |name: &str| header(name).and_then(|value| value.parse::<u64>().ok()).unwrap_or(0);
    DeadLetter {
        cause: header(dead_letter::CAUSE).unwrap_or_default(),
        reason: header(dead_letter::REASON),
        attempts: u32::try_from(number(dead_letter::ATTEMPTS)).unwrap_or(u32::MAX),
        origin_offset: Offset(number(dead_letter::ORIGIN_OFFSET)),
        dead_at_ms: number(dead_letter::AT),
        partition,
        record,
    }
}
