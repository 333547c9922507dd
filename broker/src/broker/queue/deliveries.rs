//! What a consumer gets of leased records: each with the receipt that settles it.

use crate::broker::Broker;
use crate::group::queue::{Leased, Receipt};
use crate::log::batch::StoredRecord;
use crate::topic::{Group, QueueRef, Topic};
use sagamq_api::{Offset, PartitionId};

/// One leased record.
#[derive(Clone, Debug)]
pub struct Delivered {
    /// The right to settle it: opaque, valid until the lease is over.
    pub receipt: String,
    /// How often it was delivered to this group, this time included.
    pub attempt: u32,
    /// When the lease is over, in milliseconds since 1970. With `auto_ack` the record is settled already.
    pub lease_until_ms: u64,
    /// How long ago it was first handed out to this group, in milliseconds, where that is marked.
    pub handed_out_ago_ms: Option<u64>,
    /// Partition of the topic.
    pub partition: PartitionId,
    /// The record.
    pub record: StoredRecord,
}

impl Broker {
    /// What the consumer gets of one partition.
    pub(super) fn deliveries(
        &self,
        topic: &Topic,
        group: &Group,
        of: QueueRef<'_>,
        leased: Vec<Leased>,
        records: Vec<StoredRecord>,
    ) -> Vec<Delivered> {
        // In the order of their offsets, as they were read.
        let mut records: Vec<Option<StoredRecord>> = records.into_iter().map(Some).collect();
        let offsets: Vec<Offset> = records.iter().flatten().map(|record| record.offset).collect();
        let partition = of.key().partition.partition;
        let deliver = |lease: Leased| {
            let found = offsets.binary_search(&lease.offset).ok().and_then(|index| records[index].take());
            let record = found.expect("only what was read is leased, and once");
            let receipt = Receipt { topic: topic.id, partition, group: group.id, offset: lease.offset, lease_id: lease.lease_id };
            Delivered {
                receipt: receipt.sign(&self.0.secret),
                attempt: lease.attempt,
                lease_until_ms: lease.deadline_ms,
                handed_out_ago_ms: lease.handed_out_ms.map(|at_ms| self.0.clock.now_ms().saturating_sub(at_ms)),
                partition,
                record,
            }
        };
        leased.into_iter().map(deliver).collect()
    }
}
