//! A service's rows in an embedded RocksDB: the key is the kind and the id, the value is JSON.

use super::rows::{Access, Rows};
use super::telling::{Inbox, Told};
use super::{Effects, StoreError};
use rocksdb::statistics::Ticker;
use rocksdb::{Direction, IteratorMode, Options, TransactionDBOptions, WriteOptions};
use sagamq_api::saga::{Call, CallId};
use sagamq_sdk::barrier::{Known, Recorded, RocksBarrier};
use sagamq_sdk::branch::rocks::rocksdb::MultiThreaded;
use sagamq_sdk::branch::rocks::{BranchDb, BranchTransaction, RocksBranches};
use sagamq_sdk::inbox::Once;
use sagamq_sdk::outbox::rocks::RocksOutbox;
use sagamq_sdk::{CallError, Delivery, HandlerError, JsonText};
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;

/// An embedded database with its barrier, its branches and its outbox. Every method blocks.
pub(super) struct RocksStore {
    rocks: Arc<BranchDb>,
    barrier: RocksBarrier,
    branches: RocksBranches,
    outbox: RocksOutbox<MultiThreaded>,
    /// Where the database counts what it does.
    options: Options,
}

impl RocksStore {
    /// Opens the database, and its branches before anything else is done: so those that are prepared have their locks again.
    pub(super) fn open(path: &Path, branch_calls: Effects) -> Result<Self, StoreError> {
        let mut options = Options::default();
        options.create_if_missing(true);
        options.enable_statistics();
        let rocks = BranchDb::open(&options, &TransactionDBOptions::default(), path)
            .map_err(|source| StoreError::Open { path: path.to_owned(), source })?;
        let rocks = Arc::new(rocks);
        let branches = branch_calls.iter().fold(RocksBranches::builder(), |branches, &(name, effect)| {
            branches.on(name, move |transaction, call| effect(&Rows::new(&RocksRows(transaction)), call))
        });
        let branches = branches.open(Arc::clone(&rocks)).map_err(|error| StoreError::Branches(error.to_string()))?;
        let outbox = RocksOutbox::open(Arc::clone(&rocks)).map_err(|error| StoreError::Outbox(error.to_string()))?;
        Ok(Self { rocks, barrier: RocksBarrier::new(), branches, outbox, options })
    }

    pub(super) const fn branches(&self) -> &RocksBranches {
        &self.branches
    }

    /// How often the log was synced since the database was opened.
    pub(super) fn syncs(&self) -> u64 {
        self.options.get_ticker_count(Ticker::WalFileSynced)
    }

    pub(super) const fn outbox(&self) -> &RocksOutbox<MultiThreaded> {
        &self.outbox
    }

    pub(super) fn once(&self, call: &Call, effect: impl FnOnce(&Rows<'_>) -> Result<Value, CallError>) -> Result<JsonText, CallError> {
        self.barrier.run_local(&self.rocks, call, |transaction| effect(&Rows::new(&RocksRows(transaction))))
    }

    pub(super) fn once_outside(
        &self,
        call: &Call,
        effect: impl FnOnce(&Rows<'_>, &Known) -> Result<Value, CallError>,
    ) -> Result<JsonText, CallError> {
        self.barrier.run(&self.rocks, call, |transaction, known| effect(&Rows::new(&RocksRows(transaction)), known))
    }

    pub(super) fn recorded(&self, call: &CallId) -> Result<Option<Recorded>, StoreError> {
        self.barrier.recorded(&self.rocks, call).map_err(|error| StoreError::Barrier(error.to_string()))
    }

    pub(super) fn change<T, E: From<StoreError>>(&self, change: impl FnOnce(&Rows<'_>) -> Result<(T, Vec<Told>), E>) -> Result<T, E> {
        let mut options = WriteOptions::default();
        options.set_sync(true);
        let transaction = self.rocks.transaction_opt(&options, &rocksdb::TransactionOptions::default());
        let (changed, told) = change(&Rows::new(&RocksRows(&transaction)))?;
        self.tell(&transaction, told)?;
        transaction.commit().map_err(StoreError::from)?;
        self.outbox.wake();
        Ok(changed)
    }

    pub(super) fn react(
        &self,
        inbox: &Inbox,
        delivery: &Delivery,
        reaction: impl FnOnce(&Rows<'_>) -> Result<Vec<Told>, HandlerError>,
    ) -> Result<Once<()>, HandlerError> {
        let reacted = inbox.rocks.once(&self.rocks, delivery, |transaction| {
            let told = reaction(&Rows::new(&RocksRows(transaction)))?;
            Ok(self.tell(transaction, told)?)
        });
        self.outbox.wake();
        reacted
    }

    fn tell(&self, transaction: &BranchTransaction<'_>, told: Vec<Told>) -> Result<(), StoreError> {
        for Told { topic, record } in told {
            self.outbox.add(transaction, &topic, record).map_err(|error| StoreError::outbox(&error))?;
        }
        Ok(())
    }

    pub(super) fn get(&self, table: &str, id: &str) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.rocks.get(key(table, id))?)
    }

    pub(super) fn all(&self, table: &str) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let prefix = key(table, "");
        let rows = self.rocks.iterator(IteratorMode::From(&prefix, Direction::Forward));
        let within = rows.take_while(|row| row.as_ref().map_or(true, |(key, _)| key.starts_with(&prefix)));
        within
            .map(|row| {
                let (key, json) = row?;
                Ok((String::from_utf8_lossy(&key[prefix.len()..]).into_owned(), json.into_vec()))
            })
            .collect()
    }
}

/// A transaction of this database.
struct RocksRows<'t, 'db>(&'t BranchTransaction<'db>);

impl Access for RocksRows<'_, '_> {
    fn lock(&self, table: &str, id: &str) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.0.get_for_update(key(table, id), true)?)
    }

    fn put(&self, table: &str, id: &str, json: Vec<u8>) -> Result<(), StoreError> {
        Ok(self.0.put(key(table, id), json)?)
    }

    fn mark(&self) -> Result<(), StoreError> {
        self.0.set_savepoint();
        Ok(())
    }

    fn undo(&self) -> Result<(), StoreError> {
        Ok(self.0.rollback_to_savepoint()?)
    }
}

fn key(table: &str, id: &str) -> Vec<u8> {
    format!("{table}/{id}").into_bytes()
}
