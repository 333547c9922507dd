//! Records that an acknowledgement has produced for a partition of another shard: a message there, taken with their append in one commit.

use crate::ids::{ShardId, TopicId};
use crate::log::batch::NewBatch;
use crate::log::partition::Partition;
use crate::shard::core::Core;
use crate::shard::outbox::owner::Outbox;
use crate::topic::Topic;
use bytes::Bytes;
use sagamq_api::PartitionId;
use std::sync::Arc;

const VERSION: u8 = 1;

/// A message: version u8, topic u32, partition u32, and a record batch without an offset.
pub(crate) fn encode(topic: TopicId, partition: PartitionId, batch: &[u8]) -> Vec<u8> {
    [&[VERSION][..], &topic.0.to_be_bytes(), &partition.0.to_be_bytes(), batch].concat()
}

/// What a message says. `None`: that is no such message.
pub(crate) fn decode(body: &Bytes) -> Option<(TopicId, PartitionId, Bytes)> {
    let (topic, rest) = body.strip_prefix(&[VERSION])?.split_first_chunk()?;
    let (partition, batch) = rest.split_first_chunk()?;
    Some((TopicId(u32::from_be_bytes(*topic)), PartitionId(u32::from_be_bytes(*partition)), body.slice_ref(batch)))
}

/// A message of another shard.
pub(crate) struct Relay {
    pub(crate) from: ShardId,
    pub(crate) sequence: u64,
    /// Where its records belong; `None`: the topic is deleted, and they with it.
    pub(crate) to: Option<(Arc<Topic>, Arc<Partition>, NewBatch)>,
}

pub(super) fn handle(core: &mut Core, relays: &mut Outbox, relay: Relay) {
    let takes = [(relay.from, relay.sequence)];
    if let Err(not_next) = relays.check(&takes) {
        // Who delivers hands each over once and in order. Were it not so, the record would be there twice or not at all.
        tracing::error!(shard = core.id.0, %not_next, "records of another shard came out of order, and were not stored");
        return;
    }
    if let Some((topic, partition, batch)) = relay.to.filter(|(_, partition, _)| core.owns(partition)) {
        let batches = [batch];
        core.count_produced(topic.id, topic.name.as_str(), &batches);
        core.stage_batches(partition, batches);
    }
    relays.exchange(core, &takes, Vec::new());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_its_golden_bytes() {
        let message = Bytes::from(encode(TopicId(2), PartitionId(3), b"batch"));
        assert_eq!(&message[..], b"\x01\0\0\0\x02\0\0\0\x03batch");
        assert_eq!(decode(&message), Some((TopicId(2), PartitionId(3), Bytes::from_static(b"batch"))));
        assert_eq!((decode(&message.slice(1..)), decode(&message.slice(..8))), (None, None));
    }
}
