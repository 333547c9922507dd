//! The database of a service: an embedded RocksDB `TransactionDB`.

use super::{Handler, Held, Rows, StoreError, Table, now};
use crate::service::meter::Meter;
use rocksdb::statistics::Ticker;
use rocksdb::{Direction, IteratorMode, Options, TransactionDBOptions, TransactionOptions, WriteOptions};
use sagamq_api::saga::Call;
use sagamq_sdk::barrier::RocksBarrier;
use sagamq_sdk::branch::rocks::{BranchDb, BranchTransaction};
use sagamq_sdk::{CallError, JsonText};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::JoinError;
use uuid::Uuid;

/// The database.
pub struct Store {
    rocks: Arc<BranchDb>,
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
        let rocks = BranchDb::open(&options, &locks, path).map_err(|source| StoreError::Open { path: path.to_owned(), source })?;
        let barrier = RocksBarrier::new().with_lock_timeout(lock_timeout);
        Ok(Self { rocks: Arc::new(rocks), options, barrier, meter })
    }

    /// The database itself.
    #[must_use]
    pub fn rocks(&self) -> &Arc<BranchDb> {
        &self.rocks
    }

    /// The rows as a branch sees them, whose locks stay until it ends.
    #[must_use]
    pub fn rows_of<'t, 'db>(&'t self, transaction: &'t BranchTransaction<'db>, branch: Uuid) -> Rows<'t, 'db> {
        Rows::new(transaction, &self.meter, Held::UntilEnd(branch))
    }

    /// Syncs of the database's log since the process began.
    #[must_use]
    pub fn forced_writes(&self) -> u64 {
        self.options.get_ticker_count(Ticker::WalFileSynced)
    }

    /// Runs `work`, which waits for locks and the disk, on a thread that may; it goes on when the caller hangs up.
    ///
    /// # Errors
    /// What `work` says.
    pub async fn blocking<T: Send + 'static, E: From<JoinError> + Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E> {
        let store = Arc::clone(self);
        tokio::task::spawn_blocking(move || work(&store)).await?
    }

    /// Runs `handler` for a saga's call behind the barrier: once, in one local transaction that is synced before this returns. The call is
    /// refused if there is a `refusal`.
    ///
    /// # Errors
    /// What the handler says, or an unknown outcome when the database fails or a lock is not had in time.
    pub fn once(&self, call: &Call, refusal: Option<CallError>, handler: Handler) -> Result<JsonText, CallError> {
        let locked = Mutex::new(None);
        let result = self.barrier.run_local(&self.rocks, call, |transaction| match refusal {
            Some(refusal) => Err(refusal),
            None => handler(&Rows::new(transaction, &self.meter, Held::HereOnly(&locked)), call),
        });
        if let Some(since) = locked.into_inner().unwrap_or_else(PoisonError::into_inner) {
            self.meter.held(since);
        }
        result
    }

    /// Puts rows, outside of everything that is measured.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn fill(&self, tables: &BTreeMap<String, Table>) -> Result<(), StoreError> {
        let mut synced = WriteOptions::default();
        synced.set_sync(true);
        let transaction = self.rocks.transaction_opt(&synced, &TransactionOptions::default());
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
    /// waited for.
    ///
    /// # Errors
    /// [`StoreError`], also when the lock is not had in time.
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

    /// Every row of every table of the business.
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
