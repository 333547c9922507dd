//! What was committed and what snapshots were made, counted: [`Committed`] by shard, and [`SnapshotsMade`] for whoever watches.

use super::last::Reached;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How far the log of each shard has come. Clones are the same one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Committed(Arc<[Shard]>);

#[derive(Debug)]
struct Shard {
    place: AtomicU64,
    bytes: AtomicU64,
}

impl Committed {
    /// As the shards' logs are, in the order of the shards.
    pub(crate) fn new(shards: impl Iterator<Item = Reached>) -> Self {
        Self(shards.map(|Reached { place, bytes }| Shard { place: AtomicU64::new(place), bytes: AtomicU64::new(bytes) }).collect())
    }

    pub(crate) fn put(&self, shard: u16, reached: Reached) {
        let shard = &self.0[usize::from(shard)];
        shard.place.store(reached.place, Ordering::Relaxed);
        shard.bytes.store(reached.bytes, Ordering::Relaxed);
    }

    pub(super) fn of(&self, shard: u16) -> Reached {
        self.0[usize::from(shard)].reached()
    }

    /// Every shard.
    pub(super) fn all(&self) -> impl Iterator<Item = (u16, Reached)> {
        (0..).zip(self.0.iter().map(Shard::reached))
    }
}

impl Shard {
    fn reached(&self) -> Reached {
        Reached { place: self.place.load(Ordering::Relaxed), bytes: self.bytes.load(Ordering::Relaxed) }
    }
}

/// What snapshots this process has made as the active node. Clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct SnapshotsMade(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    committed: Committed,
    snapshots: AtomicU64,
    read: AtomicU64,
    written: AtomicU64,
}

impl SnapshotsMade {
    /// Of these commits; none yet.
    pub(crate) fn new(committed: Committed) -> Self {
        Self(Arc::new(Counts { committed, ..Counts::default() }))
    }

    pub(super) fn count(&self, read: u64, written: u64) {
        self.0.snapshots.fetch_add(1, Ordering::Relaxed);
        self.0.read.fetch_add(read, Ordering::Relaxed);
        self.0.written.fetch_add(written, Ordering::Relaxed);
    }

    /// The bytes of all commits of all shards, whoever made them.
    #[must_use]
    pub fn committed_bytes(&self) -> u64 {
        self.0.committed.all().map(|(_, reached)| reached.bytes).sum()
    }

    /// How many.
    #[must_use]
    pub fn snapshots(&self) -> u64 {
        self.0.snapshots.load(Ordering::Relaxed)
    }

    /// The bytes of rows that were read for them.
    #[must_use]
    pub fn read_bytes(&self) -> u64 {
        self.0.read.load(Ordering::Relaxed)
    }

    /// The bytes of the objects that were written.
    #[must_use]
    pub fn written_bytes(&self) -> u64 {
        self.0.written.load(Ordering::Relaxed)
    }
}
