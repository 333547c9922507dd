//! The barrier on a RocksDB `TransactionDB`: outcome and business writes are one transaction with one synced commit.
//!
//! The rows of the action and of the compensation are read for update, the action's always first, so two calls of one step can
//! neither overtake each other nor wait for each other in a circle: the second one blocks on the lock and then reads what the
//! first one recorded. The lock is held while the business runs, so a compensation never runs beside its action.

use super::known::Known;
use super::recorded::{Recorded, Row};
use super::row::{RowError, decode_value, decode_watermark, encode_key, encode_value};
use super::rules::{self, Begin, Entry, Exit, Reach};
use crate::worker::{CallError, output_text};
use ::rocksdb::{Error, ErrorKind, ThreadMode, Transaction, TransactionDB, TransactionOptions, WriteOptions};
use sagamq_api::JsonText;
use sagamq_api::saga::{Call, CallId, Operation};
use serde::Serialize;
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

/// Makes the effects of calls happen once, in a [`TransactionDB`] and outside of it. Cheap to clone; holds no state of its own.
///
/// | the effect of a call | use |
/// |---|---|
/// | writes of the given transaction and nothing else | [`RocksBarrier::run_local`] |
/// | anything outside of it: a payment provider, another service, a file, a mail | [`RocksBarrier::run`] |
///
/// The call blocks on locks and on the disk: in an async handler run it with `tokio::task::spawn_blocking`.
///
/// ```no_run
/// use sagamq_sdk::{CallError, JsonText, api::saga::Call, barrier::RocksBarrier};
/// use rocksdb::{SingleThreaded, TransactionDB};
/// use serde_json::json;
///
/// fn reserve(db: &TransactionDB<SingleThreaded>, call: &Call) -> Result<JsonText, CallError> {
///     RocksBarrier::new().run_local(db, call, |txn| {
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
    pub(super) prefix: Vec<u8>,
    lock_timeout: Duration,
    pub(super) clock: fn() -> u64,
}

impl Default for RocksBarrier {
    fn default() -> Self {
        Self { prefix: PREFIX.to_vec(), lock_timeout: LOCK_TIMEOUT, clock: rules::now_ms }
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

    /// The clock by which rows are dated for [`Self::sweep`], in milliseconds since 1970 (default: the system's). For tests.
    #[must_use]
    pub fn with_clock(mut self, now_ms: fn() -> u64) -> Self {
        self.clock = now_ms;
        self
    }

    /// Runs `business` for `call`, unless the call's outcome is recorded already or the call must not take effect. The business may
    /// have effects outside of its transaction: before an action begins, a synced row says that it is in doubt, and the row stays
    /// if nobody learns what came of it: the business returned [`CallError::Unknown`] or [`CallError::Ongoing`], it panicked, or the
    /// process died.
    ///
    /// `business` reads and writes through the transaction it is given, reads for update what it decides by, and learns from [`Known`]
    /// whether the action is in doubt. It may run again after it ran: **make the outside effect idempotent by
    /// [`Call::idempotency_key`]**, and undo it by the action's, [`Call::action_key`]. When this returns `Ok` or
    /// [`CallError::Refused`], the outcome is on disk together with the business writes, and every repetition of the call returns the
    /// same, byte for byte; the exceptions are below. The output is anything that can be written as JSON, [`JsonText`] included.
    ///
    /// | call | recorded before | business runs | result |
    /// |---|---|---|---|
    /// | action | nothing | yes | its own; recorded if it succeeded or refused, else the action is in doubt |
    /// | action | in doubt | yes, and is told | its own; a refusal only after [`Known::clear_doubt`], else it counts as unknown |
    /// | action | its outcome | no | the recorded one |
    /// | action | its compensation succeeded, before or after it | no | refused, [`COMPENSATED`](super::COMPENSATED) |
    /// | compensation | its outcome | no | the recorded one |
    /// | compensation | the action succeeded | yes, with the action's output | its own; recorded if it succeeded |
    /// | compensation | the action is in doubt | yes, and is told | its own; recorded if it succeeded |
    /// | compensation | nothing, or the action was refused | no | `Ok(null)`, recorded |
    /// | any | nothing, and a row may have been swept | no | unknown, [`SWEPT`](super::SWEPT) |
    ///
    /// A refusal of a call that must succeed ([`Call::must_succeed`]: behind the pivot, and every compensation) is not recorded: the call
    /// is made again until somebody has mended the cause.
    ///
    /// # Errors
    /// What `business` says. [`CallError::Unknown`] with the code `BARRIER_STORAGE` when the database fails or a lock is not had in
    /// time, and with [`NOT_OF_A_SAGA`](super::NOT_OF_A_SAGA) for a vote or a decision of a two-phase commit.
    pub fn run<T: ThreadMode, O: Serialize>(
        &self,
        db: &TransactionDB<T>,
        call: &Call,
        business: impl FnOnce(&Transaction<'_, TransactionDB<T>>, &Known) -> Result<O, CallError>,
    ) -> Result<JsonText, CallError> {
        let begun = if rules::is_action(call)? { self.begin(db, call)? } else { None };
        self.serve(db, call, Reach::Outside, begun, |txn, known| output_text(&business(txn, known)?))
    }

    /// As [`Self::run`], for business whose effects are writes of its transaction **and nothing else**. They are rolled back unless the
    /// call succeeds, so no call is ever in doubt: an action that ended with [`CallError::Unknown`] or [`CallError::Ongoing`], or in the
    /// middle of which the process died, did nothing, and its compensation is empty. It costs one sync less than [`Self::run`].
    ///
    /// # Errors
    /// As [`Self::run`]. A compensation of an action that [`Self::run`] left in doubt is an unknown outcome with [`IN_DOUBT`](super::IN_DOUBT).
    pub fn run_local<T: ThreadMode, O: Serialize>(
        &self,
        db: &TransactionDB<T>,
        call: &Call,
        business: impl FnOnce(&Transaction<'_, TransactionDB<T>>) -> Result<O, CallError>,
    ) -> Result<JsonText, CallError> {
        self.serve(db, call, Reach::Local, None, |txn, _| output_text(&business(txn)?))
    }

    /// What is recorded of a call, without running anything. A call's idempotency key, as logs show it, is read by `"…".parse()`.
    ///
    /// # Errors
    /// [`BarrierError`] when the database fails or the row cannot be read.
    pub fn recorded<T: ThreadMode>(&self, db: &TransactionDB<T>, call: &CallId) -> Result<Option<Recorded>, BarrierError> {
        match db.get(encode_key(&self.prefix, call))? {
            Some(value) => Ok(Some(decode_value(&value)?.recorded)),
            None => Ok(None),
        }
    }

    /// Writes down what somebody has found out about the action of this call's step, whose row is gone or in doubt, for calls that end with
    /// [`SWEPT`](super::SWEPT):
    /// [`Recorded::Succeeded`] lets its compensation run, [`Recorded::Prevented`] makes it empty, [`Recorded::InDoubt`] lets it run in
    /// doubt. Replaces what is recorded of the action.
    ///
    /// # Errors
    /// [`BarrierError`] when the database fails; whether it is written is then not known.
    pub fn resolve<T: ThreadMode>(&self, db: &TransactionDB<T>, call: &CallId, action: Recorded) -> Result<(), BarrierError> {
        let txn = self.transaction(db);
        let key = encode_key(&self.prefix, &call.clone().with_operation(Operation::Action));
        txn.get_for_update(&key, true)?;
        txn.put(key, encode_value(&Row { at_ms: (self.clock)(), recorded: action })?)?;
        Ok(txn.commit()?)
    }

    pub(super) fn transaction<'db, T: ThreadMode>(&self, db: &'db TransactionDB<T>) -> Transaction<'db, TransactionDB<T>> {
        let mut write = WriteOptions::default();
        write.set_sync(true);
        let mut options = TransactionOptions::default();
        options.set_deadlock_detect(true);
        options.set_lock_timeout(i64::try_from(self.lock_timeout.as_millis()).unwrap_or(i64::MAX));
        // Dropped without a commit, the transaction is rolled back.
        db.transaction_opt(&write, &options)
    }

    /// Records, in a commit of its own, that the action is in doubt from now on. The id of this run, if nothing was begun before it.
    fn begin<T: ThreadMode>(&self, db: &TransactionDB<T>, call: &Call) -> Result<Option<Uuid>, CallError> {
        let txn = self.transaction(db);
        let own = self.key(call, Operation::Action);
        let row = lock(&txn, &own)?;
        let Begin::Mark { is_first, unless_swept } = rules::begin(row.as_ref().map(|row| &row.recorded), call) else {
            return Ok(None);
        };
        self.refuse_swept(&txn, call, unless_swept)?;
        // A later run writes its own id: so an earlier one sees that it is not the only one any more.
        let run = Uuid::new_v4();
        put(&txn, &own, rules::recorded_at_ms((self.clock)(), call, None), Recorded::InDoubt { run })?;
        txn.commit().map_err(storage)?;
        Ok(is_first.then_some(run))
    }

    fn serve<T: ThreadMode>(
        &self,
        db: &TransactionDB<T>,
        call: &Call,
        reach: Reach,
        begun: Option<Uuid>,
        business: impl FnOnce(&Transaction<'_, TransactionDB<T>>, &Known) -> Result<JsonText, CallError>,
    ) -> Result<JsonText, CallError> {
        let is_action = rules::is_action(call)?;
        let txn = self.transaction(db);
        let (action, own) = (self.key(call, Operation::Action), self.key(call, call.attempt.operation));
        let acted = lock(&txn, &action)?;
        let at_ms = rules::recorded_at_ms((self.clock)(), call, acted.as_ref().filter(|_| !is_action));
        let acted = acted.map(|row| row.recorded);
        let entry = if is_action {
            rules::action(acted, call, begun)
        } else {
            rules::compensation(acted, lock(&txn, &own)?.map(|row| row.recorded), reach)
        };
        let exit = match entry {
            Entry::Answer(result) => return result,
            Entry::Empty { unless_swept } => {
                self.refuse_swept(&txn, call, unless_swept)?;
                Exit::Succeed(JsonText::null())
            }
            Entry::Run { known, is_marked, unless_swept } => {
                self.refuse_swept(&txn, call, unless_swept)?;
                txn.set_savepoint();
                let result = business(&txn, &known);
                if is_action { rules::action_exit(result, call, &known, is_marked) } else { rules::compensation_exit(result) }
            }
        };
        let result = match exit {
            Exit::Succeed(output) => {
                if !is_action {
                    // Whatever was there is undone, and nothing will come. An action that is asked for again, as after a restored backup
                    // of the broker, must not read as done.
                    put(&txn, &action, at_ms, Recorded::Prevented)?;
                }
                put(&txn, &own, at_ms, Recorded::Succeeded(output.clone()))?;
                Ok(output)
            }
            Exit::Refuse(failure) => {
                rollback_business(&txn)?;
                put(&txn, &own, at_ms, Recorded::Refused(failure.clone()))?;
                Err(CallError::Refused(failure))
            }
            Exit::Forget(failure) => {
                rollback_business(&txn)?;
                txn.delete(&own).map_err(storage)?;
                Err(CallError::Refused(failure))
            }
            Exit::RollBack(error) => return Err(error),
        };
        // A failed commit may or may not be on disk: the next call finds out.
        txn.commit().map_err(storage)?;
        result
    }

    /// Reads the watermark behind the lock on the missing row.
    fn refuse_swept<T: ThreadMode>(&self, txn: &Transaction<'_, TransactionDB<T>>, call: &Call, asked: bool) -> Result<(), CallError> {
        let watermark = if asked { txn.get(&self.prefix).map_err(storage)? } else { None };
        watermark.map_or(Ok(()), |value| rules::refuse_swept(call, decode_watermark(&value).map_err(storage)?))
    }

    fn key(&self, call: &Call, operation: Operation) -> Vec<u8> {
        encode_key(&self.prefix, &call.attempt.call().with_operation(operation))
    }
}

/// Locks a row and reads it.
fn lock<T: ThreadMode>(txn: &Transaction<'_, TransactionDB<T>>, key: &[u8]) -> Result<Option<Row>, CallError> {
    let value = txn.get_for_update(key, true).map_err(storage)?;
    value.map(|value| decode_value(&value)).transpose().map_err(storage)
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

fn put<T: ThreadMode>(txn: &Transaction<'_, TransactionDB<T>>, key: &[u8], at_ms: u64, recorded: Recorded) -> Result<(), CallError> {
    txn.put(key, encode_value(&Row { at_ms, recorded }).map_err(storage)?).map_err(storage)
}

fn storage(error: impl std::error::Error) -> CallError {
    CallError::unknown(STORAGE, error.to_string())
}
