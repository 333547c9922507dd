//! Reading a partition: from the tail in memory, else from storage. Never above the high watermark.

mod batches;
mod error;
mod pick;
mod sequence;
mod stored;
mod time;

pub use error::ReadError;
pub(crate) use pick::{Found, read_at};
pub(crate) use sequence::read;
pub(crate) use stored::{ReadBatches, read_batches};
pub(crate) use time::offset_at_time;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{PartitionKey, ShardId, TopicId};
    use crate::log::batch::{Batch, NewBatch, Record};
    use crate::log::budget::Budget;
    use crate::log::offsets::LogOffsets;
    use crate::log::partition::Partition;
    use crate::log::tail::TailMemory;
    use crate::storage::memory::MemoryStorage;
    use sagamq_api::Offset;
    use sagamq_api::PartitionId;
    use sagamq_api::record::Payload;

    fn partition() -> Partition {
        let key = PartitionKey { shard: ShardId(0), topic: TopicId(1), partition: PartitionId(0) };
        Partition::new(key, LogOffsets::recovered(Offset(0), Offset(0)), &TailMemory::new(1024 * 1024), &std::sync::Arc::default())
    }

    fn batch(base: u64) -> Batch {
        let record = Record { timestamp_ms: 0, payload: Payload::default() };
        NewBatch::encode(&[record.clone(), record]).expect("encodes").at(Offset(base))
    }

    #[test]
    fn what_becomes_durable_after_its_partition_is_deleted_is_not_kept_in_memory() {
        let partition = partition();
        partition.append(4);
        partition.publish_own(vec![batch(0)]);
        assert!(partition.is_in_tail(Offset(0)));
        partition.delete();
        partition.publish_own(vec![batch(2)]);
        assert!(!partition.is_in_tail(Offset(0)) && !partition.is_in_tail(Offset(2)));
    }

    #[test]
    fn the_tail_is_read_up_to_the_watermark() {
        let partition = partition();
        partition.append(4);
        partition.publish_own(vec![batch(0)]);
        partition.push_tail(vec![batch(2)]);
        let records = read(&MemoryStorage::new(), &partition, Offset(0), &mut Budget::unshared(10, usize::MAX)).expect("reads");
        assert_eq!(records.iter().map(|record| record.offset.0).collect::<Vec<_>>(), [0, 1]);
        let offsets = [Offset(1), Offset(2)];
        let found = read_at(&MemoryStorage::new(), &partition, &offsets, &mut Budget::unshared(10, usize::MAX));
        assert_eq!(found.records.iter().map(|record| record.offset.0).collect::<Vec<_>>(), [1]);
    }
}
