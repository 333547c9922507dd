//! Logs on object storage: one object a place, written only if nobody has written it.
//!
//! Place *n* of a log is the object `log/NAME/n`, with the number in twenty digits. Behind the last one nothing is, so two writers who
//! take the same place to be the next meet at one key, and the storage lets one of them through.
//!
//! Trimming deletes objects, and then a key is free again. Two rules see to it that nothing counts that is written there
//! (`docs/decisions/0074-the-log-on-object-storage.md`):
//! - The mark `trim/NAME` says up to where a log is trimmed. It is written before anything is deleted. Whoever reads, and whoever
//!   writes at a place that it does not know to be new, reads the mark afterwards: what is not behind it is void.
//! - A writer that goes on directly behind its own entry knows that place to be new and saves the look at the mark. That holds because
//!   the first entry of each writer's row says so in its head and is never deleted: where another writer came between, something
//!   stands for ever.

mod append;
mod end;
mod entry;
mod mark;
mod read;
#[cfg(test)]
mod tests;
mod trim;

use crate::log::{AppendError, Bounds, CommitLog, Entry, LogName, Pos, ReadError};
use crate::objects::{Objects, Unanswered};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, PoisonError};
use tokio::sync::{Semaphore, SemaphorePermit};
use uuid::Uuid;

/// The largest entry: what a request of ten seconds moves also over a slow line.
pub const ENTRY_BYTES_MAX: usize = 16 << 20;

/// How many entries of shards are asked for at a time: each takes a connection, and memory for a large entry. A node that begins with many shards reads all of them
/// at the same time.
const READS_AT_ONCE: usize = 64;

/// What this client has seen of a log. Only ever a lower bound: others go on.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    /// The place of this client's own last entry, if nothing that it wrote since is in doubt.
    own: Option<u64>,
    /// The highest place at which an entry was seen.
    last: u64,
    /// About how large the entries are that were read last.
    entry_bytes: usize,
}

/// The logs of a cluster on object storage.
#[derive(Debug)]
pub struct ObjectLog {
    objects: Objects,
    /// Another one for each client, so that no two entries of two clients have the same bytes.
    writer: Uuid,
    /// Of the next entry, so that no two entries of this client have the same bytes.
    sequence: AtomicU64,
    seen: Mutex<HashMap<LogName, Seen>>,
    /// Places for entries of shards that are read or looked for, of all shards together.
    reads: Semaphore,
}

impl ObjectLog {
    /// The logs among these objects. Asks nobody yet: whose they are stands in the log of members.
    #[must_use]
    pub fn new(objects: Objects) -> Self {
        Self { objects, writer: Uuid::new_v4(), sequence: AtomicU64::new(1), seen: Mutex::default(), reads: Semaphore::new(READS_AT_ONCE) }
    }

    fn seen(&self, log: LogName) -> Seen {
        self.with_seen(log, |seen| *seen)
    }

    /// Waits for a place. Who says and hears who lives waits for nobody.
    async fn place(&self, log: LogName) -> Option<SemaphorePermit<'_>> {
        if has_rows(log) { Some(self.reads.acquire().await.expect("it is never closed")) } else { None }
    }

    fn with_seen<T>(&self, log: LogName, with: impl FnOnce(&mut Seen) -> T) -> T {
        // Each change is complete in itself, so a panic elsewhere leaves nothing half done.
        with(self.seen.lock().unwrap_or_else(PoisonError::into_inner).entry(log).or_default())
    }
}

impl CommitLog for ObjectLog {
    fn entry_bytes_max(&self) -> usize {
        ENTRY_BYTES_MAX
    }

    fn append(&self, log: LogName, after: Pos, bytes: Bytes) -> BoxFuture<'_, Result<Pos, AppendError>> {
        Box::pin(self.append_behind(log, after.0, bytes))
    }

    fn read(&self, log: LogName, after: Pos, bytes_max: usize) -> BoxFuture<'_, Result<Vec<Entry>, ReadError>> {
        Box::pin(self.read_behind(log, after.0, bytes_max))
    }

    fn bounds(&self, log: LogName) -> BoxFuture<'_, Result<Bounds, ReadError>> {
        Box::pin(self.find_bounds(log))
    }

    fn trim(&self, log: LogName, upto: Pos) -> BoxFuture<'_, Result<(), ReadError>> {
        Box::pin(self.trim_upto(log, upto.0))
    }
}

impl From<Unanswered> for ReadError {
    fn from(unanswered: Unanswered) -> Self {
        Self::Unavailable(unanswered.0)
    }
}

fn key(log: LogName, place: u64) -> String {
    format!("log/{log}/{place:020}")
}

/// Whether a log usually has one writer at a time, so that rows of entries by one writer are worth knowing. Where many take turns, every
/// entry would be the first of a row, and none could be deleted.
fn has_rows(log: LogName) -> bool {
    matches!(log, LogName::Shard(_))
}
