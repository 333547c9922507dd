//! Queue groups in the shard's task: lease, settle, dead-letter, redrive.
//!
//! The protocol is [`crate::group`] and pure; this file gives it the clock and the jitter, and stages what follows from it.

use crate::group::{DeadLetterCause, QueuePolicy, QueueState, Received, Redriven, Settled};
use crate::log::batch::{Batch, Record};
use crate::log::partition::Partition;
use crate::log::reader;
use crate::metrics::GroupLabel;
use crate::shard::Shard;
use crate::shard::commit::WriteError;
use crate::storage::keys::{GroupId, PartitionKey};
use sagamq_api::Offset;
use sagamq_api::headers::dead_letter;
use sagamq_api::record::Payload;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio::sync::{Notify, oneshot};

/// A group in one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct GroupKey {
    pub(crate) partition: PartitionKey,
    pub(crate) group: GroupId,
}

/// What pollers may know of a group in a partition without asking its shard.
#[derive(Debug)]
pub(crate) struct QueueView {
    next_fresh: AtomicU64,
    /// `u64::MAX`: nothing will become due by itself.
    next_due_ms: AtomicU64,
    ready: AtomicU64,
    /// Whether hand-outs are marked and synced: the embedder asked for it.
    marks_hand_outs: AtomicBool,
}

impl QueueView {
    pub(crate) fn of(state: &QueueState) -> Self {
        let view = Self {
            next_fresh: AtomicU64::new(0),
            next_due_ms: AtomicU64::new(0),
            ready: AtomicU64::new(0),
            marks_hand_outs: AtomicBool::new(false),
        };
        view.update(state);
        view
    }

    fn update(&self, state: &QueueState) {
        self.next_fresh.store(state.next_fresh().0, Ordering::Release);
        self.next_due_ms.store(state.next_due_ms().unwrap_or(u64::MAX), Ordering::Release);
        self.ready.store(state.ready(), Ordering::Release);
    }

    /// About how many records a receive could get now.
    pub(crate) fn available(&self, high_watermark: Offset, now_ms: u64) -> u64 {
        let fresh = high_watermark.0.saturating_sub(self.next_fresh.load(Ordering::Acquire));
        let due = u64::from(self.next_due_ms.load(Ordering::Acquire) <= now_ms);
        fresh + due + self.ready.load(Ordering::Acquire)
    }

    /// From now on, records are marked with the time at which they are first handed out, and the mark is synced before that.
    pub(crate) fn mark_hand_outs(&self) {
        self.marks_hand_outs.store(true, Ordering::Release);
    }

    /// When something will become deliverable by itself.
    pub(crate) fn next_due_ms(&self) -> Option<u64> {
        Some(self.next_due_ms.load(Ordering::Acquire)).filter(|&due| due != u64::MAX)
    }
}

/// Where the dead letters of a group go: the partition of the same number, so on the same shard.
#[derive(Clone, Debug)]
pub(crate) struct DeadLetterTarget {
    pub(crate) partition: Arc<Partition>,
    /// The group whose settled records are the redriven dead letters.
    pub(crate) redrive: GroupKey,
}

/// A group in one partition, as its shard owns it.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) state: QueueState,
    pub(crate) policy: QueuePolicy,
    pub(crate) view: Arc<QueueView>,
    /// Wakes one poller of the group.
    pub(crate) notify: Arc<Notify>,
    pub(crate) label: GroupLabel,
    /// `None` for the group that counts redriven dead letters.
    pub(crate) dead_letters: Option<DeadLetterTarget>,
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

/// Which dead letters are redriven.
#[derive(Clone, Debug)]
pub(crate) struct RedriveFilter {
    pub(crate) cause: Option<String>,
    pub(crate) offsets: Vec<Offset>,
    pub(crate) max: usize,
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

/// Something with one group in one partition.
pub(crate) enum QueueOp {
    Receive {
        max: u32,
        lease_ms: u64,
        auto_ack: bool,
        reply: Reply<Received>,
    },
    /// Takes back leases whose records did not fit the answer; their delivery does not count.
    Undo {
        leases: Vec<(Offset, u64)>,
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
        max: usize,
        reply: Reply<Vec<Offset>>,
    },
    Redrive {
        filter: RedriveFilter,
        reply: Reply<(u64, u64)>,
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

type Reply<T> = oneshot::Sender<Result<T, QueueError>>;

/// An operation with its address.
pub(crate) struct QueueRequest {
    pub(crate) key: GroupKey,
    pub(crate) op: QueueOp,
}

impl Shard {
    pub(crate) fn queue(&mut self, request: QueueRequest) {
        let key = request.key;
        match request.op {
            QueueOp::Receive { max, lease_ms, auto_ack, reply } => {
                let result = self.receive(key, max, lease_ms, auto_ack);
                self.reply(reply, result);
            }
            QueueOp::Undo { leases } => self.undo(key, &leases),
            QueueOp::Settle { verb, leases, reply } => {
                let result = self.settle(key, &verb, &leases);
                self.reply(reply, result);
            }
            QueueOp::Describe { reply } => {
                let _ = reply.send(self.describe(key));
            }
            QueueOp::DeadLetters { max, reply } => {
                let _ = reply.send(self.dead_letters(key, max));
            }
            QueueOp::Redrive { filter, reply } => {
                let result = self.redrive(key, &filter);
                self.reply(reply, result);
            }
        }
    }

    /// Sends the result once everything staged so far is written.
    fn reply<T: Send + 'static>(&mut self, reply: Reply<T>, result: Result<T, QueueError>) {
        self.answer(move |written| {
            // A client that went away does not hear the answer; what he asked for is done all the same.
            let _ = reply.send(match written {
                Ok(()) => result,
                Err(error) => result.and(Err(error.into())),
            });
        });
    }

    fn receive(&mut self, key: GroupKey, max: u32, lease_ms: u64, auto_ack: bool) -> Result<Received, QueueError> {
        self.expire(key)?;
        let now_ms = self.clock.now_ms();
        let random = &mut self.random;
        let high_watermark = self.logs.get(&key.partition).ok_or(QueueError::GroupDeleted)?.partition.high_watermark();
        let slot = self.slots.get_mut(&key).ok_or(QueueError::GroupDeleted)?;
        let marks_hand_outs = slot.view.marks_hand_outs.load(Ordering::Acquire);
        if marks_hand_outs {
            slot.state.mark_hand_outs();
        }
        let received = slot.state.receive(now_ms, max, lease_ms, high_watermark, auto_ack, &mut || random.next_u64());
        let redelivered = received.leased.iter().filter(|leased| leased.attempt > 1).count();
        self.metrics.delivered_records.get_or_create(&slot.label).inc_by(received.leased.len() as u64);
        self.metrics.redelivered_records.get_or_create(&slot.label).inc_by(redelivered as u64);
        if !received.leased.is_empty() {
            // A lease is no promise to anybody who is not asking again, so it need not survive a power cut: it is written before
            // it is given out (and so survives the death of the process), and the next sync covers it.
            // The mark of a hand-out is a promise to the embedder ("nobody can have seen it"), so it must survive a power cut.
            let has_new_mark = marks_hand_outs && received.leased.iter().any(|leased| leased.handed_out_ms == Some(now_ms));
            if auto_ack || has_new_mark {
                self.commit.require_sync();
            }
            self.touch(key);
        }
        Ok(received)
    }

    fn undo(&mut self, key: GroupKey, leases: &[(Offset, u64)]) {
        let now_ms = self.clock.now_ms();
        let Some(slot) = self.slots.get_mut(&key) else { return };
        for &(offset, lease_id) in leases {
            slot.state.undo_lease(offset, lease_id, now_ms);
        }
        slot.notify.notify_one();
        self.touch(key);
    }

    fn settle(&mut self, key: GroupKey, verb: &Verb, leases: &[(Offset, u64)]) -> Result<Vec<Settled>, QueueError> {
        let now_ms = self.clock.now_ms();
        let mut results = Vec::with_capacity(leases.len());
        let mut dead = Vec::new();
        let slot = self.slots.get_mut(&key).ok_or(QueueError::GroupDeleted)?;
        for &(offset, lease_id) in leases {
            let settled = match verb {
                Verb::Ack => slot.state.ack(offset, lease_id),
                Verb::Nack { delay_ms, .. } => slot.state.nack(offset, lease_id, now_ms, *delay_ms, &slot.policy, self.random.fraction()),
                Verb::GiveBack => slot.state.give_back(offset, lease_id, now_ms),
                Verb::Extend { lease_ms } => slot.state.extend(offset, lease_id, now_ms, *lease_ms),
                Verb::Terminate { .. } => slot.state.terminate(offset, lease_id, now_ms),
            };
            if let Settled::DeadLetter { attempts, cause } = settled {
                dead.push((offset, attempts, cause));
            }
            results.push(settled);
        }
        if matches!(verb, Verb::Ack) {
            let done = results.iter().filter(|settled| matches!(settled, Settled::Done { .. })).count();
            self.metrics.acknowledged_records.get_or_create(&slot.label).inc_by(done as u64);
        }
        slot.notify.notify_one();
        let reason = match verb {
            Verb::Nack { reason, .. } => reason.clone(),
            Verb::Terminate { reason } => Some(Arc::clone(reason)),
            Verb::Ack | Verb::GiveBack | Verb::Extend { .. } => None,
        };
        self.commit.require_sync();
        self.touch(key);
        for (offset, attempts, cause) in dead {
            self.write_dead_letter(key, offset, attempts, cause, reason.as_deref());
        }
        Ok(results)
    }

    /// Takes back the leases that ran out.
    pub(crate) fn expire(&mut self, key: GroupKey) -> Result<(), QueueError> {
        let now_ms = self.clock.now_ms();
        let random = &mut self.random;
        let slot = self.slots.get_mut(&key).ok_or(QueueError::GroupDeleted)?;
        if slot.state.next_due_ms().is_none_or(|due_ms| due_ms > now_ms) {
            return Ok(());
        }
        let dead = slot.state.expire(now_ms, &slot.policy, &mut || random.fraction());
        slot.notify.notify_one();
        self.touch(key);
        for letter in dead {
            self.write_dead_letter(key, letter.offset, letter.attempts, DeadLetterCause::DeliveryLimit, None);
        }
        Ok(())
    }

    /// Appends the record to the dead-letter partition, in the commit that settles it: it is never dropped.
    fn write_dead_letter(&mut self, key: GroupKey, offset: Offset, attempts: u32, cause: DeadLetterCause, reason: Option<&str>) {
        let slot = self.slots.get(&key).expect("the slot was just used");
        let target = slot.dead_letters.clone().expect("only a group with a dead-letter topic delivers records");
        let label = slot.label.clone();
        let origin = Arc::clone(&self.logs.get(&key.partition).expect("a slot's partition is owned by the same shard").partition);
        let now_ms = self.clock.now_ms();
        let (mut payload, timestamp_ms, mut reason) = match reader::read_at(&*self.storage, &origin, &[offset]) {
            Ok(mut found) => match found.remove(&offset) {
                Some(record) => (record.payload, record.timestamp_ms, reason.map(str::to_owned)),
                None => (Payload::default(), 0, Some("the record was not there any more".to_owned())),
            },
            Err(error) => (Payload::default(), 0, Some(format!("the record could not be read: {error}"))),
        };
        let mut header = |name: &str, value: String| payload.headers.set(name, value);
        header(dead_letter::CAUSE, cause.as_str().to_owned());
        header(dead_letter::ATTEMPTS, attempts.to_string());
        header(dead_letter::ORIGIN_TOPIC, label.topic.clone());
        header(dead_letter::ORIGIN_PARTITION, key.partition.partition.to_string());
        header(dead_letter::ORIGIN_OFFSET, offset.to_string());
        header(dead_letter::GROUP, label.group.clone());
        header(dead_letter::AT, now_ms.to_string());
        if let Some(reason) = reason.take() {
            header(dead_letter::REASON, reason);
        }
        tracing::warn!(topic = label.topic, group = label.group, %offset, attempts, cause = cause.as_str(), "record became a dead letter");
        self.metrics.dead_letter_records.get_or_create(&label).inc();
        let batch = Batch::encode(&[Record { timestamp_ms, payload }]).expect("a record that was stored can be stored again");
        self.stage_batches(&target.partition, vec![batch]);
    }

    fn describe(&self, key: GroupKey) -> Result<SlotDescription, QueueError> {
        let slot = self.slots.get(&key).ok_or(QueueError::GroupDeleted)?;
        let high_watermark = self.logs.get(&key.partition).ok_or(QueueError::GroupDeleted)?.partition.high_watermark();
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

    fn left_dead_letters(&self, slot: &Slot) -> u64 {
        let count = |target: &DeadLetterTarget| {
            let redriven = self.slots.get(&target.redrive)?;
            Some(redriven.state.lag(target.partition.high_watermark()))
        };
        slot.dead_letters.as_ref().and_then(count).unwrap_or(0)
    }

    /// Offsets in the dead-letter partition that were not redriven, oldest first.
    fn dead_letters(&self, key: GroupKey, max: usize) -> Result<Vec<Offset>, QueueError> {
        let slot = self.slots.get(&key).ok_or(QueueError::GroupDeleted)?;
        let Some(target) = &slot.dead_letters else { return Ok(Vec::new()) };
        let redriven = &self.slots.get(&target.redrive).ok_or(QueueError::GroupDeleted)?.state;
        let offsets = (redriven.ack_floor().0..target.partition.high_watermark().0).map(Offset);
        Ok(offsets.filter(|&offset| !redriven.is_settled(offset)).take(max).collect())
    }

    fn redrive(&mut self, key: GroupKey, filter: &RedriveFilter) -> Result<(u64, u64), QueueError> {
        let candidates = self.dead_letters(key, usize::MAX)?;
        let slot = self.slots.get(&key).ok_or(QueueError::GroupDeleted)?;
        let Some(target) = slot.dead_letters.clone() else { return Ok((0, 0)) };
        let now_ms = self.clock.now_ms();
        let mut redriven = 0;
        for offset in candidates {
            if redriven >= filter.max as u64 {
                break;
            }
            if !filter.offsets.is_empty() && !filter.offsets.contains(&offset) {
                continue;
            }
            let Some(origin) = self.origin(&target.partition, offset, filter.cause.as_deref()) else { continue };
            let slot = self.slots.get_mut(&key).ok_or(QueueError::GroupDeleted)?;
            match slot.state.redrive(origin, now_ms) {
                Redriven::Full => break,
                // A record that waits for its delivery anyway needs no second one: its dead letter is done with.
                Redriven::Done | Redriven::NotSettled => redriven += 1,
            }
            if let Some(counter) = self.slots.get_mut(&target.redrive) {
                counter.state.settle(offset);
            }
        }
        if redriven > 0 {
            self.commit.require_sync();
            self.touch(key);
            self.touch(target.redrive);
        }
        let slot = self.slots.get(&key).ok_or(QueueError::GroupDeleted)?;
        slot.notify.notify_one();
        Ok((redriven, self.left_dead_letters(slot)))
    }

    /// Offset of the record that the dead letter came from, if the dead letter has this cause.
    fn origin(&self, letters: &Partition, offset: Offset, cause: Option<&str>) -> Option<Offset> {
        let record = reader::read_at(&*self.storage, letters, &[offset]).ok()?.remove(&offset)?;
        let header = |name| record.payload.headers.get(name);
        if cause.is_some_and(|cause| header(dead_letter::CAUSE) != Some(cause)) {
            return None;
        }
        header(dead_letter::ORIGIN_OFFSET)?.parse().ok().map(Offset)
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
            self.commit.push(crate::storage::Mutation::Put {
                family: crate::storage::Family::Group,
                key: key.partition.group(key.group),
                value: slot.state.encode().into(),
            });
        }
    }
}
