//! Receive: lease records to a consumer, with a long poll that costs nothing while nothing comes.
//!
//! The records are reserved, read within the bounds of the answer, and only then leased: what is not returned was never delivered, and
//! a record that cannot be read costs neither itself nor its neighbours a delivery.

use super::deliveries::Delivered;
use super::find::FindGroupError;
use super::groups::CreateGroupError;
use crate::broker::parameter::{ParameterError, in_range};
use crate::broker::{Broker, Held};
use crate::group::queue::LeaseTerms;
use crate::log::{MemoryShare, ReadError, ReadMemoryFull};
use crate::shard::queues::request::{QueueError, QueueOp, ReadOutcome};
use crate::topic::{Group, Topic};
use core::pin::pin;
use core::task::Poll;
use core::time::Duration;
use futures_util::future::{join_all, try_join_all};
use futures_util::poll;
use sagamq_api::limits::{LEASE_MS_DEFAULT, LEASE_MS_MAX, LEASE_MS_MIN, RECEIVE_RECORDS_DEFAULT, RECEIVE_RECORDS_MAX, WAIT_MS_MAX};
use sagamq_api::queue::{EmptyReason, ReceiveRequest};
use sagamq_api::{GroupName, TopicName};
use std::sync::Arc;
use tokio::time::Instant;

/// How often a receive that is over looks again because something came between the look and the question why there was nothing.
const LOOKS_MAX: usize = 3;

/// How long a waiting receive relies on being woken; then it looks again.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// Why nothing was received.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ReceiveError {
    /// There is no group, and none was made.
    #[error(transparent)]
    Create(#[from] CreateGroupError),
    /// The topic or the group was deleted meanwhile.
    #[error(transparent)]
    Gone(#[from] FindGroupError),
    /// A parameter is out of range.
    #[error(transparent)]
    Parameter(#[from] ParameterError),
    /// The group's shard refused.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The records could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// There is no memory for the answer now. Nothing was leased.
    #[error(transparent)]
    Overloaded(#[from] ReadMemoryFull),
}

/// What a receive gives.
#[derive(Clone, Debug)]
pub struct Received {
    /// The records, leased or settled.
    pub deliveries: Vec<Delivered>,
    /// Why there are none, if there are none.
    pub empty_reason: Option<EmptyReason>,
}

/// Awaits the answers of the shards. While the disk has its turn, something else is made; nothing if they are there at once.
async fn meanwhile<T, R>(answers: impl Future<Output = T>, make: impl FnOnce() -> R) -> (T, Option<R>) {
    let mut answers = pin!(answers);
    // On a busy machine the shards may have answered before this task has got any further, and an answer is given once.
    if let Poll::Ready(answers) = poll!(answers.as_mut()) {
        return (answers, None);
    }
    // The shards are asked. They have their turn first.
    tokio::task::yield_now().await;
    let made = make();
    (answers.await, Some(made))
}

impl Broker {
    /// Leases records to the caller. The group is made by its first receive. With `auto_ack` the records are settled, durably,
    /// before this returns.
    ///
    /// # Errors
    /// When there is no such topic, a parameter is out of range, the records cannot be read, or there is no memory for the answer.
    pub async fn receive(&self, topic: &TopicName, group: &GroupName, request: &ReceiveRequest) -> Result<Received, ReceiveError> {
        Ok(self.receive_as(topic, group, request, Received::clone).await?.into_value())
    }

    /// [`Broker::receive`] as the answer that `make` makes of it, with its share of the memory, to be kept until it is sent. With `auto_ack`
    /// the answer is made while the records are being settled, and once more if less came of it.
    ///
    /// # Errors
    /// As [`Broker::receive`].
    pub async fn receive_as<R>(
        &self,
        topic: &TopicName,
        group: &GroupName,
        request: &ReceiveRequest,
        make: impl Fn(&Received) -> R,
    ) -> Result<Held<R>, ReceiveError> {
        let max = in_range("max_records", request.max_records.unwrap_or(RECEIVE_RECORDS_DEFAULT), 1, RECEIVE_RECORDS_MAX)?;
        let wait_ms = in_range("wait_ms", request.wait_ms.unwrap_or(0), 0, WAIT_MS_MAX)?;
        let lease_ms = in_range("lease_ms", request.lease_ms.unwrap_or(LEASE_MS_DEFAULT), LEASE_MS_MIN, LEASE_MS_MAX)?;
        if request.auto_ack && request.not_begun {
            let both = "`not_begun` cannot be given with `auto_ack`: such records are settled when they are handed out";
            return Err(ParameterError::new(both).into());
        }
        let terms = LeaseTerms { lease_ms, auto_ack: request.auto_ack, begins: !request.not_begun };
        let topic = self.topic(topic).map_err(CreateGroupError::from)?;
        let group = self.group_or_new(&topic, group, request.start).await?;
        let _receiving = group.receiving().ok_or_else(|| self.gone(&topic, &group))?;
        let deadline = Instant::now() + Duration::from_millis(wait_ms);
        let mut looks = 0;
        loop {
            // Registered before looking, so that what comes in between is not missed.
            let notified = group.work.woken();
            tokio::pin!(notified);
            notified.as_mut().enable();
            if let Some(answer) = self.take(&topic, &group, max, terms, &make).await? {
                return Ok(answer);
            }
            if Instant::now() >= deadline || self.is_shutting_down() {
                looks += 1;
                match self.why_empty(&group, terms.auto_ack).await? {
                    None if looks < LOOKS_MAX => continue,
                    // Others read whatever comes, each time.
                    reason => {
                        let empty_reason = Some(reason.unwrap_or(EmptyReason::AllLeased));
                        return Ok(Held::new(make(&Received { deliveries: Vec::new(), empty_reason }), MemoryShare::default()));
                    }
                }
            }
            tokio::select! {
                () = notified => {}
                () = tokio::time::sleep_until(self.look_again_at(&group, deadline)) => {}
                () = self.shutdown_begun() => {}
                () = group.gone.cancelled() => return Err(self.gone(&topic, &group).into()),
            }
        }
    }

    /// When a waiting receive looks again without being woken.
    fn look_again_at(&self, group: &Group, deadline: Instant) -> Instant {
        let now_ms = self.0.clock.now_ms();
        let due_ms = group.work.marked_from(0).into_iter().filter_map(|index| group.queue(index).view().next_due_ms()).min();
        let until_due = due_ms.map_or(LOOK_AGAIN, |due_ms| Duration::from_millis(due_ms.saturating_sub(now_ms) + 1));
        deadline.min(Instant::now() + until_due.min(LOOK_AGAIN))
    }

    /// Reserves, reads and leases what there is. One partition that fails does not keep the others from being delivered. `None`: there is
    /// nothing.
    pub(super) async fn take<R>(
        &self,
        topic: &Topic,
        group: &Arc<Group>,
        max: u32,
        terms: LeaseTerms,
        make: &impl Fn(&Received) -> R,
    ) -> Result<Option<Held<R>>, ReceiveError> {
        if group.is_paused() {
            return Ok(None);
        }
        let reserved = self.reserve_records(group, max, terms.auto_ack).await?;
        if reserved.is_empty() {
            return Ok(None);
        }
        let wanted = reserved.iter().map(|(of, reservation)| (Arc::clone(of.partition()), reservation.offsets.clone())).collect();
        let (found, budget) = self.read_offsets(wanted, max).await?;
        let at_ms = self.0.clock.now_ms();
        let (mut deliveries, mut leases, mut error) = (Vec::new(), Vec::with_capacity(reserved.len()), None);
        for ((of, mut reservation), mut found) in reserved.into_iter().zip(found) {
            for (offset, kept) in reservation.edited.drain(..) {
                found.put(offset, kept);
            }
            let partition = of.key().partition.partition;
            if let Some(reason) = found.error.take() {
                let count = found.failed.len();
                tracing::error!(topic = %topic.name, group = %group.name, %partition, count, %reason, "records cannot be read");
                error = Some(ReceiveError::from(reason));
            }
            let read = found.records.iter().map(|record| record.offset).collect();
            let outcome = Box::new(ReadOutcome { read, gone: found.gone, gap: found.gap, failed: found.failed });
            deliveries.extend(found.records.into_iter().map(|record| Delivered::expected(partition, record, at_ms)));
            let lease = |reply| QueueOp::Lease { reservation, outcome, terms, reply };
            leases.push(async move { (partition, self.0.queue(of, lease).await) });
        }
        let mut received = Received { deliveries, empty_reason: None };
        let (answers, expected) = match terms.auto_ack {
            true => meanwhile(join_all(leases), || make(&received)).await,
            false => (join_all(leases).await, None),
        };
        let mut leased = Vec::with_capacity(received.deliveries.len());
        for (partition, result) in answers {
            match result {
                Ok(of_partition) => leased.extend(of_partition.into_iter().map(|lease| (partition, lease))),
                Err(reason) => error = Some(reason.into()),
            }
        }
        let is_as_expected = self.take_over_leases(topic, group, &mut received.deliveries, leased, terms);
        if received.deliveries.len() >= max as usize {
            // There may be more, and the wake-up for it was spent on this one.
            group.work.wake();
        }
        if received.deliveries.is_empty() {
            // What else there was is delivered; the log has the error.
            return error.map_or(Ok(None), Err);
        }
        let answer = expected.filter(|_| is_as_expected).unwrap_or_else(|| make(&received));
        Ok(Some(Held::new(answer, budget.into_share())))
    }

    /// What keeps a group from getting records: what stops it in one partition says more than that others are at their end. `None`:
    /// there is something.
    async fn why_empty(&self, group: &Group, auto_ack: bool) -> Result<Option<EmptyReason>, ReceiveError> {
        // Where there is no mark, everything is delivered and settled. One partition is asked all the same, and at the end all of them: a
        // broker that has ended must say so, not "caught up" without an end.
        let mut marked = group.work.marked_from(0);
        if self.is_shutting_down() {
            marked = (0..group.queues().len()).collect();
        } else if marked.is_empty() {
            marked.push(0);
        }
        let asks = marked.iter().map(|&index| self.0.queue(group.queue(index), |reply| QueueOp::WhyEmpty { auto_ack, reply }));
        let reasons: Option<Vec<EmptyReason>> = try_join_all(asks).await?.into_iter().collect();
        let weight = |reason: &EmptyReason| match reason {
            EmptyReason::CaughtUp => 0,
            EmptyReason::AllLeased => 1,
            EmptyReason::AllDelayed => 2,
            EmptyReason::KeyOrder => 3,
            EmptyReason::PartitionsAdded => 4,
            EmptyReason::KeyOrderLimit => 5,
            EmptyReason::SettledRangesLimit => 6,
            EmptyReason::PendingLimit => 7,
            EmptyReason::InFlightLimit => 8,
            EmptyReason::Paused => 9,
            EmptyReason::Held => 10,
        };
        Ok(reasons.map(|reasons| reasons.into_iter().max_by_key(weight).unwrap_or(EmptyReason::CaughtUp)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Those of a receive with `auto_ack` are settled by then: who loses them has lost the records.
    #[tokio::test]
    async fn answers_that_are_there_at_once_are_not_lost() {
        assert_eq!(meanwhile(core::future::ready(7), || "made").await, (7, None));
        let late = async {
            tokio::task::yield_now().await;
            7
        };
        assert_eq!(meanwhile(late, || "made").await, (7, Some("made")));
    }
}
