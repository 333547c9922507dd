//! The database of a service: an embedded RocksDB `TransactionDB`, whose row locks are the only locks that anybody waits for here.

use super::meter::Meter;
use rocksdb::statistics::Ticker;
use rocksdb::{Direction, Error, IteratorMode, Options, SingleThreaded, Transaction, TransactionDB, TransactionDBOptions, WriteOptions};
use sagamq_api::saga::Call;
use sagamq_sdk::barrier::RocksBarrier;
use sagamq_sdk::{CallError, JsonText};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use uuid::Uuid;

/// The database's type.
pub type Rocks = TransactionDB<SingleThreaded>;

/// Rows of a table by their ids, as JSON.
pub type Table = BTreeMap<String, Value>;

/// A row of a service's database.
pub trait Row: Serialize + DeserializeOwned {
    /// The first part of its key; the second is its id.
    const TABLE: &'static str;
}

/// Why the database did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The directory cannot be opened.
    #[error("the data directory {} cannot be opened: {source}", path.display())]
    Open {
        /// The directory.
        path: PathBuf,
        /// What the database says.
        #[source]
        source: Error,
    },
    /// The database failed, or another transaction held a lock for too long.
    #[error("the database failed: {0}")]
    Database(#[from] Error),
    /// A row is not what its type says.
    #[error("a row cannot be read: {0}")]
    Row(#[from] serde_json::Error),
}

/// The database of a service. Every method blocks.
pub struct Store {
    rocks: Arc<Rocks>,
    options: Options,
    barrier: RocksBarrier,
    meter: Arc<Meter>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("path", &self.rocks.path()).finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the database in `path`, or makes it.
    ///
    /// # Errors
    /// [`StoreError::Open`].
    pub fn open(path: &Path, lock_timeout: Duration, meter: Arc<Meter>) -> Result<Self, StoreError> {
        let mut options = Options::default();
        options.create_if_missing(true);
        // Forced writes are what RocksDB itself has counted.
        options.enable_statistics();
        let mut locks = TransactionDBOptions::default();
        locks.set_txn_lock_timeout(i64::try_from(lock_timeout.as_millis()).unwrap_or(i64::MAX));
        let rocks = Rocks::open(&options, &locks, path).map_err(|source| StoreError::Open { path: path.to_owned(), source })?;
        let barrier = RocksBarrier::new().with_lock_timeout(lock_timeout);
        Ok(Self { rocks: Arc::new(rocks), options, barrier, meter })
    }

    /// The database itself.
    #[must_use]
    pub fn rocks(&self) -> &Arc<Rocks> {
        &self.rocks
    }

    /// Syncs of the database's log since the process began.
    #[must_use]
    pub fn forced_writes(&self) -> u64 {
        self.options.get_ticker_count(Ticker::WalFileSynced)
    }

    /// Runs `effect` for a saga's call behind the barrier: once, in one local transaction that is synced before this returns.
    ///
    /// # Errors
    /// What `effect` says, or an unknown outcome when the database fails or a lock is not had in time.
    pub fn once(&self, call: &Call, effect: impl FnOnce(&Rows<'_, '_>, &Call) -> Result<Value, CallError>) -> Result<JsonText, CallError> {
        let locked = Cell::new(None);
        let result = self.barrier.run_local(&self.rocks, call, |transaction| {
            effect(&Rows { transaction, meter: &self.meter, locked: &locked, branch: None }, call)
        });
        if let Some(since) = locked.get() {
            self.meter.held(since);
        }
        result
    }

    /// Puts rows, outside of everything that is measured.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn fill(&self, tables: &BTreeMap<String, Table>) -> Result<(), StoreError> {
        let transaction = self.rocks.transaction_opt(&synced(), &rocksdb::TransactionOptions::default());
        for (table, rows) in tables {
            for (id, row) in rows {
                transaction.put(format!("{table}/{id}"), serde_json::to_vec(row)?)?;
            }
        }
        Ok(transaction.commit()?)
    }

    /// A row as it is committed, read without a lock.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn read(&self, key: &str) -> Result<Option<Value>, StoreError> {
        Ok(self.rocks.get(key)?.map(|bytes| serde_json::from_slice(&bytes)).transpose()?)
    }

    /// Changes a row in a local transaction that belongs to nothing else, as another user of the same row would. How long its lock was
    /// waited for; an error that says so if it was not had in time.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn touch(&self, key: &str) -> Result<Duration, StoreError> {
        let transaction = self.rocks.transaction();
        let began = now();
        let row = transaction.get_for_update(key, true)?;
        let waited = began.elapsed();
        if let Some(row) = row {
            transaction.put(key, row)?;
        }
        transaction.commit()?;
        Ok(waited)
    }

    /// Every row of every table that is not the barrier's.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn books(&self) -> Result<BTreeMap<String, Table>, StoreError> {
        let mut tables: BTreeMap<String, Table> = BTreeMap::new();
        // What the SDK keeps lies below a zero byte.
        for row in self.rocks.iterator(IteratorMode::From(&[1], Direction::Forward)) {
            let (key, value) = row?;
            let key = String::from_utf8_lossy(&key);
            let (table, id) = key.split_once('/').unwrap_or((&key, ""));
            tables.entry(table.to_owned()).or_default().insert(id.to_owned(), serde_json::from_slice(&value)?);
        }
        Ok(tables)
    }
}

/// The rows of a service inside one transaction.
pub struct Rows<'t, 'db> {
    transaction: &'t Transaction<'db, Rocks>,
    meter: &'t Meter,
    /// When this call locked its first row.
    locked: &'t Cell<Option<Instant>>,
    /// The branch whose locks stay when the call has ended.
    branch: Option<Uuid>,
}

impl std::fmt::Debug for Rows<'_, '_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Rows")
    }
}

impl Rows<'_, '_> {
    /// One row, locked until the transaction ends.
    ///
    /// # Errors
    /// [`StoreError`], also when the lock is not had in time.
    pub fn lock<R: Row>(&self, id: &str) -> Result<Option<R>, StoreError> {
        let began = now();
        let row = self.transaction.get_for_update(key::<R>(id), true);
        self.meter.waited(began);
        let row = row?;
        let had = now();
        if self.locked.get().is_none() {
            self.locked.set(Some(had));
        }
        if let Some(branch) = self.branch {
            self.meter.branch_locked(branch, had);
        }
        Ok(row.map(|bytes| serde_json::from_slice(&bytes)).transpose()?)
    }

    /// Writes a row.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn put<R: Row>(&self, id: &str, row: &R) -> Result<(), StoreError> {
        Ok(self.transaction.put(key::<R>(id), serde_json::to_vec(row)?)?)
    }
}

fn key<R: Row>(id: &str) -> Vec<u8> {
    format!("{}/{id}", R::TABLE).into_bytes()
}

fn synced() -> WriteOptions {
    let mut options = WriteOptions::default();
    options.set_sync(true);
    options
}

#[expect(clippy::disallowed_methods, reason = "a comparison measures time")]
pub(super) fn now() -> Instant {
    Instant::now()
}

/// The arguments of a call.
///
/// # Errors
/// Unknown with `INVALID_ARGUMENTS`: a fault of the definition, not an answer of the business.
pub fn arguments<T: DeserializeOwned>(call: &Call) -> Result<T, CallError> {
    call.arguments
        .read()
        .map_err(|error| CallError::unknown("INVALID_ARGUMENTS", format!("`{}` does not take these arguments: {error}", call.call)))
}
