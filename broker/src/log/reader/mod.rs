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
    use crate::storage::{Durability, Family, Mutation, Storage as _};
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
    fn where_the_end_of_a_log_is_missing_a_reader_is_told_and_does_not_wait_for_ever() {
        let key = PartitionKey { shard: ShardId(0), topic: TopicId(1), partition: PartitionId(0) };
        let offsets = LogOffsets::recovered(Offset(0), Offset(4));
        let partition = Partition::new(key, offsets, &TailMemory::new(1024), &std::sync::Arc::default());
        let storage = MemoryStorage::new();
        let put = Mutation::Put { family: Family::Log, key: key.log(Offset(0)), value: batch(0).into_bytes() };
        storage.write(&[put], Durability::Buffered).expect("memory");
        let budget = || Budget::unshared(10, usize::MAX);
        let found = read(&storage, &partition, Offset(1), &mut budget()).expect("it is there");
        assert_eq!(found.iter().map(|record| record.offset.0).collect::<Vec<_>>(), [1]);
        let missing = read(&storage, &partition, Offset(2), &mut budget());
        assert!(matches!(missing, Err(ReadError::Missing { offset: Offset(2) })), "{missing:?}");
        let missing = read_batches(&storage, &partition, Offset(2), &mut budget());
        assert!(matches!(missing, Err(ReadError::Missing { offset: Offset(2) })), "{missing:?}");
        assert!(read(&storage, &partition, Offset(4), &mut budget()).expect("the end").is_empty());
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
