//! Dead letters in the shard's task: written with what gives their records up, listed, and redriven or discarded.

use crate::group::queue::{DeadLetterCause, MayEnd, Redriven};
use crate::ids::GroupKey;
use crate::log::batch::{NewBatch, Record};
use crate::log::budget::Budget;
use crate::log::reader;
use crate::shard::core::Core;
use crate::shard::queues::queue::Queue;
use crate::shard::queues::queue_set::QueueSet;
use crate::shard::queues::request::{Letter, LetterRange, LettersDone, LettersEnd, Pace, QueueError};
use sagamq_api::Offset;
use sagamq_api::headers::dead_letter;
use sagamq_api::queue::RedriveLimit;
use sagamq_api::record::Payload;
use std::sync::Arc;

/// Appends the record to the dead-letter partition, in the commit that settles it: it is never dropped.
pub(super) fn write(
    core: &mut Core,
    queue: &Queue,
    key: GroupKey,
    offset: Offset,
    attempts: u32,
    cause: DeadLetterCause,
    reason: Option<&str>,
) {
    let label = &queue.group.label;
    let now_ms = core.clock.now_ms();
    let mut found = reader::read_at(&*core.storage, queue.of().partition(), &[offset], &mut Budget::unshared(1, usize::MAX));
    let (mut payload, timestamp_ms, reason) = match (found.records.pop(), found.error) {
        (Some(record), _) => (record.payload, record.timestamp_ms, reason.map(str::to_owned)),
        (None, Some(error)) => (Payload::default(), 0, Some(format!("the record could not be read: {error}"))),
        (None, None) => (Payload::default(), 0, Some("the record was not there any more".to_owned())),
    };
    if let Some(edited) = queue.edited.get(offset) {
        // What was delivered is what was given up.
        payload = edited.clone();
    }
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
    let batch = NewBatch::encode(&[Record { timestamp_ms, payload }]).expect("a record that was stored can be stored again");
    core.stage_batches(Arc::clone(queue.of().letters()), [batch]);
}

/// Offsets in the dead-letter partition that are not done with, oldest first.
pub(super) fn list(queues: &QueueSet, key: GroupKey, which: &LetterRange) -> Result<Vec<Offset>, QueueError> {
    let queue = queues.get(key)?;
    let end = queue.of().letters_end();
    Ok(match which {
        LetterRange::From { from, max } => queue.ended.left_within(*from, end).take(*max).collect(),
        LetterRange::At(offsets) => offsets.iter().copied().filter(|&offset| offset < end && !queue.ended.is_ended(offset)).collect(),
    })
}

/// Takes dead letters off the list.
pub(super) fn end(core: &mut Core, queues: &mut QueueSet, key: GroupKey, end: &LettersEnd) -> Result<LettersDone, QueueError> {
    let queue = queues.get_mut(key)?;
    let (ended, counter) = match end {
        LettersEnd::Redrive(letters, pace) => (redrive(queue, letters, *pace, core.clock.now_ms()), &core.metrics.redriven_records),
        LettersEnd::Discard(letters) => (discard(queue, letters), &core.metrics.discarded_records),
    };
    counter.get_or_create(&queue.group.label).inc_by(ended.done);
    queue.show();
    queue.wake();
    if ended.done > 0 {
        core.commit.require_sync();
        queues.touch_letters(key);
    }
    Ok(ended)
}

fn redrive(queue: &mut Queue, letters: &[Letter], pace: Pace, now_ms: u64) -> LettersDone {
    let (mut done, mut left_out) = (0, None);
    let log_start = queue.of().offsets().log_start;
    for letter in letters {
        match queue.ended.may_end(letter.offset) {
            // Another request may have come first.
            MayEnd::Ended => continue,
            MayEnd::NoRoom => return LettersDone { done, limit: Some(RedriveLimit::SettledRangesLimit) },
            MayEnd::Yes => {}
        }
        if letter.origin < log_start {
            // Its copy is all that is left of the record.
            left_out = Some(RedriveLimit::RecordTrimmed);
            continue;
        }
        if letter.edited.as_deref().is_some_and(|edited| !queue.edited.has_room(letter.origin, edited)) {
            left_out = Some(RedriveLimit::EditedLimit);
            continue;
        }
        match queue.state.redrive_at(letter.origin, now_ms, pace.due_ms(now_ms, done)) {
            Redriven::Full => return LettersDone { done, limit: Some(RedriveLimit::PendingLimit) },
            // A record that waits for its delivery anyway needs no second one: its dead letter is done with.
            Redriven::Done | Redriven::NotSettled => done += 1,
        }
        if let Some(edited) = &letter.edited {
            queue.edit(letter.origin, Payload::clone(edited));
        }
        queue.ended.end(letter.offset);
    }
    LettersDone { done, limit: left_out }
}

/// The records themselves were settled when they became dead letters, so there is nothing to do for them.
fn discard(queue: &mut Queue, letters: &[Offset]) -> LettersDone {
    let (end, mut done) = (queue.of().letters_end(), 0);
    for &letter in letters.iter().filter(|&&letter| letter < end) {
        match queue.ended.may_end(letter) {
            MayEnd::Ended => continue,
            MayEnd::NoRoom => return LettersDone { done, limit: Some(RedriveLimit::SettledRangesLimit) },
            MayEnd::Yes => done += 1,
        }
        queue.ended.end(letter);
    }
    LettersDone { done, limit: None }
}
