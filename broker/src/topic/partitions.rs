//! The partitions of a topic: in memory when somebody has used them, or when something was ever stored in them. All others cost a cell.

use crate::growing::Growing;
use crate::ids::{PartitionKey, TopicId};
use crate::log::offsets::LogOffsets;
use crate::log::partition::Partition;
use crate::log::positions::Positions;
use crate::log::tail::TailMemory;
use crate::log::work::Readers;
use sagamq_api::{Offset, PartitionId};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering, fence};
use std::sync::{Arc, OnceLock};

/// The partitions of a topic.
#[derive(Debug)]
pub(crate) struct Partitions {
    topic: TopicId,
    shards: u16,
    /// At least as many as there are partitions.
    cells: Growing<OnceLock<Arc<Partition>>>,
    count: AtomicU32,
    tail_memory: TailMemory,
    /// The groups that read the topic.
    readers: Arc<Readers>,
    is_closed: AtomicBool,
}

impl Partitions {
    pub(crate) fn new(topic: TopicId, count: u32, shards: u16, tail_memory: &TailMemory) -> Self {
        Self {
            topic,
            shards,
            cells: Growing::new((0..count).map(|_| OnceLock::new())),
            count: AtomicU32::new(count),
            tail_memory: tail_memory.clone(),
            readers: Arc::default(),
            is_closed: AtomicBool::new(false),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.count() as usize
    }

    /// As [`Partitions::len`], as it stands in the topic's configuration.
    pub(crate) fn count(&self) -> u32 {
        self.count.load(Ordering::Acquire)
    }

    /// There are so many from now on: more than before. Whatever a group keeps of each of them is there already.
    pub(crate) fn grow(&self, count: u32) {
        assert!(count >= self.count(), "partitions are added and never taken away");
        self.cells.grow_to(count as usize, |_| OnceLock::new());
        self.count.store(count, Ordering::Release);
    }

    fn cell(&self, index: usize) -> &OnceLock<Arc<Partition>> {
        assert!(index < self.len(), "there is no partition {index}");
        self.cells.get(index).expect("there are as many cells as partitions")
    }

    /// The groups that read the topic.
    pub(crate) fn readers(&self) -> &Readers {
        &self.readers
    }

    pub(crate) fn key(&self, index: usize) -> PartitionKey {
        let partition = PartitionId(u32::try_from(index).expect("a topic's number of partitions is a u32"));
        PartitionKey::of(self.topic, partition, self.shards)
    }

    /// A partition; it comes into memory with its first use.
    pub(crate) fn at(&self, index: usize) -> &Arc<Partition> {
        let cell = self.cell(index);
        if let Some(partition) = cell.get() {
            // Whoever filled the cell looks whether the topic was closed meanwhile.
            return partition;
        }
        let partition = cell.get_or_init(|| self.make(index, &Positions::EMPTY));
        // Whoever closes the topic sees the cell filled, or this sees the topic closed.
        fence(Ordering::SeqCst);
        if self.is_closed.load(Ordering::SeqCst) && !partition.is_deleted() {
            partition.delete();
        }
        partition
    }

    /// Brings a partition into memory that stands where it was stored, before anybody uses it.
    pub(crate) fn open(&self, index: usize, positions: &Positions) -> &Arc<Partition> {
        let cell = self.cell(index);
        let opened = cell.set(self.make(index, positions));
        assert!(opened.is_ok(), "a partition is opened once, before its first use");
        cell.get().expect("it was just set")
    }

    fn make(&self, index: usize, positions: &Positions) -> Arc<Partition> {
        let offsets = LogOffsets::recovered(positions.log_start, positions.log_end);
        Arc::new(Partition::new(self.key(index), offsets, &self.tail_memory, &self.readers))
    }

    /// A partition, if somebody has used it or something was ever stored in it.
    pub(crate) fn in_memory(&self, index: usize) -> Option<&Arc<Partition>> {
        self.cell(index).get()
    }

    /// The positions of a partition, which need not be in memory for it.
    pub(crate) fn offsets(&self, index: usize) -> LogOffsets {
        let empty = LogOffsets::recovered(Positions::EMPTY.log_start, Positions::EMPTY.log_end);
        self.cell(index).get().map_or(empty, |partition| partition.offsets())
    }

    /// The end of a partition as its readers see it, which may be a moment ahead of its positions: what a reader was given lies below.
    pub(crate) fn readable_end(&self, index: usize) -> Offset {
        self.cell(index).get().map_or(Positions::EMPTY.log_end, |partition| partition.high_watermark())
    }

    /// The topic is deleted: nothing is stored in it any more, and whoever waits for its records hears of it at once.
    pub(crate) fn close(&self) {
        self.is_closed.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        for partition in self.cells.iter().filter_map(OnceLock::get) {
            partition.delete();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partitions() -> Partitions {
        Partitions::new(TopicId(1), 6, 4, &TailMemory::new(1_000))
    }

    #[test]
    fn what_nobody_used_is_not_in_memory_and_stands_at_the_beginning() {
        let of = partitions();
        let positions = Positions { log_start: Offset(3), log_end: Offset(5), ..Positions::EMPTY };
        assert_eq!(of.open(1, &positions).high_watermark(), Offset(5));
        assert_eq!((of.offsets(1).log_start, of.offsets(0).log_end), (Offset(3), Offset(0)));
        assert_eq!((of.readable_end(1), of.readable_end(0)), (Offset(5), Offset(0)));
        assert!(Arc::ptr_eq(of.at(5), of.at(5)), "one partition, one half in memory");
        assert_eq!(of.at(5).key, PartitionKey::of(TopicId(1), PartitionId(5), 4));
        assert_eq!(of.cells.iter().filter(|cell| cell.get().is_some()).count(), 2);
    }

    #[test]
    fn partitions_are_added_at_the_end_and_those_before_stay() {
        let of = partitions();
        let before = Arc::clone(of.at(5));
        of.grow(9);
        assert_eq!((of.len(), of.in_memory(8).is_some()), (9, false));
        assert!(Arc::ptr_eq(of.at(5), &before));
        assert_eq!(of.at(8).key, PartitionKey::of(TopicId(1), PartitionId(8), 4));
        let later = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| of.at(9).key));
        assert!(later.is_err(), "what is beyond the number is no partition, whatever there is room for");
    }

    #[test]
    fn a_partition_that_is_first_used_when_its_topic_is_gone_is_deleted() {
        let of = partitions();
        let before = Arc::clone(of.at(0));
        of.close();
        assert!(before.is_deleted() && of.at(0).is_deleted() && of.at(1).is_deleted());
    }
}
