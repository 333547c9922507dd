//! [`ReplicatedStorage`]: the storage of the active node. A write goes to the logs of its shards, and then to the copy on this machine.

use super::active::Loss;
use super::lease::Lease;
use super::mutations::Encoder;
use super::snapshots::Committed;
use super::writer::{ShardWriter, WriteFailed};
use bytes::Bytes;
use core::ops::Range;
use futures_util::future::join_all;
use sagamq_broker::ids::ShardId;
use sagamq_broker::storage::{Direction, Durability, Family, FreeSpace, Mutation, Storage, StorageError, Visitor};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::runtime::Handle;

/// Where each shard's log was last written, for heartbeats.
#[derive(Clone, Debug)]
pub(crate) struct Written(Arc<[AtomicU64]>);

impl Written {
    pub(crate) fn new(shards: u16) -> Self {
        Self((0..shards).map(|_| AtomicU64::new(0)).collect())
    }

    pub(crate) fn all(&self) -> Vec<u64> {
        self.0.iter().map(|at| at.load(Ordering::Acquire)).collect()
    }

    pub(crate) fn put(&self, shard: u16, at: u64) {
        self.0[usize::from(shard)].store(at, Ordering::Release);
    }
}

/// What others are told of the writing.
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    /// For heartbeats.
    pub(crate) written: Written,
    /// For snapshots.
    pub(crate) committed: Committed,
}

/// What a write changes.
struct Writing {
    /// By shard.
    writers: Vec<ShardWriter>,
    /// Why nothing is written any more.
    failure: Option<StorageError>,
}

/// The storage of the active node. What it reads is on this machine; what it has written is in the log.
pub(crate) struct ReplicatedStorage {
    copy: Arc<dyn Storage>,
    /// A plain mutex: one thread writes.
    writing: Mutex<Writing>,
    progress: Progress,
    lease: Lease,
    loss: Loss,
    /// The log is written by asynchronous calls, and the committer is a thread.
    runtime: Handle,
}

impl ReplicatedStorage {
    /// Writes with these, one a shard.
    pub(crate) fn new(copy: Arc<dyn Storage>, writers: Vec<ShardWriter>, progress: Progress, lease: Lease, loss: Loss) -> Self {
        let writing = Mutex::new(Writing { writers, failure: None });
        Self { copy, writing, progress, lease, loss, runtime: Handle::current() }
    }

    /// Appends each shard's part to its log, all at the same time, and gives the rows that say how far they are folded.
    fn append(&self, writers: &mut [ShardWriter], parts: &mut BTreeMap<u16, Bytes>) -> Result<Vec<Mutation>, WriteFailed> {
        let appends = writers.iter_mut().filter_map(|writer| {
            let bytes = parts.remove(&writer.shard())?;
            Some(async {
                let row = writer.append(bytes).await?;
                self.progress.written.put(writer.shard(), writer.position().0);
                self.progress.committed.put(writer.shard(), writer.reached());
                Ok(row)
            })
        });
        // Also where one fails, the others are waited for: nothing is under way when the failure is told.
        self.runtime.block_on(join_all(appends)).into_iter().collect()
    }
}

impl Storage for ReplicatedStorage {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        self.copy.get(family, key)
    }

    fn scan(&self, family: Family, range: Range<&[u8]>, direction: Direction, visit: Visitor<'_>) -> Result<(), StorageError> {
        self.copy.scan(family, range, direction, visit)
    }

    fn scan_from(&self, family: Family, range: Range<&[u8]>, from: &[u8], visit: Visitor<'_>) -> Result<(), StorageError> {
        self.copy.scan_from(family, range, from, visit)
    }

    /// Durable in the log on return, whatever was asked for: what is not synced on this machine is folded again from there.
    ///
    /// No write is about two shards, and so none of their logs needs to know of another: one that was written while another one failed holds commits that are
    /// whole in themselves.
    fn write(&self, mutations: &[Mutation], _durability: Durability) -> Result<(), StorageError> {
        let mut writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(failure) = &writing.failure {
            return Err(failure.clone());
        }
        // What was acknowledged is in the log: there is nothing to sync.
        if mutations.is_empty() {
            return Ok(());
        }
        let mut parts: BTreeMap<u16, Bytes> = split(mutations);
        let written = match self.append(&mut writing.writers, &mut parts) {
            Ok(rows) => {
                assert!(parts.is_empty(), "a write is of shards that the cluster has");
                let all = [mutations, &rows].concat();
                self.copy.write(&all, Durability::Buffered)
            }
            Err(failed) => Err(StorageError::Io(failed.to_string())),
        };
        if let Err(error) = &written {
            // What this node has in memory, or on its disk, is not what the log has.
            self.lease.end();
            self.loss.tell(error.to_string());
            writing.failure = Some(error.clone());
        }
        written
    }

    fn free_space(&self) -> Result<Option<FreeSpace>, StorageError> {
        self.copy.free_space()
    }

    fn memory(&self) -> Result<Vec<(&'static str, u64)>, StorageError> {
        self.copy.memory()
    }
}

/// The changes of each shard, in their order.
fn split(mutations: &[Mutation]) -> BTreeMap<u16, Bytes> {
    let mut parts: BTreeMap<u16, Encoder> = BTreeMap::new();
    for mutation in mutations {
        let key = match mutation {
            Mutation::Put { key, .. } | Mutation::Delete { key, .. } => key,
            Mutation::DeleteRange { range, .. } => &range.start,
        };
        let ShardId(shard) = ShardId::of_key(key).expect("every key begins with its shard");
        parts.entry(shard).or_insert_with(Encoder::new).push(mutation);
    }
    parts.into_iter().map(|(shard, encoder)| (shard, encoder.finish())).collect()
}
