//! The rows of a service inside a local transaction, whose locks are the only ones that anybody waits for here. Handlers of both modes see
//! them; what differs is when the locks are let go.

mod rocks;

pub use rocks::Store;

use super::meter::Meter;
use sagamq_api::saga::Call;
use sagamq_sdk::CallError;
use sagamq_sdk::branch::rocks::BranchTransaction;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;
use uuid::Uuid;

/// What a call does to a service's rows. It waits for locks on the thread that runs it.
pub type Handler = fn(&Rows<'_, '_>, &Call) -> Result<Value, CallError>;

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
        source: rocksdb::Error,
    },
    /// The database failed, or another transaction held a lock for too long.
    #[error("the database failed: {0}")]
    Database(#[from] rocksdb::Error),
    /// A row is not what its type says.
    #[error("a row cannot be read: {0}")]
    Row(#[from] serde_json::Error),
    /// A thread that worked for it panicked.
    #[error("a thread of the service panicked: {0}")]
    Panicked(#[from] tokio::task::JoinError),
}

/// The rows of a service inside one local transaction.
pub struct Rows<'t, 'db> {
    transaction: &'t BranchTransaction<'db>,
    meter: &'t Meter,
    held: Held<'t>,
}

/// How long locks are held.
pub(super) enum Held<'t> {
    /// Until the call's own local transaction ends: when it locked its first row.
    HereOnly(&'t Mutex<Option<Instant>>),
    /// Until the branch of this transaction ends.
    UntilEnd(Uuid),
}

impl std::fmt::Debug for Rows<'_, '_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Rows")
    }
}

impl<'t, 'db> Rows<'t, 'db> {
    pub(super) fn new(transaction: &'t BranchTransaction<'db>, meter: &'t Meter, held: Held<'t>) -> Self {
        Self { transaction, meter, held }
    }

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
        match self.held {
            Held::HereOnly(first) => {
                first.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(had);
            }
            Held::UntilEnd(branch) => self.meter.branch_locked(branch, had),
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

fn key<R: Row>(id: &str) -> String {
    format!("{}/{id}", R::TABLE)
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
