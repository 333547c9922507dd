//! What is true of a queue group's state in a partition at every moment.

use super::state::QueueState;
use sagamq_api::Offset;

impl QueueState {
    /// Looks at what costs next to nothing to look at: at the end of every change, and before the state is written. A state that breaks one
    /// of these would lose a record or deliver a settled one, so nothing of it may reach the disk.
    pub(super) fn assert_sound(&self) {
        assert!(self.ack_floor <= self.next_fresh, "a record below the floor was delivered: {} > {}", self.ack_floor, self.next_fresh);
        assert!(self.settled.first().is_none_or(|first| first > self.ack_floor), "the floor is settled: it should have moved");
        assert_eq!(self.by_deadline.len(), self.in_flight.len(), "every lease has its place in the order of deadlines");
        assert_eq!(self.by_due.len() + self.due(), self.delayed.len(), "every delayed record is due or will be");
        assert_eq!(self.accounted(), Some(self.next_fresh), "every record below the next fresh one is settled or pending");
    }

    /// Where the records end of which it is known that they are settled or pending, if that is known of all before.
    fn accounted(&self) -> Option<Offset> {
        let unsettled = (self.pending() as u64).checked_sub(self.redriven)?;
        let known = self.settled.count_below(self.next_fresh).checked_add(unsettled)?;
        self.ack_floor.0.checked_add(known).map(Offset)
    }

    /// All of it, which takes as long as the state is large. The reason says what is not true.
    pub(super) fn validate(&self) -> Result<(), &'static str> {
        let pending = || self.in_flight.keys().chain(self.delayed.keys()).copied();
        let is = |is: bool, reason| if is { Ok(()) } else { Err(reason) };
        is(self.ack_floor <= self.next_fresh, "a record below the floor was delivered")?;
        is(self.settled.first().is_none_or(|first| first > self.ack_floor), "the floor is settled")?;
        is(!self.in_flight.keys().any(|offset| self.delayed.contains_key(offset)), "a record is leased and delayed")?;
        is(pending().filter(|&offset| self.is_in_settled_part(offset)).count() as u64 == self.redriven, "redriven records are miscounted")?;
        let was_delivered = |offset| offset < self.next_fresh || self.is_in_settled_part(offset);
        is(pending().all(was_delivered), "a record is pending that was never delivered")?;
        is(self.accounted() == Some(self.next_fresh), "a delivered record is neither settled nor pending")?;
        let by_deadline =
            self.by_deadline.iter().all(|&(at, offset)| self.in_flight.get(&offset).is_some_and(|lease| lease.deadline_ms == at));
        is(by_deadline && self.by_deadline.len() == self.in_flight.len(), "the order of deadlines is not that of the leases")?;
        let by_due = self.by_due.iter().all(|&(at, offset)| self.delayed.get(&offset).is_some_and(|delayed| delayed.due_ms == at));
        let ready = self.ready.iter().all(|offset| self.delayed.contains_key(offset));
        let is_complete = self.by_due.len() + self.due() == self.delayed.len();
        is(by_due && ready && is_complete, "the order of delays is not that of the records")?;
        self.validate_order()
    }

    /// Delayed records that were seen to be due.
    fn due(&self) -> usize {
        self.ready.len() + self.order.as_ref().map_or(0, |order| order.waiting.len())
    }
}
