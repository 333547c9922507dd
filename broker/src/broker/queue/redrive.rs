//! Dead letters that are done with: redriven or discarded, each request within bounds and with a place to go on.

use super::cursor::Cursor;
use super::find::FindGroupError;
use crate::broker::Broker;
use crate::broker::parameter::{ParameterError, in_range};
use crate::ids::PartitionKey;
use crate::log::batch::{Record, StoredRecord};
use crate::log::compaction::Compacted;
use crate::log::partition::Partition;
use crate::log::{MemoryShare, ReadError, ReadMemoryFull};
use crate::shard::queues::request::{Letter, LetterRange, LettersEnd, Pace, QueueError, QueueOp};
use crate::topic::Topic;
use futures_util::future::try_join_all;
use sagamq_api::headers::dead_letter;
use sagamq_api::limits::{RECEIPTS_MAX, RECEIVE_RECORDS_MAX, REDRIVE_LOOKED_AT_MAX, REDRIVE_PER_SECOND_MAX};
use sagamq_api::queue::{DiscardRequest, DiscardResponse, LetterEdit, RedriveLimit, RedriveRequest, RedriveResponse};
use sagamq_api::record::{Header, Headers, Payload, PayloadError, ProduceRecord};
use sagamq_api::{GroupName, Offset, PartitionId, TopicName};
use std::sync::Arc;

/// Dead letters that are looked at in one go.
const PAGE: usize = 500;

/// Why dead letters were neither redriven nor discarded.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RedriveError {
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
    /// What it was edited to cannot be stored.
    #[error(transparent)]
    Payload(#[from] PayloadError),
    /// What it was edited to is larger than the topic takes.
    #[error("the edited record has {bytes} bytes (key, value and headers), topic `{topic}` allows {max}")]
    TooLarge {
        /// The topic.
        topic: TopicName,
        /// Bytes of the edited record.
        bytes: usize,
        /// The bound.
        max: u32,
    },
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
#[derive(Clone, Copy, Debug, PartialEq)]
enum Verb<'a> {
    Redrive { per_second: Option<u32>, edit: Option<&'a LetterEdit> },
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
    /// Delivers dead letters to the group again, with a fresh count of deliveries. One call looks at a bounded number of them and says
    /// where to go on.
    ///
    /// # Errors
    /// When there is no such group, a parameter is out of range, storage fails, or the write fails.
    pub async fn redrive(&self, topic: &TopicName, group: &GroupName, request: &RedriveRequest) -> Result<RedriveResponse, RedriveError> {
        let RedriveRequest { cause, partition, offsets, max_records, cursor, per_second, edit } = request;
        per_second.map(|per_second| in_range("per_second", per_second, 1, REDRIVE_PER_SECOND_MAX)).transpose()?;
        if edit.is_some() && (offsets.len() != 1 || partition.is_none() || cause.is_some()) {
            return Err(ParameterError::new(
                "`edit` needs `partition` and exactly one of `offsets`, and no `cause`: it is for one dead letter",
            )
            .into());
        }
        let verb = Verb::Redrive { per_second: *per_second, edit: edit.as_ref() };
        let choice =
            Choice { cause: cause.as_deref(), partition: *partition, offsets, max_records: *max_records, cursor: cursor.as_deref() };
        let Ended { done, remaining, next_cursor, limit } = self.end_letters(topic, group, choice, verb).await?;
        Ok(RedriveResponse { redriven: done, remaining, next_cursor, limit })
    }

    /// Takes dead letters off the list without delivering them again. One call looks at a bounded number of them and says where to go on.
    ///
    /// # Errors
    /// When there is no such group, it is not said what is meant, a parameter is out of range, storage fails, or the write fails.
    pub async fn discard(&self, topic: &TopicName, group: &GroupName, request: &DiscardRequest) -> Result<DiscardResponse, RedriveError> {
        let DiscardRequest { all, cause, partition, offsets, max_records, cursor } = request;
        let is_narrowed = cause.is_some() || partition.is_some() || !offsets.is_empty();
        if *all == is_narrowed {
            let reason = "say what to discard: `all`, or else at least one of `cause`, `partition` and `offsets`";
            return Err(ParameterError::new(reason).into());
        }
        let choice =
            Choice { cause: cause.as_deref(), partition: *partition, offsets, max_records: *max_records, cursor: cursor.as_deref() };
        let Ended { done, remaining, next_cursor, limit } = self.end_letters(topic, group, choice, Verb::Discard).await?;
        if done > 0 {
            tracing::info!(%topic, %group, discarded = done, "dead letters were discarded");
        }
        Ok(DiscardResponse { discarded: done, remaining, next_cursor, limit })
    }

    async fn end_letters(&self, topic: &TopicName, group: &GroupName, choice: Choice<'_>, verb: Verb<'_>) -> Result<Ended, RedriveError> {
        let (topic, group) = self.group(topic, group)?;
        let most = in_range("max_records", choice.max_records.unwrap_or(RECEIVE_RECORDS_MAX), 1, RECEIVE_RECORDS_MAX)?;
        let mut left = u64::from(most);
        in_range("number of offsets", choice.offsets.len(), 0, RECEIPTS_MAX)?;
        if !choice.offsets.is_empty() && choice.partition.is_none() {
            return Err(ParameterError::new("`offsets` needs `partition`: an offset is a place in one partition").into());
        }
        if !choice.offsets.is_empty() && choice.cursor.is_some() {
            return Err(ParameterError::new("`cursor` cannot be given with `offsets`: they are looked at in one request").into());
        }
        let compacts = topic.config.get().cleanup_policy.compacts();
        let mut at = Cursor::parse(choice.cursor, &group)?;
        let mut looked_at = 0;
        let mut answer = Ended::default();
        let mut error = None;
        let mut offsets = choice.offsets.to_vec();
        offsets.sort_unstable();
        offsets.dedup();
        while at.partition < group.queues().len() {
            let of = group.queue(at.partition);
            let is_meant = choice.partition.is_none_or(|partition| partition == of.key().partition.partition);
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
                candidates.into_iter().map(|offset| Letter { offset, origin: offset, edited: None }).collect()
            } else {
                let may_be_gone = verb != Verb::Discard && (compacts || self.was_compacted(of.key().partition).await?);
                let page = self.page(of.letters(), candidates).await?;
                looked_at += page.records.len().max(1);
                error = page.error.or(error);
                at.offset = page.next;
                let mut letters: Vec<Letter> = page.records.iter().filter_map(|record| letter(record, choice.cause, may_be_gone)).collect();
                if let (Verb::Redrive { edit: Some(edit), .. }, [letter], [record]) = (verb, &mut letters[..], &page.records[..]) {
                    let payload = self.edited(&topic, record, edit)?;
                    letter.edited = Some(Box::new(Record { timestamp_ms: record.timestamp_ms, payload }));
                }
                letters
            };
            if let Some(first_left) = chosen.get(usize::try_from(left).expect("the bound is a thousand")) {
                at.offset = first_left.offset;
                chosen.truncate(usize::try_from(left).expect("the bound is a thousand"));
            }
            if chosen.is_empty() {
                continue;
            }
            let end = match verb {
                Verb::Redrive { per_second, .. } => LettersEnd::Redrive(chosen, Pace { before: answer.done, per_second }),
                Verb::Discard => LettersEnd::Discard(chosen.iter().map(|letter| letter.offset).collect()),
            };
            let note = self.note_of(&topic.name, &group, of);
            let ended = self.0.queue(of, |reply| QueueOp::EndLetters { end, note, reply }).await?;
            left = left.saturating_sub(ended.done);
            answer.done += ended.done;
            match ended.limit {
                None => {}
                // Others of the partition may still have their records.
                Some(RedriveLimit::RecordTrimmed | RedriveLimit::EditedLimit) => answer.limit = answer.limit.or(ended.limit),
                Some(RedriveLimit::PendingLimit | RedriveLimit::SettledRangesLimit) => {
                    // This partition takes no more now; others may.
                    answer.limit = ended.limit;
                    at = next_partition;
                }
            }
        }
        let with_letters = group.queues().filter(|of| of.letters_end() > Offset(0));
        let numbers = try_join_all(with_letters.map(|of| self.numbers(of))).await?;
        answer.remaining = numbers.iter().map(|of| of.dead_letters).sum();
        if answer.remaining == 0 {
            answer.next_cursor = None;
        }
        match error {
            Some(error) if answer.done == 0 => Err(error.into()),
            _ => Ok(answer),
        }
    }

    /// What is delivered in the place of the record that a dead letter comes from.
    fn edited(&self, topic: &Topic, letter: &StoredRecord, edit: &LetterEdit) -> Result<Payload, RedriveError> {
        let before = &letter.payload;
        let mut record = ProduceRecord { value: edit.value.clone(), value_base64: edit.value_base64.clone(), ..ProduceRecord::default() };
        match &edit.headers {
            Some(headers) if headers.iter().any(is_ours) => {
                let reason =
                    format!("headers that begin with `{}` say where a dead letter comes from, and are not set", dead_letter::PREFIX);
                return Err(ParameterError::new(reason).into());
            }
            Some(headers) => record.headers = headers.clone(),
            None => {
                let own = before.headers.iter().filter(|header| !is_ours(header));
                own.for_each(|header| record.headers.push(header.name.clone(), header.value.clone()));
            }
        }
        let keeps_value = record.value.is_none() && record.value_base64.is_none();
        let mut payload = record.into_payload()?;
        payload.key.clone_from(&before.key);
        if keeps_value {
            payload.value.clone_from(&before.value);
        }
        for header in before.headers.iter().filter(|header| is_ours(header) && header.name != dead_letter::UNREAD) {
            payload.headers.push(header.name.clone(), header.value.clone());
        }
        payload.headers.set(dead_letter::EDITED_AT, self.0.clock.now_ms().to_string());
        let (bytes, max) = (payload.len(), topic.config.get().record_bytes_max);
        if bytes > max as usize {
            return Err(RedriveError::TooLarge { topic: topic.name.clone(), bytes, max });
        }
        Ok(payload)
    }

    /// Whether compaction may have taken records of a partition, also if its topic does not compact any more.
    async fn was_compacted(&self, partition: PartitionKey) -> Result<bool, ReadError> {
        let storage = Arc::clone(&self.0.storage);
        Ok(self.blocking(move || Compacted::is_stored(&*storage, partition)).await?)
    }

    /// Reads letters, as many as the memory of one answer takes, off the async runtime.
    async fn page(&self, letters: &Arc<Partition>, offsets: Vec<Offset>) -> Result<Page, RedriveError> {
        let first = offsets[0];
        let wanted = vec![(Arc::clone(letters), offsets)];
        let (mut found, budget) = self.read_offsets(wanted, RECEIVE_RECORDS_MAX).await?;
        let found = found.pop().expect("one partition was asked for");
        let last_read = found.records.last().map(|record| record.offset);
        let last = last_read.into_iter().chain(found.gone.last().copied()).chain(found.failed.last().copied()).max();
        let next = last.map_or(first, Offset::next);
        Ok(Page { records: found.records, next, error: found.error, _share: budget.into_share() })
    }
}

/// The letter of a record, if it has this cause. `may_be_gone`: compaction may have taken what it comes from, or may do so.
fn letter(record: &StoredRecord, cause: Option<&str>, may_be_gone: bool) -> Option<Letter> {
    let header = |name| record.payload.headers.get(name);
    if cause.is_some_and(|cause| header(dead_letter::CAUSE) != Some(cause)) {
        return None;
    }
    let origin = header(dead_letter::ORIGIN_OFFSET)?.parse().ok().map(Offset)?;
    // What was given up is what is delivered again. Where a newer record of the key takes it out of the log, or has done so, the letter has
    // the only copy, if it has one.
    let is_edited = header(dead_letter::EDITED_AT).is_some();
    let has_copy = header(dead_letter::UNREAD).is_none();
    let edited = (is_edited || (may_be_gone && has_copy)).then(|| {
        let mut payload = record.payload.clone();
        if !is_edited {
            payload.headers = Headers::default();
            let own = record.payload.headers.iter().filter(|header| !is_ours(header));
            own.for_each(|header| payload.headers.push(header.name.clone(), header.value.clone()));
        }
        Box::new(Record { timestamp_ms: record.timestamp_ms, payload })
    });
    Some(Letter { offset: record.offset, origin, edited })
}

/// Whether a header says where a dead letter comes from.
fn is_ours(header: &Header) -> bool {
    header.name.starts_with(dead_letter::PREFIX)
}
