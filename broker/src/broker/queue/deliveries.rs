//! What a consumer gets of leased records: each with the receipt that settles it.

use crate::broker::Broker;
use crate::group::queue::{LeaseTerms, Leased, Receipt, ReceiptError};
use crate::log::batch::StoredRecord;
use crate::topic::{Group, Topic};
use sagamq_api::{Offset, PartitionId};

/// One leased record.
#[derive(Clone, Debug)]
pub struct Delivered {
    /// The right to settle it: opaque, valid until the lease is over. Empty with `auto_ack`: it is settled.
    pub receipt: String,
    /// The attempt that this delivery is, or becomes when the consumer begins with it.
    pub attempt: u32,
    /// How often it came back from a consumer who had not begun with it.
    pub returned: u32,
    /// When the lease is over, in milliseconds since 1970. With `auto_ack` the record is settled already.
    pub lease_until_ms: u64,
    /// How long ago it was first handed out to this group, in milliseconds, where that is marked.
    pub handed_out_ago_ms: Option<u64>,
    /// Partition of the topic.
    pub partition: PartitionId,
    /// The record.
    pub record: StoredRecord,
}

impl Delivered {
    /// A fresh record that is settled with its receive, which is what `auto_ack` gives if nothing comes in between.
    pub(super) fn expected(partition: PartitionId, record: StoredRecord, at_ms: u64) -> Self {
        Self { receipt: String::new(), attempt: 1, returned: 0, lease_until_ms: at_ms, handed_out_ago_ms: None, partition, record }
    }

    fn place(&self) -> (PartitionId, Offset) {
        (self.partition, self.record.offset)
    }
}

impl Broker {
    /// Gives each delivery its lease and drops those that have none. Leases come in the order of the deliveries. Whether nothing is other
    /// than it was expected to be.
    pub(super) fn take_over_leases(
        &self,
        topic: &Topic,
        group: &Group,
        deliveries: &mut Vec<Delivered>,
        leases: Vec<(PartitionId, Leased)>,
        terms: LeaseTerms,
    ) -> bool {
        let mut leases = leases.into_iter().peekable();
        let mut is_as_expected = true;
        deliveries.retain_mut(|delivered| {
            let is_its_own = |(partition, lease): &(PartitionId, Leased)| (*partition, lease.offset) == delivered.place();
            let Some((partition, lease)) = leases.next_if(is_its_own) else {
                is_as_expected = false;
                return false;
            };
            let handed_out_ago_ms = lease.handed_out_ms.map(|at_ms| self.0.clock.now_ms().saturating_sub(at_ms));
            let told = (lease.attempt, lease.returned, handed_out_ago_ms);
            is_as_expected &= terms.auto_ack && told == (delivered.attempt, delivered.returned, delivered.handed_out_ago_ms);
            (delivered.attempt, delivered.returned, delivered.handed_out_ago_ms) = (lease.attempt, lease.returned, handed_out_ago_ms);
            if !terms.auto_ack {
                delivered.receipt = self.receipt(topic, partition, group, &lease);
                delivered.lease_until_ms = lease.deadline_ms;
            }
            true
        });
        assert!(leases.next().is_none(), "only what was read is leased, and in its order");
        is_as_expected
    }

    /// The right to settle what is leased to whoever asks.
    pub(super) fn receipt(&self, topic: &Topic, partition: PartitionId, group: &Group, lease: &Leased) -> String {
        let holder = self.holder();
        let receipt = Receipt { topic: topic.id, partition, group: group.id, offset: lease.offset, lease_id: lease.lease_id, holder };
        receipt.sign(&self.0.secret)
    }

    /// The receipt in a text, if it is one that counts for whoever asks. Whether its lease is over is not known here.
    pub(in crate::broker) fn receipt_in(&self, text: &str) -> Result<Receipt, ReceiptError> {
        let receipt = Receipt::verify(text, &self.0.secret)?;
        if self.holder().is_some_and(|holder| receipt.holder != Some(holder)) {
            return Err(ReceiptError::OfAnother);
        }
        Ok(receipt)
    }
}
