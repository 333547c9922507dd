//! What is found prepared when the database is opened: its name, its time, and its locks, which RocksDB does not take again by itself.

use super::builder::RocksBranchesError;
use super::jobs::Prepared;
use super::row::{decode_value, encode_key};
use super::{BranchDb, BranchTransaction};
use crate::branch::id::BranchId;
use ::rocksdb::{TransactionOptions, WriteBatchIteratorCf, WriteBatchWithTransaction, WriteOptions};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The column families that branches may write to, by the number that stands for each in a transaction.
#[derive(Clone, Debug)]
pub(super) struct Families {
    names: Arc<BTreeMap<u32, String>>,
}

impl Families {
    /// Looks up the numbers of these column families; the default one is always there.
    pub(super) fn of(db: &BranchDb, names: &[String]) -> Result<Self, RocksBranchesError> {
        let mut by_number = BTreeMap::from([(0, rocksdb::DEFAULT_COLUMN_FAMILY_NAME.to_owned())]);
        for name in names {
            let family = db.cf_handle(name).ok_or_else(|| RocksBranchesError::NoColumnFamily { name: name.clone() })?;
            // The crate does not tell a family's number, a batch of one entry does.
            let mut batch = WriteBatchWithTransaction::<true>::default();
            batch.put_cf(&family, b"", b"");
            by_number.extend(writes_of(&batch).into_iter().map(|(number, _)| (number, name.clone())));
        }
        Ok(Self { names: Arc::new(by_number) })
    }

    /// Whether each of these writes goes to one of the families; else the number of one that it does not.
    pub(super) fn unknown_in(&self, writes: &[(u32, Vec<u8>)]) -> Option<u32> {
        writes.iter().map(|(number, _)| *number).find(|number| !self.names.contains_key(number))
    }

    fn name(&self, number: u32) -> Option<&str> {
        self.names.get(&number).map(String::as_str)
    }
}

/// Family and key of everything that a batch writes.
pub(super) fn writes_of(batch: &WriteBatchWithTransaction<true>) -> Vec<(u32, Vec<u8>)> {
    struct Keys(Vec<(u32, Vec<u8>)>);
    impl WriteBatchIteratorCf for Keys {
        fn put_cf(&mut self, family: u32, key: &[u8], _: &[u8]) {
            self.0.push((family, key.to_vec()));
        }

        fn delete_cf(&mut self, family: u32, key: &[u8]) {
            self.0.push((family, key.to_vec()));
        }

        fn merge_cf(&mut self, family: u32, key: &[u8], _: &[u8]) {
            self.0.push((family, key.to_vec()));
        }
    }
    let mut keys = Keys(Vec::new());
    batch.iterate_cf(&mut keys);
    keys.0
}

/// What was found.
pub(super) struct Recovered<'db> {
    pub(super) branches: Vec<(BranchId, Prepared<'db>)>,
    /// Prepared transactions that are not ours, with their locks: they are kept as they are.
    pub(super) foreign: Vec<(BranchTransaction<'db>, BranchTransaction<'db>)>,
}

/// Takes every prepared transaction out of the database, and its locks again.
pub(super) fn recover<'db>(db: &'db BranchDb, prefix: &[u8], families: &Families) -> Result<Recovered<'db>, RocksBranchesError> {
    let mut recovered = Recovered { branches: Vec::new(), foreign: Vec::new() };
    for txn in db.prepared_transactions() {
        let name = String::from_utf8_lossy(&txn.get_name().unwrap_or_default()).into_owned();
        let locks = locks_of(db, &txn, &name, families)?;
        match name.parse::<BranchId>() {
            Ok(id) => {
                let row = txn.get(encode_key(prefix, &id))?;
                let value = row.ok_or_else(|| RocksBranchesError::NoRow { name: name.clone() })?;
                let (_, at_ms) = decode_value(&value)?;
                tracing::warn!(branch = %id, at_ms, "found a prepared branch; it keeps its locks until its coordinator is heard");
                recovered.branches.push((id, Prepared { txn, locks: Some(locks), at_ms }));
            }
            Err(error) => {
                tracing::error!(%name, %error, "found a prepared transaction that is none of ours; it is left as it is, with its locks");
                recovered.foreign.push((txn, locks));
            }
        }
    }
    Ok(recovered)
}

/// A transaction that does nothing but hold the locks of another one.
fn locks_of<'db>(
    db: &'db BranchDb,
    txn: &BranchTransaction<'db>,
    name: &str,
    families: &Families,
) -> Result<BranchTransaction<'db>, RocksBranchesError> {
    let mut options = TransactionOptions::default();
    // Nobody else has any lock yet.
    options.set_lock_timeout(0);
    let locks = db.transaction_opt(&WriteOptions::default(), &options);
    for (number, key) in writes_of(&txn.get_writebatch()) {
        let family = families.name(number).and_then(|name| db.cf_handle(name));
        let locked = match (number, family) {
            (0, _) => locks.get_for_update(&key, true),
            (_, Some(family)) => locks.get_for_update_cf(&family, &key, true),
            (number, None) => return Err(RocksBranchesError::UnknownColumnFamily { name: name.to_owned(), number }),
        };
        locked.map_err(|source| RocksBranchesError::Locked { name: name.to_owned(), source })?;
    }
    Ok(locks)
}
