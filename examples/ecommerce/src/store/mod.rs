//! The database of a service, RocksDB or PostgreSQL, and the barrier that makes each call's effect happen once.
//!
//! A call's effect and the record that it happened are ONE transaction with one synced commit. A call that comes again (its reply
//! was lost, the service was killed, the broker was) finds the record and gets the first answer; nothing happens twice.
//!
//! [`Store`] is what async code holds. It hands the [`Database`], whose every method waits for locks and the disk, only to closures
//! that run on threads of their own: there is no way to sync or to scan on a thread that serves requests.

mod database;
mod oddity;
mod postgres;
mod rocks;
mod rows;
mod telling;
#[cfg(test)]
pub(crate) mod testing;

pub use database::Database;
pub use oddity::{Noticed, Oddity};
pub use rows::{Row, Rows};
pub use telling::{Inbox, Told};

use database::Backend;
use sagamq_api::saga::{Call, Operation};
use sagamq_sdk::branch::BranchManager;
use sagamq_sdk::postgres::MigrateError;
use sagamq_sdk::postgres::deadpool_postgres::{BuildError, PoolError};
use sagamq_sdk::postgres::tokio_postgres::{self, Config};
use sagamq_sdk::trace::carried;
use sagamq_sdk::{CallError, CancellationToken, Client, JsonText};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a call does to a service's rows. Refusing undoes what it wrote; any other error does too, and leaves the outcome open.
pub type Effect = fn(&Rows<'_>, &Call) -> Result<Value, CallError>;

/// Effects by the name of the call.
pub type Effects = &'static [(&'static str, Effect)];

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
    /// PostgreSQL failed, refused, or another transaction held a lock for too long.
    #[error("PostgreSQL failed: {}", said(.0))]
    Postgres(#[from] tokio_postgres::Error),
    /// No connection to PostgreSQL was had.
    #[error("there is no connection to PostgreSQL: {0}")]
    Connection(#[from] PoolError),
    /// The connections cannot be set up.
    #[error("the connections to PostgreSQL cannot be set up: {0}")]
    Pool(#[from] BuildError),
    /// The SDK's tables cannot be made.
    #[error("{0}")]
    Migrate(#[from] MigrateError),
    /// Its branches do not answer.
    #[error("the branches failed: {0}")]
    Branches(String),
    /// The barrier's rows cannot be read.
    #[error("{0}")]
    Barrier(String),
    /// What is to be told cannot be written.
    #[error("the outbox failed: {0}")]
    Outbox(String),
    /// A row is not what its type says.
    #[error("a row cannot be read: {0}")]
    Row(#[from] serde_json::Error),
}

impl StoreError {
    /// What an outbox says, with the cause.
    fn outbox(error: &dyn std::error::Error) -> Self {
        Self::Outbox(error.source().map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}")))
    }
}

/// What PostgreSQL says of an error; its own text alone is only "db error".
fn said(error: &tokio_postgres::Error) -> String {
    error.as_db_error().map_or_else(|| error.to_string(), ToString::to_string)
}

/// The database of a service, for async code. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store(Arc<Database>);

impl Store {
    /// Opens the embedded database in `path`, or makes it. Transactions can call it for `branch_calls`.
    ///
    /// # Errors
    /// [`StoreError::Open`], for example when another process has it open.
    pub fn open(path: &Path, branch_calls: Effects) -> Result<Self, StoreError> {
        Ok(Self(Arc::new(Database::open(path, branch_calls)?)))
    }

    /// Connects to a database of PostgreSQL, and makes what is missing in it. Transactions can call `service` for `branch_calls`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn connect(config: &Config, service: &str, branch_calls: Effects) -> Result<Self, StoreError> {
        Ok(Self(Arc::new(Database::connect(config, service, branch_calls).await?)))
    }

    /// The branches of transactions in this database.
    #[must_use]
    pub fn branches(&self) -> Arc<dyn BranchManager> {
        match self.0.backend() {
            Backend::Rocks(rocks) => Arc::new(rocks.branches().clone()),
            Backend::Postgres(postgres) => Arc::new(postgres.branches().clone()),
        }
    }

    /// Returns, with the reason, when only an open of the database can find out what became of a branch.
    pub async fn failed(&self) -> String {
        match self.0.backend() {
            Backend::Rocks(rocks) => rocks.branches().failed().await,
            // The server goes on by itself.
            Backend::Postgres(_) => std::future::pending().await,
        }
    }

    /// Produces what the database's transactions have to tell, until `shutdown`.
    pub async fn pump(&self, client: Client, shutdown: CancellationToken) {
        match self.0.backend() {
            Backend::Rocks(rocks) => rocks.outbox().pump(client).run(shutdown).await,
            Backend::Postgres(postgres) => postgres.pump(client).run(shutdown).await,
        }
    }

    /// Runs `work` on a thread that may block.
    ///
    /// # Panics
    /// When `work` does.
    pub async fn with<T: Send + 'static>(&self, work: impl FnOnce(&Database) -> T + Send + 'static) -> T {
        let database = Arc::clone(&self.0);
        match tokio::task::spawn_blocking(carried(move || work(&database))).await {
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
        effect: impl FnOnce(&Rows<'_>, &Call) -> Result<Value, CallError> + Send + 'static,
    ) -> Result<JsonText, CallError> {
        self.with(move |database| database.once(&call, effect)).await
    }

    /// Whether the compensation of this action is recorded. A database that does not answer does not say so.
    pub async fn overtaken(&self, action: &Call) -> bool {
        let call = action.clone();
        self.with(move |database| database.recorded(&call, Operation::Compensation)).await.is_ok_and(|recorded| recorded.is_some())
    }
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

#[cfg(test)]
mod tests {
    use super::testing::{call, code, doubt, store};
    use super::*;
    use sagamq_api::saga::Operation::{Action, Compensation};
    use sagamq_sdk::barrier::COMPENSATED;
    use serde::{Deserialize, Serialize};
    use serde_json::json;
    use std::collections::BTreeMap;

    fn count_it(rows: &Rows<'_>, call: &Call) -> Result<Value, CallError> {
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
