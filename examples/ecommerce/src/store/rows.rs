//! Rows inside one transaction, whatever database it is in: all that an effect sees of where it works.

use super::StoreError;
use serde::Serialize;
use serde::de::DeserializeOwned;

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
}
