//! Gives the space of deleted batches back to the disk, on a thread of its own and outside of every commit.
//!
//! A deletion of a range is only a mark. Two things must follow. Merging must meet the mark: then the database knows how much of each
//! value file is dead, and drops files that are dead as a whole. And what lives in files that hold dead batches too must move out: a
//! flush mixes all topics, so the files of a deleted topic hold other topics' batches. That costs a write of all that lives in them, so
//! it begins when a fourth of all bytes is dead, and goes from the oldest file on until no more than a twentieth is.
//!
//! Nothing of this is a truth of its own: after a restart it is found again from the files.

use crate::storage::Family;
use core::ops::Range;
use rocksdb::{ColumnFamily, CompactOptions, DB};
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Dead bytes of all bytes, in percent: from here on living batches move out of the oldest files.
const BEGIN_PERCENT: u64 = 25;
/// Here it ends.
const END_PERCENT: u64 = 5;
/// How often it is looked whether it can end.
const END_INTERVAL: Duration = Duration::from_secs(1);
/// The share of files, the oldest ones, whose living batches move out at a time: no more than that lies on the disk twice.
const OLDEST_SHARE: &str = "0.25";
/// The same where there are so few files that a share of them may be none.
const ALL: &str = "1.0";
const FEW_FILES: u64 = 8;

/// How space is given back.
#[derive(Clone, Copy, Debug)]
pub(super) struct SpacePolicy {
    /// How often deleted ranges are merged.
    pub(super) interval: Duration,
    /// As many dead bytes are left alone.
    pub(super) dead_bytes_min: u64,
}

/// The thread, as the storage holds it.
#[derive(Debug)]
pub(super) struct SpaceKeeper {
    shared: Arc<Shared>,
    worker: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    closing: Condvar,
}

#[derive(Debug, Default)]
struct State {
    deleted: Ranges,
    is_closing: bool,
}

/// Deleted ranges, one for each shard: from the first to the last that was deleted there. To merge what lies between is cheap, because
/// merging moves keys and no values.
#[derive(Debug, Default, PartialEq, Eq)]
struct Ranges(BTreeMap<Vec<u8>, Range<Vec<u8>>>);

/// Bytes of a key that name its shard.
const SHARD_BYTES: usize = 2;

impl Ranges {
    fn insert(&mut self, range: &Range<Vec<u8>>) {
        let shard = range.start.iter().copied().take(SHARD_BYTES).collect();
        match self.0.get_mut(&shard) {
            Some(all) => {
                all.start = all.start.clone().min(range.start.clone());
                all.end = all.end.clone().max(range.end.clone());
            }
            None => drop(self.0.insert(shard, range.clone())),
        }
    }
}

impl SpaceKeeper {
    pub(super) fn start(db: &Arc<DB>, policy: SpacePolicy) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let (db, seen) = (Arc::clone(db), Arc::clone(&shared));
        let worker = std::thread::Builder::new().name("space-keeper".to_owned()).spawn(move || keep(&db, &seen, policy))?;
        Ok(Self { shared, worker: Some(worker) })
    }

    /// A range of the log was deleted. Returns at once.
    pub(super) fn deleted(&self, range: &Range<Vec<u8>>) {
        self.shared.lock().deleted.insert(range);
    }

    /// Nothing more is begun. What is under way ends when the database's background work is cancelled.
    pub(super) fn close(&self) {
        self.shared.lock().is_closing = true;
        self.shared.closing.notify_all();
    }
}

impl Drop for SpaceKeeper {
    /// Waits for the end of the thread.
    fn drop(&mut self) {
        self.close();
        if let Some(worker) = self.worker.take() {
            // It has nothing to say, and a panic of it was printed.
            let _ended = worker.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was deleted within the next `interval` and before; `None` when it is time to end.
    fn after(&self, interval: Duration) -> Option<Ranges> {
        let waited = self.closing.wait_timeout_while(self.lock(), interval, |state| !state.is_closing);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner).0;
        (!state.is_closing).then(|| core::mem::take(&mut state.deleted))
    }
}

fn keep(db: &DB, shared: &Shared, policy: SpacePolicy) {
    match give_back(db, shared, policy) {
        // A database that is being closed refuses.
        Err(_) if shared.lock().is_closing => {}
        Err(reason) => tracing::warn!(%reason, "the space of deleted records is not given back before the next start"),
        Ok(()) => {}
    }
}

fn give_back(db: &DB, shared: &Shared, policy: SpacePolicy) -> Result<(), rocksdb::Error> {
    let log = db.cf_handle(Family::Log.name()).expect("every family was opened");
    let mut moving = None;
    let mut ranges = marked(db)?;
    loop {
        let pause = if moving.is_some() { END_INTERVAL.min(policy.interval) } else { policy.interval };
        let Some(deleted) = shared.after(pause) else { return Ok(()) };
        if !deleted.0.is_empty() {
            // The marks are in memory, and only what is in files is merged.
            db.flush_cf(log)?;
        }
        for range in core::mem::take(&mut ranges).0.into_values().chain(deleted.0.into_values()) {
            merge(db, log, &range);
        }
        let wanted = Usage::of(db, log)?.wants(moving.is_some(), policy.dead_bytes_min);
        if wanted != moving {
            move_living(db, log, wanted)?;
            moving = wanted;
        }
    }
}

/// Lets living batches move out of this share of the files, or out of none. That is a part of merging, which is the database's own; it
/// goes from the oldest file to the next whatever of it is dead, or dead batches behind one that has none would stay for ever.
fn move_living(db: &DB, log: &ColumnFamily, share: Option<&str>) -> Result<(), rocksdb::Error> {
    let is_on = if share.is_some() { "true" } else { "false" };
    db.set_options_cf(
        log,
        &[
            ("enable_blob_garbage_collection", is_on),
            ("blob_garbage_collection_age_cutoff", share.unwrap_or(OLDEST_SHARE)),
            ("blob_garbage_collection_force_threshold", "0.0"),
        ],
    )
}

/// Where a run before this one left marks in files.
fn marked(db: &DB) -> Result<Ranges, rocksdb::Error> {
    let mut ranges = Ranges::default();
    for file in db.live_files()? {
        if file.column_family_name == Family::Log.name()
            && file.num_deletions > 0
            && let (Some(start), Some(mut end)) = (file.start_key, file.end_key)
        {
            // The first key behind the last one.
            end.push(0);
            ranges.insert(&(start..end));
        }
    }
    Ok(ranges)
}

fn merge(db: &DB, log: &ColumnFamily, range: &Range<Vec<u8>>) {
    let mut options = CompactOptions::default();
    // Others may go on meanwhile, or new batches would pile up in front of them.
    options.set_exclusive_manual_compaction(false);
    db.compact_range_cf_opt(log, Some(&range.start), Some(&range.end), &options);
}

/// What lies in value files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Usage {
    files: u64,
    bytes: u64,
    dead_bytes: u64,
}

impl Usage {
    fn of(db: &DB, log: &ColumnFamily) -> Result<Self, rocksdb::Error> {
        let of = |name: &str| Ok(db.property_int_value_cf(log, name)?.unwrap_or(0));
        Ok(Self {
            files: of("rocksdb.num-blob-files")?,
            bytes: of("rocksdb.live-blob-file-size")?,
            dead_bytes: of("rocksdb.live-blob-file-garbage-size")?,
        })
    }

    /// Out of which share of the files living batches should move, if any should.
    fn wants(self, is_moving: bool, dead_bytes_min: u64) -> Option<&'static str> {
        let percent = if is_moving { END_PERCENT } else { BEGIN_PERCENT };
        let is_much = self.dead_bytes > dead_bytes_min && self.dead_bytes.saturating_mul(100) > self.bytes.saturating_mul(percent);
        is_much.then_some(if self.files < FEW_FILES { ALL } else { OLDEST_SHARE })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn living_batches_move_when_a_fourth_is_dead_until_a_twentieth_is() {
        let usage = |dead_bytes, files| Usage { files, bytes: 1_000, dead_bytes };
        assert_eq!(usage(250, 100).wants(false, 0), None);
        assert_eq!(usage(251, 100).wants(false, 0), Some(OLDEST_SHARE));
        assert_eq!(usage(51, 100).wants(true, 0), Some(OLDEST_SHARE));
        assert_eq!(usage(50, 100).wants(true, 0), None);
        assert_eq!(usage(251, 7).wants(false, 0), Some(ALL), "a fourth of a few files may be none");
        assert_eq!(usage(1_000, 100).wants(true, 1_000), None, "what is little is left alone");
        assert_eq!(Usage::default().wants(true, 0), None);
    }

    #[test]
    fn deleted_ranges_of_a_shard_become_one() {
        let mut ranges = Ranges::default();
        for (start, end) in [("01c", "01d"), ("01a", "01b"), ("02x", "02z")] {
            ranges.insert(&(start.into()..end.into()));
        }
        let all: Vec<_> = ranges.0.into_values().collect();
        assert_eq!(all, [b"01a".to_vec()..b"01d".to_vec(), b"02x".to_vec()..b"02z".to_vec()]);
    }
}
