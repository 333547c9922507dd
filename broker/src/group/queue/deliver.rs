//! Delivery in three steps: a receive reserves records, reads them, and leases what it read and will return.
//!
//! A reservation changes nothing that is kept: it only stops other receives from reading the same records meanwhile. So a record is
//! leased, and its delivery counts, only when its bytes are in the hands of the receive; a read that fails costs nobody anything.

use super::state::{Delayed, Lease, QueueState};
use sagamq_api::Offset;
use sagamq_api::limits::{IN_FLIGHT_MAX, PENDING_MAX, RECEIVE_RECORDS_MAX, SETTLED_RANGES_MAX};
use sagamq_api::queue::EmptyReason;
use std::collections::HashMap;

/// A record that was given to a consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leased {
    /// Its offset.
    pub offset: Offset,
    /// The attempt that this delivery is, or becomes when its holder begins.
    pub attempt: u32,
    /// How often it came back from a holder who had not begun.
    pub returned: u32,
    /// Number of the lease: the fencing part of the receipt. All records that a receive gets of a partition have the same.
    pub lease_id: u64,
    /// End of the lease, in milliseconds since 1970; the time of the receive if the record was settled at once.
    pub deadline_ms: u64,
    /// When it was first handed out, in milliseconds since 1970, in a group that marks hand-outs.
    pub handed_out_ms: Option<u64>,
}

/// Records that nobody else gets until they are leased or let go.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a reservation has to be leased or released"]
pub struct Reserved {
    /// Number of the reservation.
    pub id: u64,
    /// The records: those that were delivered before, then fresh ones, each part in order of offsets.
    pub offsets: Vec<Offset>,
}

/// How a receive leases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseTerms {
    /// Length of the leases.
    pub lease_ms: u64,
    /// Settle at once instead.
    pub auto_ack: bool,
    /// Whether the consumer begins with the records at once; else it says so of each when it does.
    pub begins: bool,
}

impl QueueState {
    /// Reserves up to `max` records (at most [`RECEIVE_RECORDS_MAX`]): first those that are due for a redelivery, then fresh ones
    /// below the high watermark. With `auto_ack` they will take no in-flight slot.
    ///
    /// Leases that ran out are not looked at: call [`QueueState::expire`] before.
    pub fn reserve(&mut self, now_ms: u64, max: u32, high_watermark: Offset, auto_ack: bool) -> Reserved {
        self.note_due(now_ms);
        let room = if self.is_held { 0 } else { self.in_flight_room(auto_ack) };
        let wanted = (max.min(RECEIVE_RECORDS_MAX) as usize).min(room);
        let due = self.ready.range(..high_watermark).filter(|offset| !self.reserved.contains_key(offset));
        let mut offsets: Vec<Offset> = due.take(wanted).copied().collect();
        let fresh = (wanted - offsets.len()).min(self.fresh_room());
        offsets.extend(self.fresh(high_watermark).take(fresh));
        self.last_reservation += 1;
        let id = self.last_reservation;
        // At once: one record after the other, the table would grow ten times for a large receive.
        self.reserved.reserve(offsets.len());
        self.reserved.extend(offsets.iter().map(|&offset| (offset, id)));
        for &offset in &offsets {
            self.note_out(offset);
        }
        Reserved { id, offsets }
    }

    /// Leases reserved records, or settles them with `auto_ack`. One that was settled meanwhile is left out. `lease_id` must never be
    /// given twice for this group.
    pub fn lease(&mut self, reservation: u64, offsets: &[Offset], now_ms: u64, terms: LeaseTerms, lease_id: u64) -> Vec<Leased> {
        let deadline_ms = if terms.auto_ack { now_ms } else { now_ms.saturating_add(terms.lease_ms) };
        let mut leased = Vec::with_capacity(offsets.len());
        // Neighbours that are settled here: noted together.
        let mut settled = Offset(0)..Offset(0);
        for &offset in offsets {
            let Some(before) = self.take_reserved(reservation, offset, now_ms) else { continue };
            assert!(!self.is_key_out(offset), "another record of the key of {offset} is out");
            let (is_begun, returned) = (terms.begins || terms.auto_ack, before.returned);
            let attempt = before.attempt.saturating_add(u32::from(is_begun));
            let is_first = self.is_untouched(offset, &before);
            let handed_out_ms = if is_first { Some(now_ms) } else { before.handed_out_ms };
            if terms.auto_ack && self.is_in_settled_part(offset) {
                self.settle_taken(offset);
            } else if terms.auto_ack {
                if offset != settled.end {
                    self.mark_settled_range(settled.start, settled.end);
                    settled.start = offset;
                }
                settled.end = offset.next();
            } else {
                self.put_in_flight(offset, Lease { lease_id, deadline_ms, attempt, is_begun, returned, handed_out_ms });
            }
            let attempt = before.attempt.saturating_add(1);
            leased.push(Leased { offset, attempt, returned, lease_id, deadline_ms, handed_out_ms });
        }
        self.mark_settled_range(settled.start, settled.end);
        self.assert_sound();
        leased
    }

    /// Whether a record that is being appended is what a receive would get next: nothing older waits, and no bound keeps it back.
    pub fn is_next(&mut self, offset: Offset, now_ms: u64) -> bool {
        self.note_due(now_ms);
        // Where keys are kept in order, whoever receives finds out whose turn it is.
        let is_open = !self.is_held && self.order.is_none();
        let is_oldest = is_open && self.ready.is_empty() && self.reserved.is_empty() && self.settled.next_absent(self.next_fresh) == offset;
        is_oldest && self.in_flight_room(false) > 0 && self.fresh_room() > 0
    }

    /// Leases a record that is being appended and is [next](QueueState::is_next), in the commit that appends it.
    ///
    /// # Panics
    /// When it is not.
    pub fn lease_appended(&mut self, offset: Offset, now_ms: u64, terms: LeaseTerms, lease_id: u64) -> Leased {
        assert!(self.is_next(offset, now_ms), "what waits longer is delivered before {offset}");
        self.last_reservation += 1;
        let reservation = self.last_reservation;
        self.reserved.insert(offset, reservation);
        self.lease(reservation, &[offset], now_ms, terms, lease_id).pop().expect("it was just reserved")
    }

    /// Puts reserved records off that could not be read, so that they do not stand in the way of others. Their deliveries do not
    /// change.
    pub fn put_off(&mut self, reservation: u64, offsets: &[Offset], now_ms: u64, due_ms: u64) {
        for &offset in offsets {
            if let Some(before) = self.take_reserved(reservation, offset, now_ms) {
                self.put_delayed(offset, Delayed { due_ms, ..before });
            }
        }
        self.assert_sound();
    }

    /// Settles reserved offsets that hold no record any more: there is nothing to deliver.
    pub fn settle_gone(&mut self, reservation: u64, offsets: &[Offset]) {
        for &offset in offsets {
            if self.reserved.get(&offset) == Some(&reservation) {
                self.settle(offset);
            }
        }
    }

    /// Settles what was never delivered within a range in which no record is any more: in one go, however long it is. Whoever reads one of these
    /// offsets at this moment will find nothing there. Where the order of keys is kept, offsets are looked at one by one.
    pub fn settle_gap(&mut self, start: Offset, end: Offset) {
        let start = start.max(self.next_fresh);
        if start >= end || self.order.is_some() {
            return;
        }
        self.unreserve_all(|offset, _| start <= offset && offset < end);
        self.mark_settled_range(start, end);
        self.assert_sound();
    }

    /// Lets the rest of a reservation go; gives the number of its records. Nothing that is kept changes.
    pub fn release(&mut self, reservation: u64) -> usize {
        let released = self.unreserve_all(|_, id| id == reservation);
        if self.reserved.is_empty() {
            // Most queues are read now and then: the memory goes with the last who reads.
            self.reserved = HashMap::default();
        }
        released
    }

    /// Why a receive gets nothing; `None` when it would get something.
    #[must_use]
    pub fn why_empty(&self, high_watermark: Offset, auto_ack: bool) -> Option<EmptyReason> {
        let has_due = self.ready.range(..high_watermark).any(|offset| !self.reserved.contains_key(offset));
        let has_fresh = self.fresh(high_watermark).next().is_some();
        if (has_due || has_fresh) && self.in_flight_room(auto_ack) == 0 {
            Some(EmptyReason::InFlightLimit)
        } else if has_due {
            None
        } else if has_fresh && self.settled.len() >= SETTLED_RANGES_MAX {
            Some(EmptyReason::SettledRangesLimit)
        } else if has_fresh {
            (self.fresh_room() == 0).then_some(EmptyReason::PendingLimit)
        } else if !self.keys_wanted(high_watermark).is_empty() {
            None
        } else if self.is_at_look_bound(high_watermark) {
            Some(EmptyReason::KeyOrderLimit)
        } else if self.has_gated() {
            Some(EmptyReason::PartitionsAdded)
        } else if self.waiting_for_key() > 0 {
            Some(EmptyReason::KeyOrder)
        } else if self.delayed.keys().any(|offset| !self.reserved.contains_key(offset)) {
            Some(EmptyReason::AllDelayed)
        } else if self.in_flight.is_empty() && self.reserved.is_empty() {
            Some(EmptyReason::CaughtUp)
        } else {
            Some(EmptyReason::AllLeased)
        }
    }

    /// How many more records may be leased or read at a time.
    #[must_use]
    pub fn in_flight_room(&self, auto_ack: bool) -> usize {
        let in_flight = if auto_ack { 0 } else { self.in_flight.len() };
        IN_FLIGHT_MAX.saturating_sub(in_flight + self.reserved.len())
    }

    /// How many more fresh records may be delivered before the state would grow without bound: then an old one has to be settled first.
    #[must_use]
    pub fn fresh_room(&self) -> usize {
        if self.settled.len() >= SETTLED_RANGES_MAX {
            return 0;
        }
        PENDING_MAX.saturating_sub(self.pending() + self.reserved.len())
    }

    /// Records below the high watermark that were never delivered, are not settled and that nobody reads, in order: of a group that keeps the
    /// order of keys, those that have their turn.
    fn fresh(&self, high_watermark: Offset) -> impl Iterator<Item = Offset> + '_ {
        let mut next = self.next_fresh;
        let mut open = self.order.as_ref().map(|order| order.open.range(..high_watermark).copied());
        let fresh = core::iter::from_fn(move || match &mut open {
            Some(open) => open.next(),
            None => {
                let offset = self.settled.next_absent(next);
                next = offset.next();
                (offset < high_watermark).then_some(offset)
            }
        });
        fresh.filter(|offset| !self.reserved.contains_key(offset))
    }

    /// Takes a reserved record out of its place; gives what is known of it. `None` if it was settled meanwhile.
    fn take_reserved(&mut self, reservation: u64, offset: Offset, now_ms: u64) -> Option<Delayed> {
        if self.reserved.get(&offset) != Some(&reservation) {
            return None;
        }
        let delayed = self.take_delayed(offset).unwrap_or_else(|| {
            self.pass_over(offset, now_ms);
            self.next_fresh = offset.next();
            self.fresh_begins_later();
            Delayed::untouched(now_ms)
        });
        self.unreserve(offset);
        Some(delayed)
    }

    /// A fresh record is delivered before older ones, which others read or could not read: those count as pending from now on.
    fn pass_over(&mut self, offset: Offset, now_ms: u64) {
        let mut next = self.settled.next_absent(self.next_fresh);
        while next < offset {
            self.put_delayed(next, Delayed::untouched(now_ms));
            next = self.settled.next_absent(next.next());
        }
        self.note_due(now_ms);
    }
}
