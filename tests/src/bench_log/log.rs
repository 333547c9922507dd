//! The log that is written: two topics side by side, batches of random bytes, partition after partition.

use super::disk::Disk;
use super::{Case, Options};
use bytes::Bytes;
use core::ops::ControlFlow;
use sagamq_api::{Offset, PartitionId};
use sagamq_broker::ids::{PartitionKey, ShardId, TopicId};
use sagamq_broker::storage::rocks::RocksStorage;
use sagamq_broker::storage::{Direction, Durability, Family, Mutation, Storage as _};

/// Bytes of one commit: what gathers under load.
const COMMIT_BYTES: usize = 1 << 20;
/// Random bytes that batches are cut from: far more than any compression looks back.
const POOL_BYTES: usize = 64 << 20;
/// Catch-up reads end here.
const READ_BYTES_MAX: u64 = 2_000_000_000;
const SHARDS: u32 = 16;

/// Positions of the two topics.
#[derive(Debug)]
pub(crate) struct Log {
    pool: Bytes,
    batch_bytes: usize,
    partitions: Vec<Partition>,
    /// Batches written.
    batches: u64,
    /// Batches deleted.
    deleted: u64,
}

#[derive(Debug)]
struct Partition {
    key: PartitionKey,
    start: u64,
    end: u64,
    is_short: bool,
}

impl Partition {
    fn range(&self, offsets: core::ops::Range<u64>) -> core::ops::Range<Vec<u8>> {
        self.key.log_range(Offset(offsets.start)..Offset(offsets.end))
    }
}

impl Log {
    pub(crate) fn new(options: &Options) -> Self {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut pool = Vec::with_capacity(POOL_BYTES);
        while pool.len() < POOL_BYTES {
            // xorshift64: nothing that a compressor finds.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            pool.extend_from_slice(&state.to_le_bytes());
        }
        let topics = (0..options.partitions).flat_map(|partition| [(1, partition), (2, partition)]);
        let partitions = topics.map(|(topic, partition)| {
            let shard = ShardId(u16::try_from(partition % SHARDS).expect("a shard"));
            let key = PartitionKey { shard, topic: TopicId(topic), partition: PartitionId(partition) };
            Partition { key, start: 0, end: 0, is_short: topic == 2 }
        });
        Self { pool: pool.into(), batch_bytes: options.batch_bytes, partitions: partitions.collect(), batches: 0, deleted: 0 }
    }

    fn bytes(&self, batches: u64) -> u64 {
        batches * self.batch_bytes as u64
    }

    pub(crate) fn payload(&self) -> u64 {
        self.bytes(self.batches)
    }

    pub(crate) fn kept(&self) -> u64 {
        self.bytes(self.batches - self.deleted)
    }

    /// Writes all of it. The most space that was taken meanwhile.
    pub(crate) fn fill(&mut self, storage: &RocksStorage, disk: &Disk, options: &Options) -> u64 {
        let total = options.gigabytes * 1_000_000_000;
        let step = total / 50;
        let (mut next_look, mut most) = (step, 0);
        while self.payload() < total {
            self.commit(storage);
            if self.payload() >= next_look {
                next_look += step;
                if options.case == Case::Interleaved {
                    self.delete_older(storage, total / 10);
                }
                most = most.max(disk.used());
                eprint!("\r{} of {} MB, on disk {} MB ", self.payload() / 1_000_000, total / 1_000_000, disk.used() / 1_000_000);
            }
        }
        eprintln!();
        most
    }

    fn commit(&mut self, storage: &RocksStorage) {
        let mut mutations = Vec::new();
        let mut bytes = 0;
        while bytes < COMMIT_BYTES {
            let place = usize::try_from(self.batches).expect("fits") * 7919 % (POOL_BYTES - self.batch_bytes);
            let count = self.partitions.len() as u64;
            let partition = &mut self.partitions[usize::try_from(self.batches % count).expect("fits")];
            let key = partition.range(partition.end..partition.end + 1).start;
            mutations.push(Mutation::Put { family: Family::Log, key, value: self.pool.slice(place..place + self.batch_bytes) });
            partition.end += 1;
            bytes += self.batch_bytes;
            self.batches += 1;
        }
        storage.write(&mutations, Durability::Synced).expect("written");
    }

    /// Deletes what the short topic has beyond its newest `keep` bytes.
    fn delete_older(&mut self, storage: &RocksStorage, keep: u64) {
        let count = self.partitions.len() as u64 / 2;
        let keep = keep / count / self.batch_bytes as u64;
        let mut mutations = Vec::new();
        for partition in self.partitions.iter_mut().filter(|partition| partition.is_short) {
            let start = partition.end.saturating_sub(keep);
            if start > partition.start {
                mutations.push(Mutation::DeleteRange { family: Family::Log, range: partition.range(partition.start..start) });
                self.deleted += start - partition.start;
                partition.start = start;
            }
        }
        storage.write(&mutations, Durability::Synced).expect("written");
    }

    /// Deletes the short topic. The bytes of it.
    pub(crate) fn delete_half(&mut self, storage: &RocksStorage) -> u64 {
        let before = self.deleted;
        self.delete_older(storage, 0);
        self.bytes(self.deleted - before)
    }

    /// Reads partition after partition in pieces, as consumers that catch up do. Bytes that were read.
    pub(crate) fn read(&self, storage: &RocksStorage, piece_bytes: usize) -> u64 {
        let mut read = 0;
        for partition in self.partitions.iter().filter(|partition| !partition.is_short) {
            let mut next = partition.start;
            while next < partition.end {
                let range = partition.range(next..partition.end);
                let mut piece: Vec<Bytes> = Vec::new();
                let mut bytes = 0;
                let mut visit = |_: &[u8], value: &[u8]| {
                    piece.push(Bytes::copy_from_slice(value));
                    bytes += value.len();
                    if bytes >= piece_bytes { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
                };
                storage.scan(Family::Log, &range.start..&range.end, Direction::Forward, &mut visit).expect("read");
                assert!(!piece.is_empty(), "what was written is there");
                next += piece.len() as u64;
                read += bytes as u64;
            }
            assert_eq!(next, partition.end, "nothing is missing");
            if read > READ_BYTES_MAX {
                break;
            }
        }
        read
    }
}
