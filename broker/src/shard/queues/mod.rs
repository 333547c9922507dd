//! The owner of the queue groups: reserve, lease, settle, expire, dead letters.
//!
//! The protocol is [`crate::group::queue`] and pure; here it gets the clock and the jitter, and what follows from it is staged.

mod ack;
mod dead_letters;
mod due;
mod operate;
mod queue;
mod queue_set;
mod receive;
pub(crate) mod request;
pub(crate) mod reservation;
mod settle;

use crate::group::queue::{HandOut, StoredQueue};
use crate::ids::{GroupId, GroupKey, TopicId};
use crate::log::batch::StoredRecord;
use crate::shard::core::Core;
use crate::topic::{GivenBack, Group, Handed, Place};
use queue_set::QueueSet;
use request::{QueueError, QueueNumbers, QueueOp, QueueRequest, Reply, Verb};
use reservation::DroppedReservations;
use sagamq_api::Offset;
use settle::Settling;
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::sync::oneshot;

/// The owner of the queue groups of a shard.
#[derive(Default)]
pub(super) struct Queues {
    queues: QueueSet,
    /// What did not fit one commit and goes on in the next.
    work: VecDeque<Work>,
    dropped: DroppedReservations,
    given_back: GivenBack,
}

enum Work {
    Settle(Settling),
    Expire(GroupKey),
}

impl Queues {
    /// Owns the queues of this group from now on.
    pub(super) fn add_group(&mut self, group: Arc<Group>) {
        self.queues.add_group(group);
    }

    /// Partitions were added to the topic of a group: others wait for what is settled here.
    pub(super) fn show_settled(&mut self, group: GroupId) {
        self.queues.touch_group(group);
    }

    /// Takes a queue over as it was stored; its group was added before.
    pub(super) fn load(&mut self, key: GroupKey, stored: StoredQueue) {
        self.queues.load(key, stored);
    }

    /// Forgets a group that is deleted, and deletes what is stored of it unless that goes with one of these topics.
    pub(super) fn remove_group(&mut self, core: &mut Core, group: GroupId, topics: &[TopicId]) {
        self.queues.remove_group(core, group, topics);
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
            QueueOp::Reserve { max, auto_ack, learnt, reply } => {
                let Self { queues, dropped, .. } = match self.expire(core, key) {
                    Ok(()) => self,
                    Err(error) => return drop(reply.send(Err(error))),
                };
                // One that nobody hears of is dropped, and so released.
                let _ = reply.send(receive::reserve(core, queues, dropped, key, max, auto_ack, learnt));
            }
            QueueOp::Lease { reservation, outcome, terms, reply } => {
                let result = receive::lease(core, &mut self.queues, reservation, &outcome, terms);
                answer(core, reply, result);
            }
            QueueOp::WhyEmpty { auto_ack, reply } => {
                let result = receive::why_empty(&self.queues, key, auto_ack);
                answer(core, reply, result);
            }
            QueueOp::Settle { verb, leases, reply } => self.settle(core, Settling::new(key, verb, leases, reply)),
            QueueOp::Describe { reply } => {
                // Leases that ran out are none: whoever asks must not see them.
                let result = self.expire(core, key).and_then(|()| self.queues.get(key)).map(|queue| QueueNumbers::of(&queue));
                answer(core, reply, result);
            }
            QueueOp::Purge { note, reply } => {
                let result = operate::purge(core, &mut self.queues, key, note);
                answer(core, reply, result);
            }
            QueueOp::Seek { to, note, reply } => {
                let result = operate::seek(core, &mut self.queues, key, to, note);
                answer(core, reply, result);
            }
            QueueOp::DeadLetters { which, reply } => {
                let result = dead_letters::list(&self.queues, key, &which);
                answer(core, reply, result);
            }
            QueueOp::EndLetters { end, note, reply } => {
                let result = dead_letters::end(core, &mut self.queues, key, &end, note);
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
        receive::release_dropped(&mut self.queues, &self.dropped);
        for (key, offset, lease_id) in self.given_back.take() {
            // Nobody waits for the answer.
            self.settle(core, Settling::new(key, Verb::GiveBack, vec![(offset, lease_id)], oneshot::channel().0));
        }
        is_at_work
    }

    /// Leases run out.
    pub(super) fn tick(&mut self, core: &mut Core) {
        for key in self.queues.due(core.clock.now_ms()) {
            self.expire(core, key).expect("what is due is there: both are removed together");
            if !self.work.is_empty() {
                break;
            }
        }
    }

    /// Stages the states that have changed.
    pub(super) fn stage(&mut self, core: &mut Core) {
        self.queues.stage(core);
    }

    /// Whether a record was ever handed out. A group that is gone has nothing to say.
    pub(super) fn hand_out(&mut self, key: GroupKey, offset: Offset) -> HandOut {
        if let Ok(Some(queue)) = self.queues.used(key) {
            queue.take_over_settings();
        }
        self.queues.get(key).map_or(HandOut::Unknown, |queue| queue.state.hand_out(offset))
    }

    /// Leases a record that is appended in this commit to a consumer that waits for it, if nothing older waits. It is handed over when that is
    /// durable.
    pub(super) fn hand_appended(&mut self, core: &mut Core, group: &Group, record: StoredRecord, bytes: usize) -> Option<(Place, Handed)> {
        receive::lease_appended(core, &mut self.queues, group, record, bytes, &self.given_back)
    }

    /// Settles a record, whoever has it leased.
    pub(super) fn settle_record(&mut self, key: GroupKey, offset: Offset) {
        if self.queues.get_mut(key).is_ok_and(|queue| queue.state.settle(offset)) {
            self.queues.touch(key);
        }
    }

    /// Makes a record due again at a time, whoever has it leased.
    pub(super) fn postpone_record(&mut self, key: GroupKey, offset: Offset, due_ms: u64) {
        if self.queues.get_mut(key).is_ok_and(|queue| queue.state.postpone(offset, due_ms)) {
            self.queues.touch(key);
        }
    }

    /// Brings a queue into memory that was never used.
    pub(super) fn begin(&mut self, key: GroupKey) {
        // A group that was deleted meanwhile has none.
        let _ = self.queues.get_mut(key);
    }

    /// Retention takes the records of a partition below this offset: for a group of its topic they are settled.
    pub(super) fn trim(&mut self, core: &Core, key: GroupKey, log_start: Offset) {
        // A group that was deleted meanwhile loses nothing.
        let Ok(queue) = self.queues.get_mut(key) else { return };
        let unsettled = queue.trim(log_start);
        if unsettled > 0 {
            let label = &queue.group.label;
            let partition = key.partition.partition;
            tracing::warn!(topic = label.topic, group = label.group, %partition, unsettled, %log_start, "retention took records that were not settled");
            core.metrics.trimmed_unsettled_records.get_or_create(label).inc_by(unsettled);
        }
        queue.show();
        queue.wake();
        self.queues.touch(key);
    }

    /// From where on a group still needs the records of its topic.
    pub(super) fn needed_from(&self, key: GroupKey) -> Option<Offset> {
        let queue = self.queues.get(key).ok()?;
        let high_watermark = queue.of().high_watermark();
        Some(queue.state.oldest_unsettled(high_watermark).unwrap_or(high_watermark))
    }

    /// The oldest dead letter of a group that is not done with.
    pub(super) fn letters_needed_from(&self, key: GroupKey) -> Option<Offset> {
        let queue = self.queues.get(key).ok()?;
        Some(queue.ended.first_left(queue.of().letters_end()))
    }

    fn settle(&mut self, core: &mut Core, settling: Settling) {
        self.work.extend(settling.settle(core, &mut self.queues).map(Work::Settle));
    }

    /// Takes back the leases that ran out, as many as this commit takes; the rest follows in the next one.
    fn expire(&mut self, core: &mut Core, key: GroupKey) -> Result<(), QueueError> {
        let is_left = settle::expire(core, &mut self.queues, key)?;
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
