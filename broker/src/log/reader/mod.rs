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
    use crate::log::batch::{Batch, Compression, NewBatch, Record};
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
    fn where_the_middle_of_a_log_is_missing_nobody_is_given_what_comes_behind_it_as_if_it_came_next() {
        let key = PartitionKey { shard: ShardId(0), topic: TopicId(1), partition: PartitionId(0) };
        let offsets = LogOffsets::recovered(Offset(0), Offset(6));
        let partition = Partition::new(key, offsets, &TailMemory::new(1024), &std::sync::Arc::default());
        let storage = MemoryStorage::new();
        for base in [0, 4] {
            let put = Mutation::Put { family: Family::Log, key: key.log(Offset(base)), value: batch(base).into_bytes() };
            storage.write(&[put], Durability::Buffered).expect("memory");
        }
        let budget = || Budget::unshared(10, usize::MAX);
        for (from, whole) in [(0, vec![0, 1]), (1, vec![1]), (4, vec![4, 5]), (5, vec![5])] {
            let found = read(&storage, &partition, Offset(from), &mut budget()).expect("it is there");
            assert_eq!(found.iter().map(|record| record.offset.0).collect::<Vec<_>>(), whole, "from {from}");
            let next = read_batches(&storage, &partition, Offset(from), &mut budget()).expect("it is there").next;
            assert_eq!(next, Offset(whole[whole.len() - 1] + 1), "from {from}");
        }
        for from in [2, 3] {
            let partition = Partition::new(key, offsets, &TailMemory::new(1024), &std::sync::Arc::default());
            let missing = read(&storage, &partition, Offset(from), &mut budget());
            assert!(matches!(missing, Err(ReadError::Missing { offset }) if offset == Offset(from)), "{missing:?}");
            let missing = read_batches(&storage, &partition, Offset(from), &mut budget());
            assert!(matches!(missing, Err(ReadError::Missing { offset }) if offset == Offset(from)), "{missing:?}");
            // Who looks while it is being cut is told that.
            partition.cut(Offset(4));
            let cut = read(&storage, &partition, Offset(from), &mut budget());
            assert!(matches!(cut, Err(ReadError::OutOfRange { log_start: Offset(4), .. })), "{cut:?}");
            let cut = read_batches(&storage, &partition, Offset(from), &mut budget());
            assert!(matches!(cut, Err(ReadError::OutOfRange { log_start: Offset(4), .. })), "{cut:?}");
        }
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

    /// Records of a batch that fits the tail.
    const LARGE: u64 = 500;

    /// Records of a kilobyte, each with so many headers.
    fn large(headers: usize, compression: Compression) -> Batch {
        let record = |n: u64| {
            let mut payload = Payload { value: Some(vec![b'x'; 1_000].into()), ..Payload::default() };
            (0..headers).for_each(|header| payload.headers.push(format!("h{header}"), Some(n.to_string().into())));
            Record { timestamp_ms: 0, payload }
        };
        NewBatch::encode(&(0..LARGE).map(record).collect::<Vec<_>>()).expect("encodes").compressed(compression).at(Offset(0))
    }

    #[test]
    fn a_record_that_was_picked_out_of_a_large_batch_keeps_nothing_of_it_and_what_it_keeps_is_charged() {
        for (headers, compression, is_in_tail) in
            [(1, Compression::None, false), (1, Compression::Lz4, false), (3, Compression::Lz4, true), (3, Compression::Zstd, true)]
        {
            let case = format!("{headers} {compression:?} {is_in_tail}");
            let (partition, storage, batch) = (partition(), MemoryStorage::new(), large(headers, compression));
            partition.append(LARGE);
            let put = Mutation::Put { family: Family::Log, key: partition.key.log(Offset(0)), value: batch.bytes().clone() };
            storage.write(&[put], Durability::Buffered).expect("memory");
            partition.publish_own(vec![batch]);
            if !is_in_tail {
                partition.delete();
            }
            assert_eq!(partition.is_in_tail(Offset(0)), is_in_tail, "{case}");
            let found = read_at(&storage, &partition, &[Offset(0)], &mut Budget::unshared(10, usize::MAX));
            let [record] = &found.records[..] else { panic!("{case}: {found:?}") };
            let value = record.payload.headers.iter().next().and_then(|header| header.value.clone()).expect("it has one");
            assert_eq!(value, "0");
            drop((found, partition, storage));
            let held = value.try_into_mut().expect("nobody else has it").capacity();
            assert!(held < 1_000, "{case}: {held} bytes for one");
        }
    }

    #[test]
    fn readers_of_batches_get_no_more_than_they_asked_for_when_it_is_decompressed_and_one_batch_at_least() {
        let (partition, storage) = (partition(), MemoryStorage::new());
        for base in 0..20 {
            let record = Record { timestamp_ms: 0, payload: Payload { value: Some(vec![0; 1024 * 1024].into()), ..Payload::default() } };
            let batch = NewBatch::encode(&[record]).expect("encodes").compressed(Compression::Zstd).at(Offset(base));
            assert!(batch.len() < 1_000);
            let put = Mutation::Put { family: Family::Log, key: partition.key.log(Offset(base)), value: batch.bytes().clone() };
            storage.write(&[put], Durability::Buffered).expect("memory");
            partition.append(1);
            partition.publish_own(vec![batch]);
        }
        for (bytes_max, batches) in [(4 * 1024 * 1024 + 1_000, 4), (1, 1)] {
            let (mut from, mut reads) = (Offset(0), 0);
            while from < Offset(20) {
                let read = read_batches(&storage, &partition, from, &mut Budget::unshared(1_000, bytes_max)).expect("they are there");
                assert!(read.next > from && read.next.0 <= from.0 + batches, "{bytes_max}: {from} to {}", read.next);
                (from, reads) = (read.next, reads + 1);
            }
            assert_eq!(reads, 20_u64.div_ceil(batches), "and no less");
        }
    }
}
