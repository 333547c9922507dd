//! Which partitions of a group a receive asks for how many records.

use super::receive::ReceiveError;
use crate::broker::Broker;
use crate::group::queue::{KeyHash, key_hash};
use crate::log::ReadError;
use crate::log::partition::Partition;
use crate::shard::queues::request::QueueOp;
use crate::shard::queues::reservation::Reservation;
use crate::storage::StorageError;
use crate::topic::{Group, QueueRef};
use futures_util::future::join_all;
use sagamq_api::Offset;
use sagamq_api::limits::{PENDING_MAX, RECEIVE_RECORDS_MAX, RESPONSE_BYTES_MAX};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// How often partitions are asked again for what others could not give.
const ROUNDS_MAX: usize = 3;

/// How often the keys of records are read for one partition, so that a receive ends although others settle all the while: enough for all that
/// a group may look past in a partition, and for all that may be pending.
const KEY_ROUNDS_MAX: usize = 2 * PENDING_MAX / RECEIVE_RECORDS_MAX as usize + 2;

impl Broker {
    /// Reserves up to `max` records, from all partitions at once. What a partition cannot give is asked of the others; one that fails is an
    /// error only if there is nothing else.
    pub(super) async fn reserve_records<'a>(
        &self,
        group: &'a Group,
        max: u32,
        auto_ack: bool,
    ) -> Result<Vec<(QueueRef<'a>, Reservation)>, ReceiveError> {
        let mut reserved = Vec::new();
        // Partitions that are added meanwhile are not asked this time.
        let mut is_exhausted = vec![false; group.queues().len()];
        let mut error = None;
        let (mut left, mut bytes_left) = (u64::from(max), u64::from(RESPONSE_BYTES_MAX));
        for _ in 0..ROUNDS_MAX {
            let plan = self.plan(group, &is_exhausted, left, bytes_left, auto_ack);
            let asks = plan.iter().map(|&(index, quota)| self.reserve_of(group.queue(index), quota, auto_ack));
            for (&(index, quota), (reservations, failure)) in plan.iter().zip(join_all(asks).await) {
                let of = group.queue(index);
                let count = reservations.iter().map(|reservation| reservation.offsets.len() as u64).sum::<u64>();
                is_exhausted[index] |= count < u64::from(quota);
                if let Some(ReceiveError::Read(reason)) = &failure {
                    let partition = of.key().partition.partition;
                    tracing::error!(topic = group.label.topic, group = group.label.group, %partition, %reason, "keys cannot be read");
                }
                error = error.or(failure);
                left = left.saturating_sub(count);
                bytes_left = bytes_left.saturating_sub(count * of.partition().record_bytes_mean());
                reserved.extend(reservations.into_iter().map(|reservation| (of, reservation)));
            }
            if left == 0 || plan.iter().all(|&(index, _)| !is_exhausted[index]) {
                break;
            }
        }
        error.filter(|_| reserved.is_empty()).map_or(Ok(reserved), Err)
    }

    /// Reserves up to `max` records of a partition; why not more, if something failed.
    async fn reserve_of(&self, of: QueueRef<'_>, max: u32, auto_ack: bool) -> (Vec<Reservation>, Option<ReceiveError>) {
        let mut reservations = Vec::new();
        let result = self.reserve_into(&mut reservations, of, max, auto_ack).await;
        (reservations, result.err())
    }

    /// As [`Broker::reserve_of`]. Where the order of keys is kept, it reads the keys that have to be known for that.
    async fn reserve_into(
        &self,
        reservations: &mut Vec<Reservation>,
        of: QueueRef<'_>,
        max: u32,
        auto_ack: bool,
    ) -> Result<(), ReceiveError> {
        let (mut left, mut learnt) = (max, Vec::new());
        for _ in 0..KEY_ROUNDS_MAX {
            let mut reservation = self.0.queue(of, |reply| QueueOp::Reserve { max: left, auto_ack, learnt, reply }).await?;
            let wanted = core::mem::take(&mut reservation.keys_wanted);
            left = left.saturating_sub(u32::try_from(reservation.offsets.len()).unwrap_or(u32::MAX));
            if !reservation.offsets.is_empty() {
                reservations.push(reservation);
            }
            if left == 0 || wanted.is_empty() {
                break;
            }
            learnt = self.keys_of(of.partition(), wanted).await?;
        }
        Ok(())
    }

    /// The keys of these records, as far as the memory of one answer goes, and at least one. A record that is not there any more, or that is
    /// damaged, keeps nobody back, save where the group delivers a copy in its place: its shard knows the key of that.
    async fn keys_of(&self, partition: &Arc<Partition>, offsets: Vec<Offset>) -> Result<Vec<(Offset, KeyHash)>, ReceiveError> {
        let (mut found, _budget) = self.read_offsets(vec![(Arc::clone(partition), offsets)], RECEIVE_RECORDS_MAX).await?;
        let found = found.pop().expect("one partition was asked for");
        if let Some(error @ ReadError::Storage(StorageError::Io(_))) = found.error {
            // What a device cannot say now it may say later.
            return Err(error.into());
        }
        let mut keys: Vec<(Offset, KeyHash)> = found.records.iter().map(|record| (record.offset, key_hash(&record.payload))).collect();
        keys.extend(found.gone.into_iter().chain(found.failed).map(|offset| (offset, None)));
        keys.sort_unstable_by_key(|&(offset, _)| offset);
        Ok(keys)
    }

    /// Which partitions to ask for how many records, beginning at another one each time. The size of a record is a guess that only
    /// keeps reservations small; what is read is bounded by what it is.
    fn plan(&self, group: &Group, is_exhausted: &[bool], mut left: u64, mut bytes_left: u64, auto_ack: bool) -> Vec<(usize, u32)> {
        let count = group.queues().len();
        let first = self.0.receive_rotation.fetch_add(1, Ordering::Relaxed) % count;
        let (now_ms, is_ordered, passes) = (self.0.clock.now_ms(), group.is_ordered(), group.passes());
        let mut plan = Vec::new();
        for index in group.work.marked_from(first).into_iter().filter(|&index| is_exhausted.get(index) == Some(&false)) {
            let of = group.queue(index);
            let available = of.view().available(of.high_watermark(), now_ms, auto_ack, is_ordered, passes);
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
