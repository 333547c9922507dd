//! Branches on PostgreSQL: a branch is one transaction over one connection, prepared by `PREPARE TRANSACTION`.

mod builder;
mod decide;
mod rows;
mod session;
mod slot;
mod vote;
mod work;

use super::{BRANCH_STORAGE, BranchError, BranchId, BranchManager, Branching, InDoubt, Vote};
use crate::postgres::said;
use crate::worker::CallError;
use builder::Settings;
pub use builder::{PostgresBranchesBuilder, PostgresBranchesError};
use deadpool_postgres::{Object, Pool};
use rows::Rows;
use sagamq_api::JsonText;
use sagamq_api::saga::Call;
pub use session::PostgresSession;
use slot::Slot;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;
use work::Handler;

/// The branches of one service in a PostgreSQL database: a resource manager of two-phase commit.
///
/// The first call of a branch takes a connection of the pool and begins a transaction, in which the handlers of all calls of the branch run.
/// `PREPARE TRANSACTION` ends that: the connection goes back to the pool, and the branch survives crashes of service and server until the
/// decision is heard, over any connection and in any process. Needs `max_prepared_transactions` above 0.
///
/// | what goes wrong | what follows |
/// |---|---|
/// | a handler refuses, fails, panics, or takes longer than its call may | the branch is rolled back and its connection is free |
/// | nothing is heard of an open branch | it is rolled back after a while ([`PostgresBranchesBuilder::idle_timeout`]) |
/// | this process dies before the vote | the server rolls back; the transaction is aborted, since the work is lost |
/// | it dies behind the vote | the branch stays prepared; a resolver ends it |
/// | it dies in a commit in one phase | whoever asks again is told the truth: see [`BranchManager::commit_one_phase`] |
///
/// ```no_run
/// use sagamq_sdk::branch::postgres::PostgresBranches;
/// use sagamq_sdk::postgres::deadpool_postgres::{Manager, Pool};
/// use sagamq_sdk::postgres::tokio_postgres::{Config, NoTls};
/// use sagamq_sdk::{Call, CallError};
/// use serde_json::json;
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let config: Config = "host=127.0.0.1 user=inventory dbname=inventory".parse()?;
/// // A pool of its own: one that others use as well could run dry while branches wait for each other.
/// let pool = Pool::builder(Manager::new(config, NoTls)).max_size(32).build()?;
/// let branches = PostgresBranches::builder("inventory", pool)
///     .on("reserve", |db, _call: Call| async move {
///         let update = "UPDATE stock SET reserved = reserved + 1 WHERE sku = 'a' AND reserved < 10";
///         if db.execute(update, &[]).await? == 0 {
///             return Err(CallError::refused("OUT_OF_STOCK", "none left"));
///         }
///         Ok(json!({ "reserved": 1 }))
///     })
///     .start()
///     .await?;
/// # drop(branches);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct PostgresBranches {
    inner: Arc<Inner>,
}

struct Inner {
    name: String,
    pool: Pool,
    /// One for each branch that may be open: fewer than there are connections, so that a decision always finds one. A decision lets locks
    /// go, and open branches wait for locks.
    open: Arc<Semaphore>,
    rows: Rows,
    handlers: BTreeMap<String, Handler>,
    settings: Settings,
    slots: Mutex<HashMap<BranchId, Arc<Slot>>>,
}

impl fmt::Debug for PostgresBranches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresBranches")
            .field("name", &self.inner.name)
            .field("calls", &self.inner.handlers.keys())
            .finish_non_exhaustive()
    }
}

impl PostgresBranches {
    /// Deletes the rows of branches that ended longer ago than this; returns how many those were. A decision that is told again later than
    /// that finds no row and is refused as `BRANCH_UNKNOWN`, and somebody has to look: so keep them for longer than a coordinator may be
    /// away.
    ///
    /// # Errors
    /// [`BranchError::Unknown`] when the database fails.
    pub async fn sweep(&self, older_than: Duration) -> Result<u64, BranchError> {
        let client = self.inner.connection().await?;
        self.inner.rows.sweep(&client, older_than.as_secs_f64()).await.map_err(|error| storage(&error))
    }
}

impl BranchManager for PostgresBranches {
    fn work(&self, call: Call) -> Branching<'_, Result<JsonText, CallError>> {
        let inner = Arc::clone(&self.inner);
        go_on(inner.work(call), |reason| Err(CallError::unknown(BRANCH_STORAGE, reason)))
    }

    fn prepare<'a>(&'a self, branch: &'a BranchId, actions_done: u32) -> Branching<'a, Result<Vote, BranchError>> {
        let (inner, id) = (Arc::clone(&self.inner), branch.clone());
        go_on(async move { inner.prepare(&id, actions_done).await }, lost)
    }

    fn commit<'a>(&'a self, branch: &'a BranchId) -> Branching<'a, Result<(), BranchError>> {
        let (inner, id) = (Arc::clone(&self.inner), branch.clone());
        go_on(async move { inner.commit(&id).await }, lost)
    }

    fn rollback<'a>(&'a self, branch: &'a BranchId) -> Branching<'a, Result<(), BranchError>> {
        let (inner, id) = (Arc::clone(&self.inner), branch.clone());
        go_on(async move { inner.rollback(&id).await }, lost)
    }

    fn commit_one_phase<'a>(&'a self, branch: &'a BranchId, actions_done: u32) -> Branching<'a, Result<(), BranchError>> {
        let (inner, id) = (Arc::clone(&self.inner), branch.clone());
        go_on(async move { inner.commit_one_phase(&id, actions_done).await }, lost)
    }

    fn in_doubt(&self) -> Branching<'_, Result<Vec<InDoubt>, BranchError>> {
        Box::pin(async {
            let client = self.inner.connection().await?;
            rows::prepared(&client, &self.inner.name).await.map_err(|error| storage(&error))
        })
    }
}

impl Inner {
    /// A connection for a decision or a question.
    async fn connection(&self) -> Result<Object, BranchError> {
        self.pool.get().await.map_err(|error| BranchError::unknown(BRANCH_STORAGE, format!("no connection could be had: {error}")))
    }

    /// What is remembered of a branch.
    fn slot(&self, id: &BranchId) -> Arc<Slot> {
        Arc::clone(self.slots.lock().unwrap_or_else(PoisonError::into_inner).entry(id.clone()).or_default())
    }

    /// Forgets a branch: what became of it, the database knows.
    fn forget(&self, id: &BranchId, slot: &Arc<Slot>) {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.get(id).is_some_and(|held| Arc::ptr_eq(held, slot)) {
            slots.remove(id);
        }
    }
}

/// In a task of its own, so that it goes on if nobody waits for it any more.
fn go_on<T: Send + 'static>(verb: impl Future<Output = T> + Send + 'static, lost: fn(String) -> T) -> Branching<'static, T> {
    Box::pin(async move { tokio::spawn(verb).await.unwrap_or_else(|error| lost(format!("it was broken off: {error}"))) })
}

fn lost<T>(reason: String) -> Result<T, BranchError> {
    Err(BranchError::unknown(BRANCH_STORAGE, reason))
}

fn storage(error: &tokio_postgres::Error) -> BranchError {
    BranchError::unknown(BRANCH_STORAGE, said(error))
}
