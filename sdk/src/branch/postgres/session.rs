//! A connection with an open branch: who has it, and how it is given back or got rid of.

use super::rows::set_mark;
use crate::branch::BranchId;
use crate::postgres::said;
use deadpool_postgres::{Object, Pool};
use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::OwnedSemaphorePermit;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error, IsolationLevel};

/// A connection in whose transaction a branch runs.
pub(super) struct Session {
    /// Gone only when it is given back or dropped.
    object: Option<Object>,
    /// The server's process that serves it.
    pid: i32,
    /// One of the connections that branches may hold at once.
    _permit: OwnedSemaphorePermit,
}

impl Drop for Session {
    /// Closes a connection that was not given back, whatever state it is in: the pool must not get it with an open transaction. The server
    /// rolls back as soon as it notices.
    fn drop(&mut self) {
        drop(self.object.take().map(Object::take));
    }
}

/// The session of a branch, for the time of one handler: a [`Client`] in an open transaction, which the handler must neither commit nor roll
/// back.
///
/// Savepoints are made by `SAVEPOINT` and let go by `RELEASE`. `LISTEN`, `NOTIFY`, temporary tables and cursors `WITH HOLD` are not possible
/// in a transaction that is to be prepared.
pub struct PostgresSession {
    /// Gone only in `drop`.
    session: Option<Session>,
    back: Arc<Mutex<Option<Session>>>,
}

impl fmt::Debug for PostgresSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresSession").finish_non_exhaustive()
    }
}

impl Deref for PostgresSession {
    type Target = Client;

    fn deref(&self) -> &Client {
        self.session.as_ref().expect("it is given back when it is dropped").client()
    }
}

impl Drop for PostgresSession {
    fn drop(&mut self) {
        *self.back.lock().unwrap_or_else(PoisonError::into_inner) = self.session.take();
    }
}

/// Where a session that was lent to a handler comes back.
pub(super) struct Lent(Arc<Mutex<Option<Session>>>);

impl Lent {
    /// The session; `None` if the handler has kept it.
    pub(super) fn back(self) -> Option<Session> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Session {
    /// Begins a branch's transaction over a connection of the pool.
    pub(super) async fn begin(
        object: Object,
        permit: OwnedSemaphorePermit,
        id: &BranchId,
        isolation: IsolationLevel,
        lock_timeout_ms: u128,
    ) -> Result<Self, Error> {
        let level = match isolation {
            IsolationLevel::Serializable => "SERIALIZABLE",
            IsolationLevel::RepeatableRead => "REPEATABLE READ",
            _ => "READ COMMITTED",
        };
        let set = format!("SET LOCAL lock_timeout = {lock_timeout_ms}; {}", set_mark(id));
        let begin = format!("BEGIN ISOLATION LEVEL {level} READ WRITE; {set}");
        let mut session = Self { object: Some(object), pid: 0, _permit: permit };
        session.client().batch_execute(&begin).await?;
        // The commit of a branch that skips the vote must be on disk when it is answered.
        let query = "SELECT pg_backend_pid(), CASE current_setting('synchronous_commit') \
                     WHEN 'off' THEN set_config('synchronous_commit', 'on', true) END";
        let pid = session.client().query_typed_one(query, &[]).await?.get(0);
        session.pid = pid;
        Ok(session)
    }

    pub(super) fn client(&self) -> &Client {
        self.object.as_ref().expect("it has its connection until it is given back")
    }

    /// Lends it to a handler.
    pub(super) fn lend(self) -> (PostgresSession, Lent) {
        let back = Arc::new(Mutex::new(None));
        (PostgresSession { session: Some(self), back: Arc::clone(&back) }, Lent(back))
    }

    /// Gives the connection back to the pool: its transaction is over.
    pub(super) fn release(mut self) {
        drop(self.object.take());
    }

    /// Rolls back, and gives the connection back if that is heard to be done.
    pub(super) async fn roll_back(self) {
        if self.client().batch_execute("ROLLBACK").await.is_ok() {
            self.release();
        }
    }

    /// Rolls back also where a statement is running, perhaps waiting for a lock: the server's process is ended by way of another connection,
    /// since it does not look at its own before its statement ends.
    pub(super) async fn cut(self, pool: &Pool) {
        match pool.get().await {
            Ok(other) => {
                let ended = other.query_typed("SELECT pg_terminate_backend($1)", &[(&self.pid, Type::INT4)]).await;
                if let Err(error) = ended {
                    tracing::warn!(
                        pid = self.pid,
                        error = said(&error),
                        "the session of a branch could not be ended; its locks stay until its statement ends"
                    );
                }
            }
            Err(error) => {
                tracing::warn!(pid = self.pid, %error, "the session of a branch could not be ended; its locks stay until its statement ends");
            }
        }
    }
}
