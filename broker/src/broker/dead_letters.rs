//! Dead letters of a group: listed, redriven and discarded, each request within bounds and with a place to go on.

use crate::broker::consume::ConsumeError;
use crate::broker::groups::in_range;
use crate::broker::{Broker, Held};
use crate::log::batch::StoredRecord;
use crate::log::partition::Partition;
use crate::log::{MemoryShare, ReadError};
use crate::shard::queues::request::{Letter, LetterRange, LettersEnd, QueueOp};
use crate::topic::Group;
use core::str::FromStr;
use futures_util::future::try_join_all;
use sagamq_api::group::{
    DeadLetter, DeadLetterList, DeadLetterQuery, DiscardRequest, DiscardResponse, RedriveLimit, RedriveRequest, RedriveResponse,
};
use sagamq_api::headers::dead_letter;
use sagamq_api::limits::{RECEIPTS_MAX, RECEIVE_RECORDS_DEFAULT, RECEIVE_RECORDS_MAX, REDRIVE_LOOKED_AT_MAX};
use sagamq_api::record::ConsumedRecord;
use sagamq_api::{GroupName, Offset, PartitionId, TopicName};
use std::sync::Arc;

/// Dead letters that are looked at in one go.
const PAGE: usize = 500;

/// A place in the dead letters of a group: `partition:offset`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cursor {
    partition: usize,
    offset: Offset,
}

/// Letters that were read in one go.
struct Page {
    records: Vec<StoredRecord>,
    /// Where to go on.
    next: Offset,
    error: Option<ReadError>,
    /// What the records take of the memory of all answers.
    _share: MemoryShare,
}

/// What is done to dead letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    Redrive,
    Discard,
}

/// Which dead letters a request means.
#[derive(Clone, Copy, Debug)]
struct Choice<'a> {
    cause: Option<&'a str>,
    partition: Option<PartitionId>,
    offsets: &'a [Offset],
    max_records: Option<u32>,
    cursor: Option<&'a str>,
}

/// What one request did.
#[derive(Debug, Default)]
struct Ended {
    done: u64,
    remaining: u64,
    next_cursor: Option<String>,
    limit: Option<RedriveLimit>,
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
    ) -> Result<DeadLetterList, ConsumeError> {
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
    ) -> Result<Held<DeadLetterList>, ConsumeError> {
        let (_, group) = self.group(topic, group)?;
        let max = in_range("max_records", query.max_records.unwrap_or(RECEIVE_RECORDS_DEFAULT), 1, RECEIVE_RECORDS_MAX)? as usize;
        let begin = cursor(query.cursor.as_deref(), &group)?;
        let mut list = DeadLetterList { dead_letters: Vec::new(), next_cursor: None };
        let partitions = group.partitions.iter().zip(&group.dead_letter_topic.partitions).enumerate().skip(begin.partition);
        let mut wanted = Vec::new();
        let mut left = max;
        for (index, (of, letters)) in partitions {
            let from = if index == begin.partition { begin.offset } else { Offset(0) };
            // One more than fits, to know whether there is one.
            let which = LetterRange::From { from, max: left + 1 };
            let mut offsets = self.0.queue(of, |reply| QueueOp::DeadLetters { which, reply }).await?;
            if offsets.len() > left {
                list.next_cursor = Some(Cursor { partition: index, offset: offsets[left] }.to_string());
                offsets.truncate(left);
            }
            left -= offsets.len();
            wanted.push((index, Arc::clone(letters), offsets));
            if list.next_cursor.is_some() {
                break;
            }
        }
        let pairs = wanted.iter().map(|(_, letters, offsets)| (Arc::clone(letters), offsets.clone())).collect();
        let (found, budget) = self.read_wanted(pairs, RECEIVE_RECORDS_MAX).await?;
        for ((index, letters, offsets), found) in wanted.iter().zip(found) {
            if let Some(error) = found.error {
                return Err(error.into());
            }
            let read = found.records.len() + found.gone.len();
            for record in found.records {
                let record = ConsumedRecord::new(letters.key.partition, record.offset, record.timestamp_ms, record.payload);
                list.dead_letters.push(dead_letter_of(record));
            }
            if let Some(&offset) = offsets.get(read) {
                // The bytes are used up.
                list.next_cursor = Some(Cursor { partition: *index, offset }.to_string());
                break;
            }
        }
        Ok(Held::new(list, budget.into_share()))
    }

    /// Delivers dead letters to the group again, with a fresh count of deliveries. One call looks at a bounded number of them and says
    /// where to go on.
    ///
    /// # Errors
    /// When there is no such group, a parameter is out of range, storage fails, or the write fails.
    pub async fn redrive(&self, topic: &TopicName, group: &GroupName, request: &RedriveRequest) -> Result<RedriveResponse, ConsumeError> {
        let RedriveRequest { cause, partition, offsets, max_records, cursor } = request;
        let choice =
            Choice { cause: cause.as_deref(), partition: *partition, offsets, max_records: *max_records, cursor: cursor.as_deref() };
        let Ended { done, remaining, next_cursor, limit } = self.end_letters(topic, group, choice, Verb::Redrive).await?;
        Ok(RedriveResponse { redriven: done, remaining, next_cursor, limit })
    }

    /// Takes dead letters off the list without delivering them again. One call looks at a bounded number of them and says where to go on.
    ///
    /// # Errors
    /// When there is no such group, it is not said what is meant, a parameter is out of range, storage fails, or the write fails.
    pub async fn discard(&self, topic: &TopicName, group: &GroupName, request: &DiscardRequest) -> Result<DiscardResponse, ConsumeError> {
        let DiscardRequest { all, cause, partition, offsets, max_records, cursor } = request;
        let is_narrowed = cause.is_some() || partition.is_some() || !offsets.is_empty();
        if *all == is_narrowed {
            let reason = "say what to discard: `all`, or else at least one of `cause`, `partition` and `offsets`";
            return Err(ConsumeError::Parameter(reason.to_owned()));
        }
        let choice =
            Choice { cause: cause.as_deref(), partition: *partition, offsets, max_records: *max_records, cursor: cursor.as_deref() };
        let Ended { done, remaining, next_cursor, limit } = self.end_letters(topic, group, choice, Verb::Discard).await?;
        if done > 0 {
            tracing::info!(%topic, %group, discarded = done, "dead letters were discarded");
        }
        Ok(DiscardResponse { discarded: done, remaining, next_cursor, limit })
    }

    async fn end_letters(&self, topic: &TopicName, group: &GroupName, choice: Choice<'_>, verb: Verb) -> Result<Ended, ConsumeError> {
        let (_, group) = self.group(topic, group)?;
        let most = in_range("max_records", choice.max_records.unwrap_or(RECEIVE_RECORDS_MAX), 1, RECEIVE_RECORDS_MAX)?;
        let mut left = u64::from(most);
        in_range("number of offsets", choice.offsets.len(), 0, RECEIPTS_MAX)?;
        if !choice.offsets.is_empty() && choice.partition.is_none() {
            return Err(ConsumeError::Parameter("`offsets` needs `partition`: an offset is a place in one partition".to_owned()));
        }
        if !choice.offsets.is_empty() && choice.cursor.is_some() {
            return Err(ConsumeError::Parameter("`cursor` cannot be given with `offsets`: they are looked at in one request".to_owned()));
        }
        let mut at = cursor(choice.cursor, &group)?;
        let mut looked_at = 0;
        let mut answer = Ended::default();
        let mut error = None;
        let mut offsets = choice.offsets.to_vec();
        offsets.sort_unstable();
        offsets.dedup();
        while let Some(of) = group.partitions.get(at.partition) {
            let is_meant = choice.partition.is_none_or(|partition| partition == of.key.partition.partition);
            let letters = &group.dead_letter_topic.partitions[at.partition];
            let next_partition = Cursor { partition: at.partition + 1, offset: Offset(0) };
            if !is_meant {
                at = next_partition;
                continue;
            }
            if left == 0 || looked_at >= REDRIVE_LOOKED_AT_MAX {
                answer.next_cursor = Some(at.to_string());
                break;
            }
            let which = match &offsets[..] {
                [] => LetterRange::From { from: at.offset, max: PAGE.min(REDRIVE_LOOKED_AT_MAX - looked_at) },
                offsets => LetterRange::At(offsets.iter().copied().filter(|&offset| offset >= at.offset).collect()),
            };
            let candidates = self.0.queue(of, |reply| QueueOp::DeadLetters { which, reply }).await?;
            let Some(&last) = candidates.last() else {
                at = next_partition;
                continue;
            };
            let mut chosen = if verb == Verb::Discard && choice.cause.is_none() {
                // Nothing of them has to be read.
                looked_at += candidates.len();
                at.offset = last.next();
                candidates.into_iter().map(|offset| Letter { offset, origin: offset }).collect()
            } else {
                let page = self.page(letters, candidates).await?;
                looked_at += page.records.len().max(1);
                error = page.error.or(error);
                at.offset = page.next;
                page.records.iter().filter_map(|record| letter(record, choice.cause)).collect::<Vec<_>>()
            };
            if let Some(first_left) = chosen.get(usize::try_from(left).expect("the bound is a thousand")) {
                at.offset = first_left.offset;
                chosen.truncate(usize::try_from(left).expect("the bound is a thousand"));
            }
            if chosen.is_empty() {
                continue;
            }
            let end = match verb {
                Verb::Redrive => LettersEnd::Redrive(chosen),
                Verb::Discard => LettersEnd::Discard(chosen.iter().map(|letter| letter.offset).collect()),
            };
            let ended = self.0.queue(of, |reply| QueueOp::EndLetters { end, reply }).await?;
            left = left.saturating_sub(ended.done);
            answer.done += ended.done;
            if ended.limit.is_some() {
                // This partition takes no more now; others may.
                answer.limit = ended.limit;
                at = next_partition;
            }
        }
        let slots = try_join_all(group.partitions.iter().map(|of| self.slot(of))).await?;
        answer.remaining = slots.iter().map(|slot| slot.dead_letters).sum();
        if answer.remaining == 0 {
            answer.next_cursor = None;
        }
        match error {
            Some(error) if answer.done == 0 => Err(error.into()),
            _ => Ok(answer),
        }
    }

    /// Reads letters, as many as the memory of one answer takes, off the async runtime.
    async fn page(&self, letters: &Arc<Partition>, offsets: Vec<Offset>) -> Result<Page, ConsumeError> {
        let first = offsets[0];
        let wanted = vec![(Arc::clone(letters), offsets)];
        let (mut found, budget) = self.read_wanted(wanted, RECEIVE_RECORDS_MAX).await?;
        let found = found.pop().expect("one partition was asked for");
        let last_read = found.records.last().map(|record| record.offset);
        let last = last_read.into_iter().chain(found.gone.last().copied()).chain(found.failed.last().copied()).max();
        let next = last.map_or(first, Offset::next);
        Ok(Page { records: found.records, next, error: found.error, _share: budget.into_share() })
    }
}

/// The letter of a record, if it has this cause.
fn letter(record: &StoredRecord, cause: Option<&str>) -> Option<Letter> {
    let header = |name| record.payload.headers.get(name);
    if cause.is_some_and(|cause| header(dead_letter::CAUSE) != Some(cause)) {
        return None;
    }
    let origin = header(dead_letter::ORIGIN_OFFSET)?.parse().ok().map(Offset)?;
    Some(Letter { offset: record.offset, origin })
}

fn cursor(text: Option<&str>, group: &Group) -> Result<Cursor, ConsumeError> {
    let Some(text) = text else { return Ok(Cursor { partition: 0, offset: Offset(0) }) };
    let parsed = text.parse::<Cursor>().ok().filter(|cursor| cursor.partition < group.partitions.len());
    parsed.ok_or_else(|| ConsumeError::Parameter("`cursor` is not one that an answer for this group gave".to_owned()))
}

impl core::fmt::Display for Cursor {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}:{}", self.partition, self.offset)
    }
}

impl FromStr for Cursor {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (partition, offset) = text.split_once(':').ok_or(())?;
        Ok(Self { partition: partition.parse().map_err(drop)?, offset: Offset(offset.parse().map_err(drop)?) })
    }
}

fn dead_letter_of(record: ConsumedRecord) -> DeadLetter {
    let header = |name: &str| record.headers.get(name).map(str::to_owned);
    let number = |name: &str| header(name).and_then(|value| value.parse::<u64>().ok()).unwrap_or(0);
    DeadLetter {
        cause: header(dead_letter::CAUSE).unwrap_or_default(),
        reason: header(dead_letter::REASON),
        attempts: u32::try_from(number(dead_letter::ATTEMPTS)).unwrap_or(u32::MAX),
        origin_offset: Offset(number(dead_letter::ORIGIN_OFFSET)),
        dead_at_ms: number(dead_letter::AT),
        record,
    }
}
