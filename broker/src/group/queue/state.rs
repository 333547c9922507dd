//! The state of one queue group in one partition, and what can be asked of it.
//!
//! ```text
//!   settled │ settled, leased and delayed mixed        │ never delivered      │ not written
//!   ────────┼──────────────────────────────────────────┼──────────────────────┼────────────
//!       ack_floor                                  next_fresh           high_watermark
//! ```
//! `ack_floor <= next_fresh`, both only rise. Every offset below `next_fresh` is settled or pending (leased or delayed).
//! A redriven dead letter is the one exception to "settled below the floor": its offset stays in the settled part, which keeps
//! the floor's arithmetic sound, and is pending besides; while it is pending it counts as unsettled.

use super::key_lines::KeyOrder;
use super::ranges::RangeSet;
use crate::ids::NumberHasher;
use sagamq_api::Offset;
use sagamq_api::limits::RETURNS_MAX;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::BuildHasherDefault;

/// A record in the hands of a consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lease {
    pub(crate) lease_id: u64,
    pub(crate) deadline_ms: u64,
    /// How often somebody began with it, this holder included if he has.
    pub(crate) attempt: u32,
    /// Whether its holder has begun with it. Who receives and says nothing begins at once.
    pub(crate) is_begun: bool,
    /// How often a lease ran out before its holder had begun, and was not counted.
    pub(crate) returned: u32,
    /// When it was first handed out, in milliseconds since 1970, in a group that marks hand-outs.
    pub(crate) handed_out_ms: Option<u64>,
}

impl Lease {
    /// The attempt that its holder makes, or will make.
    pub(super) fn number(&self) -> u32 {
        self.attempt.saturating_add(u32::from(!self.is_begun))
    }

    /// Attempts and returns when it has run out.
    pub(super) fn ran_out(&self) -> (u32, u32) {
        match (self.is_begun, self.returned < RETURNS_MAX) {
            (true, _) => (self.attempt, self.returned),
            (false, true) => (self.attempt, self.returned + 1),
            (false, false) => (self.number(), self.returned),
        }
    }
}

/// A record that waits for its next delivery. It holds no in-flight slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Delayed {
    /// How often somebody began with it so far.
    pub(crate) attempt: u32,
    /// As in [`Lease`].
    pub(crate) returned: u32,
    pub(crate) due_ms: u64,
    /// The lease that ran out, if that is why it waits: its holder may still acknowledge.
    pub(crate) lapsed_lease: Option<u64>,
    /// As in [`Lease`]: neither a delivery that is given back nor a new one changes it.
    pub(crate) handed_out_ms: Option<u64>,
}

impl Delayed {
    /// Of a record that nobody was given yet.
    pub(super) fn untouched(due_ms: u64) -> Self {
        Self { attempt: 0, returned: 0, due_ms, lapsed_lease: None, handed_out_ms: None }
    }
}

/// Whether a record was ever handed to a consumer: what the embedder of a lane topic asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandOut {
    /// Never: no consumer can have seen it.
    Never,
    /// First at this time, in milliseconds since 1970.
    At(u64),
    /// It may have been; nobody knows when. Settled records belong here.
    Unknown,
}

/// One queue group in one partition. See the file for its order of positions.
#[derive(Clone, Debug, Default)]
pub struct QueueState {
    pub(super) ack_floor: Offset,
    pub(super) next_fresh: Offset,
    /// Above the floor and never touching it.
    pub(super) settled: RangeSet,
    pub(super) in_flight: BTreeMap<Offset, Lease>,
    pub(super) delayed: BTreeMap<Offset, Delayed>,
    /// Pending offsets that lie in the settled part: redriven dead letters.
    pub(super) redriven: u64,
    /// Whether hand-outs get a mark with their time. A setting, not encoded.
    pub(super) marks_hand_outs: bool,
    /// Whether nothing is handed out. Not stored.
    pub(super) is_held: bool,
    /// Offsets that a receive reads at this moment, each with the number of its reservation. In memory only: whoever reads is gone
    /// after a restart.
    pub(super) reserved: HashMap<Offset, u64, BuildHasherDefault<NumberHasher>>,
    pub(super) last_reservation: u64,
    /// Offsets of which something else may be said than at the last write.
    pub(super) changed: RangeSet,
    /// Whether it was replaced since the last write, so that it must be written as a whole.
    pub(super) is_replaced: bool,
    // What follows is an index over the maps above: never encoded, not part of equality.
    pub(super) by_deadline: BTreeSet<(u64, Offset)>,
    pub(super) by_due: BTreeSet<(u64, Offset)>,
    /// Delayed offsets that were seen to be due; they are in `by_due` no longer. Those that wait for an earlier one of their key are in `order`.
    pub(super) ready: BTreeSet<Offset>,
    /// The order of keys, in a group that keeps it.
    pub(super) order: Option<Box<KeyOrder>>,
}

impl PartialEq for QueueState {
    fn eq(&self, other: &Self) -> bool {
        (self.ack_floor, self.next_fresh) == (other.ack_floor, other.next_fresh)
            && self.settled == other.settled
            && self.in_flight == other.in_flight
            && self.delayed == other.delayed
    }
}

impl Eq for QueueState {}

impl QueueState {
    /// A group that begins with the record at `start`.
    #[must_use]
    pub fn starting_at(start: Offset) -> Self {
        Self { ack_floor: start, next_fresh: start, ..Self::default() }
    }

    /// Every record below is settled, save redriven dead letters.
    #[must_use]
    pub fn ack_floor(&self) -> Offset {
        self.ack_floor
    }

    /// No record at or above was ever delivered.
    #[must_use]
    pub fn next_fresh(&self) -> Offset {
        self.next_fresh
    }

    /// Records leased to consumers. Leases that ran out count until [`QueueState::expire`] sees them.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.in_flight.len() as u64
    }

    /// Records that wait for a redelivery, those that are due included.
    #[must_use]
    pub fn delayed(&self) -> u64 {
        self.delayed.len() as u64
    }

    /// Delayed records that [`QueueState::expire`] or [`QueueState::reserve`] saw to be due, and that do not wait for one of their key.
    #[must_use]
    pub fn ready(&self) -> u64 {
        self.ready.len() as u64
    }

    /// Records that receives read at this moment; they are leased or let go when the reading is done.
    #[must_use]
    pub fn reserved(&self) -> u64 {
        self.reserved.len() as u64
    }

    /// Ranges of settled records above the floor.
    #[must_use]
    pub fn settled_ranges(&self) -> usize {
        self.settled.len()
    }

    /// Records below the high watermark that are not settled.
    #[must_use]
    pub fn lag(&self, high_watermark: Offset) -> u64 {
        let written = high_watermark.0.saturating_sub(self.ack_floor.0);
        written - self.settled.count_below(high_watermark) + self.redriven
    }

    /// The oldest record below the high watermark that is not settled.
    #[must_use]
    pub fn oldest_unsettled(&self, high_watermark: Offset) -> Option<Offset> {
        // The floor itself is never settled, so it is the oldest unless a redriven record lies below it.
        Some(self.settled_below()).filter(|&oldest| oldest < high_watermark)
    }

    /// Every record below is settled, whatever comes: redriven ones too.
    #[must_use]
    pub fn settled_below(&self) -> Offset {
        let pending = [self.in_flight.keys().next(), self.delayed.keys().next()];
        pending.into_iter().flatten().copied().fold(self.ack_floor, Offset::min)
    }

    /// When something will become deliverable without anybody's doing, in milliseconds since 1970: the next end of a lease or of
    /// a delay. After [`QueueState::expire`] it lies in the future, so a poller that sleeps until then does not spin.
    #[must_use]
    pub fn next_due_ms(&self) -> Option<u64> {
        let firsts = [self.by_deadline.first(), self.by_due.first()];
        firsts.into_iter().flatten().map(|&(at_ms, _)| at_ms).min()
    }

    /// Whether there is something to write.
    #[must_use]
    pub(crate) fn has_changed(&self) -> bool {
        self.is_replaced || !self.changed.is_empty()
    }

    /// From now on, records are marked with the time at which they are first handed out.
    pub fn mark_hand_outs(&mut self) {
        self.marks_hand_outs = true;
    }

    /// From now on nothing is handed out, or things are again.
    pub fn hold(&mut self, is_held: bool) {
        self.is_held = is_held;
    }

    /// Whether the record was ever handed out. Every record below `next_fresh` is settled or pending, and of the pending ones only those
    /// that were passed over have neither a delivery nor a mark.
    #[must_use]
    pub fn hand_out(&self, offset: Offset) -> HandOut {
        if self.delayed.get(&offset).is_some_and(|delayed| self.is_untouched(offset, delayed)) {
            return HandOut::Never;
        }
        let leased = self.in_flight.get(&offset).map(|lease| lease.handed_out_ms);
        match leased.or_else(|| self.delayed.get(&offset).map(|delayed| delayed.handed_out_ms)) {
            Some(Some(at_ms)) => HandOut::At(at_ms),
            Some(None) => HandOut::Unknown,
            None if self.is_in_settled_part(offset) => HandOut::Unknown,
            None => HandOut::Never,
        }
    }

    /// Whether a pending record was never given to anybody. It can be told only where hand-outs are marked: a delivery that was given
    /// back does not count. A redriven record was delivered before.
    pub(super) fn is_untouched(&self, offset: Offset, delayed: &Delayed) -> bool {
        let was_delivered =
            delayed.attempt > 0 || delayed.returned > 0 || delayed.handed_out_ms.is_some() || self.is_in_settled_part(offset);
        self.marks_hand_outs && !was_delivered
    }

    /// Whether the record is settled.
    #[must_use]
    pub fn is_settled(&self, offset: Offset) -> bool {
        self.is_in_settled_part(offset) && !self.is_pending(offset)
    }

    pub(super) fn is_in_settled_part(&self, offset: Offset) -> bool {
        offset < self.ack_floor || self.settled.contains(offset)
    }

    pub(super) fn is_pending(&self, offset: Offset) -> bool {
        self.in_flight.contains_key(&offset) || self.delayed.contains_key(&offset)
    }

    pub(super) fn pending(&self) -> usize {
        self.in_flight.len() + self.delayed.len()
    }

    pub(super) fn put_in_flight(&mut self, offset: Offset, lease: Lease) {
        self.changed.insert(offset);
        self.by_deadline.insert((lease.deadline_ms, offset));
        let before = self.in_flight.insert(offset, lease);
        assert!(before.is_none(), "{offset} was leased twice");
        self.note_out(offset);
    }

    pub(super) fn take_in_flight(&mut self, offset: Offset) -> Option<Lease> {
        let lease = self.in_flight.remove(&offset)?;
        self.changed.insert(offset);
        self.by_deadline.remove(&(lease.deadline_ms, offset));
        self.note_back(offset);
        Some(lease)
    }

    pub(super) fn put_delayed(&mut self, offset: Offset, delayed: Delayed) {
        self.changed.insert(offset);
        self.by_due.insert((delayed.due_ms, offset));
        let before = self.delayed.insert(offset, delayed);
        assert!(before.is_none(), "{offset} was delayed twice");
    }

    pub(super) fn take_delayed(&mut self, offset: Offset) -> Option<Delayed> {
        let delayed = self.delayed.remove(&offset)?;
        self.changed.insert(offset);
        let waited = self.order.as_mut().is_some_and(|order| order.waiting.remove(&offset));
        if !waited && !self.ready.remove(&offset) {
            self.by_due.remove(&(delayed.due_ms, offset));
        }
        Some(delayed)
    }

    /// Notes which delayed records are due. Each record moves once, so a queue of waiting ones costs nothing per call.
    pub(super) fn note_due(&mut self, now_ms: u64) {
        while let Some(&(due_ms, offset)) = self.by_due.first()
            && due_ms <= now_ms
        {
            self.by_due.pop_first();
            let has_turn = self.has_turn(offset);
            match &mut self.order {
                Some(order) if !has_turn => order.waiting.insert(offset),
                Some(_) | None => self.ready.insert(offset),
            };
        }
    }

    /// Puts an offset that is no longer pending into the settled part.
    pub(super) fn mark_settled(&mut self, offset: Offset) {
        self.mark_settled_range(offset, offset.next());
    }

    /// Lets go a record that a receive reads; the number of its reservation.
    pub(super) fn unreserve(&mut self, offset: Offset) -> Option<u64> {
        let reservation = self.reserved.remove(&offset)?;
        self.note_back(offset);
        Some(reservation)
    }

    /// As [`QueueState::unreserve`], for all of which this is so. How many they were.
    pub(super) fn unreserve_all(&mut self, is_meant: impl Fn(Offset, u64) -> bool) -> usize {
        let let_go = self.reserved.extract_if(|&offset, &mut id| is_meant(offset, id)).map(|(offset, _)| offset);
        if self.order.is_none() {
            return let_go.count();
        }
        let let_go: Vec<Offset> = let_go.collect();
        for &offset in &let_go {
            self.note_back(offset);
        }
        let_go.len()
    }

    /// As [`QueueState::mark_settled`], for a half-open range.
    pub(super) fn mark_settled_range(&mut self, start: Offset, end: Offset) {
        if start > self.ack_floor {
            self.changed.insert_range(start, end);
            self.settled.insert_range(start, end);
        } else if end > self.ack_floor {
            self.changed.insert_range(self.ack_floor, end);
            self.ack_floor = self.settled.absorb(end);
            self.next_fresh = self.next_fresh.max(self.ack_floor);
        }
        self.leave_lines(start, end);
    }
}
