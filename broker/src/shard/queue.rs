//! Queue groups in the shard's task: reserve, lease, settle, expire.
//!
//! The protocol is [`crate::group`] and pure; this file gives it the clock and the jitter, and stages what follows from it.

use crate::group::{DeadLetterCause, LeaseTerms, Leased, QueuePolicy, QueueState, QueueView, Reserved, Settled};
use crate::log::partition::Partition;
use crate::metrics::GroupLabel;
use crate::shard::Shard;
use crate::shard::commit::WriteError;
use crate::shard::dead_letters::{LetterRange, LettersDone, LettersEnd};
use crate::shard::task::Work;
use crate::storage::keys::GroupKey;
use sagamq_api::Offset;
use sagamq_api::group::EmptyReason;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::oneshot;

/// Bytes of a commit behind which no more dead letters go into it.
const DEAD_LETTER_BYTES_MAX: usize = 4 * 1024 * 1024;

/// When records that could not be read are tried again, in milliseconds: until then they do not stand in the way of others.
const READ_AGAIN_MS: u64 = 10_000;

/// Where the dead letters of a group go: the partition of the same number, so on the same shard.
#[derive(Clone, Debug)]
pub(crate) struct DeadLetterTarget {
    pub(crate) partition: Arc<Partition>,
    /// The group whose settled records are the dead letters that are done with: redriven or discarded.
    pub(crate) redrive: GroupKey,
}

/// A group in one partition, as its shard owns it.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) state: QueueState,
    pub(crate) policy: QueuePolicy,
    pub(crate) view: Arc<QueueView>,
    pub(crate) label: GroupLabel,
    /// `None` for the group that counts the dead letters that are done with.
    pub(crate) dead_letters: Option<DeadLetterTarget>,
}

impl Slot {
    /// What the embedder set in the meantime.
    pub(crate) fn take_over_settings(&mut self) {
        if self.view.marks_hand_outs() {
            self.state.mark_hand_outs();
        }
    }
}

/// How a receipt is settled.
#[derive(Clone, Debug)]
pub(crate) enum Verb {
    Ack,
    Nack {
        delay_ms: Option<u64>,
        reason: Option<Arc<str>>,
    },
    /// Give back what nobody has begun with: the delivery does not count.
    GiveBack,
    Extend {
        lease_ms: u64,
    },
    Terminate {
        reason: Arc<str>,
    },
}

/// A group in one partition in numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SlotDescription {
    pub(crate) ack_floor: Offset,
    pub(crate) next_fresh: Offset,
    pub(crate) lag: u64,
    pub(crate) oldest_unsettled: Option<Offset>,
    pub(crate) in_flight: u64,
    pub(crate) delayed: u64,
    pub(crate) dead_letters: u64,
}

/// Reservations whose receives went away before they leased: the shard releases them when it comes to it.
#[derive(Clone, Debug, Default)]
pub(crate) struct DroppedReservations(Arc<Mutex<Vec<(GroupKey, u64)>>>);

impl DroppedReservations {
    fn push(&self, key: GroupKey, reservation: u64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((key, reservation));
    }

    fn take(&self) -> Vec<(GroupKey, u64)> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Records that a receive reads. Dropping it lets them go, wherever the receive ended.
#[derive(Debug)]
pub(crate) struct Reservation {
    pub(crate) offsets: Vec<Offset>,
    id: u64,
    key: GroupKey,
    dropped: Option<DroppedReservations>,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if let Some(dropped) = &self.dropped
            && !self.offsets.is_empty()
        {
            dropped.push(self.key, self.id);
        }
    }
}

/// What became of the records of a reservation. What is not named is let go.
#[derive(Debug, Default)]
pub(crate) struct ReadOutcome {
    /// Read, and part of the answer.
    pub(crate) read: Vec<Offset>,
    /// There is no record any more.
    pub(crate) gone: Vec<Offset>,
    /// Could not be read: tried again later.
    pub(crate) failed: Vec<Offset>,
}

/// Something with one group in one partition.
pub(crate) enum QueueOp {
    /// Nobody else gets these records until they are leased or released. Answered at once: it tells of nothing.
    Reserve {
        max: u32,
        auto_ack: bool,
        reply: Reply<Reservation>,
    },
    /// Leases what was read of a reservation and lets the rest go.
    Lease {
        reservation: Reservation,
        outcome: ReadOutcome,
        terms: LeaseTerms,
        reply: Reply<Vec<Leased>>,
    },
    WhyEmpty {
        auto_ack: bool,
        reply: Reply<Option<EmptyReason>>,
    },
    Settle {
        verb: Verb,
        leases: Vec<(Offset, u64)>,
        reply: Reply<Vec<Settled>>,
    },
    Describe {
        reply: Reply<SlotDescription>,
    },
    DeadLetters {
        which: LetterRange,
        reply: Reply<Vec<Offset>>,
    },
    EndLetters {
        end: LettersEnd,
        reply: Reply<LettersDone>,
    },
}

/// Why a group did not do what it was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum QueueError {
    /// The group or its topic is deleted.
    #[error("the group is deleted")]
    GroupDeleted,
    /// The durable write failed or is not tried any more.
    #[error(transparent)]
    Write(#[from] WriteError),
}

pub(super) type Reply<T> = oneshot::Sender<Result<T, QueueError>>;

/// An operation with its address.
pub(crate) struct QueueRequest {
    pub(crate) key: GroupKey,
    pub(crate) op: QueueOp,
}

/// Receipts that are being settled: one commit takes as many of them as its bound on dead letters lets it.
pub(crate) struct Settling {
    key: GroupKey,
    verb: Verb,
    leases: std::vec::IntoIter<(Offset, u64)>,
    results: Vec<Settled>,
    /// An earlier commit took a part.
    is_begun: bool,
    reply: Reply<Vec<Settled>>,
}

impl Shard {
    pub(crate) fn queue(&mut self, request: QueueRequest) {
        let key = request.key;
        match request.op {
            QueueOp::Reserve { max, auto_ack, reply } => {
                // One that nobody hears of is dropped, and so released.
                let _ = reply.send(self.reserve(key, max, auto_ack));
            }
            QueueOp::Lease { reservation, outcome, terms, reply } => {
                let result = self.lease(reservation, &outcome, terms);
                self.reply(reply, result);
            }
            QueueOp::WhyEmpty { auto_ack, reply } => {
                let result = self.why_empty(key, auto_ack);
                self.reply(reply, result);
            }
            QueueOp::Settle { verb, leases, reply } => {
                let results = Vec::with_capacity(leases.len());
                self.settle(Settling { key, verb, leases: leases.into_iter(), results, is_begun: false, reply });
            }
            QueueOp::Describe { reply } => {
                // Leases that ran out are none: whoever asks must not see them.
                let result = self.expire(key).and_then(|()| self.describe(key));
                self.reply(reply, result);
            }
            QueueOp::DeadLetters { which, reply } => {
                let result = self.dead_letters(key, &which);
                self.reply(reply, result);
            }
            QueueOp::EndLetters { end, reply } => {
                let result = self.end_letters(key, &end);
                self.reply(reply, result);
            }
        }
    }

    /// Sends the result once everything staged so far is written: what it tells of is durable then.
    fn reply<T: Send + 'static>(&mut self, reply: Reply<T>, result: Result<T, QueueError>) {
        self.answer(move |written| {
            // A client that went away does not hear the answer; what he asked for is done all the same.
            let _ = reply.send(match written {
                Ok(()) => result,
                Err(error) => result.and(Err(error.into())),
            });
        });
    }

    fn reserve(&mut self, key: GroupKey, max: u32, auto_ack: bool) -> Result<Reservation, QueueError> {
        self.expire(key)?;
        let now_ms = self.clock.now_ms();
        let high_watermark = self.high_watermark(key)?;
        let slot = self.slots.get_mut(&key).ok_or(QueueError::GroupDeleted)?;
        slot.take_over_settings();
        let Reserved { id, offsets } = slot.state.reserve(now_ms, max, high_watermark, auto_ack);
        slot.view.update(&slot.state);
        Ok(Reservation { offsets, id, key, dropped: Some(self.dropped.clone()) })
    }

    /// Leases what was read, and lets the rest of the reservation go.
    fn lease(&mut self, mut taken: Reservation, outcome: &ReadOutcome, terms: LeaseTerms) -> Result<Vec<Leased>, QueueError> {
        taken.dropped = None;
        let (key, reservation) = (taken.key, taken.id);
        let now_ms = self.clock.now_ms();
        let random = &mut self.random;
        let slot = self.slots.get_mut(&key).ok_or(QueueError::GroupDeleted)?;
        let leased = slot.state.lease(reservation, &outcome.read, now_ms, terms, &mut || random.next_u64());
        slot.state.settle_gone(reservation, &outcome.gone);
        slot.state.put_off(reservation, &outcome.failed, now_ms, now_ms.saturating_add(READ_AGAIN_MS));
        let is_let_go = slot.state.release(reservation) > 0;
        let redelivered = leased.iter().filter(|leased| leased.attempt > 1).count();
        self.metrics.delivered_records.get_or_create(&slot.label).inc_by(leased.len() as u64);
        self.metrics.redelivered_records.get_or_create(&slot.label).inc_by(redelivered as u64);
        // A lease is no promise to anybody who is not asking again, so it need not survive a power cut: it is written before
        // it is given out (and so survives the death of the process), and the next sync covers it.
        // The mark of a hand-out is a promise to the embedder ("nobody can have seen it"), so it must survive a power cut.
        let has_new_mark = leased.iter().any(|leased| leased.handed_out_ms == Some(now_ms));
        if has_new_mark || (terms.auto_ack && !leased.is_empty()) {
            self.commit.require_sync();
        }
        if is_let_go {
            // Somebody who waits may have been kept from it.
            slot.view.wake();
        }
        slot.view.update(&slot.state);
        if !(leased.is_empty() && outcome.gone.is_empty() && outcome.failed.is_empty()) {
            self.touch(key);
        }
        Ok(leased)
    }

    /// Lets go what receives reserved that went away.
    pub(crate) fn release_dropped(&mut self) {
        for (key, reservation) in self.dropped.take() {
            if let Some(slot) = self.slots.get_mut(&key) {
                slot.state.release(reservation);
                slot.view.update(&slot.state);
                slot.view.wake();
            }
        }
    }

    fn why_empty(&self, key: GroupKey, auto_ack: bool) -> Result<Option<EmptyReason>, QueueError> {
        let slot = self.slots.get(&key).ok_or(QueueError::GroupDeleted)?;
        Ok(slot.state.why_empty(self.high_watermark(key)?, auto_ack))
    }

    fn high_watermark(&self, key: GroupKey) -> Result<Offset, QueueError> {
        Ok(self.logs.get(&key.partition).ok_or(QueueError::GroupDeleted)?.partition.high_watermark())
    }

    /// Settles as many receipts as this commit takes; the rest follows in the next one.
    pub(crate) fn settle(&mut self, mut settling: Settling) {
        let result = self.settle_part(&mut settling);
        let Settling { results, is_begun, reply, .. } = match result {
            Ok(()) if settling.leases.len() > 0 => {
                settling.is_begun = true;
                return self.work.push_back(Work::Settle(settling));
            }
            Ok(()) => settling,
            Err(error) => return self.reply(settling.reply, Err(error)),
        };
        self.answer(move |written| {
            let _ = reply.send(match written {
                Ok(()) => Ok(results),
                // The part that came before may be stored: nobody may be told that nothing was.
                Err(WriteError::Stopped(reason)) if is_begun => Err(WriteError::Failed(reason).into()),
                Err(error) => Err(error.into()),
            });
        });
    }

    fn settle_part(&mut self, settling: &mut Settling) -> Result<(), QueueError> {
        let Settling { key, verb, leases, results, .. } = settling;
        let (key, now_ms) = (*key, self.clock.now_ms());
        let before = results.len();
        let reason = match verb {
            Verb::Nack { reason, .. } => reason.clone(),
            Verb::Terminate { reason } => Some(Arc::clone(reason)),
            Verb::Ack | Verb::GiveBack | Verb::Extend { .. } => None,
        };
        let may_give_up = matches!(verb, Verb::Nack { .. } | Verb::Terminate { .. });
        while !(may_give_up && self.is_commit_full())
            && let Some((offset, lease_id)) = leases.next()
        {
            let slot = self.slots.get_mut(&key).ok_or(QueueError::GroupDeleted)?;
            let settled = match verb {
                Verb::Ack => slot.state.ack(offset, lease_id),
                Verb::Nack { delay_ms, .. } => slot.state.nack(offset, lease_id, now_ms, *delay_ms, &slot.policy, self.random.fraction()),
                Verb::GiveBack => slot.state.give_back(offset, lease_id, now_ms),
                Verb::Extend { lease_ms } => slot.state.extend(offset, lease_id, now_ms, *lease_ms),
                Verb::Terminate { .. } => slot.state.terminate(offset, lease_id, now_ms),
            };
            if let Settled::DeadLetter { attempts, cause } = settled {
                self.write_dead_letter(key, offset, attempts, cause, reason.as_deref());
            }
            results.push(settled);
        }
        let slot = self.slots.get_mut(&key).ok_or(QueueError::GroupDeleted)?;
        if matches!(verb, Verb::Ack) {
            let done = results[before..].iter().filter(|settled| matches!(settled, Settled::Done { .. })).count();
            self.metrics.acknowledged_records.get_or_create(&slot.label).inc_by(done as u64);
        }
        slot.view.wake();
        self.commit.require_sync();
        self.touch(key);
        Ok(())
    }

    /// Takes back the leases that ran out, as many as this commit takes; the rest follows in the next one.
    pub(crate) fn expire(&mut self, key: GroupKey) -> Result<(), QueueError> {
        let now_ms = self.clock.now_ms();
        let is_due = |slot: &Slot| slot.state.next_due_ms().is_some_and(|due_ms| due_ms <= now_ms);
        while !self.is_commit_full() {
            let random = &mut self.random;
            let slot = self.slots.get_mut(&key).ok_or(QueueError::GroupDeleted)?;
            if !is_due(slot) {
                return Ok(());
            }
            let dead = slot.state.expire(now_ms, &slot.policy, 1, &mut || random.fraction());
            slot.view.wake();
            self.touch(key);
            for letter in dead {
                self.write_dead_letter(key, letter.offset, letter.attempts, DeadLetterCause::DeliveryLimit, None);
            }
        }
        let is_left = self.slots.get(&key).is_some_and(is_due);
        if is_left && !self.work.iter().any(|work| matches!(work, Work::Expire(other) if *other == key)) {
            self.work.push_back(Work::Expire(key));
        }
        Ok(())
    }

    /// Dead letters are copies of records: what one commit holds of them is bounded.
    fn is_commit_full(&self) -> bool {
        self.commit.bytes() >= DEAD_LETTER_BYTES_MAX
    }

    fn describe(&self, key: GroupKey) -> Result<SlotDescription, QueueError> {
        let slot = self.slots.get(&key).ok_or(QueueError::GroupDeleted)?;
        let high_watermark = self.high_watermark(key)?;
        Ok(SlotDescription {
            ack_floor: slot.state.ack_floor(),
            next_fresh: slot.state.next_fresh(),
            lag: slot.state.lag(high_watermark),
            oldest_unsettled: slot.state.oldest_unsettled(high_watermark),
            in_flight: slot.state.in_flight(),
            delayed: slot.state.delayed(),
            dead_letters: self.left_dead_letters(slot),
        })
    }

    /// Notes that the state has changed: it is written with this commit.
    pub(crate) fn touch(&mut self, key: GroupKey) {
        self.dirty.insert(key);
    }

    /// Stages the changed states: each once, however often it changed.
    pub(crate) fn stage_slots(&mut self) {
        for key in std::mem::take(&mut self.dirty) {
            let Some(slot) = self.slots.get(&key) else { continue };
            slot.view.update(&slot.state);
            self.due.set(key, slot.state.next_due_ms());
            self.commit.push(crate::storage::Mutation::Put {
                family: crate::storage::Family::Group,
                key: key.partition.group(key.group),
                value: slot.state.encode().into(),
            });
        }
    }
}
