//! The one committer: it drains what all shards have staged, writes it once, and only then lets answers out.
//!
//! While one write syncs, the next batch gathers in the channel: group commit without a linger. Collect, write once, advance,
//! answer. After a failed write it never writes again: what an fsync that failed has left behind is unknown, and a retry that
//! succeeds proves nothing (Rebello et al., "Can Applications Recover from fsync Failures?", USENIX ATC 2020).

use crate::liveness::PartGuard;
use crate::metrics::Metrics;
use crate::shard::commit::{Commit, Completion, WriteError};
use crate::storage::{Durability, Mutation, Storage};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use tokio::sync::mpsc;

/// Bytes of one write: a tenth of a memtable, so that a write never stalls on a flush of its own.
const WRITE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Staged commits that may wait for the committer; a full channel makes the shards wait, and then their clients.
pub(crate) const STAGED_COMMITS_MAX: usize = 1024;

/// Why writes are stopped; set once and never cleared in the life of a process.
#[derive(Clone, Debug, Default)]
pub(crate) struct WriteStop(Arc<OnceLock<String>>);

impl WriteStop {
    pub(crate) fn reason(&self) -> Option<&str> {
        self.0.get().map(String::as_str)
    }

    fn set(&self, reason: String) {
        tracing::error!(%reason, "a durable write failed: no more writes until a restart");
        // Only the first reason counts; the committer is the only one who sets it.
        let _ = self.0.set(reason);
    }
}

/// Starts the committer's thread. It ends when every sender is gone and everything staged is answered.
pub(crate) fn spawn(
    storage: Arc<dyn Storage>,
    staged: mpsc::Receiver<Commit>,
    stop: WriteStop,
    metrics: Arc<Metrics>,
    life: PartGuard,
) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name("committer".into()).spawn(move || run(&*storage, staged, &stop, &metrics, life))
}

fn run(storage: &dyn Storage, mut staged: mpsc::Receiver<Commit>, stop: &WriteStop, metrics: &Metrics, life: PartGuard) {
    // Behind `staged`, so that a panic tells of the death before the shards see their channel closed.
    let life = life;
    while let Some(first) = staged.blocking_recv() {
        let (mutations, durability, completions) = collect(first, &mut staged);
        let result = write(storage, &mutations, durability, stop, metrics);
        for completion in completions {
            completion(result.clone());
        }
    }
    life.ended();
}

fn collect(first: Commit, staged: &mut mpsc::Receiver<Commit>) -> (Vec<Mutation>, Durability, Vec<Completion>) {
    let (mut bytes, mut durability) = (first.bytes(), first.durability());
    let (mut mutations, mut completions) = first.into_parts();
    while bytes < WRITE_BYTES_MAX
        && let Ok(commit) = staged.try_recv()
    {
        bytes += commit.bytes();
        durability = durability.max(commit.durability());
        let (more_mutations, more_completions) = commit.into_parts();
        mutations.extend(more_mutations);
        completions.extend(more_completions);
    }
    (mutations, durability, completions)
}

fn write(
    storage: &dyn Storage,
    mutations: &[Mutation],
    durability: Durability,
    stop: &WriteStop,
    metrics: &Metrics,
) -> Result<(), WriteError> {
    if let Some(reason) = stop.reason() {
        return Err(WriteError::Stopped(reason.to_owned()));
    }
    if mutations.is_empty() {
        return Ok(());
    }
    let timer = metrics.start_timer();
    match storage.write(mutations, durability) {
        Ok(()) => {
            metrics.committed(mutations.iter().map(Mutation::len).sum(), durability, timer);
            Ok(())
        }
        Err(error) => {
            stop.set(error.to_string());
            Err(WriteError::Failed(error.to_string()))
        }
    }
}
