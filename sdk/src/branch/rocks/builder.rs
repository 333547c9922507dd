//! How [`RocksBranches`] are set up and opened.

use super::owner::{Owner, Settings};
use super::recovery::{Families, recover};
use super::row::BranchRowError;
use super::workers::mark_as_ours;
use super::{BranchDb, BranchTransaction, Ending, RocksBranches};
use crate::worker::{CallError, output_text};
use ::rocksdb::Error;
use sagamq_api::JsonText;
use sagamq_api::saga::Call;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, mpsc};
use std::time::Duration;
use tokio::sync::watch;

/// Where the rows are kept if nobody says otherwise. Keys of text do not begin with a zero byte.
const PREFIX: &[u8] = b"\0branch/";

/// How long a handler waits for a lock.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);

/// How long an open branch may hear nothing.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Most branches that are open and not prepared.
const OPEN_MAX: usize = 1_024;

/// What is run for an operation.
pub(super) type Handler = Arc<dyn for<'db> Fn(&BranchTransaction<'db>, &Call) -> Result<JsonText, CallError> + Send + Sync>;

/// Why branches cannot be opened. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum RocksBranchesError {
    /// The database failed.
    #[error("the database failed: {0}")]
    Database(#[from] Error),
    /// The database has no column family of this name.
    #[error("the database has no column family `{name}`: open it with that one")]
    NoColumnFamily {
        /// Its name.
        name: String,
    },
    /// A prepared transaction wrote to a column family that was not named, so its locks cannot be taken.
    #[error(
        "the prepared transaction `{name}` wrote to column family number {number}, which was not named: name all that branches write to"
    )]
    UnknownColumnFamily {
        /// Name of the transaction.
        name: String,
        /// Number of the family.
        number: u32,
    },
    /// Somebody else has a lock that belongs to a prepared branch.
    #[error(
        "a lock of the prepared transaction `{name}` is held by somebody else: open the branches before anything else is done: {source}"
    )]
    Locked {
        /// Name of the transaction.
        name: String,
        /// What the database says.
        source: Error,
    },
    /// A prepared transaction of ours has no row under this prefix.
    #[error("the prepared transaction `{name}` has no row under this prefix: the prefix was changed")]
    NoRow {
        /// Name of the transaction.
        name: String,
    },
    /// A row cannot be read.
    #[error(transparent)]
    Row(#[from] BranchRowError),
    /// There is no thread for the branches.
    #[error("the thread of the branches cannot be started: {0}")]
    Thread(#[source] std::io::Error),
}

/// Builds [`RocksBranches`].
#[must_use = "a builder does nothing until `open`"]
pub struct RocksBranchesBuilder {
    handlers: BTreeMap<String, Handler>,
    families: Vec<String>,
    settings: Settings,
}

impl fmt::Debug for RocksBranchesBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RocksBranchesBuilder")
            .field("calls", &self.handlers.keys())
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl RocksBranchesBuilder {
    pub(super) fn new() -> Self {
        let settings =
            Settings { prefix: PREFIX.into(), lock_timeout: LOCK_TIMEOUT, idle_timeout: IDLE_TIMEOUT, open_max: OPEN_MAX, clock: now_ms };
        Self { handlers: BTreeMap::new(), families: Vec::new(), settings }
    }

    /// Registers the handler of an operation of the service. A second one of the same name replaces the first.
    ///
    /// It reads for update what it decides by, writes through the transaction it is given, and has **no effects outside of it**: nobody could
    /// undo them. It may block. It must not prepare, name, or roll back the transaction. When it does not return `Ok`, the branch is rolled
    /// back and the transaction is aborted; a lock that was not had in time is refused with `LOCK_TIMEOUT`, a circle of waiting with `DEADLOCK`.
    pub fn on<H, O>(mut self, call: impl Into<String>, handler: H) -> Self
    where
        H: Fn(&BranchTransaction<'_>, &Call) -> Result<O, CallError> + Send + Sync + 'static,
        O: Serialize,
    {
        let handler: Handler = Arc::new(move |txn, call| output_text(&handler(txn, call)?));
        self.handlers.insert(call.into(), handler);
        self
    }

    /// The column families besides the default one that branches write to. The vote of a branch that wrote to another one is no: after a crash
    /// its locks could not be taken again.
    pub fn column_families<N: Into<String>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        self.families = names.into_iter().map(Into::into).collect();
        self
    }

    /// Where the rows of branches are kept, which no other key of the database may begin with (default `\0branch/`). Never change it for a
    /// database: what was committed would read as unknown.
    pub fn prefix(mut self, prefix: impl Into<Vec<u8>>) -> Self {
        self.settings.prefix = prefix.into().into();
        self
    }

    /// How long a handler waits for a lock (default 5 s).
    pub fn lock_timeout(mut self, timeout: Duration) -> Self {
        self.settings.lock_timeout = timeout;
        self
    }

    /// How long a branch that is not prepared may hear nothing, counted from the end of its last call (default 30 s), and never less than
    /// the time that this call might take itself ([`Call::timeout_ms`]). Then it is rolled back, and its transaction with it when the vote is
    /// asked for: the coordinator is gone, or waits for another service for so long that the locks are better let go.
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.settings.idle_timeout = timeout;
        self
    }

    /// Most branches that are open and not prepared (default 1,024); one more is refused with `TOO_MANY_BRANCHES`.
    pub fn open_max(mut self, branches: usize) -> Self {
        self.settings.open_max = branches;
        self
    }

    /// The clock by which rows and votes are dated, in milliseconds since 1970 (default: the system's). For tests.
    pub fn clock(mut self, now_ms: fn() -> u64) -> Self {
        self.settings.clock = now_ms;
        self
    }

    /// Finds what is prepared in the database, takes its locks again, and begins to serve.
    ///
    /// # Errors
    /// [`RocksBranchesError`], for example when a lock of a prepared branch is held by somebody who was faster. Then nothing may be written
    /// through this handle of the database; mend it and open the database again.
    pub fn open(self, db: Arc<BranchDb>) -> Result<RocksBranches, RocksBranchesError> {
        let Self { handlers, families, settings } = self;
        let families = Families::of(&db, &families)?;
        let (requests, received) = mpsc::channel();
        let (failure, failed) = watch::channel(None);
        let (opened, is_open) = mpsc::channel();
        let (lingers, lingering) = mpsc::channel();
        let (wake, prefix) = (requests.clone(), Arc::clone(&settings.prefix));
        let own = move || {
            // The transactions live in this thread and never leave it but to the workers that it joins.
            let db = db;
            mark_as_ours();
            match recover(&db, &settings.prefix, &families) {
                Ok(recovered) => {
                    drop(opened.send(Ok(())));
                    std::thread::scope(|scope| {
                        Owner::new(&db, scope, settings, families, handlers, (wake, received), (&failure, lingers), recovered).run();
                    });
                }
                Err(error) => drop(opened.send(Err(error))),
            }
            drop(db);
            // Whoever waits for the end hears of it when the database is given back.
            drop(failure);
        };
        let thread = std::thread::Builder::new().name("sagamq-branches".into()).spawn(own).map_err(RocksBranchesError::Thread)?;
        match is_open.recv() {
            Ok(Ok(())) => Ok(RocksBranches::new(requests, prefix, failed, Ending { thread, lingering })),
            Ok(Err(error)) => {
                // So that the database is given back when the caller hears of it.
                drop(thread.join());
                Err(error)
            }
            Err(_) => panic!("the thread of the branches says how it began, or the process is aborted"),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the time is told to people and decides nothing")]
fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
