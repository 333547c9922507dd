//! The owner of the queue groups: reserve, lease, settle, expire, dead letters.
//!
//! The protocol is [`crate::group::queue`] and pure; here it gets the clock and the jitter, and what follows from it is staged.

mod dead_letters;
mod due;
mod receive;
pub(crate) mod request;
pub(crate) mod reservation;
mod settle;
pub(crate) mod slot;
mod slots;

use crate::group::queue::HandOut;
use crate::ids::GroupKey;
use crate::shard::core::Core;
use request::{QueueError, QueueOp, QueueRequest, Reply};
use reservation::DroppedReservations;
use sagamq_api::Offset;
use settle::Settling;
use slot::Slot;
use slots::Slots;
use std::collections::VecDeque;

/// The owner of the queue groups of a shard.
#[derive(Default)]
pub(super) struct Queues {
    slots: Slots,
    /// What did not fit one commit and goes on in the next.
    work: VecDeque<Work>,
    dropped: DroppedReservations,
}

enum Work {
    Settle(Settling),
    Expire(GroupKey),
}

impl Queues {
    /// Owns these groups from now on.
    pub(super) fn add(&mut self, slots: Vec<(GroupKey, Slot)>) {
        for (key, slot) in slots {
            self.slots.add(key, slot);
        }
    }

    /// Forgets a group that is deleted.
    pub(super) fn remove(&mut self, key: GroupKey) {
        self.slots.remove(key);
    }

    pub(super) fn handle(&mut self, core: &mut Core, request: QueueRequest) {
        match request {
            QueueRequest::Of { key, op } => self.handle_one(core, key, op),
            QueueRequest::HandOuts { asked, reply } => {
                let _ = reply.send(asked.into_iter().map(|(key, offset)| self.hand_out(key, offset)).collect());
            }
        }
    }

    fn handle_one(&mut self, core: &mut Core, key: GroupKey, op: QueueOp) {
        match op {
            QueueOp::Reserve { max, auto_ack, reply } => {
                let Self { slots, dropped, .. } = match self.expire(core, key) {
                    Ok(()) => self,
                    Err(error) => return drop(reply.send(Err(error))),
                };
                // One that nobody hears of is dropped, and so released.
                let _ = reply.send(receive::reserve(core, slots, dropped, key, max, auto_ack));
            }
            QueueOp::Lease { reservation, outcome, terms, reply } => {
                let result = receive::lease(core, &mut self.slots, reservation, &outcome, terms);
                answer(core, reply, result);
            }
            QueueOp::WhyEmpty { auto_ack, reply } => {
                let result = receive::why_empty(&self.slots, key, auto_ack);
                answer(core, reply, result);
            }
            QueueOp::Settle { verb, leases, reply } => self.settle(core, Settling::new(key, verb, leases, reply)),
            QueueOp::Describe { reply } => {
                // Leases that ran out are none: whoever asks must not see them.
                let result = self.expire(core, key).and_then(|()| self.slots.describe(key));
                answer(core, reply, result);
            }
            QueueOp::DeadLetters { which, reply } => {
                let result = dead_letters::list(&self.slots, key, &which);
                answer(core, reply, result);
            }
            QueueOp::EndLetters { end, reply } => {
                let result = dead_letters::end(core, &mut self.slots, key, &end);
                answer(core, reply, result);
            }
        }
    }

    /// Goes on with what did not fit the commit before, and lets go what receives reserved that went away. Whether there was such work.
    pub(super) fn go_on(&mut self, core: &mut Core) -> bool {
        let work = std::mem::take(&mut self.work);
        let is_at_work = !work.is_empty();
        for work in work {
            match work {
                Work::Settle(settling) => self.settle(core, settling),
                // A group that was deleted meanwhile has no leases any more.
                Work::Expire(key) => drop(self.expire(core, key)),
            }
        }
        receive::release_dropped(&mut self.slots, &self.dropped);
        is_at_work
    }

    /// Leases run out.
    pub(super) fn tick(&mut self, core: &mut Core) {
        for key in self.slots.due(core.clock.now_ms()) {
            self.expire(core, key).expect("what is due is there: both are removed together");
            if !self.work.is_empty() {
                break;
            }
        }
    }

    /// Stages the states that have changed.
    pub(super) fn stage(&mut self, core: &mut Core) {
        self.slots.stage(core);
    }

    /// Whether a record was ever handed out. A group that is gone has nothing to say.
    pub(super) fn hand_out(&mut self, key: GroupKey, offset: Offset) -> HandOut {
        let Ok(slot) = self.slots.get_mut(key) else { return HandOut::Unknown };
        slot.take_over_settings();
        slot.state.hand_out(offset)
    }

    /// Settles a record, whoever has it leased.
    pub(super) fn settle_record(&mut self, key: GroupKey, offset: Offset) {
        if self.slots.get_mut(key).is_ok_and(|slot| slot.state.settle(offset)) {
            self.slots.touch(key);
        }
    }

    /// Makes a record due again at a time, whoever has it leased.
    pub(super) fn postpone_record(&mut self, key: GroupKey, offset: Offset, due_ms: u64) {
        if self.slots.get_mut(key).is_ok_and(|slot| slot.state.postpone(offset, due_ms)) {
            self.slots.touch(key);
        }
    }

    fn settle(&mut self, core: &mut Core, settling: Settling) {
        self.work.extend(settling.settle(core, &mut self.slots).map(Work::Settle));
    }

    /// Takes back the leases that ran out, as many as this commit takes; the rest follows in the next one.
    fn expire(&mut self, core: &mut Core, key: GroupKey) -> Result<(), QueueError> {
        let is_left = settle::expire(core, &mut self.slots, key)?;
        if is_left && !self.work.iter().any(|work| matches!(work, Work::Expire(other) if *other == key)) {
            self.work.push_back(Work::Expire(key));
        }
        Ok(())
    }
}

/// Sends the result once everything staged so far is written: what it tells of is durable then.
fn answer<T: Send + 'static>(core: &mut Core, reply: Reply<T>, result: Result<T, QueueError>) {
    core.answer(move |written| {
        // A client that went away does not hear the answer; what he asked for is done all the same.
        let _ = reply.send(match written {
            Ok(()) => result,
            Err(error) => result.and(Err(error.into())),
        });
    });
}
