//! The barrier on PostgreSQL: outcome and business writes are one transaction.
//!
//! The rows of the action and of the compensation are locked, whether they are there or not, and the action's always first: so two calls of
//! one step can neither overtake each other nor wait for each other in a circle. The second one waits and then reads what the first one
//! recorded. The lock is held while the business runs, so a compensation never runs beside its action.

mod operations;
mod rows;
mod sweep;

use super::known::Known;
use super::recorded::{Recorded, Row};
use super::rules::{self, Begin, Entry, Exit, Reach};
use crate::postgres::{PostgresSchema, is_retryable};
use crate::worker::{CallError, output_text};
use futures_util::future::try_join;
pub use operations::{Business, PostgresOperations};
use rows::Rows;
pub use rows::{PostgresBarrierError, PostgresRowError};
use sagamq_api::JsonText;
use sagamq_api::saga::{Call, CallId, Operation};
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, IsolationLevel, Transaction};
use uuid::Uuid;

/// How long a call waits for another call of the same step, and for rows that the business locks.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);

/// How often the locks are asked for again when a serialisable transaction began too early, before any business has run.
const LOCK_ATTEMPTS: u32 = 10;

/// The failure code of a call that the database could not serve.
const STORAGE: &str = "BARRIER_STORAGE";

/// What holds for a transaction of the barrier alone: how long it waits for locks, and that its commit is on disk when it is answered.
const SETTINGS: &str = "SELECT set_config('lock_timeout', $1, true), \
    CASE current_setting('synchronous_commit') WHEN 'off' THEN set_config('synchronous_commit', 'on', true) END";

/// Makes the effects of calls happen once, in a PostgreSQL database and outside of it. Cheap to clone; holds no state of its own.
///
/// | the effect of a call | use |
/// |---|---|
/// | writes of the given transaction and nothing else | [`PostgresBarrier::run_local`] |
/// | anything outside of it: a payment provider, another service, a file, a mail | [`PostgresBarrier::run`] |
///
/// It does for PostgreSQL what `RocksBarrier` does for a RocksDB, by the same rules. Its table is made by [`PostgresSchema::migrate`].
/// A client of any pool will do: `&mut client` of a `deadpool_postgres` one is passed as it is.
///
/// ```no_run
/// use sagamq_sdk::postgres::tokio_postgres::Client;
/// use sagamq_sdk::{CallError, JsonText, api::saga::Call, barrier::PostgresBarrier};
/// use serde_json::json;
///
/// async fn reserve(client: &mut Client, call: &Call) -> Result<JsonText, CallError> {
///     PostgresBarrier::default()
///         .run_local(client, call, async |txn| {
///             let update = "UPDATE stock SET left_over = left_over - 1 WHERE sku = 'sku-1' AND left_over > 0 RETURNING left_over";
///             let Some(row) = txn.query_opt(update, &[]).await? else {
///                 return Err(CallError::refused("OUT_OF_STOCK", "sku-1 is sold out"));
///             };
///             Ok(json!({ "left": row.get::<_, i32>(0) }))
///         })
///         .await
/// }
/// ```
#[derive(Clone, Debug)]
pub struct PostgresBarrier {
    rows: Arc<Rows>,
    lock_timeout: Duration,
    isolation: IsolationLevel,
    clock: fn() -> u64,
}

impl Default for PostgresBarrier {
    fn default() -> Self {
        Self::new(&PostgresSchema::default())
    }
}

/// Why a transaction did not get as far as its business.
enum NotEntered {
    /// By the rules: this is the answer.
    Answer(CallError),
    Failed(PostgresBarrierError),
}

impl<E: Into<PostgresBarrierError>> From<E> for NotEntered {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// A call whose rows are locked.
struct Entered {
    entry: Entry,
    /// When what it writes is recorded.
    at_ms: u64,
}

impl PostgresBarrier {
    /// A barrier whose table lies in this schema. Never change it for a service: what was recorded would be forgotten.
    #[must_use]
    pub fn new(schema: &PostgresSchema) -> Self {
        Self {
            rows: Arc::new(Rows::new(schema)),
            lock_timeout: LOCK_TIMEOUT,
            isolation: IsolationLevel::ReadCommitted,
            clock: rules::now_ms,
        }
    }

    /// How long a call waits for a lock (default 5 s), the locks of the business included.
    #[must_use]
    pub fn with_lock_timeout(mut self, timeout: Duration) -> Self {
        self.lock_timeout = timeout;
        self
    }

    /// The isolation of the transactions (default: read committed, whatever the server's default is). The barrier is right under each; the
    /// business may need a stronger one. A serialisation failure of the business is an unknown outcome, and the call is made again.
    #[must_use]
    pub fn with_isolation(mut self, isolation: IsolationLevel) -> Self {
        self.isolation = isolation;
        self
    }

    /// The clock by which rows are dated for [`Self::sweep`], in milliseconds since 1970 (default: the system's). For tests.
    #[must_use]
    pub fn with_clock(mut self, now_ms: fn() -> u64) -> Self {
        self.clock = now_ms;
        self
    }

    /// Runs `business` for `call`, unless the call's outcome is recorded already or the call must not take effect. The business may
    /// have effects outside of its transaction: before an action begins, a committed row says that it is in doubt, and the row stays
    /// if nobody learns what came of it: the business returned [`CallError::Unknown`] or [`CallError::Ongoing`], it panicked or was cut
    /// off, or the process died.
    ///
    /// `business` reads and writes through the transaction it is given, locks what it decides by (`SELECT … FOR UPDATE`), and learns from
    /// [`Known`] whether the action is in doubt. It may run again after it ran: **make the outside effect idempotent by
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
    pub async fn run<O: Serialize>(
        &self,
        client: &mut Client,
        call: &Call,
        business: impl AsyncFnOnce(&Transaction<'_>, &Known) -> Result<O, CallError>,
    ) -> Result<JsonText, CallError> {
        let begun = if rules::is_action(call)? { self.begin(client, call).await? } else { None };
        self.serve(client, call, Reach::Outside, begun, business).await
    }

    /// As [`Self::run`], for business whose effects are writes of its transaction **and nothing else**. They are rolled back unless the
    /// call succeeds, so no call is ever in doubt: an action that ended with [`CallError::Unknown`] or [`CallError::Ongoing`], or in the
    /// middle of which the process died, did nothing, and its compensation is empty. It costs one transaction less than [`Self::run`].
    ///
    /// # Errors
    /// As [`Self::run`]. A compensation of an action that [`Self::run`] left in doubt is an unknown outcome with
    /// [`IN_DOUBT`](super::IN_DOUBT).
    pub async fn run_local<O: Serialize>(
        &self,
        client: &mut Client,
        call: &Call,
        business: impl AsyncFnOnce(&Transaction<'_>) -> Result<O, CallError>,
    ) -> Result<JsonText, CallError> {
        self.serve(client, call, Reach::Local, None, async |txn: &Transaction<'_>, _: &Known| business(txn).await).await
    }

    /// What is recorded of a call, without running anything. A call's idempotency key, as logs show it, is read by `"…".parse()`.
    ///
    /// # Errors
    /// [`PostgresBarrierError`] when the database fails or the row cannot be read.
    pub async fn recorded(&self, client: &Client, call: &CallId) -> Result<Option<Recorded>, PostgresBarrierError> {
        Ok(self.rows.read(client, call).await?.map(|row| row.recorded))
    }

    /// Writes down what somebody has found out about the action of this call's step, whose row is gone or in doubt, for calls that end with
    /// [`SWEPT`](super::SWEPT):
    /// [`Recorded::Succeeded`] lets its compensation run, [`Recorded::Prevented`] makes it empty, [`Recorded::InDoubt`] lets it run in
    /// doubt. Replaces what is recorded of the action.
    ///
    /// # Errors
    /// [`PostgresBarrierError`] when the database fails; whether it is written is then not known.
    pub async fn resolve(&self, client: &mut Client, call: &CallId, action: Recorded) -> Result<(), PostgresBarrierError> {
        let id = call.clone().with_operation(Operation::Action);
        let (txn, _) = self.open(client, IsolationLevel::ReadCommitted, &id).await?;
        self.rows.write(&txn, &id, &Row { at_ms: (self.clock)(), recorded: action }).await?;
        Ok(txn.commit().await?)
    }

    /// A transaction that holds the lock on this row, and the row. Dropped without a commit, it is rolled back.
    async fn open<'c>(
        &self,
        client: &'c mut Client,
        isolation: IsolationLevel,
        row: &CallId,
    ) -> Result<(Transaction<'c>, Option<Row>), PostgresBarrierError> {
        let txn = client.build_transaction().isolation_level(isolation).start().await?;
        // At least a millisecond: 0 would wait for ever.
        let lock_timeout = self.lock_timeout.as_millis().max(1).to_string();
        let settings = [(&lock_timeout as _, Type::TEXT)];
        // Sent together: one round trip.
        let set = async { Ok(txn.query_typed_one(SETTINGS, &settings).await?) };
        let (_, row) = try_join(set, self.rows.lock(&txn, row)).await?;
        Ok((txn, row))
    }

    /// Records, in a commit of its own, that the action is in doubt from now on. The id of this run, if nothing was begun before it.
    async fn begin(&self, client: &mut Client, call: &Call) -> Result<Option<Uuid>, CallError> {
        let own = call.attempt.call();
        let (txn, row) = self.open(client, IsolationLevel::ReadCommitted, &own).await.map_err(storage)?;
        let Begin::Mark { is_first, unless_swept } = rules::begin(row.as_ref().map(|row| &row.recorded), call) else {
            return Ok(None);
        };
        if unless_swept {
            rules::refuse_swept(call, self.rows.watermark_ms(&txn, false).await.map_err(storage)?)?;
        }
        // A later run writes its own id: so an earlier one sees that it is not the only one any more.
        let run = Uuid::new_v4();
        let at_ms = rules::recorded_at_ms((self.clock)(), call, None);
        self.rows.write(&txn, &own, &Row { at_ms, recorded: Recorded::InDoubt { run } }).await.map_err(storage)?;
        txn.commit().await.map_err(database)?;
        Ok(is_first.then_some(run))
    }

    async fn serve<O: Serialize>(
        &self,
        client: &mut Client,
        call: &Call,
        reach: Reach,
        begun: Option<Uuid>,
        business: impl AsyncFnOnce(&Transaction<'_>, &Known) -> Result<O, CallError>,
    ) -> Result<JsonText, CallError> {
        rules::is_action(call)?;
        let action = call.attempt.call().with_operation(Operation::Action);
        let mut attempts = 0;
        loop {
            attempts += 1;
            let not_entered = match self.open(client, self.isolation, &action).await {
                Ok((txn, acted)) => match self.enter(&txn, call, reach, begun, acted).await {
                    Ok(entered) => return self.finish(txn, call, entered, business).await,
                    Err(not_entered) => not_entered,
                },
                Err(error) => NotEntered::Failed(error),
            };
            match not_entered {
                NotEntered::Answer(answer) => return Err(answer),
                // Nothing of the business has run: a transaction that began too early to see what others have committed begins anew.
                NotEntered::Failed(PostgresBarrierError::Database(error)) if is_retryable(&error) && attempts < LOCK_ATTEMPTS => {}
                NotEntered::Failed(error) => return Err(storage(error)),
            }
        }
    }

    /// Locks what else the call needs, and asks the rules.
    async fn enter(
        &self,
        txn: &Transaction<'_>,
        call: &Call,
        reach: Reach,
        begun: Option<Uuid>,
        acted: Option<Row>,
    ) -> Result<Entered, NotEntered> {
        let own = call.attempt.call();
        let is_action = own.operation == Operation::Action;
        let at_ms = rules::recorded_at_ms((self.clock)(), call, acted.as_ref().filter(|_| !is_action));
        let acted = acted.map(|row| row.recorded);
        let entry = if is_action {
            rules::action(acted, call, begun)
        } else {
            rules::compensation(acted, self.rows.lock(txn, &own).await?.map(|row| row.recorded), reach)
        };
        if matches!(entry, Entry::Empty { unless_swept: true } | Entry::Run { unless_swept: true, .. }) {
            let reads_by_one_snapshot = !matches!(self.isolation, IsolationLevel::ReadCommitted | IsolationLevel::ReadUncommitted);
            let watermark_ms = self.rows.watermark_ms(txn, reads_by_one_snapshot).await?;
            rules::refuse_swept(call, watermark_ms).map_err(NotEntered::Answer)?;
        }
        Ok(Entered { entry, at_ms })
    }

    async fn finish<O: Serialize>(
        &self,
        mut txn: Transaction<'_>,
        call: &Call,
        Entered { entry, at_ms }: Entered,
        business: impl AsyncFnOnce(&Transaction<'_>, &Known) -> Result<O, CallError>,
    ) -> Result<JsonText, CallError> {
        let own = call.attempt.call();
        let is_action = own.operation == Operation::Action;
        let exit = match entry {
            Entry::Answer(result) => return result,
            Entry::Empty { .. } => Exit::Succeed(JsonText::null()),
            Entry::Run { known, is_marked, .. } => {
                let savepoint = txn.savepoint("sagamq_business").await.map_err(database)?;
                let result = business(&savepoint, &known).await.and_then(|output| output_text(&output));
                let exit = if is_action { rules::action_exit(result, call, &known, is_marked) } else { rules::compensation_exit(result) };
                match exit {
                    // Fails if the business has gone on after a statement of it failed: then its writes are gone.
                    Exit::Succeed(_) => savepoint.commit().await.map_err(database)?,
                    Exit::Refuse(_) | Exit::Forget(_) => savepoint.rollback().await.map_err(database)?,
                    Exit::RollBack(error) => return Err(error),
                }
                exit
            }
        };
        let write = |recorded| Row { at_ms, recorded };
        let result = match exit {
            Exit::Succeed(output) => {
                if !is_action {
                    // Whatever was there is undone, and nothing will come. An action that is asked for again, as after a restored backup
                    // of the broker, must not read as done.
                    let action = own.clone().with_operation(Operation::Action);
                    self.rows.write(&txn, &action, &write(Recorded::Prevented)).await.map_err(storage)?;
                }
                self.rows.write(&txn, &own, &write(Recorded::Succeeded(output.clone()))).await.map_err(storage)?;
                Ok(output)
            }
            Exit::Refuse(failure) => {
                self.rows.write(&txn, &own, &write(Recorded::Refused(failure.clone()))).await.map_err(storage)?;
                Err(CallError::Refused(failure))
            }
            Exit::Forget(failure) => {
                self.rows.delete(&txn, &own).await.map_err(storage)?;
                Err(CallError::Refused(failure))
            }
            Exit::RollBack(error) => return Err(error),
        };
        // A failed commit may or may not have taken effect: the next call finds out.
        txn.commit().await.map_err(database)?;
        result
    }
}

fn storage(error: impl std::fmt::Display) -> CallError {
    CallError::unknown(STORAGE, error.to_string())
}

fn database(error: tokio_postgres::Error) -> CallError {
    storage(PostgresBarrierError::from(error))
}
