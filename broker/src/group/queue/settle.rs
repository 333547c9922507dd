//! What ends a lease: acknowledgement, negative acknowledgement, termination, or its deadline; and what brings a record back.
//!
//! Which lease counts: a receipt holds as long as its lease is the last one of the record. Only its holder can have finished the
//! work then, so an acknowledgement is taken even after the deadline, as long as nobody else got the record. To give back, to
//! extend or to terminate needs a lease that is not over: after its deadline the record belongs to the group again.

use super::policy::QueuePolicy;
use super::state::{Delayed, Lease, QueueState};
use sagamq_api::Offset;
use sagamq_api::limits::PENDING_MAX;

/// What became of one receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Settled {
    /// The verb was applied.
    Done {
        /// End of the lease after an extension, in milliseconds since 1970.
        lease_until_ms: Option<u64>,
    },
    /// The record was settled before; nothing was changed.
    AlreadySettled,
    /// The record is settled and has to be written to the dead-letter topic, in the same commit.
    DeadLetter {
        /// How often it was delivered.
        attempts: u32,
        /// Why it was given up.
        cause: DeadLetterCause,
    },
    /// The lease is over or was never this one; nothing was changed.
    Expired,
}

/// Why a record was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeadLetterCause {
    /// It was delivered as often as the topic allows.
    DeliveryLimit,
    /// A consumer said that it can never be processed.
    Terminated,
}

impl DeadLetterCause {
    /// The cause as it stands in a dead letter.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DeliveryLimit => "delivery_limit",
            Self::Terminated => "terminated",
        }
    }
}

/// A record that was given up when its lease ran out. The cause is the delivery limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeadLettered {
    /// Its offset.
    pub offset: Offset,
    /// How often it was delivered.
    pub attempts: u32,
}

/// What a redrive did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Redriven {
    /// The record will be delivered again, its deliveries counted from the start.
    Done,
    /// The record is not settled: the group has it or will get it anyway. Nothing was changed.
    NotSettled,
    /// As many records wait as the bound allows. Nothing was changed; try again when some are settled.
    Full,
}

impl QueueState {
    /// Settles a leased record. Taken from the last holder of the record even after the deadline; a repeated one is
    /// [`Settled::AlreadySettled`].
    pub fn ack(&mut self, offset: Offset, lease_id: u64) -> Settled {
        if self.may_ack(offset, lease_id) {
            self.settle(offset);
            Settled::Done { lease_until_ms: None }
        } else {
            self.not_held(offset)
        }
    }

    /// Whether [`QueueState::ack`] would settle the record now.
    #[must_use]
    pub fn may_ack(&self, offset: Offset, lease_id: u64) -> bool {
        let is_leased = self.in_flight.get(&offset).is_some_and(|lease| lease.lease_id == lease_id);
        is_leased || self.delayed.get(&offset).is_some_and(|delayed| delayed.lapsed_lease == Some(lease_id))
    }

    /// Gives a leased record back. It is due after `delay_ms`, or after the policy's backoff; at its last delivery it becomes a
    /// dead letter instead. `jitter` is in `0.0..1.0`.
    pub fn nack(
        &mut self,
        offset: Offset,
        lease_id: u64,
        now_ms: u64,
        delay_ms: Option<u64>,
        policy: &QueuePolicy,
        jitter: f64,
    ) -> Settled {
        let Some(lease) = self.held(offset, lease_id, now_ms) else { return self.not_held(offset) };
        // Who gives it back has tried.
        let attempt = lease.number();
        if policy.is_exhausted(attempt) {
            self.settle(offset);
            return Settled::DeadLetter { attempts: attempt, cause: DeadLetterCause::DeliveryLimit };
        }
        let wait_ms = delay_ms.unwrap_or_else(|| policy.backoff_ms(attempt, jitter));
        self.take_in_flight(offset);
        self.put_delayed(
            offset,
            Delayed {
                attempt,
                returned: lease.returned,
                due_ms: now_ms.saturating_add(wait_ms),
                lapsed_lease: None,
                handed_out_ms: lease.handed_out_ms,
            },
        );
        self.assert_sound();
        Settled::Done { lease_until_ms: None }
    }

    /// Makes a lease end `lease_ms` from now. Its holder `begins` with the record, which counts once.
    pub fn extend(&mut self, offset: Offset, lease_id: u64, now_ms: u64, lease_ms: u64, begins: bool) -> Settled {
        let Some(lease) = self.held(offset, lease_id, now_ms) else { return self.not_held(offset) };
        let deadline_ms = now_ms.saturating_add(lease_ms);
        self.take_in_flight(offset);
        let attempt = if begins { lease.number() } else { lease.attempt };
        self.put_in_flight(offset, Lease { deadline_ms, attempt, is_begun: lease.is_begun || begins, ..lease });
        self.assert_sound();
        Settled::Done { lease_until_ms: Some(deadline_ms) }
    }

    /// Makes a leased record a dead letter.
    pub fn terminate(&mut self, offset: Offset, lease_id: u64, now_ms: u64) -> Settled {
        let Some(lease) = self.held(offset, lease_id, now_ms) else { return self.not_held(offset) };
        self.settle(offset);
        Settled::DeadLetter { attempts: lease.number(), cause: DeadLetterCause::Terminated }
    }

    /// Gives back a leased record that nobody has begun with: due at once, and the delivery is not counted.
    pub fn give_back(&mut self, offset: Offset, lease_id: u64, now_ms: u64) -> Settled {
        if self.held(offset, lease_id, now_ms).is_some() && self.undo_lease(offset, lease_id, now_ms) {
            Settled::Done { lease_until_ms: None }
        } else {
            self.not_held(offset)
        }
    }

    /// Undoes a delivery that never reached its consumer (the answer would have been too large): due at once, and not counted.
    /// `false` when the record is not leased by this lease.
    pub fn undo_lease(&mut self, offset: Offset, lease_id: u64, now_ms: u64) -> bool {
        let Some(lease) = self.in_flight.get(&offset).copied().filter(|lease| lease.lease_id == lease_id) else { return false };
        self.take_in_flight(offset);
        let (attempt, returned) = (lease.number() - 1, lease.returned);
        self.put_delayed(offset, Delayed { attempt, returned, due_ms: now_ms, lapsed_lease: None, handed_out_ms: lease.handed_out_ms });
        self.note_due(now_ms);
        self.assert_sound();
        true
    }

    /// Settles a record whatever its lease, delivered or not: for an embedder that owns the group. `false` when it was settled.
    pub fn settle(&mut self, offset: Offset) -> bool {
        if self.is_settled(offset) {
            return false;
        }
        // Whoever reads it at this moment will not get it.
        self.unreserve(offset);
        if self.take_in_flight(offset).is_none() {
            self.take_delayed(offset);
        }
        self.settle_taken(offset);
        self.assert_sound();
        true
    }

    /// Makes a record that was handed out due at `due_ms`, whatever its lease, without counting a delivery: for an embedder whose
    /// consumer said that it should be asked again then. `false` when the record is not pending.
    pub fn postpone(&mut self, offset: Offset, due_ms: u64) -> bool {
        let delayed = match self.take_in_flight(offset) {
            Some(lease) => Delayed {
                attempt: lease.attempt,
                returned: lease.returned,
                due_ms,
                // Its holder may have more to say, and to acknowledge.
                lapsed_lease: Some(lease.lease_id),
                handed_out_ms: lease.handed_out_ms,
            },
            None => match self.take_delayed(offset) {
                Some(delayed) => {
                    // Whoever reads it at this moment comes too early.
                    self.unreserve(offset);
                    Delayed { due_ms, ..delayed }
                }
                None => return false,
            },
        };
        self.put_delayed(offset, delayed);
        self.assert_sound();
        true
    }

    /// Settles a record that was taken out of the pending ones.
    pub(super) fn settle_taken(&mut self, offset: Offset) {
        if self.is_in_settled_part(offset) {
            assert!(self.redriven > 0, "only a redriven record is pending in the settled part");
            self.redriven -= 1;
            self.leave_lines(offset, offset.next());
        } else {
            self.mark_settled(offset);
        }
    }

    /// Ends the leases that ran out: their records wait for the policy's backoff, or are settled as dead letters, which have to
    /// be written in the same commit. Also notes which delayed records are due. `jitter` is called once a lease.
    ///
    /// It stops behind `dead_letters_max` dead letters, so that a commit stays small; [`QueueState::next_due_ms`] is in the past then.
    pub fn expire(
        &mut self,
        now_ms: u64,
        policy: &QueuePolicy,
        dead_letters_max: usize,
        jitter: &mut dyn FnMut() -> f64,
    ) -> Vec<DeadLettered> {
        let mut dead_letters = Vec::new();
        while dead_letters.len() < dead_letters_max
            && let Some(&(deadline_ms, offset)) = self.by_deadline.first()
            && deadline_ms <= now_ms
        {
            let lease = self.take_in_flight(offset).expect("the index holds leased records only");
            let (attempt, returned) = lease.ran_out();
            if policy.is_exhausted(attempt) {
                self.settle_taken(offset);
                dead_letters.push(DeadLettered { offset, attempts: attempt });
            } else {
                let due_ms = now_ms.saturating_add(policy.backoff_ms(attempt.saturating_add(returned), jitter()));
                let lapsed_lease = Some(lease.lease_id);
                self.put_delayed(offset, Delayed { attempt, returned, due_ms, lapsed_lease, handed_out_ms: lease.handed_out_ms });
            }
        }
        self.note_due(now_ms);
        self.assert_sound();
        dead_letters
    }

    /// Makes a settled record (a dead letter) deliverable again, at once and with no deliveries counted.
    pub fn redrive(&mut self, offset: Offset, now_ms: u64) -> Redriven {
        self.redrive_at(offset, now_ms, now_ms)
    }

    /// As [`QueueState::redrive`], deliverable from `due_ms` on.
    pub fn redrive_at(&mut self, offset: Offset, now_ms: u64, due_ms: u64) -> Redriven {
        if !self.is_settled(offset) {
            return Redriven::NotSettled;
        }
        if self.pending() >= PENDING_MAX {
            return Redriven::Full;
        }
        self.redriven += 1;
        self.join_unknown(offset);
        self.put_delayed(offset, Delayed::untouched(due_ms));
        self.note_due(now_ms);
        self.assert_sound();
        Redriven::Done
    }

    /// Settles every record below `log_start`: retention removed them, so there is nothing left to deliver. How many of them were not
    /// settled.
    pub fn forget_below(&mut self, log_start: Offset) -> u64 {
        let unsettled = self.unsettled_below(log_start);
        while let Some((&offset, _)) = self.in_flight.first_key_value()
            && offset < log_start
        {
            self.settle(offset);
        }
        while let Some((&offset, _)) = self.delayed.first_key_value()
            && offset < log_start
        {
            self.settle(offset);
        }
        self.unreserve_all(|offset, _| offset < log_start);
        self.mark_settled_range(self.ack_floor, log_start);
        self.assert_sound();
        unsettled
    }

    pub(super) fn unsettled_below(&self, end: Offset) -> u64 {
        let written = end.0.saturating_sub(self.ack_floor.0);
        let pending = self.in_flight.range(..end).map(|(offset, _)| offset).chain(self.delayed.range(..end).map(|(offset, _)| offset));
        let redriven = pending.filter(|&&offset| self.is_in_settled_part(offset)).count() as u64;
        // What was settled before it was written lies above.
        written.saturating_sub(self.settled.count_below(end)) + redriven
    }

    /// The lease, if it is this one and not over.
    fn held(&self, offset: Offset, lease_id: u64, now_ms: u64) -> Option<Lease> {
        self.in_flight.get(&offset).copied().filter(|lease| lease.lease_id == lease_id && now_ms < lease.deadline_ms)
    }

    fn not_held(&self, offset: Offset) -> Settled {
        if self.is_settled(offset) { Settled::AlreadySettled } else { Settled::Expired }
    }
}
