//! Dead letters in the shard's task: written with what gives their records up, listed, and redriven or discarded.

use crate::group::queue::{DeadLetterCause, Redriven};
use crate::ids::GroupKey;
use crate::log::batch::{Batch, Record};
use crate::log::budget::Budget;
use crate::log::reader;
use crate::shard::core::Core;
use crate::shard::queues::request::{Letter, LetterRange, LettersDone, LettersEnd, QueueError};
use crate::shard::queues::slot::Slot;
use crate::shard::queues::slots::Slots;
use sagamq_api::Offset;
use sagamq_api::headers::dead_letter;
use sagamq_api::queue::RedriveLimit;
use sagamq_api::record::Payload;

/// Appends the record to the dead-letter partition, in the commit that settles it: it is never dropped.
pub(super) fn write(
    core: &mut Core,
    slot: &Slot,
    key: GroupKey,
    offset: Offset,
    attempts: u32,
    cause: DeadLetterCause,
    reason: Option<&str>,
) {
    let target = slot.dead_letters.as_ref().expect("only a group with a dead-letter topic delivers records");
    let label = &slot.label;
    let now_ms = core.clock.now_ms();
    let mut found = reader::read_at(&*core.storage, &slot.partition, &[offset], &mut Budget::unshared(1, usize::MAX));
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
    core.metrics.dead_letter_records.get_or_create(label).inc();
    let batch = Batch::encode(&[Record { timestamp_ms, payload }]).expect("a record that was stored can be stored again");
    core.stage_batches(&target.partition, vec![batch]);
}

/// Offsets in the dead-letter partition that are not done with, oldest first.
pub(super) fn list(slots: &Slots, key: GroupKey, which: &LetterRange) -> Result<Vec<Offset>, QueueError> {
    let slot = slots.get(key)?;
    let Some(target) = &slot.dead_letters else { return Ok(Vec::new()) };
    let redriven = &slots.get(target.redrive)?.state;
    let end = target.partition.high_watermark();
    Ok(match which {
        LetterRange::From { from, max } => redriven.unsettled(*from, end).take(*max).collect(),
        LetterRange::At(offsets) => offsets.iter().copied().filter(|&offset| offset < end && !redriven.is_settled(offset)).collect(),
    })
}

/// Takes dead letters off the list.
pub(super) fn end(core: &mut Core, slots: &mut Slots, key: GroupKey, end: &LettersEnd) -> Result<LettersDone, QueueError> {
    let slot = slots.get(key)?;
    let Some(target) = slot.dead_letters.clone() else { return Ok(LettersDone { done: 0, limit: None }) };
    let label = slot.label.clone();
    let (ended, counter) = match end {
        LettersEnd::Redrive(letters) => (redrive(core, slots, key, target.redrive, letters)?, &core.metrics.redriven_records),
        LettersEnd::Discard(letters) => {
            let end = target.partition.high_watermark();
            (discard(slots, target.redrive, letters, end)?, &core.metrics.discarded_records)
        }
    };
    counter.get_or_create(&label).inc_by(ended.done);
    if ended.done > 0 {
        core.commit.require_sync();
        slots.touch(key);
        slots.touch(target.redrive);
    }
    let slot = slots.get(key)?;
    slot.view.wake();
    Ok(ended)
}

fn redrive(core: &Core, slots: &mut Slots, key: GroupKey, counter: GroupKey, letters: &[Letter]) -> Result<LettersDone, QueueError> {
    let now_ms = core.clock.now_ms();
    let mut done = 0;
    for letter in letters {
        match may_end(slots, counter, letter.offset)? {
            MayEnd::Ended => continue,
            MayEnd::NoRoom => return Ok(LettersDone { done, limit: Some(RedriveLimit::SettledRangesLimit) }),
            MayEnd::Yes => {}
        }
        let slot = slots.get_mut(key)?;
        match slot.state.redrive(letter.origin, now_ms) {
            Redriven::Full => return Ok(LettersDone { done, limit: Some(RedriveLimit::PendingLimit) }),
            // A record that waits for its delivery anyway needs no second one: its dead letter is done with.
            Redriven::Done | Redriven::NotSettled => done += 1,
        }
        slots.get_mut(counter)?.state.settle(letter.offset);
    }
    Ok(LettersDone { done, limit: None })
}

/// The records themselves were settled when they became dead letters, so there is nothing to do for them.
fn discard(slots: &mut Slots, counter: GroupKey, letters: &[Offset], end: Offset) -> Result<LettersDone, QueueError> {
    let mut done = 0;
    for &letter in letters.iter().filter(|&&letter| letter < end) {
        match may_end(slots, counter, letter)? {
            MayEnd::Ended => continue,
            MayEnd::NoRoom => return Ok(LettersDone { done, limit: Some(RedriveLimit::SettledRangesLimit) }),
            MayEnd::Yes => done += 1,
        }
        slots.get_mut(counter)?.state.settle(letter);
    }
    Ok(LettersDone { done, limit: None })
}

fn may_end(slots: &Slots, counter: GroupKey, letter: Offset) -> Result<MayEnd, QueueError> {
    let counter = &slots.get(counter)?.state;
    Ok(match counter {
        // Another request may have come first.
        counter if counter.is_settled(letter) => MayEnd::Ended,
        counter if counter.has_room_to_settle(letter) => MayEnd::Yes,
        _ => MayEnd::NoRoom,
    })
}

/// Whether a dead letter can be taken off the list.
enum MayEnd {
    Yes,
    Ended,
    NoRoom,
}
