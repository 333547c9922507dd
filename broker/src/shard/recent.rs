//! Idempotency entries of this shard that may not be durable yet, and some that are: what the disk cannot answer.

use crate::dedup::{Entry, Hash};
use crate::storage::keys::PartitionKey;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Durable entries that are kept in memory as well: a retry comes soon or never.
const DURABLE_ENTRIES_MAX: usize = 16 * 1024;

/// Recent entries in the order they were staged.
#[derive(Debug, Default)]
pub(crate) struct RecentEntries {
    entries: HashMap<(PartitionKey, Hash), Entry>,
    order: VecDeque<(u64, (PartitionKey, Hash))>,
    /// Number of the newest durable commit of the shard; the committer advances it.
    durable_commit: Arc<AtomicU64>,
}

impl RecentEntries {
    pub(crate) fn durable_commit(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.durable_commit)
    }

    pub(crate) fn get(&self, partition: PartitionKey, hash: Hash) -> Option<Entry> {
        self.entries.get(&(partition, hash)).copied()
    }

    /// Remembers an entry that is part of commit number `commit`. Only durable entries are let go.
    pub(crate) fn insert(&mut self, partition: PartitionKey, hash: Hash, entry: Entry, commit: u64) {
        self.entries.insert((partition, hash), entry);
        self.order.push_back((commit, (partition, hash)));
        let durable = self.durable_commit.load(Ordering::Acquire);
        while self.order.len() > DURABLE_ENTRIES_MAX
            && let Some(&(commit, key)) = self.order.front()
            && commit <= durable
        {
            self.order.pop_front();
            self.entries.remove(&key);
        }
    }
}
