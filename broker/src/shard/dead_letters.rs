//! Dead letters in the shard's task: written with what gives their records up, listed, and redriven or discarded.

use crate::group::{DeadLetterCause, Redriven};
use crate::log::batch::{Batch, Record};
use crate::log::budget::Budget;
use crate::log::reader;
use crate::shard::Shard;
use crate::shard::queue::{DeadLetterTarget, QueueError, Slot};
use crate::storage::keys::GroupKey;
use sagamq_api::Offset;
use sagamq_api::group::RedriveLimit;
use sagamq_api::headers::dead_letter;
use sagamq_api::record::Payload;
use std::sync::Arc;

/// Which dead letters are asked for.
#[derive(Clone, Debug)]
pub(crate) enum LetterRange {
    /// Up to `max` from this offset of the dead-letter partition on.
    From { from: Offset, max: usize },
    /// Those of these offsets; sorted.
    At(Vec<Offset>),
}

/// A dead letter and the record it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Letter {
    /// Its offset in the dead-letter partition.
    pub(crate) offset: Offset,
    /// Offset of the record in the partition of the same number.
    pub(crate) origin: Offset,
}

/// How dead letters are done with.
#[derive(Clone, Debug)]
pub(crate) enum LettersEnd {
    /// Their records are delivered to the group again.
    Redrive(Vec<Letter>),
    /// Nothing comes of them. Named by their offsets in the dead-letter partition: what cannot be read can be discarded as well.
    Discard(Vec<Offset>),
}

/// What became of dead letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LettersDone {
    /// Dead letters that are done with, and were not before.
    pub(crate) done: u64,
    /// Why not all that were asked for.
    pub(crate) limit: Option<RedriveLimit>,
}

impl Shard {
    /// Appends the record to the dead-letter partition, in the commit that settles it: it is never dropped.
    pub(super) fn write_dead_letter(&mut self, key: GroupKey, offset: Offset, attempts: u32, cause: DeadLetterCause, reason: Option<&str>) {
        let slot = self.slots.get(&key).expect("the slot was just used");
        let target = slot.dead_letters.clone().expect("only a group with a dead-letter topic delivers records");
        let label = slot.label.clone();
        let origin = Arc::clone(&self.logs.get(&key.partition).expect("a slot's partition is owned by the same shard").partition);
        let now_ms = self.clock.now_ms();
        let mut found = reader::read_at(&*self.storage, &origin, &[offset], &mut Budget::unshared(1, usize::MAX));
        let (mut payload, timestamp_ms, reason) = match (found.records.pop(), found.error) {
            (Some(record), _) => (record.payload, record.timestamp_ms, reason.map(str::to_owned)),
            (None, Some(error)) => (Payload::default(), 0, Some(format!("the record could not be read: {error}"))),
            (None, None) => (Payload::default(), 0, Some("the record was not there any more".to_owned())),
        };
        let mut header = |name: &str, value: String| payload.headers.set(name, value);
        header(dead_letter::CAUSE, cause.as_str().to_owned());
        header(dead_letter::ATTEMPTS, attempts.to_string());
        header(dead_letter::ORIGIN_TOPIC, label.topic.clone());
        header(dead_letter::ORIGIN_PARTITION, key.partition.partition.to_string());
        header(dead_letter::ORIGIN_OFFSET, offset.to_string());
        header(dead_letter::GROUP, label.group.clone());
        header(dead_letter::AT, now_ms.to_string());
        if let Some(reason) = reason {
            header(dead_letter::REASON, reason);
        }
        tracing::warn!(topic = label.topic, group = label.group, %offset, attempts, cause = cause.as_str(), "record became a dead letter");
        self.metrics.dead_letter_records.get_or_create(&label).inc();
        let batch = Batch::encode(&[Record { timestamp_ms, payload }]).expect("a record that was stored can be stored again");
        self.stage_batches(&target.partition, vec![batch]);
    }

    pub(super) fn left_dead_letters(&self, slot: &Slot) -> u64 {
        let count = |target: &DeadLetterTarget| {
            let redriven = self.slots.get(&target.redrive)?;
            Some(redriven.state.lag(target.partition.high_watermark()))
        };
        slot.dead_letters.as_ref().and_then(count).unwrap_or(0)
    }

    /// Offsets in the dead-letter partition that are not done with, oldest first.
    pub(super) fn dead_letters(&self, key: GroupKey, which: &LetterRange) -> Result<Vec<Offset>, QueueError> {
        let slot = self.slots.get(&key).ok_or(QueueError::GroupDeleted)?;
        let Some(target) = &slot.dead_letters else { return Ok(Vec::new()) };
        let redriven = &self.slots.get(&target.redrive).ok_or(QueueError::GroupDeleted)?.state;
        let end = target.partition.high_watermark();
        Ok(match which {
            LetterRange::From { from, max } => redriven.unsettled(*from, end).take(*max).collect(),
            LetterRange::At(offsets) => offsets.iter().copied().filter(|&offset| offset < end && !redriven.is_settled(offset)).collect(),
        })
    }

    /// Takes dead letters off the list.
    pub(super) fn end_letters(&mut self, key: GroupKey, end: &LettersEnd) -> Result<LettersDone, QueueError> {
        let slot = self.slots.get(&key).ok_or(QueueError::GroupDeleted)?;
        let Some(target) = slot.dead_letters.clone() else { return Ok(LettersDone { done: 0, limit: None }) };
        let label = slot.label.clone();
        let (ended, counter) = match end {
            LettersEnd::Redrive(letters) => (self.redrive(key, target.redrive, letters)?, &self.metrics.redriven_records),
            LettersEnd::Discard(letters) => {
                let end = target.partition.high_watermark();
                (self.discard(target.redrive, letters, end)?, &self.metrics.discarded_records)
            }
        };
        counter.get_or_create(&label).inc_by(ended.done);
        if ended.done > 0 {
            self.commit.require_sync();
            self.touch(key);
            self.touch(target.redrive);
        }
        let slot = self.slots.get(&key).ok_or(QueueError::GroupDeleted)?;
        slot.view.wake();
        Ok(ended)
    }

    fn redrive(&mut self, key: GroupKey, counter: GroupKey, letters: &[Letter]) -> Result<LettersDone, QueueError> {
        let now_ms = self.clock.now_ms();
        let mut done = 0;
        for letter in letters {
            match self.may_end(counter, letter.offset)? {
                MayEnd::Ended => continue,
                MayEnd::NoRoom => return Ok(LettersDone { done, limit: Some(RedriveLimit::SettledRangesLimit) }),
                MayEnd::Yes => {}
            }
            let slot = self.slots.get_mut(&key).ok_or(QueueError::GroupDeleted)?;
            match slot.state.redrive(letter.origin, now_ms) {
                Redriven::Full => return Ok(LettersDone { done, limit: Some(RedriveLimit::PendingLimit) }),
                // A record that waits for its delivery anyway needs no second one: its dead letter is done with.
                Redriven::Done | Redriven::NotSettled => done += 1,
            }
            self.slots.get_mut(&counter).ok_or(QueueError::GroupDeleted)?.state.settle(letter.offset);
        }
        Ok(LettersDone { done, limit: None })
    }

    /// The records themselves were settled when they became dead letters, so there is nothing to do for them.
    fn discard(&mut self, counter: GroupKey, letters: &[Offset], end: Offset) -> Result<LettersDone, QueueError> {
        let mut done = 0;
        for &letter in letters.iter().filter(|&&letter| letter < end) {
            match self.may_end(counter, letter)? {
                MayEnd::Ended => continue,
                MayEnd::NoRoom => return Ok(LettersDone { done, limit: Some(RedriveLimit::SettledRangesLimit) }),
                MayEnd::Yes => done += 1,
            }
            self.slots.get_mut(&counter).ok_or(QueueError::GroupDeleted)?.state.settle(letter);
        }
        Ok(LettersDone { done, limit: None })
    }

    fn may_end(&self, counter: GroupKey, letter: Offset) -> Result<MayEnd, QueueError> {
        let counter = &self.slots.get(&counter).ok_or(QueueError::GroupDeleted)?.state;
        Ok(match counter {
            // Another request may have come first.
            counter if counter.is_settled(letter) => MayEnd::Ended,
            counter if counter.has_room_to_settle(letter) => MayEnd::Yes,
            _ => MayEnd::NoRoom,
        })
    }
}

/// Whether a dead letter can be taken off the list.
enum MayEnd {
    Yes,
    Ended,
    NoRoom,
}
