//! Dead letters in the shard's task: written with what gives their records up, listed, and redriven or discarded.

use crate::audit::Note;
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
use serde_json::json;
use std::sync::Arc;

/// Records that are given up in one go, at most: they are read together, and a batch that holds many of them is unpacked once.
const TOGETHER_MAX: u64 = 64;

/// Bytes of records that are given up in one go, about.
const TOGETHER_BYTES: u64 = 1024 * 1024;

/// A record that is given up.
#[derive(Clone, Copy, Debug)]
pub(super) struct GivenUp {
    pub(super) offset: Offset,
    pub(super) attempts: u32,
    pub(super) cause: DeadLetterCause,
}

/// How many records may be given up before they are [written](write).
pub(super) fn together_max(queue: &Queue) -> usize {
    let mean = queue.of().partition().record_bytes_mean();
    usize::try_from((TOGETHER_BYTES / mean).clamp(1, TOGETHER_MAX)).expect("a few")
}

/// Appends the records to the dead-letter partition, in the commit that settles them: none is dropped, save one that compaction has taken meanwhile, because
/// its key has a newer one.
pub(super) fn write(core: &mut Core, queue: &Queue, key: GroupKey, given_up: &[GivenUp], reason: Option<&str>) {
    let mut given_up = given_up.to_vec();
    given_up.sort_unstable_by_key(|given_up| given_up.offset);
    let mut given_up = &given_up[..];
    while !given_up.is_empty() {
        let offsets: Vec<Offset> = given_up.iter().map(|given_up| given_up.offset).collect();
        let bytes_max = usize::try_from(TOGETHER_BYTES).expect("a megabyte");
        let mut found = reader::read_at(&*core.storage, queue.of().partition(), &offsets, &mut Budget::unshared(offsets.len(), bytes_max));
        for offset in offsets {
            if let Some(edited) = queue.edited.get(offset) {
                // What was delivered is what was given up.
                found.put(offset, edited.clone());
            }
        }
        let mut written = 0;
        for record in given_up {
            let read = found.records.iter().position(|read| read.offset == record.offset).map(|at| found.records.swap_remove(at));
            let is_failed = found.failed.contains(&record.offset);
            match (read, &found.error) {
                (Some(mut read), _) => {
                    if queue.edited.get(record.offset).is_none() {
                        // What was produced with the headers of another dead letter is neither unread nor edited.
                        read.payload.headers.remove(dead_letter::UNREAD);
                        read.payload.headers.remove(dead_letter::EDITED_AT);
                    }
                    write_one(core, queue, key, *record, read.payload, read.timestamp_ms, reason);
                }
                (None, Some(error)) if is_failed => {
                    let reason = format!("the record could not be read: {error}");
                    write_one(core, queue, key, *record, unread(), 0, Some(&reason));
                }
                (None, _) if found.gone.contains(&record.offset) => {
                    tracing::debug!(offset = %record.offset, "given up, and taken by compaction before");
                }
                // The bytes of this look are used up.
                (None, _) => break,
            }
            written += 1;
        }
        if written == 0 {
            // Nothing is known of the first one: that cannot be, and it is not dropped for it.
            write_one(core, queue, key, given_up[0], unread(), 0, Some("the record was not found"));
            written = 1;
        }
        given_up = &given_up[written..];
    }
}

/// In the place of a record that cannot be read: that it is none.
fn unread() -> Payload {
    let mut payload = Payload::default();
    payload.headers.set(dead_letter::UNREAD, "true".to_owned());
    payload
}

fn write_one(
    core: &mut Core,
    queue: &Queue,
    key: GroupKey,
    GivenUp { offset, attempts, cause }: GivenUp,
    mut payload: Payload,
    timestamp_ms: i64,
    reason: Option<&str>,
) {
    let label = &queue.group.label;
    let now_ms = core.clock.now_ms();
    let mut header = |name: &str, value: String| payload.headers.set(name, value);
    header(dead_letter::CAUSE, cause.as_str().to_owned());
    header(dead_letter::ATTEMPTS, attempts.to_string());
    header(dead_letter::ORIGIN_TOPIC, label.topic.clone());
    header(dead_letter::ORIGIN_PARTITION, key.partition.partition.to_string());
    header(dead_letter::ORIGIN_OFFSET, offset.to_string());
    header(dead_letter::GROUP, label.group.clone());
    header(dead_letter::AT, now_ms.to_string());
    match reason {
        Some(reason) => header(dead_letter::REASON, reason.to_owned()),
        // One that was edited has that of the life before.
        None => payload.headers.remove(dead_letter::REASON),
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
pub(super) fn end(core: &mut Core, queues: &mut QueueSet, key: GroupKey, end: &LettersEnd, note: Note) -> Result<LettersDone, QueueError> {
    let queue = queues.get_mut(key)?;
    let (ended, counter) = match end {
        LettersEnd::Redrive(letters, pace) => (redrive(queue, letters, *pace, core.clock.now_ms()), &core.metrics.redriven_records),
        LettersEnd::Discard(letters) => (discard(queue, letters), &core.metrics.discarded_records),
    };
    counter.get_or_create(&queue.group.label).inc_by(ended.done);
    queue.show();
    queue.wake();
    if ended.done > 0 {
        core.note(note.result(&json!({ "records": ended.done })));
        core.commit.require_sync();
        queues.touch_letters(key);
    }
    Ok(ended)
}

fn redrive(queue: &mut Queue, letters: &[Letter], pace: Pace, now_ms: u64) -> LettersDone {
    let (mut done, mut left_out) = (0, None);
    let log_start = queue.of().cut_at();
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
        if letter.edited.as_deref().is_some_and(|edited| !queue.edited.has_room(letter.origin, &edited.payload)) {
            left_out = Some(RedriveLimit::EditedLimit);
            continue;
        }
        match queue.state.redrive_at(letter.origin, now_ms, pace.due_ms(now_ms, done)) {
            Redriven::Full => return LettersDone { done, limit: Some(RedriveLimit::PendingLimit) },
            // A record that waits for its delivery anyway needs no second one: its dead letter is done with.
            Redriven::Done | Redriven::NotSettled => done += 1,
        }
        if let Some(edited) = &letter.edited {
            queue.edit(letter.origin, Record::clone(edited));
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
