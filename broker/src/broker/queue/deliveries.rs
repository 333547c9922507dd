//! What a consumer gets of leased records: each with the receipt that settles it.

use crate::broker::Broker;
use crate::group::queue::{Leased, Receipt};
use crate::log::batch::StoredRecord;
use crate::topic::{Group, GroupPartition, Topic};
use sagamq_api::Offset;
use sagamq_api::queue::Delivery;
use sagamq_api::record::ConsumedRecord;
use std::collections::HashMap;

impl Broker {
    /// What the consumer gets of one partition.
    pub(super) fn deliveries(
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
}
