//! The barrier on a RocksDB `TransactionDB`: outcome and business writes are one transaction with one synced commit.
//!
//! The rows of the action and of the compensation are read for update, the action's always first, so two calls of one step can
//! neither overtake each other nor wait for each other in a circle: the second one blocks on the lock and then reads what the
//! first one recorded. The lock is held while the business runs, so a compensation never runs beside its action.

use super::known::Known;
use super::row::{Recorded, Row, RowError, decode_value, decode_watermark, encode_key, encode_value};
use super::{COMPENSATED, IN_DOUBT, SWEPT};
use crate::worker::{CallError, output_text};
use ::rocksdb::{Error, ErrorKind, ThreadMode, Transaction, TransactionDB, TransactionOptions, WriteOptions};
use sagamq_api::JsonText;
use sagamq_api::saga::{Call, CallId, Failure, Operation};
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
        Self { prefix: PREFIX.to_vec(), lock_timeout: LOCK_TIMEOUT, clock: now_ms }
    }
}

/// Whether the business may have effects outside of its transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    Local,
    Outside,
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
    /// | action | its compensation succeeded, before or after it | no | refused, [`COMPENSATED`] |
    /// | compensation | its outcome | no | the recorded one |
    /// | compensation | the action succeeded | yes, with the action's output | its own; recorded if it succeeded |
    /// | compensation | the action is in doubt | yes, and is told | its own; recorded if it succeeded |
    /// | compensation | nothing, or the action was refused | no | `Ok(null)`, recorded |
    /// | any | nothing, and a row may have been swept | no | unknown, [`SWEPT`] |
    ///
    /// A refusal of a call that must succeed ([`Call::must_succeed`]: behind the pivot, and every compensation) is not recorded: the call
    /// is made again until somebody has mended the cause.
    ///
    /// # Errors
    /// What `business` says. [`CallError::Unknown`] with the code `BARRIER_STORAGE` when the database fails or a lock is not had in
    /// time.
    pub fn run<T: ThreadMode, O: Serialize>(
        &self,
        db: &TransactionDB<T>,
        call: &Call,
        business: impl FnOnce(&Transaction<'_, TransactionDB<T>>, &Known) -> Result<O, CallError>,
    ) -> Result<JsonText, CallError> {
        let begun = match call.attempt.operation {
            Operation::Action => self.begin(db, call)?,
            Operation::Compensation => None,
        };
        self.serve(db, call, Reach::Outside, begun, |txn, known| output_text(&business(txn, known)?))
    }

    /// As [`Self::run`], for business whose effects are writes of its transaction **and nothing else**. They are rolled back unless the
    /// call succeeds, so no call is ever in doubt: an action that ended with [`CallError::Unknown`] or [`CallError::Ongoing`], or in the
    /// middle of which the process died, did nothing, and its compensation is empty. It costs one sync less than [`Self::run`].
    ///
    /// # Errors
    /// As [`Self::run`]. A compensation of an action that [`Self::run`] left in doubt is an unknown outcome with [`IN_DOUBT`].
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
    /// [`SWEPT`]:
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
        let is_first = match lock(&txn, &own)?.map(|row| row.recorded) {
            None => {
                self.refuse_swept(&txn, call)?;
                true
            }
            Some(Recorded::Refused(_)) if call.must_succeed => true,
            Some(Recorded::InDoubt { .. }) => false,
            // The answer is known already, and given below.
            Some(Recorded::Succeeded(_) | Recorded::Refused(_) | Recorded::Prevented) => return Ok(None),
        };
        // A later run writes its own id: so an earlier one sees that it is not the only one any more.
        let run = Uuid::new_v4();
        put(&txn, &own, &Row { at_ms: self.at_ms(call, 0), recorded: Recorded::InDoubt { run } })?;
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
        let txn = self.transaction(db);
        match call.attempt.operation {
            Operation::Action => self.action(&txn, call, begun, business)?,
            Operation::Compensation => self.compensation(&txn, call, reach, business)?,
        }
        .finish(txn)
    }

    fn action<T: ThreadMode>(
        &self,
        txn: &Transaction<'_, TransactionDB<T>>,
        call: &Call,
        begun: Option<Uuid>,
        business: impl FnOnce(&Transaction<'_, TransactionDB<T>>, &Known) -> Result<JsonText, CallError>,
    ) -> Result<Verdict, CallError> {
        let own = self.key(call, Operation::Action);
        // A compensation that finds no row here writes one, so this row alone decides.
        let row = lock(txn, &own)?;
        let is_marked = matches!(&row, Some(Row { recorded: Recorded::InDoubt { .. }, .. }));
        let known = match row.map(|row| row.recorded) {
            Some(Recorded::Succeeded(output)) => return Ok(Verdict::Known(Ok(output))),
            Some(Recorded::Refused(failure)) if !call.must_succeed => return Ok(Verdict::Known(Err(CallError::Refused(failure)))),
            Some(Recorded::Prevented) => {
                let message = format!("`{}` is compensated; its action must not take effect any more", call.attempt.step);
                return Ok(Verdict::Known(Err(CallError::refused(COMPENSATED, message))));
            }
            Some(Recorded::InDoubt { run }) if begun != Some(run) => Known::in_doubt(),
            Some(Recorded::InDoubt { .. } | Recorded::Refused(_)) => Known::first(),
            None => {
                self.refuse_swept(txn, call)?;
                Known::first()
            }
        };
        txn.set_savepoint();
        let at_ms = self.at_ms(call, 0);
        match business(txn, &known) {
            Ok(output) => {
                put(txn, &own, &Row { at_ms, recorded: Recorded::Succeeded(output.clone()) })?;
                Ok(Verdict::Commit(Ok(output)))
            }
            Err(CallError::Refused(failure)) if !known.may_refuse() => {
                let message = format!("refused, while an earlier attempt is in doubt: {}", failure.message);
                Err(CallError::Unknown { failure: Failure { code: failure.code, message }, retry_after: None })
            }
            Err(CallError::Refused(failure)) => {
                rollback_business(txn)?;
                if !call.must_succeed {
                    put(txn, &own, &Row { at_ms, recorded: Recorded::Refused(failure.clone()) })?;
                } else if is_marked {
                    // Nothing took effect and the call will be made again: the next attempt is a first one.
                    txn.delete(&own).map_err(storage)?;
                } else {
                    return Err(CallError::Refused(failure));
                }
                Ok(Verdict::Commit(Err(failure)))
            }
            Err(unsettled @ (CallError::Unknown { .. } | CallError::Ongoing { .. })) => Err(unsettled),
        }
    }

    fn compensation<T: ThreadMode>(
        &self,
        txn: &Transaction<'_, TransactionDB<T>>,
        call: &Call,
        reach: Reach,
        business: impl FnOnce(&Transaction<'_, TransactionDB<T>>, &Known) -> Result<JsonText, CallError>,
    ) -> Result<Verdict, CallError> {
        let action = self.key(call, Operation::Action);
        let own = self.key(call, Operation::Compensation);
        let acted = lock(txn, &action)?;
        match lock(txn, &own)?.map(|row| row.recorded) {
            Some(Recorded::Succeeded(output)) => return Ok(Verdict::Known(Ok(output))),
            Some(Recorded::Refused(_) | Recorded::Prevented | Recorded::InDoubt { .. }) | None => {}
        }
        // Never before its action: a clock that was set back must not have it swept first.
        let at_ms = self.at_ms(call, acted.as_ref().map_or(0, |row| row.at_ms));
        let output = match acted.map(|row| row.recorded) {
            Some(Recorded::Succeeded(output)) => business(txn, &Known::succeeded(output))?,
            // There is nothing to undo.
            Some(Recorded::Refused(_) | Recorded::Prevented) => JsonText::null(),
            Some(Recorded::InDoubt { .. }) if reach == Reach::Local => {
                let message = "the action may have had an effect outside of the database, and this compensation is for one that had none";
                return Err(CallError::unknown(IN_DOUBT, message));
            }
            Some(Recorded::InDoubt { .. }) => business(txn, &Known::in_doubt())?,
            None => {
                self.refuse_swept(txn, call)?;
                JsonText::null()
            }
        };
        // Whatever was there is undone, and nothing will come. An action that is asked for again, as after a restored backup of the
        // broker, must not read as done.
        put(txn, &action, &Row { at_ms, recorded: Recorded::Prevented })?;
        put(txn, &own, &Row { at_ms, recorded: Recorded::Succeeded(output.clone()) })?;
        Ok(Verdict::Commit(Ok(output)))
    }

    /// A call without a row whose row may have been swept: nobody here can say what came of it.
    fn refuse_swept<T: ThreadMode>(&self, txn: &Transaction<'_, TransactionDB<T>>, call: &Call) -> Result<(), CallError> {
        // Read behind the lock on the missing row. The watermark is written before any row is deleted, so a row that is missing because
        // it was swept is never seen with an old watermark.
        let watermark_ms = match txn.get(&self.prefix).map_err(storage)? {
            Some(value) => decode_watermark(&value).map_err(storage)?,
            None => return Ok(()),
        };
        if call.started_at_ms >= watermark_ms {
            return Ok(());
        }
        let message = format!(
            "rows from before {watermark_ms} were swept and the saga started at {}: whether the {} of `{}` took effect is not known; \
             somebody has to look and to `resolve` it",
            call.started_at_ms, call.attempt.operation, call.attempt.step
        );
        Err(CallError::unknown(SWEPT, message))
    }

    /// When a row of this call is recorded.
    fn at_ms(&self, call: &Call, not_before_ms: u64) -> u64 {
        (self.clock)().max(call.started_at_ms).max(not_before_ms)
    }

    fn key(&self, call: &Call, operation: Operation) -> Vec<u8> {
        encode_key(&self.prefix, &call.attempt.call().with_operation(operation))
    }
}

/// What a call came to.
enum Verdict {
    /// It is recorded already; there is nothing to commit.
    Known(Result<JsonText, CallError>),
    /// It is written in the transaction: the output, or a refusal.
    Commit(Result<JsonText, Failure>),
}

impl Verdict {
    fn finish<T: ThreadMode>(self, txn: Transaction<'_, TransactionDB<T>>) -> Result<JsonText, CallError> {
        match self {
            Self::Known(result) => result,
            Self::Commit(result) => {
                // A failed commit may or may not be on disk: the next call finds out.
                txn.commit().map_err(storage)?;
                result.map_err(CallError::Refused)
            }
        }
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

fn put<T: ThreadMode>(txn: &Transaction<'_, TransactionDB<T>>, key: &[u8], row: &Row) -> Result<(), CallError> {
    txn.put(key, encode_value(row).map_err(storage)?).map_err(storage)
}

fn storage(error: impl std::error::Error) -> CallError {
    CallError::unknown(STORAGE, error.to_string())
}

#[expect(clippy::disallowed_methods, reason = "the time is only a mark for sweeping old rows; the order of calls is never decided by it")]
fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
