//! The one committer: it drains what all shards have staged, writes it once, and only then lets answers out.
//!
//! While one write syncs, the next batch gathers in the channel: group commit, which waits for nobody where writes are quick (where they are slow, see
//! `linger.rs`). Collect, write once, advance, answer. After a failed write it never writes to this storage again: what an fsync that failed has left behind is unknown, and a retry
//! that succeeds proves nothing (Rebello et al., "Can Applications Recover from fsync Failures?", USENIX ATC 2020).

mod linger;
mod pace;
#[cfg(test)]
mod tests;

use self::linger::Linger;
use self::pace::Pace;
use crate::liveness::PartGuard;
use crate::metrics::Metrics;
use crate::shard::commit::{Commit, Completion, Owed, WriteError};
use crate::shard::disk_guard::{DiskGuard, Room};
use crate::shard::write_stop::WriteStops;
use crate::storage::{Durability, Mutation, Storage};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Bytes of one write: a tenth of a memtable, so that a write never stalls on a flush of its own.
const WRITE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// How often it is looked whether there is room again for a write that waits for it.
const ROOM_INTERVAL: Duration = Duration::from_millis(20);

/// Mutations and completions whose memory is kept for the next write.
const KEPT_MAX: usize = 16 * 1024;

/// Staged commits that may wait for the committer; a full channel makes the shards wait, and then their clients.
pub(crate) const STAGED_COMMITS_MAX: usize = 1024;

/// What the committer is made of.
pub(crate) struct CommitterParts {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) stops: WriteStops,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) disk: DiskGuard,
    /// Cancelled when the broker is told to end: nothing waits for room any more.
    pub(crate) draining: CancellationToken,
    /// Number of the last commit of each shard.
    pub(crate) last_commits: Vec<u64>,
    pub(crate) due: SyncDue,
}

/// How often it is looked who has come, while a write waits.
const LOOK_INTERVAL: Duration = Duration::from_micros(250);

/// Whether something that is written must be synced within the interval; clones are the same one. The committer sets it and takes it back.
#[derive(Clone, Debug, Default)]
pub(crate) struct SyncDue(Arc<AtomicBool>);

impl SyncDue {
    /// Whether it must.
    pub(crate) fn is_due(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// Starts the committer's thread. It ends when every sender is gone and everything staged is answered.
pub(crate) fn spawn(parts: CommitterParts, staged: mpsc::Receiver<Commit>, life: PartGuard) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name("committer".into()).spawn(move || run(Committer::new(parts, pace::system()), staged, life))
}

fn run(mut committer: Committer<impl Pace>, mut staged: mpsc::Receiver<Commit>, life: PartGuard) {
    // Behind `staged`, so that a panic tells of the death before the shards see their channel closed.
    let life = life;
    let mut write = GroupWrite::default();
    while committer.collect(&mut staged, &mut write) {
        let result = committer.write(&write);
        for completion in write.completions.drain(..) {
            completion(result.clone());
        }
        write.clear();
    }
    committer.end();
    life.ended();
}

/// Commits of many shards that are written at once.
#[derive(Default)]
struct GroupWrite {
    bytes: usize,
    shards: BTreeSet<u16>,
    mutations: Vec<Mutation>,
    completions: Vec<Completion>,
    is_synced: bool,
    owed: Owed,
}

impl GroupWrite {
    fn durability(&self) -> Durability {
        if self.is_synced { Durability::Synced } else { Durability::Buffered }
    }

    /// Nothing is in it, and its memory is kept for the next one.
    fn clear(&mut self) {
        let Self { mutations, completions, .. } = std::mem::take(self);
        (self.mutations, self.completions) = (mutations, completions);
        self.mutations.clear();
        self.mutations.shrink_to(KEPT_MAX);
        self.completions.shrink_to(KEPT_MAX);
    }
}

struct Committer<P> {
    parts: CommitterParts,
    pace: P,
    linger: Linger,
    /// When the last write had ended, by the pace.
    ended: Duration,
    /// Why nothing is written any more.
    failure: Option<String>,
    /// Something may be written that is not synced: what the process before this one left, or a buffered write since the last sync.
    is_unsynced: bool,
    /// How soon what is not synced must be.
    owed: Owed,
    /// Written since the disk was looked at.
    unseen_bytes: usize,
}

impl<P: Pace> Committer<P> {
    fn new(parts: CommitterParts, pace: P) -> Self {
        let (failure, linger, ended) = (None, Linger::default(), pace.now());
        Self { parts, pace, linger, ended, failure, is_unsynced: true, owed: Owed::Nothing, unseen_bytes: 0 }
    }

    /// Waits for something to write, and collects it. `false`: nothing will come any more.
    fn collect(&mut self, staged: &mut mpsc::Receiver<Commit>, write: &mut GroupWrite) -> bool {
        let has_come = self.drain(staged, write);
        let came_before = write.completions.len();
        if !has_come {
            let Some(first) = self.pace.first(staged) else { return false };
            self.add(first, write);
            self.drain(staged, write);
        }
        self.wait_for_the_answered(came_before, staged, write);
        true
    }

    /// Takes what is there. Gives whether something was.
    fn drain(&mut self, staged: &mut mpsc::Receiver<Commit>, write: &mut GroupWrite) -> bool {
        let mut has_come = false;
        while write.bytes < WRITE_BYTES_MAX
            && let Ok(commit) = staged.try_recv()
        {
            self.add(commit, write);
            has_come = true;
        }
        has_come
    }

    /// Whom the last write has answered may come again at once.
    fn wait_for_the_answered(&mut self, came_before: usize, staged: &mut mpsc::Receiver<Commit>, write: &mut GroupWrite) {
        let until = self.ended + self.linger.patience();
        let expected = self.linger.expected(came_before);
        let began = self.pace.now();
        let is_missed = |write: &GroupWrite| write.completions.len() < expected && write.bytes < WRITE_BYTES_MAX;
        if began >= until || !is_missed(write) {
            return;
        }
        while is_missed(write) && self.pace.now() < until && !staged.is_closed() && !self.parts.draining.is_cancelled() {
            self.pace.pause(LOOK_INTERVAL);
            self.drain(staged, write);
        }
        self.linger.waited_for(write.completions.len() - came_before);
        self.parts.metrics.commit_waited.inc_by((self.pace.now() - began).as_secs_f64());
    }

    fn add(&mut self, commit: Commit, write: &mut GroupWrite) {
        write.bytes += commit.bytes();
        write.is_synced |= commit.durability() == Durability::Synced;
        write.owed = write.owed.max(commit.owed());
        if let Some(number) = commit.number() {
            // One that only answers writes nothing: nothing of its shard is in doubt when the write fails.
            write.shards.insert(commit.shard().0);
            let last = &mut self.parts.last_commits[usize::from(commit.shard().0)];
            assert!(number == *last + 1, "commits of shard {} are written in order: {number} after {last}", commit.shard().0);
            *last = number;
        }
        let (mutations, completions) = commit.into_parts();
        write.mutations.extend(mutations);
        write.completions.extend(completions);
    }

    /// All shards share one storage, and so one write-ahead log. A write that fails stops the shards that were in it: what became of their
    /// commits is unknown. Nobody may write behind it, so every other shard is stopped with its next commit, of which nothing was stored.
    fn write(&mut self, write: &GroupWrite) -> Result<(), WriteError> {
        if let Some(reason) = &self.failure {
            self.parts.stops.stop(&write.shards, reason);
            self.show_stops();
            return Err(WriteError::Stopped(reason.clone()));
        }
        // An answer that asks for a sync tells of what is written, for example that a record is settled already: that must be synced.
        let is_asked_to_sync = self.is_unsynced && write.is_synced;
        if write.mutations.is_empty() && !is_asked_to_sync {
            return Ok(());
        }
        self.wait_for_room();
        let timer = self.parts.metrics.start_timer();
        let began = self.pace.now();
        match self.parts.storage.write(&write.mutations, write.durability()) {
            Ok(()) => {
                self.ended = self.pace.now();
                self.linger.wrote(self.ended - began, write.completions.len());
                self.is_unsynced = !write.is_synced;
                self.owed = if write.is_synced { Owed::Nothing } else { self.owed.max(write.owed) };
                self.parts.due.0.store(self.owed == Owed::Interval, Ordering::Release);
                let bytes = write.mutations.iter().map(Mutation::len).sum();
                self.parts.metrics.committed(bytes, write.durability(), timer);
                self.look_at_disk(bytes);
                Ok(())
            }
            Err(error) => {
                let reason = error.to_string();
                // A sync alone is of all that was written before it, of whatever shard.
                let all = || -> BTreeSet<u16> { (0..self.parts.stops.shards()).collect() };
                self.parts.stops.stop(&if write.shards.is_empty() { all() } else { write.shards.clone() }, &reason);
                self.show_stops();
                self.failure = Some(reason.clone());
                Err(WriteError::Failed(reason))
            }
        }
    }

    fn show_stops(&self) {
        let stopped = self.parts.stops.all().count();
        self.parts.metrics.stopped_shards.set(i64::try_from(stopped).expect("there are at most 256 shards"));
    }

    /// A shutdown leaves nothing that is written and not synced.
    fn end(mut self) {
        if self.owed > Owed::Nothing {
            let sync = GroupWrite { is_synced: true, ..GroupWrite::default() };
            if let Err(error) = self.write(&sync) {
                tracing::error!(%error, "what was written last may not survive a power cut");
            }
        }
    }

    /// Waits while the disk is so full that a write could fail. It cannot be refused any more: the shards have gone on from it. A broker that
    /// is told to end writes it at once.
    fn wait_for_room(&self) {
        let CommitterParts { disk, storage, draining, .. } = &self.parts;
        while disk.room() == Room::Gone && !draining.is_cancelled() {
            std::thread::sleep(ROOM_INTERVAL);
            disk.look(&**storage);
        }
    }

    /// Looks again after each full write's worth of bytes, so that the reserve is not used up between two looks of the watcher.
    fn look_at_disk(&mut self, written_bytes: usize) {
        self.unseen_bytes += written_bytes;
        if self.unseen_bytes >= WRITE_BYTES_MAX {
            self.unseen_bytes = 0;
            self.parts.disk.look(&*self.parts.storage);
        }
    }
}
