//! The database of a service: an embedded RocksDB of its own, and the barrier that makes each call's effect happen once.
//!
//! A call's effect and the record that it happened are ONE transaction with one synced commit. A call that comes again (its reply
//! was lost, the service was killed, the broker was) finds the record and gets the first answer; nothing happens twice.

use rocksdb::{Direction, IteratorMode, Options, SingleThreaded, Transaction, TransactionDB, TransactionDBOptions, WriteOptions};
use sagamq_api::saga::Call;
use sagamq_sdk::CallError;
use sagamq_sdk::barrier::RocksBarrier;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

type Database = TransactionDB<SingleThreaded>;

/// What a call does to a service's rows. Refusing undoes what it wrote; any other error does too, and leaves the outcome open.
pub type Effect = fn(&Rows<'_, '_>, &Call) -> Result<Value, CallError>;

/// A row of a service's database.
pub trait Row: Serialize + DeserializeOwned {
    /// The first part of its key; the second is its id.
    const TABLE: &'static str;
}

/// Why the database did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The directory cannot be opened.
    #[error("the data directory {} cannot be opened: {source}; is another process using it?", path.display())]
    Open {
        /// The directory.
        path: PathBuf,
        /// What the database says.
        #[source]
        source: rocksdb::Error,
    },
    /// The database failed, or a lock was not had in time.
    #[error("the database failed: {0}")]
    Database(#[from] rocksdb::Error),
    /// A row is not what its type says.
    #[error("a row cannot be read: {0}")]
    Row(#[from] serde_json::Error),
}

/// The database of a service.
pub struct Store {
    db: Database,
    barrier: RocksBarrier,
    calls: AtomicU64,
    repeated: AtomicU64,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("path", &self.db.path()).finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the database in `path`, or makes it.
    ///
    /// # Errors
    /// [`StoreError::Open`], for example when another process has it open.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let mut options = Options::default();
        options.create_if_missing(true);
        let db = Database::open(&options, &TransactionDBOptions::default(), path)
            .map_err(|source| StoreError::Open { path: path.to_owned(), source })?;
        Ok(Self { db, barrier: RocksBarrier::new(), calls: AtomicU64::new(0), repeated: AtomicU64::new(0) })
    }

    /// Runs `effect` for `call` unless it ran before; then the first answer is given again. Durable when this returns.
    ///
    /// # Errors
    /// What `effect` says, or an unknown outcome when the database fails.
    pub async fn once(self: &Arc<Self>, call: Call, effect: Effect) -> Result<Value, CallError> {
        let store = Arc::clone(self);
        // Locks and the disk block, so the call leaves the threads that answer requests.
        match tokio::task::spawn_blocking(move || store.once_blocking(&call, effect)).await {
            Ok(result) => result,
            Err(panicked) => Err(CallError::unknown("HANDLER_PANICKED", panicked.to_string())),
        }
    }

    /// [`Store::once`] for callers that may block.
    ///
    /// # Errors
    /// As [`Store::once`].
    pub fn once_blocking(&self, call: &Call, effect: Effect) -> Result<Value, CallError> {
        let ran = AtomicBool::new(false);
        let result = self.barrier.run_local(&self.db, call, |transaction| {
            ran.store(true, Ordering::Relaxed);
            effect(&Rows(transaction), call)
        });
        self.calls.fetch_add(1, Ordering::Relaxed);
        if !ran.load(Ordering::Relaxed) {
            self.repeated.fetch_add(1, Ordering::Relaxed);
        }
        result
    }

    /// Changes rows outside of any saga. Durable when this returns.
    ///
    /// # Errors
    /// [`StoreError`]; then nothing was changed.
    pub fn change<T>(&self, change: impl FnOnce(&Rows<'_, '_>) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let mut options = WriteOptions::default();
        options.set_sync(true);
        let transaction = self.db.transaction_opt(&options, &rocksdb::TransactionOptions::default());
        let changed = change(&Rows(&transaction))?;
        transaction.commit()?;
        Ok(changed)
    }

    /// One row.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn get<R: Row>(&self, id: &str) -> Result<Option<R>, StoreError> {
        Ok(self.db.get(key::<R>(id))?.map(|bytes| serde_json::from_slice(&bytes)).transpose()?)
    }

    /// All rows of a table with their ids, as they are at one moment.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn all<R: Row>(&self) -> Result<Vec<(String, R)>, StoreError> {
        let prefix = key::<R>("");
        let mut rows = Vec::new();
        for row in self.db.iterator(IteratorMode::From(&prefix, Direction::Forward)) {
            let (key, value) = row?;
            let Some(id) = key.strip_prefix(prefix.as_slice()) else { break };
            rows.push((String::from_utf8_lossy(id).into_owned(), serde_json::from_slice(&value)?));
        }
        Ok(rows)
    }

    /// Calls that were served since the process began, and how many of them were known from before and changed nothing.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        (self.calls.load(Ordering::Relaxed), self.repeated.load(Ordering::Relaxed))
    }
}

/// The rows of a service inside one transaction.
pub struct Rows<'t, 'db>(&'t Transaction<'db, Database>);

impl std::fmt::Debug for Rows<'_, '_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Rows")
    }
}

impl Rows<'_, '_> {
    /// One row, locked until the transaction ends: what is decided by it stays true.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn lock<R: Row>(&self, id: &str) -> Result<Option<R>, StoreError> {
        Ok(self.0.get_for_update(key::<R>(id), true)?.map(|bytes| serde_json::from_slice(&bytes)).transpose()?)
    }

    /// Writes a row.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn put<R: Row>(&self, id: &str, row: &R) -> Result<(), StoreError> {
        Ok(self.0.put(key::<R>(id), serde_json::to_vec(row)?)?)
    }
}

fn key<R: Row>(id: &str) -> Vec<u8> {
    format!("{}/{id}", R::TABLE).into_bytes()
}

/// The arguments of a call.
///
/// # Errors
/// Refused with `INVALID_ARGUMENTS`: the definition passes something that the service does not take. Trying again cannot help.
pub fn arguments<T: DeserializeOwned>(call: &Call) -> Result<T, CallError> {
    call.arguments
        .read()
        .map_err(|error| CallError::refused("INVALID_ARGUMENTS", format!("`{}` does not take these arguments: {error}", call.call)))
}

/// What the tests of the services share: a store in a directory of its own, and calls as the orchestrator makes them.
#[cfg(test)]
pub(crate) mod testing {
    use super::*;
    use sagamq_api::PartitionId;
    use sagamq_api::saga::{Operation, call_key};
    use uuid::Uuid;

    pub(crate) fn store() -> (tempfile::TempDir, Store) {
        let directory = tempfile::tempdir().expect("a directory");
        let store = Store::open(directory.path()).expect("a new database");
        (directory, store)
    }

    /// A call of the saga with number `instance`.
    pub(crate) fn call(instance: u128, step: &str, operation: Operation, name: &str, arguments: Value) -> Call {
        let (instance, step) = (Uuid::from_u128(instance), step.parse().expect("a step id"));
        Call {
            idempotency_key: call_key(instance, &step, operation),
            instance,
            saga: "checkout".parse().expect("a name"),
            version: 1,
            key: "o-1".to_owned(),
            step,
            operation,
            call: name.to_owned(),
            epoch: 1,
            must_succeed: operation == Operation::Compensation,
            started_at_ms: 0,
            deadline_ms: u64::MAX,
            arguments: arguments.into(),
            action_output: None,
            reply_partition: PartitionId(0),
        }
    }

    pub(crate) fn code(result: Result<Value, CallError>) -> String {
        match result.expect_err("a refusal") {
            CallError::Refused(failure) => failure.code,
            other => panic!("{other} is no refusal"),
        }
    }
}
