//! Settling receipts, and taking back leases that ran out: as much of it as one commit takes.

use crate::group::queue::{DeadLetterCause, DeadLettered, Settled};
use crate::ids::GroupKey;
use crate::shard::commit::WriteError;
use crate::shard::core::Core;
use crate::shard::queues::dead_letters::{self, GivenUp};
use crate::shard::queues::queue::Queue;
use crate::shard::queues::queue_set::QueueSet;
use crate::shard::queues::request::{QueueError, Reply, Verb};
use sagamq_api::Offset;
use std::sync::Arc;

/// Bytes of a commit behind which no more dead letters go into it.
const DEAD_LETTER_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Receipts that are being settled: one commit takes as many of them as its bound on dead letters lets it.
pub(super) struct Settling {
    key: GroupKey,
    verb: Verb,
    leases: std::vec::IntoIter<(Offset, u64)>,
    results: Vec<Settled>,
    /// An earlier commit took a part.
    is_begun: bool,
    reply: Reply<Vec<Settled>>,
}

impl Settling {
    pub(super) fn new(key: GroupKey, verb: Verb, leases: Vec<(Offset, u64)>, reply: Reply<Vec<Settled>>) -> Self {
        Self { key, verb, results: Vec::with_capacity(leases.len()), leases: leases.into_iter(), is_begun: false, reply }
    }

    /// Settles as many receipts as this commit takes, and answers behind it if these were all; else gives back the rest.
    pub(super) fn settle(mut self, core: &mut Core, queues: &mut QueueSet) -> Option<Self> {
        let result = self.settle_part(core, queues);
        if result.is_ok() && self.leases.len() > 0 {
            self.is_begun = true;
            return Some(self);
        }
        let Self { results, is_begun, reply, .. } = self;
        core.answer(move |written| {
            // A client that went away does not hear the answer; what he asked for is done all the same.
            let _ = reply.send(match (written, result) {
                (Ok(()), result) => result.map(|()| results),
                (Err(_), Err(error)) => Err(error),
                // The part that came before may be stored: nobody may be told that nothing was.
                (Err(WriteError::Stopped(reason)), Ok(())) if is_begun => Err(WriteError::Failed(reason).into()),
                (Err(error), Ok(())) => Err(error.into()),
            });
        });
        None
    }

    fn settle_part(&mut self, core: &mut Core, queues: &mut QueueSet) -> Result<(), QueueError> {
        let Self { key, verb, leases, results, .. } = self;
        let (key, now_ms) = (*key, core.clock.now_ms());
        let before = results.len();
        let reason = match verb {
            Verb::Nack { reason, .. } => reason.clone(),
            Verb::Terminate { reason } => Some(Arc::clone(reason)),
            Verb::Ack | Verb::GiveBack | Verb::Extend { .. } => None,
        };
        let may_give_up = matches!(verb, Verb::Nack { .. } | Verb::Terminate { .. });
        let queue = queues.get_mut(key)?;
        let policy = queue.group.policy();
        let (mut given_up, together_max) = (Vec::new(), dead_letters::together_max(queue));
        while !(may_give_up && is_full(core))
            && let Some((offset, lease_id)) = leases.next()
        {
            let settled = match verb {
                Verb::Ack => queue.state.ack(offset, lease_id),
                Verb::Nack { delay_ms, .. } => queue.state.nack(offset, lease_id, now_ms, *delay_ms, &policy, core.random.fraction()),
                Verb::GiveBack => queue.state.give_back(offset, lease_id, now_ms),
                Verb::Extend { lease_ms, begins } => queue.state.extend(offset, lease_id, now_ms, *lease_ms, *begins),
                Verb::Terminate { .. } => queue.state.terminate(offset, lease_id, now_ms),
            };
            if let Settled::DeadLetter { attempts, cause } = settled {
                given_up.push(GivenUp { offset, attempts, cause });
            }
            results.push(settled);
            if given_up.len() >= together_max {
                dead_letters::write(core, queue, key, &given_up, reason.as_deref());
                given_up.clear();
            }
        }
        dead_letters::write(core, queue, key, &given_up, reason.as_deref());
        if matches!(verb, Verb::Ack) {
            let done = results[before..].iter().filter(|settled| matches!(settled, Settled::Done { .. })).count();
            core.metrics.acknowledged_records.get_or_create(&queue.group.label).inc_by(done as u64);
        }
        // Shown first: who is woken looks at once, and the end of the commit may be far.
        queue.show();
        queue.wake();
        core.commit.require(queue.group.durability());
        queues.touch(key);
        Ok(())
    }
}

/// Takes back the leases that ran out, as many as this commit takes. `true`: there are more.
pub(super) fn expire(core: &mut Core, queues: &mut QueueSet, key: GroupKey) -> Result<bool, QueueError> {
    let now_ms = core.clock.now_ms();
    while !is_full(core) {
        let Some(queue) = queues.used(key)?.filter(|queue| is_due(queue, now_ms)) else { return Ok(false) };
        let random = &mut core.random;
        let dead = queue.state.expire(now_ms, &queue.group.policy(), dead_letters::together_max(queue), &mut || random.fraction());
        queue.show();
        queue.wake();
        let given_up = |DeadLettered { offset, attempts }| GivenUp { offset, attempts, cause: DeadLetterCause::DeliveryLimit };
        dead_letters::write(core, queue, key, &dead.into_iter().map(given_up).collect::<Vec<_>>(), None);
        queues.touch(key);
    }
    Ok(queues.used(key)?.is_some_and(|queue| is_due(queue, now_ms)))
}

fn is_due(queue: &Queue, now_ms: u64) -> bool {
    queue.state.next_due_ms().is_some_and(|due_ms| due_ms <= now_ms)
}

/// Dead letters are copies of records: what one commit holds of them is bounded.
fn is_full(core: &Core) -> bool {
    core.commit.bytes() >= DEAD_LETTER_BYTES_MAX
}
