//! Acknowledgements with which other things are committed: all of them, or none.

use crate::ids::GroupKey;
use crate::shard::core::Core;
use crate::shard::queues::Queues;
use crate::shard::queues::request::QueueError;
use sagamq_api::Offset;

impl Queues {
    /// The first of these leases that does not count any more; `None`: all of them do.
    pub(in crate::shard) fn first_stale(&self, key: GroupKey, leases: &[(Offset, u64)]) -> Result<Option<usize>, QueueError> {
        let queue = self.queues.get(key)?;
        Ok(leases.iter().position(|&(offset, lease_id)| !queue.state.may_ack(offset, lease_id)))
    }

    /// Acknowledges records by leases that count, each named once.
    pub(in crate::shard) fn ack_all(&mut self, core: &mut Core, key: GroupKey, leases: &[(Offset, u64)]) -> Result<(), QueueError> {
        let queue = self.queues.get_mut(key)?;
        for &(offset, lease_id) in leases {
            let settled = queue.state.ack(offset, lease_id);
            assert!(matches!(settled, crate::group::queue::Settled::Done { .. }), "the lease counted a moment ago: {settled:?}");
        }
        core.metrics.acknowledged_records.get_or_create(&queue.group.label).inc_by(leases.len() as u64);
        queue.show();
        queue.wake();
        core.commit.require_sync();
        self.queues.touch(key);
        Ok(())
    }
}
