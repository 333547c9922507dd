//! Setting where a group stands: what lies below is settled, and what lies from there on was never delivered.

use super::state::QueueState;
use sagamq_api::Offset;

/// What a seek did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sought {
    /// Where the group stands.
    pub offset: Offset,
    /// Records that were not settled and are now.
    pub skipped: u64,
    /// Records that were settled and are not any more.
    pub again: u64,
}

impl QueueState {
    /// Begins anew at an offset. Leases and delays end, wherever their records lie, and so do reservations: their receipts settle nothing,
    /// and what was being read is not delivered. Deliveries are counted from the start.
    pub fn seek(&mut self, to: Offset) -> Sought {
        let skipped = self.unsettled_below(to);
        let pending = self.in_flight.keys().chain(self.delayed.keys());
        let redriven = pending.filter(|&&offset| offset >= to && self.is_in_settled_part(offset)).count() as u64;
        let above = self.settled.count_below(Offset(u64::MAX)) - self.settled.count_below(to);
        let again = self.ack_floor.0.saturating_sub(to.0) + above - redriven;
        *self = Self {
            marks_hand_outs: self.marks_hand_outs,
            is_held: self.is_held,
            // A number of a reservation is never given twice, and neither is that of a lease.
            last_reservation: self.last_reservation,
            is_replaced: true,
            ..Self::starting_at(to)
        };
        self.assert_sound();
        Sought { offset: to, skipped, again }
    }
}
