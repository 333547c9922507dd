//! Receive: lease records to a consumer, with a long poll that costs nothing while nothing comes.
//!
//! The records are reserved, read within the bounds of the answer, and only then leased: what is not returned was never delivered, and
//! a record that cannot be read costs neither itself nor its neighbours a delivery.

use crate::broker::groups::in_range;
use crate::broker::topics::TopicError;
use crate::broker::{Broker, Held};
use crate::group::{LeaseTerms, Leased, Receipt, ReceiptError};
use crate::log::batch::StoredRecord;
use crate::log::budget::Budget;
use crate::log::partition::Partition;
use crate::log::reader::{self, Found};
use crate::log::{MemoryShare, ReadError, ReadMemoryFull};
use crate::shard::commit::WriteError;
use crate::shard::queues::request::{QueueError, QueueOp, ReadOutcome};
use crate::shard::queues::reservation::Reservation;
use crate::topic::{Group, GroupPartition, Topic};
use core::time::Duration;
use futures_util::future::{join_all, try_join_all};
use sagamq_api::group::{Delivery, EmptyReason, ReceiveRequest, ReceiveResponse};
use sagamq_api::limits::{
    LEASE_MS_DEFAULT, LEASE_MS_MAX, LEASE_MS_MIN, RECEIVE_RECORDS_DEFAULT, RECEIVE_RECORDS_MAX, RESPONSE_BYTES_MAX, WAIT_MS_MAX,
};
use sagamq_api::record::ConsumedRecord;
use sagamq_api::{GroupName, NameError, Offset, TopicName};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::time::Instant;

/// How often partitions are asked again for what others could not give.
const ROUNDS_MAX: usize = 3;

/// How often a receive that is over looks again because something came between the look and the question why there was nothing.
const LOOKS_MAX: usize = 3;

/// How long a waiting receive relies on being woken; then it looks again.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// Why a group did not do what it was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ConsumeError {
    /// No such topic, or it cannot be used like this.
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// No such group.
    #[error("topic `{topic}` has no group `{group}`")]
    GroupNotFound {
        /// The topic.
        topic: TopicName,
        /// The group.
        group: GroupName,
    },
    /// The group cannot be deleted.
    #[error("group `{group}` of topic `{topic}` is in use: {reason}; stop its consumers first")]
    GroupInUse {
        /// The topic.
        topic: TopicName,
        /// The group.
        group: GroupName,
        /// Who uses it.
        reason: &'static str,
    },
    /// The group's dead-letter topic would have an illegal name.
    #[error("the group's dead-letter topic would have an illegal name: {0}; use shorter names")]
    DeadLetterName(#[from] NameError),
    /// A topic has the name that the group's dead-letter topic needs.
    #[error("a topic `{0}` exists already, but the group needs that name for its dead letters; use another group name")]
    DeadLetterTopicTaken(TopicName),
    /// A parameter is out of range.
    #[error("{0}")]
    Parameter(String),
    /// A receipt was not issued by this broker.
    #[error("receipt {index}: {reason}")]
    Receipt {
        /// Index in the request.
        index: usize,
        /// What is wrong with it.
        reason: ReceiptError,
    },
    /// A receipt is for another topic or group.
    #[error("receipt {index} was issued for another topic or group, or for one that was deleted since")]
    ForeignReceipt {
        /// Index in the request.
        index: usize,
    },
    /// No receipt of the request could be settled.
    #[error("the lease of every receipt is over; the records were delivered again or will be")]
    AllExpired,
    /// The group's shard refused.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The durable write failed or is not tried any more.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The records could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// There is no memory for the answer now. Nothing was leased.
    #[error(transparent)]
    Overloaded(#[from] ReadMemoryFull),
}

impl Broker {
    /// Leases records to the caller. The group is made by its first receive. With `auto_ack` the records are settled, durably,
    /// before this returns.
    ///
    /// # Errors
    /// When there is no such topic, a parameter is out of range, the records cannot be read, or there is no memory for the answer.
    pub async fn receive(&self, topic: &TopicName, group: &GroupName, request: &ReceiveRequest) -> Result<ReceiveResponse, ConsumeError> {
        Ok(self.receive_held(topic, group, request).await?.into_value())
    }

    /// [`Broker::receive`] with the answer's share of the memory, to be kept until it is sent.
    ///
    /// # Errors
    /// As [`Broker::receive`].
    pub async fn receive_held(
        &self,
        topic: &TopicName,
        group: &GroupName,
        request: &ReceiveRequest,
    ) -> Result<Held<ReceiveResponse>, ConsumeError> {
        let max = in_range("max_records", request.max_records.unwrap_or(RECEIVE_RECORDS_DEFAULT), 1, RECEIVE_RECORDS_MAX)?;
        let wait_ms = in_range("wait_ms", request.wait_ms.unwrap_or(0), 0, WAIT_MS_MAX)?;
        let lease_ms = in_range("lease_ms", request.lease_ms.unwrap_or(LEASE_MS_DEFAULT), LEASE_MS_MIN, LEASE_MS_MAX)?;
        let terms = LeaseTerms { lease_ms, auto_ack: request.auto_ack };
        let topic = self.topic(topic)?;
        let group = self.group_or_new(&topic, group, request.start).await?;
        let _receiving = self.receiving(&topic, &group)?;
        let deadline = Instant::now() + Duration::from_millis(wait_ms);
        let mut looks = 0;
        loop {
            // Registered before looking, so that what comes in between is not missed.
            let notified = group.work.woken();
            tokio::pin!(notified);
            notified.as_mut().enable();
            let (deliveries, share) = self.take(&topic, &group, max, terms).await?;
            if !deliveries.is_empty() {
                return Ok(Held::new(ReceiveResponse { deliveries, empty_reason: None }, share));
            }
            if Instant::now() >= deadline || self.is_shutting_down() {
                looks += 1;
                match self.why_empty(&group, terms.auto_ack).await? {
                    None if looks < LOOKS_MAX => continue,
                    // Others read whatever comes, each time.
                    reason => {
                        let empty_reason = Some(reason.unwrap_or(EmptyReason::AllLeased));
                        return Ok(Held::new(ReceiveResponse { deliveries, empty_reason }, share));
                    }
                }
            }
            tokio::select! {
                () = notified => {}
                () = tokio::time::sleep_until(self.look_again_at(&group, deadline)) => {}
                () = self.shutdown_begun() => {}
                () = group.gone.cancelled() => return Err(self.gone(&topic, &group)),
            }
        }
    }

    /// When a waiting receive looks again without being woken.
    fn look_again_at(&self, group: &Group, deadline: Instant) -> Instant {
        let now_ms = self.0.clock.now_ms();
        let due_ms = group.work.marked_from(0).into_iter().filter_map(|index| group.partitions[index].view.next_due_ms()).min();
        let until_due = due_ms.map_or(LOOK_AGAIN, |due_ms| Duration::from_millis(due_ms.saturating_sub(now_ms) + 1));
        deadline.min(Instant::now() + until_due.min(LOOK_AGAIN))
    }

    /// Reserves, reads and leases what there is. One partition that fails does not keep the others from being delivered.
    async fn take(
        &self,
        topic: &Topic,
        group: &Arc<Group>,
        max: u32,
        terms: LeaseTerms,
    ) -> Result<(Vec<Delivery>, MemoryShare), ConsumeError> {
        let reserved = self.reserve_records(group, max, terms.auto_ack).await?;
        if reserved.is_empty() {
            return Ok((Vec::new(), MemoryShare::default()));
        }
        let wanted = reserved.iter().map(|(of, reservation)| (Arc::clone(&of.partition), reservation.offsets.clone())).collect();
        let (found, budget) = self.read_wanted(wanted, max).await?;
        let mut error = None;
        let leases = reserved.into_iter().zip(found).map(|((of, reservation), mut found)| {
            if let Some(reason) = found.error.take() {
                let (partition, count) = (of.key.partition.partition, found.failed.len());
                tracing::error!(topic = %topic.name, group = %group.name, %partition, count, %reason, "records cannot be read");
                error = Some(ConsumeError::from(reason));
            }
            let outcome =
                ReadOutcome { read: found.records.iter().map(|record| record.offset).collect(), gone: found.gone, failed: found.failed };
            async move {
                let leased = self.0.queue(of, |reply| QueueOp::Lease { reservation, outcome, terms, reply }).await;
                (of, leased, found.records)
            }
        });
        let leases: Vec<_> = leases.collect();
        let mut deliveries = Vec::new();
        for (of, leased, records) in join_all(leases).await {
            match leased {
                Ok(leased) => deliveries.extend(self.deliveries(topic, group, of, leased, records)),
                Err(reason) => error = Some(reason),
            }
        }
        if deliveries.len() >= max as usize {
            // There may be more, and the wake-up for it was spent on this one.
            group.work.wake();
        }
        match error {
            // What else there was is delivered; the log has the error.
            Some(error) if deliveries.is_empty() => Err(error),
            _ => Ok((deliveries, budget.into_share())),
        }
    }

    /// Reserves up to `max` records, from all partitions at once. What a partition cannot give is asked of the others.
    async fn reserve_records<'a>(
        &self,
        group: &'a Group,
        max: u32,
        auto_ack: bool,
    ) -> Result<Vec<(&'a GroupPartition, Reservation)>, ConsumeError> {
        let mut reserved = Vec::new();
        let mut is_exhausted = vec![false; group.partitions.len()];
        let (mut left, mut bytes_left) = (u64::from(max), u64::from(RESPONSE_BYTES_MAX));
        for _ in 0..ROUNDS_MAX {
            let plan = self.plan(group, &is_exhausted, left, bytes_left, auto_ack);
            let asks = plan.iter().map(|&(index, quota)| {
                let ask = move |reply| QueueOp::Reserve { max: quota, auto_ack, reply };
                async move { self.0.queue(&group.partitions[index], ask).await }
            });
            for (&(index, quota), reservation) in plan.iter().zip(try_join_all(asks).await?) {
                let (of, count) = (&group.partitions[index], reservation.offsets.len() as u64);
                is_exhausted[index] |= count < u64::from(quota);
                left = left.saturating_sub(count);
                bytes_left = bytes_left.saturating_sub(count * of.partition.record_bytes_mean());
                if count > 0 {
                    reserved.push((of, reservation));
                }
            }
            if left == 0 || plan.iter().all(|&(index, _)| !is_exhausted[index]) {
                break;
            }
        }
        Ok(reserved)
    }

    /// Which partitions to ask for how many records, beginning at another one each time. The size of a record is a guess that only
    /// keeps reservations small; what is read is bounded by what it is.
    fn plan(&self, group: &Group, is_exhausted: &[bool], mut left: u64, mut bytes_left: u64, auto_ack: bool) -> Vec<(usize, u32)> {
        let count = group.partitions.len();
        let first = self.0.receive_rotation.fetch_add(1, Ordering::Relaxed) % count;
        let now_ms = self.0.clock.now_ms();
        let mut plan = Vec::new();
        for index in group.work.marked_from(first).into_iter().filter(|&index| !is_exhausted[index]) {
            let of = &group.partitions[index];
            let available = of.view.available(of.partition.high_watermark(), now_ms, auto_ack);
            if available == 0 {
                group.work.clear_if(index, || of.view.is_idle(of.partition.high_watermark()));
                continue;
            }
            let record_bytes = of.partition.record_bytes_mean();
            let quota = available.min(left).min((bytes_left / record_bytes).max(u64::from(plan.is_empty())));
            if quota > 0 {
                left -= quota;
                bytes_left = bytes_left.saturating_sub(quota * record_bytes);
                plan.push((index, u32::try_from(quota).expect("a quota is at most `max`")));
            }
        }
        plan
    }

    /// Reads what is wanted as far as the answer's budget goes; waits for memory if there is none for the first record.
    pub(super) async fn read_wanted(
        &self,
        mut wanted: Vec<(Arc<Partition>, Vec<Offset>)>,
        max: u32,
    ) -> Result<(Vec<Found>, Budget), ReadMemoryFull> {
        for (_, offsets) in &mut wanted {
            offsets.sort_unstable();
        }
        let refused = |full| {
            self.0.metrics.rejected_read_requests.inc();
            full
        };
        let wanted: Arc<[(Arc<Partition>, Vec<Offset>)]> = wanted.into();
        let mut budget = self.0.read_memory.budget(max as usize, RESPONSE_BYTES_MAX as usize).await.map_err(refused)?;
        loop {
            let found;
            (found, budget) = self.read_all(&wanted, budget).await;
            if !budget.is_lacking() {
                return Ok((found, budget));
            }
            budget.wait().await.map_err(refused)?;
        }
    }

    /// From memory if it can, else off the async runtime.
    async fn read_all(&self, wanted: &Arc<[(Arc<Partition>, Vec<Offset>)]>, mut budget: Budget) -> (Vec<Found>, Budget) {
        let is_in_memory =
            wanted.iter().all(|(partition, offsets)| offsets.first().is_none_or(|&first| partition.read_tail(first, 1).is_some()));
        let (storage, wanted) = (Arc::clone(&self.0.storage), Arc::clone(wanted));
        let read = move || {
            let read = |(partition, offsets): &(Arc<Partition>, Vec<Offset>)| reader::read_at(&*storage, partition, offsets, &mut budget);
            (wanted.iter().map(read).collect(), budget)
        };
        if is_in_memory { read() } else { self.blocking(read).await }
    }

    /// What the consumer gets of one partition.
    fn deliveries(
        &self,
        topic: &Topic,
        group: &Group,
        of: &GroupPartition,
        leased: Vec<Leased>,
        records: Vec<StoredRecord>,
    ) -> Vec<Delivery> {
        let mut records: HashMap<Offset, StoredRecord> = records.into_iter().map(|record| (record.offset, record)).collect();
        let partition = of.key.partition.partition;
        let deliver = |lease: Leased| {
            let record = records.remove(&lease.offset).expect("only what was read is leased");
            let receipt = Receipt { topic: topic.id, partition, group: group.id, offset: lease.offset, lease_id: lease.lease_id };
            Delivery {
                receipt: receipt.sign(&self.0.secret),
                attempt: lease.attempt,
                lease_until_ms: lease.deadline_ms,
                handed_out_ago_ms: lease.handed_out_ms.map(|at_ms| self.0.clock.now_ms().saturating_sub(at_ms)),
                record: ConsumedRecord::new(partition, lease.offset, record.timestamp_ms, record.payload),
            }
        };
        leased.into_iter().map(deliver).collect()
    }

    /// What keeps a group from getting records: what stops it in one partition says more than that others are at their end. `None`:
    /// there is something.
    async fn why_empty(&self, group: &Group, auto_ack: bool) -> Result<Option<EmptyReason>, ConsumeError> {
        // Where there is no mark, everything is delivered and settled. One partition is asked all the same, and at the end all of them: a
        // broker that has ended must say so, not "caught up" without an end.
        let mut marked = group.work.marked_from(0);
        if self.is_shutting_down() {
            marked = (0..group.partitions.len()).collect();
        } else if marked.is_empty() {
            marked.push(0);
        }
        let asks = marked.iter().map(|&index| self.0.queue(&group.partitions[index], |reply| QueueOp::WhyEmpty { auto_ack, reply }));
        let reasons: Option<Vec<EmptyReason>> = try_join_all(asks).await?.into_iter().collect();
        let weight = |reason: &EmptyReason| match reason {
            EmptyReason::CaughtUp => 0,
            EmptyReason::AllLeased => 1,
            EmptyReason::AllDelayed => 2,
            EmptyReason::SettledRangesLimit => 3,
            EmptyReason::PendingLimit => 4,
            EmptyReason::InFlightLimit => 5,
        };
        Ok(reasons.map(|reasons| reasons.into_iter().max_by_key(weight).unwrap_or(EmptyReason::CaughtUp)))
    }
}
