//! Building the branches of a service, and the questions that the server must answer first.

use super::rows::Rows;
use super::work::Handler;
use super::{Inner, PostgresBranches, PostgresSession};
use crate::branch::{BranchId, BranchIdError};
use crate::postgres::{PostgresSchema, said};
use crate::worker::{CallError, handled};
use deadpool_postgres::{Pool, PoolError};
use sagamq_api::saga::Call;
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio_postgres::{Error, IsolationLevel};
use uuid::Uuid;

/// Most connections that are kept free of open branches.
const RESERVE_MAX: usize = 8;

/// What may be chosen.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) isolation: IsolationLevel,
    pub(super) lock_timeout: Duration,
    pub(super) idle_timeout: Duration,
}

/// Builds [`PostgresBranches`].
#[must_use = "a builder does nothing until `start`"]
pub struct PostgresBranchesBuilder {
    name: String,
    pool: Pool,
    schema: PostgresSchema,
    settings: Settings,
    handlers: BTreeMap<String, Handler>,
}

/// Why the branches cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum PostgresBranchesError {
    /// The server prepares no transactions.
    #[error(
        "max_prepared_transactions is 0 on the PostgreSQL server, so it cannot take part in two-phase commit: set it to {wanted} or more \
         (as many as branches may be in doubt at once) in postgresql.conf and restart the server"
    )]
    PreparedTransactionsDisabled {
        /// What would do for the given pool.
        wanted: usize,
    },
    /// A decision would have to wait for an open branch that waits for the decision.
    #[error("the pool has {found} connections, and branches need one and decisions another: give it 2 or more")]
    PoolTooSmall {
        /// What the pool has.
        found: usize,
    },
    /// The branch cannot have this name.
    #[error(transparent)]
    Name(#[from] BranchIdError),
    /// No connection could be had.
    #[error("no connection to PostgreSQL could be had")]
    Pool(#[from] PoolError),
    /// The database refused.
    #[error("{}", said(.0))]
    Database(Error),
}

impl fmt::Debug for PostgresBranchesBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresBranchesBuilder").field("name", &self.name).field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl PostgresBranches {
    /// The branches of the service of this name, over connections of this pool, which nobody else should use. A quarter of them, at least
    /// one and at most eight, are kept for decisions; each of the others may hold one open branch.
    pub fn builder(service: impl Into<String>, pool: Pool) -> PostgresBranchesBuilder {
        PostgresBranchesBuilder {
            name: service.into(),
            pool,
            schema: PostgresSchema::default(),
            settings: Settings {
                isolation: IsolationLevel::ReadCommitted,
                lock_timeout: Duration::from_secs(5),
                idle_timeout: Duration::from_secs(30),
            },
            handlers: BTreeMap::new(),
        }
    }
}

impl PostgresBranchesBuilder {
    /// Registers the handler of an operation of the service: what a definition names in `call`. A second handler of the same name replaces the
    /// first. It works through the session that it is given and returns when its work is done; what it writes becomes visible, with all that
    /// the transaction does elsewhere, when that is committed.
    ///
    /// A handler that does not succeed ends its branch: nothing of the branch takes effect.
    pub fn on<H, F, O>(mut self, call: impl Into<String>, handler: H) -> Self
    where
        H: Fn(PostgresSession, Call) -> F + Send + Sync + 'static,
        F: Future<Output = Result<O, CallError>> + Send + 'static,
        O: Serialize + Send,
    {
        self.handlers.insert(call.into(), Box::new(move |session, call| handled(handler(session, call))));
        self
    }

    /// Where the table of branches lies (default `sagamq`), made by [`PostgresSchema::migrate`].
    pub fn schema(mut self, schema: PostgresSchema) -> Self {
        self.schema = schema;
        self
    }

    /// The isolation of the branches' transactions (default: read committed, whatever the server's default is).
    pub fn isolation(mut self, isolation: IsolationLevel) -> Self {
        self.settings.isolation = isolation;
        self
    }

    /// How long a statement of a handler waits for a lock (default 5 s). Branches of two transactions may wait for each other across services,
    /// where no database sees the circle: this ends it.
    pub fn lock_timeout(mut self, timeout: Duration) -> Self {
        self.settings.lock_timeout = timeout;
        self
    }

    /// How long an open branch may hear nothing before it is rolled back (default 30 s, and never less than its last call's own timeout): its
    /// coordinator or its network is gone. A prepared branch never expires.
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.settings.idle_timeout = timeout;
        self
    }

    /// Looks whether the server can prepare transactions and the table is there. Warns if fewer can be prepared than the pool has
    /// connections.
    ///
    /// # Errors
    /// [`PostgresBranchesError`] says what to do.
    pub async fn start(self) -> Result<PostgresBranches, PostgresBranchesError> {
        BranchId::new(Uuid::nil(), Uuid::nil(), self.name.as_str())?;
        let connections = self.pool.status().max_size;
        if connections < 2 {
            return Err(PostgresBranchesError::PoolTooSmall { found: connections });
        }
        let rows = Rows::new(&self.schema);
        let client = self.pool.get().await?;
        let query = "SELECT current_setting('max_prepared_transactions')::bigint";
        let most: i64 = client.query_typed_one(query, &[]).await.map_err(PostgresBranchesError::Database)?.get(0);
        let most = usize::try_from(most).unwrap_or(0);
        if most == 0 {
            return Err(PostgresBranchesError::PreparedTransactionsDisabled { wanted: connections });
        }
        if most < connections {
            tracing::warn!(
                max_prepared_transactions = most,
                connections,
                "PostgreSQL can keep fewer prepared transactions than the pool has connections: votes are refused when they are used up. Set \
                 max_prepared_transactions to the pools' connections of all services together, and restart the server"
            );
        }
        rows.check(&client).await.map_err(PostgresBranchesError::Database)?;
        drop(client);
        let reserve = (connections / 4).clamp(1, RESERVE_MAX);
        let inner = Inner {
            name: self.name,
            pool: self.pool,
            open: Arc::new(Semaphore::new(connections - reserve)),
            rows,
            handlers: self.handlers,
            settings: self.settings,
            slots: Mutex::new(HashMap::new()),
        };
        Ok(PostgresBranches { inner: Arc::new(inner) })
    }
}
