//! What this shard knows of idempotency keys that may not be durable yet, and of some that are: what the disk cannot answer.

use crate::dedup::Hash;
use crate::ids::PartitionKey;
use std::collections::{HashMap, VecDeque};

/// Durable entries that are kept in memory as well: a retry comes soon or never.
const DURABLE_ENTRIES_MAX: usize = 16 * 1024;

/// Recent entries in the order they were staged.
#[derive(Debug)]
pub(super) struct RecentEntries<E> {
    /// Each with the number of its commit.
    entries: HashMap<(PartitionKey, Hash), (u64, E)>,
    order: VecDeque<(u64, (PartitionKey, Hash))>,
}

impl<E> Default for RecentEntries<E> {
    fn default() -> Self {
        Self { entries: HashMap::new(), order: VecDeque::new() }
    }
}

impl<E: Copy> RecentEntries<E> {
    pub(super) fn get(&self, partition: PartitionKey, hash: Hash) -> Option<E> {
        self.entries.get(&(partition, hash)).map(|&(_, entry)| entry)
    }

    /// Remembers an entry that is part of commit number `commit`. Only those of commits up to `durable` are let go.
    pub(super) fn insert(&mut self, partition: PartitionKey, hash: Hash, entry: E, commit: u64, durable: u64) {
        self.entries.insert((partition, hash), (commit, entry));
        self.order.push_back((commit, (partition, hash)));
        while self.order.len() > DURABLE_ENTRIES_MAX
            && let Some(&(commit, key)) = self.order.front()
            && commit <= durable
        {
            self.order.pop_front();
            // A key whose window was over may have come again since: its newer entry stays.
            if self.entries.get(&key).is_some_and(|&(newest, _)| newest == commit) {
                self.entries.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dedup::{Entry, Place};
    use crate::ids::{ShardId, TopicId};
    use sagamq_api::{Offset, PartitionId};

    const PARTITION: PartitionKey = PartitionKey { shard: ShardId(0), topic: TopicId(1), partition: PartitionId(0) };

    fn entry(base: u64) -> Entry {
        Entry { place: Place::Stored { base: Offset(base) }, arrived_ms: 0, ends_at_ms: 0, count: 1, fingerprint: [0; 16] }
    }

    fn hash(number: usize) -> Hash {
        let mut hash = [0; 16];
        hash[..8].copy_from_slice(&(number as u64).to_be_bytes());
        hash
    }

    #[test]
    fn what_is_not_durable_is_never_let_go() {
        let mut recent = RecentEntries::default();
        for number in 0..=DURABLE_ENTRIES_MAX {
            recent.insert(PARTITION, hash(number), entry(number as u64), 1, 0);
        }
        assert!(recent.get(PARTITION, hash(0)).is_some());
        recent.insert(PARTITION, hash(usize::MAX), entry(0), 2, 1);
        assert!(recent.get(PARTITION, hash(0)).is_none(), "the oldest durable one goes");
        assert!(recent.get(PARTITION, hash(2)).is_some());
    }

    #[test]
    fn the_newer_entry_of_a_key_outlives_the_older() {
        let mut recent = RecentEntries::default();
        recent.insert(PARTITION, hash(0), entry(1), 1, 0);
        recent.insert(PARTITION, hash(0), entry(2), 3, 0);
        for number in 1..=DURABLE_ENTRIES_MAX {
            recent.insert(PARTITION, hash(number), entry(0), 4, 2);
        }
        assert_eq!(recent.get(PARTITION, hash(0)), Some(entry(2)));
    }
}
