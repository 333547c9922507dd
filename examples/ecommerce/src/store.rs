//! The database of a service: an embedded RocksDB of its own, and the barrier that makes each call's effect happen once.
//!
//! A call's effect and the record that it happened are ONE transaction with one synced commit. A call that comes again (its reply
//! was lost, the service was killed, the broker was) finds the record and gets the first answer; nothing happens twice.
//!
//! [`Store`] is what async code holds. It hands the [`Database`], whose every method waits for locks and the disk, only to closures
//! that run on threads of their own: there is no way to sync or to scan on a thread that serves requests.

use rocksdb::{Direction, IteratorMode, Options, SingleThreaded, Transaction, TransactionDB, TransactionDBOptions, WriteOptions};
use sagamq_api::saga::{Call, Operation};
use sagamq_sdk::barrier::{BarrierError, COMPENSATED, Known, Recorded, RocksBarrier};
use sagamq_sdk::{CallError, JsonText};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

type Rocks = TransactionDB<SingleThreaded>;

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
    /// The database failed, or another transaction held a lock for too long.
    #[error("the database failed: {0}")]
    Database(#[from] rocksdb::Error),
    /// A row is not what its type says.
    #[error("a row cannot be read: {0}")]
    Row(#[from] serde_json::Error),
}

/// A call that took another way than "it came, it ran, it was answered", as it is kept for the books.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Oddity {
    /// A payment of unknown outcome that was looked up at the provider.
    LookedUp,
    /// A payment whose outcome stayed unknown for this attempt.
    LeftInDoubt,
    /// A compensation whose action never took effect: there was nothing to undo.
    EmptyCompensation,
    /// An action that came after its compensation, and took no effect.
    LateAction,
}

/// That an [`Oddity`] occurred to a call. Its id is the call's key and the oddity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Noticed {
    /// What.
    pub oddity: Oddity,
}

impl Row for Noticed {
    const TABLE: &'static str = "noticed";
}

/// The database of a service, for async code. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store(Arc<Database>);

impl Store {
    /// Opens the database in `path`, or makes it.
    ///
    /// # Errors
    /// [`StoreError::Open`], for example when another process has it open.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Ok(Self(Arc::new(Database::open(path)?)))
    }

    /// Runs `work` on a thread that may block.
    ///
    /// # Panics
    /// When `work` does.
    pub async fn with<T: Send + 'static>(&self, work: impl FnOnce(&Database) -> T + Send + 'static) -> T {
        let database = Arc::clone(&self.0);
        match tokio::task::spawn_blocking(move || work(&database)).await {
            Ok(done) => done,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // Only when the runtime ends; then nobody is there to be answered.
                Err(_) => std::future::pending().await,
            },
        }
    }

    /// [`Database::once`] for async code.
    ///
    /// # Errors
    /// As [`Database::once`].
    pub async fn once(
        &self,
        call: Call,
        effect: impl FnOnce(&Rows<'_, '_>, &Call) -> Result<Value, CallError> + Send + 'static,
    ) -> Result<JsonText, CallError> {
        self.with(move |database| database.once(&call, effect)).await
    }

    /// Whether the compensation of this action is recorded. A database that does not answer does not say so.
    pub async fn overtaken(&self, action: &Call) -> bool {
        let call = action.clone();
        self.with(move |database| database.recorded(&call, Operation::Compensation)).await.is_ok_and(|recorded| recorded.is_some())
    }
}

/// The database of a service. Every method blocks.
pub struct Database {
    rocks: Rocks,
    barrier: RocksBarrier,
    calls: AtomicU64,
    repeated: AtomicU64,
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Database").field("path", &self.rocks.path()).finish_non_exhaustive()
    }
}

impl Database {
    fn open(path: &Path) -> Result<Self, StoreError> {
        let mut options = Options::default();
        options.create_if_missing(true);
        let rocks = Rocks::open(&options, &TransactionDBOptions::default(), path)
            .map_err(|source| StoreError::Open { path: path.to_owned(), source })?;
        Ok(Self { rocks, barrier: RocksBarrier::new(), calls: AtomicU64::new(0), repeated: AtomicU64::new(0) })
    }

    /// Runs `effect`, which only changes rows, for `call` unless it ran before; then the first answer is given again. Durable when this
    /// returns.
    ///
    /// # Errors
    /// What `effect` says, or an unknown outcome when the database fails.
    pub fn once(&self, call: &Call, effect: impl FnOnce(&Rows<'_, '_>, &Call) -> Result<Value, CallError>) -> Result<JsonText, CallError> {
        self.counted(call, |ran| {
            self.barrier.run_local(&self.rocks, call, |transaction| {
                ran.set(true);
                effect(&Rows(transaction), call)
            })
        })
    }

    /// As [`Self::once`], for an effect that reaches beyond the rows, to another company's system for example. Before it begins, the
    /// database knows that its outcome is in doubt; the compensation then runs too, whatever was killed in between.
    ///
    /// # Errors
    /// As [`Self::once`].
    pub fn once_outside(
        &self,
        call: &Call,
        effect: impl FnOnce(&Rows<'_, '_>, &Known) -> Result<Value, CallError>,
    ) -> Result<JsonText, CallError> {
        self.counted(call, |ran| {
            self.barrier.run(&self.rocks, call, |transaction, known| {
                ran.set(true);
                effect(&Rows(transaction), known)
            })
        })
    }

    /// Counts a call, and notices if it did not run for a rare reason.
    fn counted(&self, call: &Call, run: impl FnOnce(&Cell<bool>) -> Result<JsonText, CallError>) -> Result<JsonText, CallError> {
        let was_answered = matches!(self.recorded(call, call.attempt.operation)?, Some(Recorded::Succeeded(_) | Recorded::Refused(_)));
        let ran = Cell::new(false);
        let result = run(&ran);
        self.calls.fetch_add(1, Ordering::Relaxed);
        if !ran.get() {
            self.repeated.fetch_add(u64::from(was_answered), Ordering::Relaxed);
            match (call.attempt.operation, &result) {
                (Operation::Compensation, Ok(_)) if !was_answered => self.notice(call, Oddity::EmptyCompensation)?,
                (Operation::Action, Err(CallError::Refused(failure))) if failure.code == COMPENSATED => {
                    self.notice(call, Oddity::LateAction)?;
                }
                _ => {}
            }
        }
        result
    }

    /// Keeps that a call did not run for a rare reason. Told again for each repetition, which changes nothing.
    ///
    /// # Errors
    /// An unknown outcome when the database fails.
    pub fn notice(&self, call: &Call, oddity: Oddity) -> Result<(), CallError> {
        tracing::info!(order = call.key, step = %call.attempt.step, operation = %call.attempt.operation, ?oddity, "noticed");
        Ok(self.change(|rows| rows.put(&format!("{}/{oddity:?}", call.idempotency_key), &Noticed { oddity }))?)
    }

    fn recorded(&self, call: &Call, operation: Operation) -> Result<Option<Recorded>, BarrierError> {
        self.barrier.recorded(&self.rocks, &call.attempt.call().with_operation(operation))
    }

    /// Changes rows outside of any saga. Durable when this returns.
    ///
    /// # Errors
    /// [`StoreError`]; then nothing was changed.
    pub fn change<T, E: From<StoreError>>(&self, change: impl FnOnce(&Rows<'_, '_>) -> Result<T, E>) -> Result<T, E> {
        let mut options = WriteOptions::default();
        options.set_sync(true);
        let transaction = self.rocks.transaction_opt(&options, &rocksdb::TransactionOptions::default());
        let changed = change(&Rows(&transaction))?;
        transaction.commit().map_err(StoreError::from)?;
        Ok(changed)
    }

    /// One row.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn get<R: Row>(&self, id: &str) -> Result<Option<R>, StoreError> {
        Ok(self.rocks.get(key::<R>(id))?.map(|bytes| serde_json::from_slice(&bytes)).transpose()?)
    }

    /// All rows of a table with their ids.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn all<R: Row, C: FromIterator<(String, R)>>(&self) -> Result<C, StoreError> {
        let prefix = key::<R>("");
        let rows = self.rocks.iterator(IteratorMode::From(&prefix, Direction::Forward));
        let within = rows.take_while(|row| row.as_ref().map_or(true, |(key, _)| key.starts_with(&prefix)));
        within
            .map(|row| {
                let (key, value) = row?;
                Ok((String::from_utf8_lossy(&key[prefix.len()..]).into_owned(), serde_json::from_slice(&value)?))
            })
            .collect()
    }

    /// Calls that were served since the process began, and how many of them were known from before and changed nothing.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        (self.calls.load(Ordering::Relaxed), self.repeated.load(Ordering::Relaxed))
    }
}

/// The rows of a service inside one transaction.
pub struct Rows<'t, 'db>(&'t Transaction<'db, Rocks>);

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
/// Unknown with `INVALID_ARGUMENTS`, and not refused: a refusal is an answer of the business that is recorded and given for ever,
/// while arguments that cannot be read are a fault of the definition or of this service. Up to the pivot the attempts run out and the
/// saga is undone; behind it the calls go on, visibly, until a mended service takes them.
pub fn arguments<T: DeserializeOwned>(call: &Call) -> Result<T, CallError> {
    call.arguments
        .read()
        .map_err(|error| CallError::unknown("INVALID_ARGUMENTS", format!("`{}` does not take these arguments: {error}", call.call)))
}

/// What the tests of the services share: a database in a directory of its own, and calls as the orchestrator makes them.
#[cfg(test)]
pub(crate) mod testing {
    use super::*;
    use sagamq_api::PartitionId;
    use sagamq_api::saga::AttemptId;
    use uuid::Uuid;

    pub(crate) fn store() -> (tempfile::TempDir, Database) {
        let directory = tempfile::tempdir().expect("a directory");
        let store = Database::open(directory.path()).expect("a new database");
        (directory, store)
    }

    /// A call of the saga with number `instance`.
    pub(crate) fn call(instance: u128, step: &str, operation: Operation, name: &str, arguments: Value) -> Call {
        let (instance, step) = (Uuid::from_u128(instance), step.parse().expect("a step id"));
        let attempt = AttemptId { instance, step, item: None, operation, epoch: 1 };
        Call {
            idempotency_key: attempt.call().to_string(),
            attempt,
            saga: "checkout".parse().expect("a name"),
            version: 1,
            key: "o-1".to_owned(),
            call: name.to_owned(),
            must_succeed: operation == Operation::Compensation,
            started_at_ms: 0,
            deadline_ms: u64::MAX,
            timeout_ms: 30_000,
            arguments: arguments.into(),
            action_output: None,
            reply_partition: PartitionId(0),
        }
    }

    /// The code of a refusal.
    pub(crate) fn code(result: Result<JsonText, CallError>) -> String {
        match result.expect_err("a refusal") {
            CallError::Refused(failure) => failure.code,
            other => panic!("{other} is no refusal"),
        }
    }

    /// The code of an outcome that is not known.
    pub(crate) fn doubt(result: Result<JsonText, CallError>) -> String {
        match result.expect_err("a doubt") {
            CallError::Unknown { failure, .. } => failure.code,
            other => panic!("{other} is no doubt"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{call, code, doubt, store};
    use super::*;
    use sagamq_api::saga::Operation::{Action, Compensation};
    use serde_json::json;
    use std::collections::BTreeMap;

    fn count_it(rows: &Rows<'_, '_>, call: &Call) -> Result<Value, CallError> {
        #[derive(Deserialize)]
        struct Arguments {
            by: u64,
        }
        let Arguments { by } = arguments(call)?;
        let counted = rows.lock::<Counted>("it")?.map_or(0, |counted| counted.0) + by;
        rows.put("it", &Counted(counted))?;
        Ok(json!(counted))
    }

    #[derive(Serialize, Deserialize)]
    struct Counted(u64);

    impl Row for Counted {
        const TABLE: &'static str = "counted";
    }

    #[test]
    fn arguments_that_cannot_be_read_are_never_a_recorded_refusal_so_a_mended_definition_goes_on() {
        let (_directory, store) = store();
        let broken = call(1, "count", Action, "count", json!({ "by": "two" }));
        assert_eq!(doubt(store.once(&broken, count_it)), "INVALID_ARGUMENTS");
        let mended = call(1, "count", Action, "count", json!({ "by": 2 }));
        assert_eq!(store.once(&mended, count_it), Ok(json!(2).into()));
    }

    #[test]
    fn what_came_in_the_wrong_order_is_noticed_once() {
        let (_directory, store) = store();
        let undo = call(1, "count", Compensation, "uncount", json!({ "by": 2 }));
        for _ in 0..2 {
            assert_eq!(store.once(&undo, |_, _| panic!("there is nothing to undo")), Ok(JsonText::null()));
        }
        let action = call(1, "count", Action, "count", json!({ "by": 2 }));
        assert_eq!(code(store.once(&action, count_it)), COMPENSATED);
        let noticed: BTreeMap<String, Noticed> = store.all().expect("readable");
        let noticed: Vec<Oddity> = noticed.into_values().map(|noticed| noticed.oddity).collect();
        assert_eq!(noticed, [Oddity::LateAction, Oddity::EmptyCompensation]);
    }
}
