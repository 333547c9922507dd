//! Storage on RocksDB: the product's. This module and its `options` are the only ones that name the crate.
//!
//! A data directory holds `lock` (held while it is open), `commit-guard` (see `side_file`) and the database in `rocksdb/`. One
//! database has one write-ahead log, so one sync makes a commit of any families durable.

mod moment;
mod open;
mod options;
mod settings;
mod space;
#[cfg(test)]
mod tests;

pub use super::open_error::OpenError;
pub use settings::RocksOptions;

use self::space::SpaceKeeper;
use super::side_file::CommitGuard;
use super::{Direction, Durability, Family, FreeSpace, Mutation, Storage, StorageError, Visitor};
use crate::ids::NumberHasher;
use bytes::Bytes;
use core::fmt;
use core::ops::Range;
use rocksdb::{ColumnFamily, DB, DBRawIterator, ErrorKind, ReadOptions, WriteBatch, WriteOptions};
use std::collections::HashSet;
use std::fs::File;
use std::hash::BuildHasherDefault;
use std::sync::{Arc, Mutex, PoisonError};

/// Storage on RocksDB. Share it in an `Arc`; it is closed when the last one is dropped, and everything written is durable then.
pub struct RocksStorage {
    // Fields are dropped in this order: the guard takes its last note, the threads are gone, the database is closed, then another may
    // open it.
    guard: CommitGuard,
    space: SpaceKeeper,
    db: Arc<DB>,
    /// Why nothing more may be written. A mutex, because only one write runs at a time: then what is numbered up to a synced write
    /// is synced too, which is what the guard records.
    stopped: Mutex<Option<StorageError>>,
    /// Held, never read.
    _lock: File,
}

impl RocksStorage {
    /// Sequence number of the last write, for diagnostics. It rises by one with each mutation that the same write does not overwrite.
    #[must_use]
    pub fn latest_sequence_number(&self) -> u64 {
        self.db.latest_sequence_number()
    }

    /// What the database says of the log: levels, files, merging, for people who measure.
    #[must_use]
    pub fn describe(&self) -> String {
        let of = |name: &str| self.db.property_value_cf(self.family(Family::Log), name).ok().flatten().unwrap_or_default();
        format!("{}\n{}", of("rocksdb.cfstats-no-file-histogram"), of("rocksdb.blob-stats"))
    }

    fn family(&self, family: Family) -> &ColumnFamily {
        self.db.cf_handle(family.name()).expect("every family was opened")
    }

    /// Entries of a range that is not empty.
    fn entries(&self, family: Family, range: Range<&[u8]>) -> DBRawIterator<'_> {
        let mut options = ReadOptions::default();
        // Both bounds, always: without them an iterator walks over the tombstones beyond the range.
        options.set_iterate_lower_bound(range.start);
        options.set_iterate_upper_bound(range.end);
        self.db.raw_iterator_cf_opt(self.family(family), options)
    }

    fn batch(&self, mutations: &[Mutation]) -> WriteBatch {
        /// Type, family and lengths in front of key and value.
        const OVERHEAD_MAX: usize = 16;
        let bytes = mutations.iter().map(|mutation| mutation.len() + OVERHEAD_MAX).sum();
        let mut batch = WriteBatch::with_capacity_bytes(bytes);
        // By name once a write, and by number for each mutation.
        let families = Family::ALL.map(|family| self.family(family));
        let family = |family: Family| families[family as usize];
        let mut overwritten = overwritten(mutations).into_iter().rev().peekable();
        for (place, mutation) in mutations.iter().enumerate() {
            if overwritten.next_if_eq(&place).is_some() {
                continue;
            }
            match mutation {
                Mutation::Put { family: of, key, value } => batch.put_cf(family(*of), key, value),
                Mutation::Delete { family: of, key } => batch.delete_cf(family(*of), key),
                // RocksDB does not define a range that ends before it begins; for us it is empty.
                Mutation::DeleteRange { range, .. } if range.start >= range.end => {}
                Mutation::DeleteRange { family: of, range } => batch.delete_range_cf(family(*of), &range.start, &range.end),
            }
        }
        batch
    }

    fn apply(&self, mutations: &[Mutation], durability: Durability) -> Result<(), StorageError> {
        let batch = self.batch(mutations);
        let synced = durability == Durability::Synced;
        if batch.is_empty() {
            // There is nothing to log, but what was written before may still have to be synced.
            if synced {
                self.db.flush_wal(true).map_err(storage_error)?;
            }
        } else {
            let mut options = WriteOptions::default();
            options.set_sync(synced);
            self.db.write_opt(batch, &options).map_err(storage_error)?;
        }
        if synced {
            self.guard.committed(self.db.latest_sequence_number());
        }
        for mutation in mutations {
            if let Mutation::DeleteRange { family: Family::Log, range } = mutation
                && range.start < range.end
            {
                self.space.deleted(range);
            }
        }
        Ok(())
    }
}

impl Storage for RocksStorage {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        // Pinned, so the value is copied once, and not into a vector first.
        let value = self.db.get_pinned_cf(self.family(family), key).map_err(storage_error)?;
        Ok(value.map(|value| Bytes::copy_from_slice(&value)))
    }

    fn scan(&self, family: Family, range: Range<&[u8]>, direction: Direction, visit: Visitor<'_>) -> Result<(), StorageError> {
        if range.start >= range.end {
            return Ok(());
        }
        let mut entries = self.entries(family, range);
        match direction {
            Direction::Forward => entries.seek_to_first(),
            Direction::Backward => entries.seek_to_last(),
        }
        visit_all(&mut entries, direction, visit)
    }

    fn scan_from(&self, family: Family, range: Range<&[u8]>, from: &[u8], visit: Visitor<'_>) -> Result<(), StorageError> {
        if range.start >= range.end {
            return Ok(());
        }
        let mut entries = self.entries(family, range.clone());
        // Below the range there is no last key that is not above.
        if from >= range.start {
            entries.seek_for_prev(from);
            entries.status().map_err(storage_error)?;
        }
        if !entries.valid() {
            entries.seek_to_first();
        }
        visit_all(&mut entries, Direction::Forward, visit)
    }

    fn write(&self, mutations: &[Mutation], durability: Durability) -> Result<(), StorageError> {
        let mut stopped = self.stopped.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(reason) = &*stopped {
            return Err(reason.clone());
        }
        let written = match self.guard.failure() {
            // Unguarded commits could be lost in silence, so there are none.
            Some(reason) => Err(StorageError::Io(reason.to_owned())),
            None => self.apply(mutations, durability),
        };
        // What a failed write or sync left behind is unknown. To write or sync again as if nothing had happened can lose commits.
        *stopped = written.clone().err();
        written
    }

    fn free_space(&self) -> Result<Option<FreeSpace>, StorageError> {
        let disk = rustix::fs::statvfs(self.db.path()).map_err(|error| StorageError::Io(error.to_string()))?;
        let in_memory = |family: Family| self.db.property_int_value_cf(self.family(family), "rocksdb.cur-size-all-mem-tables");
        let owed =
            Family::ALL.into_iter().map(|family| Ok(in_memory(family)?.unwrap_or(0))).sum::<Result<u64, _>>().map_err(storage_error)?;
        // Blocks for the superuser alone are not counted.
        Ok(Some(FreeSpace { available_bytes: disk.f_bavail.saturating_mul(disk.f_frsize), owed_bytes: owed }))
    }

    fn memory(&self) -> Result<Vec<(&'static str, u64)>, StorageError> {
        let of = |family: Family, name: &str| {
            let bytes = self.db.property_int_value_cf(self.family(family), name).map_err(storage_error)?;
            Ok::<_, StorageError>(bytes.unwrap_or(0))
        };
        let all = |name: &str| Family::ALL.into_iter().map(|family| of(family, name)).sum::<Result<u64, _>>();
        Ok(vec![
            ("block_cache_log", of(Family::Log, "rocksdb.block-cache-usage")?),
            // All families but the log share one.
            ("block_cache", of(Family::Meta, "rocksdb.block-cache-usage")?),
            ("write_buffers", all("rocksdb.size-all-mem-tables")?),
            ("open_files", all("rocksdb.estimate-table-readers-mem")?),
        ])
    }
}

impl Drop for RocksStorage {
    /// Makes buffered writes durable. Nothing is flushed to sorted files: the next open reads the write-ahead log.
    fn drop(&mut self) {
        let stopped = self.stopped.get_mut().unwrap_or_else(PoisonError::into_inner);
        if stopped.is_none() {
            match self.db.flush_wal(true) {
                Ok(()) => self.guard.committed(self.db.latest_sequence_number()),
                Err(reason) => tracing::error!(%reason, "buffered writes may not survive a power cut"),
            }
        }
        // Merging can take long, and what is cut off is done again.
        self.space.close();
        self.db.cancel_all_background_work(false);
    }
}

impl fmt::Debug for RocksStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RocksStorage").field("path", &self.db.path()).finish_non_exhaustive()
    }
}

fn visit_all(entries: &mut DBRawIterator<'_>, direction: Direction, visit: Visitor<'_>) -> Result<(), StorageError> {
    while let Some((key, value)) = entries.item() {
        if visit(key, value).is_break() {
            return Ok(());
        }
        match direction {
            Direction::Forward => entries.next(),
            Direction::Backward => entries.prev(),
        }
    }
    // An iterator ends at an error as it ends at the end.
    entries.status().map_err(storage_error)
}

/// Places, the last first, of the rows that the same write overwrites: each commit of a shard ends with a row that the next one of that
/// shard writes anew, and a write holds many commits. It is applied as a whole, so nobody ever sees them.
fn overwritten(mutations: &[Mutation]) -> Vec<usize> {
    let (mut later, mut places) = (HashSet::<_, BuildHasherDefault<NumberHasher>>::default(), Vec::new());
    for (place, mutation) in mutations.iter().enumerate().rev() {
        if let Mutation::Put { family: family @ (Family::Meta | Family::Group), key, .. } = mutation
            && !later.insert((*family, &key[..]))
        {
            places.push(place);
        }
    }
    places
}

fn storage_error(error: rocksdb::Error) -> StorageError {
    match error.kind() {
        ErrorKind::Corruption => StorageError::Corrupt(error.into_string()),
        _ => StorageError::Io(error.into_string()),
    }
}
