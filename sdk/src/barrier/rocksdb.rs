//! The barrier on a RocksDB `TransactionDB`: outcome and business writes are one transaction with one synced commit.
//!
//! The rows of the action and of the compensation are read for update, the action's always first, so two calls of one step can
//! neither overtake each other nor wait for each other in a circle: the second one blocks on the lock and then reads what the
//! first one recorded.

use super::COMPENSATED;
use super::row::{Recorded, RowError, decode_value, encode_key, encode_value};
use crate::worker::CallError;
use ::rocksdb::{Error, ErrorKind, IteratorMode, ThreadMode, Transaction, TransactionDB, TransactionOptions, WriteOptions};
use sagamq_api::StepId;
use sagamq_api::saga::{Call, Operation};
use serde_json::Value;
use std::time::Duration;
use uuid::Uuid;

/// Where the rows are kept if the caller does not say. Keys of text do not begin with a zero byte.
const PREFIX: &[u8] = b"\0barrier/";

/// How long a call waits for another call of the same step, and for rows that the business locks.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);

/// The failure code of a call that the database could not serve.
const STORAGE: &str = "BARRIER_STORAGE";

/// Why the barrier could not look at its rows.
#[derive(Debug, thiserror::Error)]
pub enum BarrierError {
    /// The database failed, or a lock was not had in time.
    #[error("the database failed: {0}")]
    Database(#[from] Error),
    /// A row cannot be read.
    #[error(transparent)]
    Row(#[from] RowError),
}

/// Makes the effects of calls happen once in a [`TransactionDB`]. Cheap to clone; holds no state of its own.
///
/// The call blocks on locks and on the disk: in an async handler run it with `tokio::task::spawn_blocking`.
///
/// ```no_run
/// use sagamq_sdk::{CallError, api::saga::Call, barrier::RocksBarrier};
/// use rocksdb::{SingleThreaded, TransactionDB};
/// use serde_json::{Value, json};
///
/// fn reserve(db: &TransactionDB<SingleThreaded>, call: &Call) -> Result<Value, CallError> {
///     RocksBarrier::new().run(db, call, |txn| {
///         let stock = txn.get_for_update(b"stock/sku-1", true)?.map_or(0, |bytes| bytes[0]);
///         if stock == 0 {
///             return Err(CallError::refused("OUT_OF_STOCK", "sku-1 is sold out"));
///         }
///         txn.put(b"stock/sku-1", [stock - 1])?;
///         Ok(json!({ "left": stock - 1 }))
///     })
/// }
/// ```
#[derive(Clone, Debug)]
pub struct RocksBarrier {
    prefix: Vec<u8>,
    lock_timeout: Duration,
}

impl Default for RocksBarrier {
    fn default() -> Self {
        Self { prefix: PREFIX.to_vec(), lock_timeout: LOCK_TIMEOUT }
    }
}

impl RocksBarrier {
    /// A barrier whose rows lie under `\0barrier/`.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The same barrier with its rows under another prefix, which no other key of the database may begin with. Never change it
    /// for a database: what was recorded would be forgotten.
    #[must_use]
    pub fn with_prefix(mut self, prefix: impl Into<Vec<u8>>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// How long a call waits for a lock (default 5 s).
    #[must_use]
    pub fn with_lock_timeout(mut self, timeout: Duration) -> Self {
        self.lock_timeout = timeout;
        self
    }

    /// Runs `business` for `call`, unless the call's outcome is recorded already or the call must not take effect.
    ///
    /// `business` reads and writes through the transaction it is given, and reads for update what it decides by. When this
    /// returns `Ok` or [`CallError::Refused`], the outcome is on disk together with the business writes, and every repetition of
    /// the call returns the same. A refused call's business writes are rolled back.
    ///
    /// | call | recorded before | business runs | result |
    /// |---|---|---|---|
    /// | action | nothing | yes | its own; recorded if it succeeded or refused |
    /// | action | its outcome | no | the recorded one |
    /// | action | its compensation came first | no | refused, [`COMPENSATED`] |
    /// | compensation | its outcome | no | the recorded one |
    /// | compensation | the action succeeded | yes | its own; recorded if it succeeded |
    /// | compensation | nothing, or the action was refused | no | `Ok(null)`, recorded |
    ///
    /// A compensation that refuses is not recorded, so that it can be tried again after somebody has mended the cause.
    ///
    /// # Errors
    /// What `business` says. [`CallError::Unknown`] and [`CallError::Ongoing`] record nothing and roll everything back.
    /// [`CallError::Unknown`] with the code `BARRIER_STORAGE` when the database fails or a lock is not had in time.
    pub fn run<T: ThreadMode>(
        &self,
        db: &TransactionDB<T>,
        call: &Call,
        business: impl FnOnce(&Transaction<'_, TransactionDB<T>>) -> Result<Value, CallError>,
    ) -> Result<Value, CallError> {
        let mut write = WriteOptions::default();
        write.set_sync(true);
        let mut options = TransactionOptions::default();
        options.set_deadlock_detect(true);
        options.set_lock_timeout(i64::try_from(self.lock_timeout.as_millis()).unwrap_or(i64::MAX));
        // Dropped without a commit, the transaction is rolled back.
        let txn = db.transaction_opt(&write, &options);
        match call.operation {
            Operation::Action => self.action(&txn, call, business)?,
            Operation::Compensation => self.compensation(&txn, call, business)?,
        }
        .finish(txn)
    }

    fn action<T: ThreadMode>(
        &self,
        txn: &Transaction<'_, TransactionDB<T>>,
        call: &Call,
        business: impl FnOnce(&Transaction<'_, TransactionDB<T>>) -> Result<Value, CallError>,
    ) -> Result<Verdict, CallError> {
        let own = self.key(call, Operation::Action);
        // A compensation that finds no row here writes one, so this row alone decides.
        match lock(txn, &own)? {
            Some(Recorded::Succeeded(output)) => return Ok(Verdict::Known(Ok(output))),
            Some(Recorded::Refused(failure)) => return Ok(Verdict::Known(Err(CallError::Refused(failure)))),
            Some(Recorded::Prevented) => {
                let message = format!("the compensation of `{}` came first; the action must not take effect any more", call.step);
                return Ok(Verdict::Known(Err(CallError::refused(COMPENSATED, message))));
            }
            None => {}
        }
        txn.set_savepoint();
        match business(txn) {
            Ok(output) => {
                let recorded = Recorded::Succeeded(output);
                put(txn, &own, &recorded)?;
                Ok(Verdict::Commit(recorded))
            }
            Err(CallError::Refused(failure)) => {
                rollback_business(txn)?;
                let recorded = Recorded::Refused(failure);
                put(txn, &own, &recorded)?;
                Ok(Verdict::Commit(recorded))
            }
            Err(unsettled @ (CallError::Unknown { .. } | CallError::Ongoing { .. })) => Err(unsettled),
        }
    }

    fn compensation<T: ThreadMode>(
        &self,
        txn: &Transaction<'_, TransactionDB<T>>,
        call: &Call,
        business: impl FnOnce(&Transaction<'_, TransactionDB<T>>) -> Result<Value, CallError>,
    ) -> Result<Verdict, CallError> {
        let action = self.key(call, Operation::Action);
        let own = self.key(call, Operation::Compensation);
        let acted = lock(txn, &action)?;
        match lock(txn, &own)? {
            Some(Recorded::Succeeded(output)) => return Ok(Verdict::Known(Ok(output))),
            Some(Recorded::Refused(failure)) => return Ok(Verdict::Known(Err(CallError::Refused(failure)))),
            Some(Recorded::Prevented) | None => {}
        }
        let output = match acted {
            Some(Recorded::Succeeded(_)) => business(txn)?,
            // There is nothing to undo, and there never will be.
            None => {
                put(txn, &action, &Recorded::Prevented)?;
                Value::Null
            }
            Some(Recorded::Refused(_) | Recorded::Prevented) => Value::Null,
        };
        let recorded = Recorded::Succeeded(output);
        put(txn, &own, &recorded)?;
        Ok(Verdict::Commit(recorded))
    }

    /// What is recorded of a call, without running anything.
    ///
    /// # Errors
    /// [`BarrierError`] when the database fails or the row cannot be read.
    pub fn recorded<T: ThreadMode>(
        &self,
        db: &TransactionDB<T>,
        instance: Uuid,
        step: &StepId,
        operation: Operation,
    ) -> Result<Option<Recorded>, BarrierError> {
        match db.get(encode_key(&self.prefix, instance, step, operation))? {
            Some(value) => Ok(Some(decode_value(&value)?.1)),
            None => Ok(None),
        }
    }

    /// Deletes what was recorded before this time (milliseconds since 1970) and returns how many rows that were. A call of a saga
    /// that is repeated after its row is gone would take effect again: keep rows for as long as a command may be delivered again,
    /// the retention of sagas and of dead letters included.
    ///
    /// # Errors
    /// [`BarrierError`] when the database fails or a row cannot be read; rows before it are deleted.
    pub fn sweep<T: ThreadMode>(&self, db: &TransactionDB<T>, before_ms: u64) -> Result<u64, BarrierError> {
        let mut swept = 0;
        for row in db.iterator(IteratorMode::From(&self.prefix, ::rocksdb::Direction::Forward)) {
            let (key, value) = row?;
            if !key.starts_with(&self.prefix) {
                break;
            }
            if decode_value(&value)?.0 < before_ms {
                db.delete(&key)?;
                swept += 1;
            }
        }
        Ok(swept)
    }

    fn key(&self, call: &Call, operation: Operation) -> Vec<u8> {
        encode_key(&self.prefix, call.instance, &call.step, operation)
    }
}

/// What a call came to.
enum Verdict {
    /// It is recorded already; there is nothing to commit.
    Known(Result<Value, CallError>),
    /// It is written in the transaction.
    Commit(Recorded),
}

impl Verdict {
    fn finish<T: ThreadMode>(self, txn: Transaction<'_, TransactionDB<T>>) -> Result<Value, CallError> {
        match self {
            Self::Known(result) => result,
            Self::Commit(recorded) => {
                // A failed commit may or may not be on disk: the next call finds out.
                txn.commit().map_err(storage)?;
                match recorded {
                    Recorded::Succeeded(output) => Ok(output),
                    Recorded::Refused(failure) => Err(CallError::Refused(failure)),
                    Recorded::Prevented => Ok(Value::Null),
                }
            }
        }
    }
}

/// Locks a row and reads it.
fn lock<T: ThreadMode>(txn: &Transaction<'_, TransactionDB<T>>, key: &[u8]) -> Result<Option<Recorded>, CallError> {
    let value = txn.get_for_update(key, true).map_err(storage)?;
    value.map(|value| decode_value(&value).map(|(_, recorded)| recorded)).transpose().map_err(storage)
}

/// Undoes what the business wrote and keeps the locks. The business may have left savepoints of its own above the barrier's.
fn rollback_business<T: ThreadMode>(txn: &Transaction<'_, TransactionDB<T>>) -> Result<(), CallError> {
    loop {
        match txn.rollback_to_savepoint() {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(storage(error)),
        }
    }
}

fn put<T: ThreadMode>(txn: &Transaction<'_, TransactionDB<T>>, key: &[u8], recorded: &Recorded) -> Result<(), CallError> {
    let value = encode_value(recorded, now_ms()).map_err(storage)?;
    txn.put(key, value).map_err(storage)
}

fn storage(error: impl std::error::Error) -> CallError {
    CallError::unknown(STORAGE, error.to_string())
}

#[expect(clippy::disallowed_methods, reason = "the time is only a mark for sweeping old rows; nothing is decided by it")]
fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
