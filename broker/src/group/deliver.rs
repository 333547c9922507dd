//! Delivery: which records a receive gets.

use super::state::{Lease, QueueState};
use sagamq_api::Offset;
use sagamq_api::group::EmptyReason;
use sagamq_api::limits::{IN_FLIGHT_MAX, PENDING_MAX, RECEIVE_RECORDS_MAX, SETTLED_RANGES_MAX};

/// A record that was given to a consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leased {
    /// Its offset.
    pub offset: Offset,
    /// Deliveries to this group, this one included.
    pub attempt: u32,
    /// Number of the lease: the fencing part of the receipt.
    pub lease_id: u64,
    /// End of the lease, in milliseconds since 1970; the time of the receive if the record was settled at once.
    pub deadline_ms: u64,
    /// When it was first handed out, in milliseconds since 1970, in a group that marks hand-outs.
    pub handed_out_ms: Option<u64>,
}

/// What a receive got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// The records: those that were delivered before, then fresh ones, each part in order of offsets.
    pub leased: Vec<Leased>,
    /// Why there are none, if there are none.
    pub empty: Option<EmptyReason>,
}

impl QueueState {
    /// Leases up to `max` records (at most [`RECEIVE_RECORDS_MAX`]): first those that are due for a redelivery, then fresh
    /// ones below the high watermark. With `auto_ack` they are settled at once and take no in-flight slot.
    ///
    /// Leases that ran out are not looked at: call [`QueueState::expire`] before. `next_lease_id` is called once for each
    /// record and must never give a number twice for this group.
    pub fn receive(
        &mut self,
        now_ms: u64,
        max: u32,
        lease_ms: u64,
        high_watermark: Offset,
        auto_ack: bool,
        next_lease_id: &mut dyn FnMut() -> u64,
    ) -> Received {
        self.note_due(now_ms);
        let max = max.min(RECEIVE_RECORDS_MAX) as usize;
        let deadline_ms = if auto_ack { now_ms } else { now_ms.saturating_add(lease_ms) };
        let mut leased = Vec::new();
        while leased.len() < max && (auto_ack || self.in_flight.len() < IN_FLIGHT_MAX) {
            let Some((offset, attempt, handed_out_ms)) = self.take_next(high_watermark, now_ms) else { break };
            let lease_id = next_lease_id();
            if auto_ack {
                self.settle_taken(offset);
            } else {
                self.put_in_flight(offset, Lease { lease_id, deadline_ms, attempt, handed_out_ms });
            }
            leased.push(Leased { offset, attempt, lease_id, deadline_ms, handed_out_ms });
        }
        let empty = leased.is_empty().then(|| self.why_empty(high_watermark));
        Received { leased, empty }
    }

    /// Takes the next deliverable record out of its place; gives its offset, the number of the delivery, and when it was first handed out.
    fn take_next(&mut self, high_watermark: Offset, now_ms: u64) -> Option<(Offset, u32, Option<u64>)> {
        if let Some(&offset) = self.ready.first()
            && offset < high_watermark
        {
            let delayed = self.take_delayed(offset)?;
            return Some((offset, delayed.attempt.saturating_add(1), delayed.handed_out_ms));
        }
        if self.is_fresh_blocked() {
            return None;
        }
        let offset = self.peek_fresh(high_watermark)?;
        self.next_fresh = offset.next();
        Some((offset, 1, self.marks_hand_outs.then_some(now_ms)))
    }

    /// The first record that was never delivered and is not settled.
    fn peek_fresh(&self, high_watermark: Offset) -> Option<Offset> {
        let offset = self.settled.next_absent(self.next_fresh);
        (offset < high_watermark).then_some(offset)
    }

    /// Fresh records would make the state grow without bound: an old one has to be settled first.
    fn is_fresh_blocked(&self) -> bool {
        self.settled.len() >= SETTLED_RANGES_MAX || self.pending() >= PENDING_MAX
    }

    fn why_empty(&self, high_watermark: Offset) -> EmptyReason {
        let has_ready = self.ready.first().is_some_and(|&offset| offset < high_watermark);
        let has_fresh = self.peek_fresh(high_watermark).is_some();
        if self.pending() == 0 && !has_fresh {
            EmptyReason::CaughtUp
        } else if (has_ready || has_fresh) && self.in_flight.len() >= IN_FLIGHT_MAX {
            EmptyReason::InFlightLimit
        } else if has_fresh && self.settled.len() >= SETTLED_RANGES_MAX {
            EmptyReason::SettledRangesLimit
        } else if self.delayed.is_empty() {
            EmptyReason::AllLeased
        } else {
            EmptyReason::AllDelayed
        }
    }
}
