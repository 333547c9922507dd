//! [`RocksMoment`]: the database as it was at one moment.

use super::{RocksStorage, storage_error, visit_all};
use crate::storage::{Direction, Family, Moment, Moments, StorageError, Visitor};
use bytes::Bytes;
use core::ops::Range;
use rocksdb::{ReadOptions, Snapshot};

/// The database as it was at one moment.
struct RocksMoment<'a> {
    storage: &'a RocksStorage,
    snapshot: Snapshot<'a>,
}

impl Moment for RocksMoment<'_> {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        let value = self.snapshot.get_cf(self.storage.family(family), key).map_err(storage_error)?;
        Ok(value.map(Bytes::from))
    }

    fn scan(&self, family: Family, range: Range<&[u8]>, visit: Visitor<'_>) -> Result<(), StorageError> {
        if range.start >= range.end {
            return Ok(());
        }
        let mut options = ReadOptions::default();
        options.set_iterate_lower_bound(range.start);
        options.set_iterate_upper_bound(range.end);
        // What is read once and from end to end must not push out what others read.
        options.fill_cache(false);
        let mut entries = self.snapshot.raw_iterator_cf_opt(self.storage.family(family), options);
        entries.seek_to_first();
        visit_all(&mut entries, Direction::Forward, visit)
    }
}

impl Moments for RocksStorage {
    fn moment(&self) -> Box<dyn Moment + '_> {
        Box::new(RocksMoment { storage: self, snapshot: self.db.snapshot() })
    }
}
