//! The database of a service, of either kind: each call's effect once, counted, and rows outside of calls.

use super::postgres::PostgresStore;
use super::rocks::RocksStore;
use super::telling::{Inbox, Told};
use super::{Effects, Oddity, Row, Rows, StoreError};
use sagamq_api::saga::{Call, Operation};
use sagamq_sdk::barrier::{COMPENSATED, Known, Recorded};
use sagamq_sdk::inbox::Once;
use sagamq_sdk::postgres::tokio_postgres::Config;
use sagamq_sdk::{CallError, Delivery, HandlerError, JsonText};
use serde_json::Value;
use std::cell::Cell;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// The database of a service. Every method blocks.
pub struct Database {
    backend: Backend,
    calls: AtomicU64,
    repeated: AtomicU64,
}

/// Where the rows lie.
pub(super) enum Backend {
    Rocks(RocksStore),
    Postgres(PostgresStore),
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Database")
    }
}

impl Database {
    pub(super) fn open(path: &Path, branch_calls: Effects) -> Result<Self, StoreError> {
        Ok(Self::on(Backend::Rocks(RocksStore::open(path, branch_calls)?)))
    }

    pub(super) async fn connect(config: &Config, service: &str, branch_calls: Effects) -> Result<Self, StoreError> {
        Ok(Self::on(Backend::Postgres(PostgresStore::open(config, service, branch_calls).await?)))
    }

    pub(super) const fn backend(&self) -> &Backend {
        &self.backend
    }

    const fn on(backend: Backend) -> Self {
        Self { backend, calls: AtomicU64::new(0), repeated: AtomicU64::new(0) }
    }

    /// Runs `effect`, which only changes rows, for `call` unless it ran before; then the first answer is given again. Durable when this
    /// returns.
    ///
    /// # Errors
    /// What `effect` says, or an unknown outcome when the database fails.
    pub fn once(&self, call: &Call, effect: impl FnOnce(&Rows<'_>, &Call) -> Result<Value, CallError>) -> Result<JsonText, CallError> {
        self.counted(call, |ran| {
            let effect = |rows: &Rows<'_>| {
                ran.set(true);
                effect(rows, call)
            };
            match &self.backend {
                Backend::Rocks(rocks) => rocks.once(call, effect),
                Backend::Postgres(postgres) => postgres.once(call, effect),
            }
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
        effect: impl FnOnce(&Rows<'_>, &Known) -> Result<Value, CallError>,
    ) -> Result<JsonText, CallError> {
        self.counted(call, |ran| {
            let effect = |rows: &Rows<'_>, known: &Known| {
                ran.set(true);
                effect(rows, known)
            };
            match &self.backend {
                Backend::Rocks(rocks) => rocks.once_outside(call, effect),
                Backend::Postgres(postgres) => postgres.once_outside(call, effect),
            }
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
        Ok(self.change(|rows| oddity.notice(rows, call))?)
    }

    pub(super) fn recorded(&self, call: &Call, operation: Operation) -> Result<Option<Recorded>, StoreError> {
        let id = call.attempt.call().with_operation(operation);
        match &self.backend {
            Backend::Rocks(rocks) => rocks.recorded(&id),
            Backend::Postgres(postgres) => postgres.recorded(&id),
        }
    }

    /// Changes rows outside of any call. Durable when this returns.
    ///
    /// # Errors
    /// [`StoreError`]; then nothing was changed.
    pub fn change<T, E: From<StoreError>>(&self, change: impl FnOnce(&Rows<'_>) -> Result<T, E>) -> Result<T, E> {
        self.change_and_tell(|rows| Ok((change(rows)?, Vec::new())))
    }

    /// Changes rows because of a record that was delivered, unless it was delivered and handled before. What the change has to tell is told
    /// if and only if it is committed. Durable when this returns.
    ///
    /// # Errors
    /// What `reaction` says, or a retry when the database fails; nothing was changed.
    pub fn react(
        &self,
        inbox: &Inbox,
        delivery: &Delivery,
        reaction: impl FnOnce(&Rows<'_>) -> Result<Vec<Told>, HandlerError>,
    ) -> Result<Once<()>, HandlerError> {
        let reacted = match &self.backend {
            Backend::Rocks(rocks) => rocks.react(inbox, delivery, reaction),
            Backend::Postgres(postgres) => postgres.react(inbox, delivery, reaction),
        }?;
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.repeated.fetch_add(u64::from(reacted == Once::Again), Ordering::Relaxed);
        Ok(reacted)
    }

    /// As [`Self::change`], with something to tell, which is told if and only if the change is committed.
    ///
    /// # Errors
    /// As [`Self::change`].
    pub fn change_and_tell<T, E: From<StoreError>>(&self, change: impl FnOnce(&Rows<'_>) -> Result<(T, Vec<Told>), E>) -> Result<T, E> {
        match &self.backend {
            Backend::Rocks(rocks) => rocks.change(change),
            Backend::Postgres(postgres) => postgres.change(change),
        }
    }

    /// One row.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn get<R: Row>(&self, id: &str) -> Result<Option<R>, StoreError> {
        let json = match &self.backend {
            Backend::Rocks(rocks) => rocks.get(R::TABLE, id)?,
            Backend::Postgres(postgres) => postgres.get(R::TABLE, id)?,
        };
        Ok(json.map(|json| serde_json::from_slice(&json)).transpose()?)
    }

    /// All rows of a kind with their ids.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn all<R: Row, C: FromIterator<(String, R)>>(&self) -> Result<C, StoreError> {
        let rows = match &self.backend {
            Backend::Rocks(rocks) => rocks.all(R::TABLE)?,
            Backend::Postgres(postgres) => postgres.all(R::TABLE)?,
        };
        rows.into_iter().map(|(id, json)| Ok((id, serde_json::from_slice(&json)?))).collect()
    }

    /// How often the database was synced since it was opened, if it is an embedded one: a server's syncs are not one database's.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        match &self.backend {
            Backend::Rocks(rocks) => rocks.syncs(),
            Backend::Postgres(_) => 0,
        }
    }

    /// Calls and events that were served since the process began, and how many of them were known from before and changed nothing.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        (self.calls.load(Ordering::Relaxed), self.repeated.load(Ordering::Relaxed))
    }
}
