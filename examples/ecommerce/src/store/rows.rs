//! Rows inside one transaction, whatever database it is in: all that an effect sees of where it works.

use super::{Effect, StoreError};
use sagamq_api::saga::{Call, Failure};
use sagamq_sdk::CallError;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// A row of a service's database.
pub trait Row: Serialize + DeserializeOwned {
    /// The kind of row it is. A kind and an id name one row.
    const TABLE: &'static str;
}

/// What a transaction of a database can do.
pub(super) trait Access {
    /// One row's JSON, locked until the transaction ends, also if it is not there.
    fn lock(&self, table: &str, id: &str) -> Result<Option<Vec<u8>>, StoreError>;

    /// Writes one row.
    fn put(&self, table: &str, id: &str, json: Vec<u8>) -> Result<(), StoreError>;

    /// Marks how far the transaction is.
    fn mark(&self) -> Result<(), StoreError>;

    /// Undoes what was written behind the mark.
    fn undo(&self) -> Result<(), StoreError>;
}

/// The rows of a service inside one transaction.
pub struct Rows<'t>(&'t (dyn Access + 't));

impl std::fmt::Debug for Rows<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Rows")
    }
}

impl<'t> Rows<'t> {
    pub(super) fn new(transaction: &'t (dyn Access + 't)) -> Self {
        Self(transaction)
    }

    /// One row, locked until the transaction ends: what is decided by it stays true.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn lock<R: Row>(&self, id: &str) -> Result<Option<R>, StoreError> {
        Ok(self.0.lock(R::TABLE, id)?.map(|json| serde_json::from_slice(&json)).transpose()?)
    }

    /// Writes a row.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn put<R: Row>(&self, id: &str, row: &R) -> Result<(), StoreError> {
        self.0.put(R::TABLE, id, serde_json::to_vec(row)?)
    }

    /// Runs an effect in the middle of a transaction. If it is refused, what it wrote is undone, and the transaction goes on with the refusal.
    ///
    /// # Errors
    /// What the effect says, but for refusals.
    pub fn attempt(&self, effect: Effect, call: &Call) -> Result<Result<Value, Failure>, CallError> {
        self.0.mark()?;
        match effect(self, call) {
            Ok(output) => Ok(Ok(output)),
            Err(CallError::Refused(failure)) => {
                self.0.undo()?;
                Ok(Err(failure))
            }
            Err(open) => Err(open),
        }
    }
}
