//! Which partitions of a group a receive asks for how many records.

use crate::broker::Broker;
use crate::shard::queues::request::{QueueError, QueueOp};
use crate::shard::queues::reservation::Reservation;
use crate::topic::{Group, QueueRef};
use futures_util::future::try_join_all;
use sagamq_api::limits::RESPONSE_BYTES_MAX;
use std::sync::atomic::Ordering;

/// How often partitions are asked again for what others could not give.
const ROUNDS_MAX: usize = 3;

impl Broker {
    /// Reserves up to `max` records, from all partitions at once. What a partition cannot give is asked of the others.
    pub(super) async fn reserve_records<'a>(
        &self,
        group: &'a Group,
        max: u32,
        auto_ack: bool,
    ) -> Result<Vec<(QueueRef<'a>, Reservation)>, QueueError> {
        let mut reserved = Vec::new();
        let mut is_exhausted = vec![false; group.queues().len()];
        let (mut left, mut bytes_left) = (u64::from(max), u64::from(RESPONSE_BYTES_MAX));
        for _ in 0..ROUNDS_MAX {
            let plan = self.plan(group, &is_exhausted, left, bytes_left, auto_ack);
            let asks = plan.iter().map(|&(index, quota)| {
                let ask = move |reply| QueueOp::Reserve { max: quota, auto_ack, reply };
                async move { self.0.queue(group.queue(index), ask).await }
            });
            for (&(index, quota), reservation) in plan.iter().zip(try_join_all(asks).await?) {
                let (of, count) = (group.queue(index), reservation.offsets.len() as u64);
                is_exhausted[index] |= count < u64::from(quota);
                left = left.saturating_sub(count);
                bytes_left = bytes_left.saturating_sub(count * of.partition().record_bytes_mean());
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
        let count = group.queues().len();
        let first = self.0.receive_rotation.fetch_add(1, Ordering::Relaxed) % count;
        let now_ms = self.0.clock.now_ms();
        let mut plan = Vec::new();
        for index in group.work.marked_from(first).into_iter().filter(|&index| !is_exhausted[index]) {
            let of = group.queue(index);
            let available = of.view().available(of.high_watermark(), now_ms, auto_ack);
            if available == 0 {
                group.work.clear_if(index, || of.view().is_idle(of.high_watermark()));
                continue;
            }
            let record_bytes = of.partition().record_bytes_mean();
            let quota = available.min(left).min((bytes_left / record_bytes).max(u64::from(plan.is_empty())));
            if quota > 0 {
                left -= quota;
                bytes_left = bytes_left.saturating_sub(quota * record_bytes);
                plan.push((index, u32::try_from(quota).expect("a quota is at most `max`")));
            }
        }
        plan
    }
}
