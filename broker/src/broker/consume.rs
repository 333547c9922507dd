//! Receive: lease records to a consumer, with a long poll that costs nothing while nothing comes.

use crate::broker::Broker;
use crate::broker::groups::in_range;
use crate::broker::topics::TopicError;
use crate::group::{Leased, Receipt, ReceiptError};
use crate::log::ReadError;
use crate::shard::Input;
use crate::shard::commit::WriteError;
use crate::shard::queue::{QueueError, QueueOp, QueueRequest};
use crate::topic::{Group, GroupPartition, Topic};
use core::time::Duration;
use futures_util::future::try_join_all;
use sagamq_api::group::{Delivery, EmptyReason, ReceiveRequest, ReceiveResponse};
use sagamq_api::limits::{
    IN_FLIGHT_MAX, LEASE_MS_DEFAULT, LEASE_MS_MAX, LEASE_MS_MIN, RECEIVE_RECORDS_DEFAULT, RECEIVE_RECORDS_MAX, RESPONSE_BYTES_MAX,
    WAIT_MS_MAX,
};
use sagamq_api::record::ConsumedRecord;
use sagamq_api::{GroupName, NameError, TopicName};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::time::Instant;

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
}

impl Broker {
    /// Leases records to the caller. The group is made by its first receive. With `auto_ack` the records are settled, durably,
    /// before this returns.
    ///
    /// # Errors
    /// When there is no such topic, a parameter is out of range, or storage fails.
    pub async fn receive(&self, topic: &TopicName, group: &GroupName, request: &ReceiveRequest) -> Result<ReceiveResponse, ConsumeError> {
        let max = in_range("max_records", request.max_records.unwrap_or(RECEIVE_RECORDS_DEFAULT), 1, RECEIVE_RECORDS_MAX)?;
        let wait_ms = in_range("wait_ms", request.wait_ms.unwrap_or(0), 0, WAIT_MS_MAX)?;
        let lease_ms = in_range("lease_ms", request.lease_ms.unwrap_or(LEASE_MS_DEFAULT), LEASE_MS_MIN, LEASE_MS_MAX)?;
        let topic = self.topic(topic)?;
        let group = self.group_or_new(&topic, group, request.start).await?;
        let _receiving = self.receiving(&topic, &group)?;
        let deadline = Instant::now() + Duration::from_millis(wait_ms);
        loop {
            // Registered before looking, so that what comes in between is not missed.
            let notified = group.notify.notified();
            tokio::pin!(notified);
            notified.as_mut().enable();
            let deliveries = self.take(&topic, &group, max, lease_ms, request.auto_ack).await?;
            let is_over = Instant::now() >= deadline || self.is_shutting_down();
            if !deliveries.is_empty() || is_over {
                let empty_reason = if deliveries.is_empty() { Some(self.why_empty(&group).await?) } else { None };
                return Ok(ReceiveResponse { deliveries, empty_reason });
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
        let due_ms = group.partitions.iter().filter_map(|partition| partition.view.next_due_ms()).min();
        let until_due = due_ms.map_or(LOOK_AGAIN, |due_ms| Duration::from_millis(due_ms.saturating_sub(now_ms) + 1));
        deadline.min(Instant::now() + until_due.min(LOOK_AGAIN))
    }

    /// Leases what there is, from all partitions at once.
    async fn take(
        &self,
        topic: &Topic,
        group: &Arc<Group>,
        max: u32,
        lease_ms: u64,
        auto_ack: bool,
    ) -> Result<Vec<Delivery>, ConsumeError> {
        let plan = self.plan(group, max);
        let asks = plan.iter().map(|&(of, max)| async move {
            let received = self.0.queue(of, |reply| QueueOp::Receive { max, lease_ms, auto_ack, reply }).await?;
            Ok::<_, ConsumeError>((of, received.leased))
        });
        let mut deliveries = Vec::new();
        let mut bytes = 0;
        for (of, leased) in try_join_all(asks).await? {
            bytes = self.deliver(topic, group, of, leased, auto_ack, bytes, &mut deliveries).await?;
        }
        if deliveries.len() >= max as usize {
            // There may be more, and the wake-up for it was spent on this one.
            group.notify.notify_one();
        }
        Ok(deliveries)
    }

    /// Which partitions to ask for how many records, beginning at another one each time.
    fn plan<'a>(&self, group: &'a Group, max: u32) -> Vec<(&'a GroupPartition, u32)> {
        let count = group.partitions.len();
        let first = self.0.rotation.fetch_add(1, Ordering::Relaxed) % count;
        let now_ms = self.0.clock.now_ms();
        let mut plan = Vec::new();
        let (mut left, mut bytes_left) = (u64::from(max), u64::from(RESPONSE_BYTES_MAX));
        for of in group.partitions.iter().cycle().skip(first).take(count) {
            let available = of.view.available(of.partition.high_watermark(), now_ms);
            let record_bytes = of.partition.record_bytes_mean();
            let quota = available.min(left).min((bytes_left / record_bytes).max(u64::from(plan.is_empty())));
            if quota > 0 {
                left -= quota;
                bytes_left = bytes_left.saturating_sub(quota * record_bytes);
                plan.push((of, u32::try_from(quota).expect("a quota is at most `max`")));
            }
        }
        plan
    }

    /// Reads the payloads of leased records. What would make the answer too large is given back as if it had not been leased.
    #[expect(clippy::too_many_arguments, reason = "the answer is built up over the partitions")]
    async fn deliver(
        &self,
        topic: &Topic,
        group: &Group,
        of: &GroupPartition,
        mut leased: Vec<Leased>,
        auto_ack: bool,
        mut bytes: usize,
        deliveries: &mut Vec<Delivery>,
    ) -> Result<usize, ConsumeError> {
        leased.sort_by_key(|lease| lease.offset);
        let mut records = self.read_offsets(&of.partition, leased.iter().map(|lease| lease.offset).collect()).await?;
        let mut undone = Vec::new();
        for lease in leased {
            let fits = auto_ack || deliveries.is_empty() || bytes < RESPONSE_BYTES_MAX as usize;
            if !fits {
                undone.push((lease.offset, lease.lease_id));
                continue;
            }
            // A record that is not there stays leased: its lease runs out, and at the delivery limit it is a dead letter that says so.
            let Some(record) = records.remove(&lease.offset) else { continue };
            bytes += record.payload.len();
            let receipt = Receipt {
                topic: topic.id,
                partition: of.key.partition.partition,
                group: group.id,
                offset: lease.offset,
                lease_id: lease.lease_id,
            };
            deliveries.push(Delivery {
                receipt: receipt.sign(&self.0.secret),
                attempt: lease.attempt,
                lease_until_ms: lease.deadline_ms,
                handed_out_ago_ms: lease.handed_out_ms.map(|at_ms| self.0.clock.now_ms().saturating_sub(at_ms)),
                record: ConsumedRecord::new(of.key.partition.partition, lease.offset, record.timestamp_ms, record.payload),
            });
        }
        if !undone.is_empty() {
            let undo = Input::Queue(QueueRequest { key: of.key, op: QueueOp::Undo { leases: undone } });
            self.0.shard(of.key.partition.shard).send(undo).await?;
        }
        Ok(bytes)
    }

    async fn why_empty(&self, group: &Group) -> Result<EmptyReason, ConsumeError> {
        let slots = try_join_all(group.partitions.iter().map(|of| self.slot(of))).await?;
        Ok(if slots.iter().all(|slot| slot.lag == 0) {
            EmptyReason::CaughtUp
        } else if slots.iter().any(|slot| slot.in_flight as usize >= IN_FLIGHT_MAX) {
            EmptyReason::InFlightLimit
        } else if slots.iter().any(|slot| slot.delayed > 0) {
            EmptyReason::AllDelayed
        } else {
            EmptyReason::AllLeased
        })
    }
}
