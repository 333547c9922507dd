//! Reserving records for a receive, and leasing what it has read.

use crate::group::queue::{KeyHash, LeaseTerms, Leased, key_hash};
use crate::ids::GroupKey;
use crate::log::batch::StoredRecord;
use crate::shard::core::Core;
use crate::shard::queues::queue_set::QueueSet;
use crate::shard::queues::request::{QueueError, ReadOutcome};
use crate::shard::queues::reservation::{DroppedReservations, Reservation};
use crate::topic::{GivenBack, Group, Handed, Place};
use sagamq_api::Offset;
use sagamq_api::queue::EmptyReason;

/// When records that could not be read are tried again, in milliseconds: until then they do not stand in the way of others.
const READ_AGAIN_MS: u64 = 10_000;

/// Takes records that nobody else gets meanwhile, and says whose keys it has to know for more. Leases that ran out were taken back before.
pub(super) fn reserve(
    core: &Core,
    queues: &mut QueueSet,
    dropped: &DroppedReservations,
    key: GroupKey,
    max: u32,
    auto_ack: bool,
    learnt: Vec<(Offset, KeyHash)>,
) -> Result<Reservation, QueueError> {
    let queue = queues.get_mut(key)?;
    queue.take_over_settings();
    for (offset, hash) in learnt {
        // Where the log has the record no more, what is delivered in its place has its key.
        let hash = hash.or_else(|| queue.edited.get(offset).and_then(|kept| key_hash(&kept.payload)));
        queue.state.learn(offset, hash);
    }
    let high_watermark = queue.of().high_watermark();
    let reserved = queue.state.reserve(core.clock.now_ms(), max, high_watermark, auto_ack);
    let is_full = reserved.offsets.len() >= max as usize;
    let keys_wanted = if is_full { Vec::new() } else { queue.state.keys_wanted(high_watermark) };
    queue.show();
    let edited = match queue.edited.is_empty() {
        true => Vec::new(),
        false => reserved.offsets.iter().filter_map(|&offset| Some((offset, queue.edited.get(offset)?.clone()))).collect(),
    };
    Ok(Reservation::new(key, reserved, edited, keys_wanted, dropped.clone()))
}

/// Leases what was read, and lets the rest of the reservation go.
pub(super) fn lease(
    core: &mut Core,
    queues: &mut QueueSet,
    taken: Reservation,
    outcome: &ReadOutcome,
    terms: LeaseTerms,
) -> Result<Vec<Leased>, QueueError> {
    let (key, reservation) = taken.take_back();
    let now_ms = core.clock.now_ms();
    let queue = queues.get_mut(key)?;
    // The order of keys may hold only since the records were reserved: then they are not given.
    queue.take_over_settings();
    // What a saga calls is handed out or not: nobody asks who has begun.
    let terms = LeaseTerms { begins: terms.begins || queue.of().view().marks_hand_outs(), ..terms };
    // It may have been paused while the records were read: whoever paused it was told that nothing is delivered any more.
    let read = if queue.group.is_paused() { &[] } else { &outcome.read[..] };
    let leased = queue.state.lease(reservation, read, now_ms, terms, core.random.next_u64());
    queue.state.settle_gone(reservation, &outcome.gone);
    if let Some(gap) = &outcome.gap {
        queue.state.settle_gap(gap.start, gap.end);
    }
    queue.state.put_off(reservation, &outcome.failed, now_ms, now_ms.saturating_add(READ_AGAIN_MS));
    let is_let_go = queue.state.release(reservation) > 0;
    let redelivered = leased.iter().filter(|leased| leased.attempt > 1 || leased.returned > 0).count();
    core.metrics.delivered_records.get_or_create(&queue.group.label).inc_by(leased.len() as u64);
    core.metrics.redelivered_records.get_or_create(&queue.group.label).inc_by(redelivered as u64);
    // A lease is no promise to anybody who is not asking again, so it need not survive a power cut: it is written before
    // it is given out (and so survives the death of the process), and the next sync covers it.
    // The mark of a hand-out is a promise to the embedder ("nobody can have seen it"), so it must survive a power cut.
    let has_new_mark = leased.iter().any(|leased| leased.handed_out_ms == Some(now_ms));
    if has_new_mark || (terms.auto_ack && !leased.is_empty()) {
        core.commit.require_sync();
    }
    queue.show();
    // Somebody who waits may have been kept from what was let go, or waits for the next of a key that is settled now, or for what lies behind
    // offsets without a record.
    let gives_turns = queue.state.is_ordered() && terms.auto_ack;
    if is_let_go || leased.len() < outcome.read.len() || gives_turns || !outcome.gone.is_empty() {
        queue.wake();
    }
    if !(leased.is_empty() && outcome.gone.is_empty() && outcome.failed.is_empty()) {
        queues.touch(key);
    }
    Ok(leased)
}

/// Leases a record that is being appended to who waits for it. Its lease, and the mark of its hand-out, are in the commit of the record, which is
/// synced.
pub(super) fn lease_appended(
    core: &mut Core,
    queues: &mut QueueSet,
    group: &Group,
    record: StoredRecord,
    bytes: usize,
    given_back: &GivenBack,
) -> Option<(Place, Handed)> {
    let key = group.queue(core.id.0.into()).key();
    let now_ms = core.clock.now_ms();
    let queue = queues.get_mut(key).ok()?;
    queue.take_over_settings();
    if !queue.state.is_next(record.offset, now_ms) {
        return None;
    }
    let place = group.claims.take_place(bytes)?;
    let terms = LeaseTerms { lease_ms: place.lease_ms, auto_ack: false, begins: true };
    let leased = queue.state.lease_appended(record.offset, now_ms, terms, core.random.next_u64());
    core.metrics.delivered_records.get_or_create(&queue.group.label).inc();
    queues.touch(key);
    Some((place, Handed::new(key, record, leased, given_back.clone())))
}

/// Lets go what receives reserved that went away.
pub(super) fn release_dropped(queues: &mut QueueSet, dropped: &DroppedReservations) {
    for (key, reservation) in dropped.take() {
        if let Ok(Some(queue)) = queues.used(key) {
            queue.state.release(reservation);
            queue.show();
            queue.wake();
        }
    }
}

pub(super) fn why_empty(queues: &QueueSet, key: GroupKey, auto_ack: bool) -> Result<Option<EmptyReason>, QueueError> {
    let queue = queues.get(key)?;
    // What is held was not asked for records, so its state need not know.
    if queue.of().view().is_held() {
        return Ok(Some(EmptyReason::Held));
    }
    if queue.group.is_paused() {
        return Ok(Some(EmptyReason::Paused));
    }
    Ok(queue.state.why_empty(queue.of().high_watermark(), auto_ack))
}
