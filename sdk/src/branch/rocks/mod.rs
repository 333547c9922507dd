//! Branches in a RocksDB `TransactionDB`.
//!
//! A branch is one transaction of the database. All of them belong to one owner thread, because a handle that is dropped lets its locks go; it
//! lends them to worker threads, so a handler that waits for a lock or a write that waits for the disk holds up its own branch and no other.
//!
//! # After a crash
//!
//! RocksDB finds prepared transactions again in its log, **without their locks**: it trusts that all of them are decided before anything else is
//! done. Nobody can promise that here. So [`RocksBranches`] takes the locks again, of every key that a prepared transaction has written, before
//! it returns from the open, and holds them until the branch is decided. Locks of keys that were only read are not taken again, and need not be:
//! when a branch is prepared, its transaction has all the locks that it will ever have, and from then on a lock on what was only read protects
//! nothing.
//!
//! # What lies on disk
//!
//! ```text
//! key    prefix ‖ cluster (16 bytes, the UUID) ‖ instance (16 bytes, the UUID) ‖ branch (its text)
//! value  kind (1 byte: 0x01 committed, 0x02 refused) ‖ written at (8 bytes, big-endian, milliseconds since 1970)
//! ```
//!
//! The row of the kind *committed* is written in the branch's own transaction, as the last thing before it is prepared or committed. So it is
//! visible if and only if the branch is committed. One of the kind *refused* is written, and synced, before a commit in one phase is refused:
//! the transaction is aborted by that, and an older call that comes late must neither open the branch anew nor commit it. The name of the
//! prepared transaction is the text of the [`BranchId`]. A branch that wrote nothing has no row of its own. Prefix: `\0branch/`, unless told
//! otherwise.

mod builder;
mod ended;
mod jobs;
mod open_branch;
mod owner;
mod recovery;
mod request;
mod row;
mod workers;

pub use ::rocksdb;
pub use builder::{RocksBranchesBuilder, RocksBranchesError};
pub use row::BranchRowError;

use super::error::{BRANCH_STORAGE, BranchError};
use super::id::BranchId;
use super::manager::{BranchManager, Branching, InDoubt, Vote};
use super::router::no_transaction;
use crate::participant::INVALID_CALL;
use crate::worker::CallError;
use ::rocksdb::{Direction, IteratorMode, MultiThreaded, Transaction, TransactionDB};
use request::{Request, Verb};
use sagamq_api::JsonText;
use sagamq_api::saga::Call;
use std::fmt;
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use tokio::sync::{oneshot, watch};
use workers::is_ours;

/// The database of branches. It may be shared: reads and writes outside of any branch see what is committed, and wait for the locks of branches.
pub type BranchDb = TransactionDB<MultiThreaded>;

/// The transaction of a branch, as handlers are given it.
pub type BranchTransaction<'db> = Transaction<'db, BranchDb>;

/// A participant of two-phase commit whose resource manager is a RocksDB. Cheap to clone.
///
/// Open it **right after the database and before anything else writes to it**: that is when the locks of prepared branches are taken again.
///
/// When the last clone is gone, open branches are rolled back, and prepared ones keep their locks for as long as anybody else holds the
/// database; so never take one `RocksBranches` for another of the same open database. **Let the database go first**: the drop of the last
/// clone waits for handlers that still run, and then closes the database if nobody else holds it, so that a process may end after it. If a
/// branch is in doubt and somebody else holds the database, the drop does not wait, and the database is closed some time after that.
///
/// ```no_run
/// use sagamq_sdk::CallError;
/// use sagamq_sdk::branch::rocks::{BranchDb, RocksBranches};
/// use rocksdb::{Options, TransactionDBOptions};
/// use serde_json::json;
/// use std::sync::Arc;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut options = Options::default();
/// options.create_if_missing(true);
/// let db = Arc::new(BranchDb::open(&options, &TransactionDBOptions::default(), "stock")?);
/// let branches = RocksBranches::builder()
///     .on("reserve", |txn, call| {
///         let stock = txn.get_for_update(b"stock/sku-1", true)?.map_or(0, |bytes| bytes[0]);
///         if stock == 0 {
///             return Err(CallError::refused("OUT_OF_STOCK", "sku-1 is sold out"));
///         }
///         txn.put(b"stock/sku-1", [stock - 1])?;
///         Ok(json!({ "left": stock - 1, "order": call.key }))
///     })
///     .open(Arc::clone(&db))?;
/// let routes = sagamq_sdk::branch::BranchRouter::new(Arc::new(branches)).advertise("http://10.0.0.7:9000").build();
/// # let _ = routes;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct RocksBranches {
    inner: Arc<Inner>,
}

struct Inner {
    requests: mpsc::Sender<Request>,
    prefix: Arc<[u8]>,
    /// Why nothing is done any more; dropped by the owner at its end.
    failure: watch::Receiver<Option<String>>,
    ending: Mutex<Option<Ending>>,
}

/// The owner's thread, and how it says that its end waits for others.
struct Ending {
    thread: JoinHandle<()>,
    lingering: mpsc::Receiver<()>,
}

impl Drop for Inner {
    /// Waits for the owner, because a database that is closed while the process ends is closed among the ruins of its library.
    fn drop(&mut self) {
        // An owner that is gone needs no telling.
        drop(self.requests.send(Request::Close));
        let ending = self.ending.get_mut().map_or(None, Option::take);
        if let Some(Ending { thread, lingering }) = ending
            && !is_ours()
            && lingering.recv().is_err()
        {
            // A panic of the owner aborts the process, so there is none to hear of.
            drop(thread.join());
        }
    }
}

impl fmt::Debug for RocksBranches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RocksBranches").field("failure", &*self.inner.failure.borrow()).finish_non_exhaustive()
    }
}

impl RocksBranches {
    /// Handlers and settings.
    pub fn builder() -> RocksBranchesBuilder {
        RocksBranchesBuilder::new()
    }

    fn new(requests: mpsc::Sender<Request>, prefix: Arc<[u8]>, failure: watch::Receiver<Option<String>>, ending: Ending) -> Self {
        Self { inner: Arc::new(Inner { requests, prefix, failure, ending: Mutex::new(Some(ending)) }) }
    }

    /// Deletes the rows of branches that wrote them before this time (milliseconds since 1970), and returns how many. It blocks on the disk.
    ///
    /// A row answers a coordinator that asks again for a commit, because it did not hear that it was done. **Keep rows for longer than a
    /// coordinator of yours may be away**, the time until somebody restores it from a backup included: a branch whose row was swept is
    /// `BRANCH_UNKNOWN`, and then somebody has to look. A row of a commit that was refused keeps calls out that come late.
    ///
    /// # Errors
    /// [`RocksBranchesError`] when the database fails or a row cannot be read; rows before it are deleted.
    pub fn sweep(&self, db: &BranchDb, before_ms: u64) -> Result<u64, RocksBranchesError> {
        let prefix = &self.inner.prefix;
        let mut swept = 0;
        for row in db.iterator(IteratorMode::From(prefix, Direction::Forward)) {
            let (key, value) = row?;
            if !key.starts_with(prefix) {
                break;
            }
            // A row that is visible is written once, and whoever comes late only reads it: it is deleted as it was seen.
            let (_, at_ms) = row::decode_value(&value)?;
            if at_ms < before_ms {
                db.delete(&key)?;
                swept += 1;
            }
        }
        Ok(swept)
    }

    /// Returns when the participant has stopped because a write of a decision failed, with the reason. **End the process then**, and start it
    /// again: only an open of the database finds out what became of the branch. Until then every call has an unknown outcome.
    pub async fn failed(&self) -> String {
        let mut failure = self.inner.failure.clone();
        let reason = failure.wait_for(Option::is_some).await.ok().and_then(|reason| reason.clone());
        reason.unwrap_or_else(|| "the owner of the branches has ended".to_owned())
    }

    /// Gives this clone back and waits until the participant has ended: until every other clone is gone and, if a branch is in doubt, until
    /// nobody else holds the database.
    pub async fn close(self) {
        let mut failure = self.inner.failure.clone();
        // The last one waits for handlers.
        drop(tokio::task::spawn_blocking(move || drop(self)).await);
        // Changes until the sender is dropped, which is the end.
        while failure.changed().await.is_ok() {}
    }

    fn ask<T>(
        &self,
        branch: &BranchId,
        verb: impl FnOnce(oneshot::Sender<Result<T, BranchError>>) -> Verb,
    ) -> Branching<'_, Result<T, BranchError>>
    where
        T: Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        // If the owner is gone, the reply goes with the request.
        drop(self.inner.requests.send(Request::Ask { id: branch.clone(), verb: verb(reply) }));
        Box::pin(async move { answer.await.unwrap_or_else(|_| Err(BranchError::unknown(BRANCH_STORAGE, STOPPED))) })
    }
}

const STOPPED: &str = "the participant has stopped";

impl BranchManager for RocksBranches {
    fn work(&self, call: Call) -> Branching<'_, Result<JsonText, CallError>> {
        let refused = match BranchId::of(&call) {
            Some(Ok(id)) => {
                let (reply, answer) = oneshot::channel();
                drop(self.inner.requests.send(Request::Ask { id, verb: Verb::Work { call: Box::new(call), reply } }));
                return Box::pin(async move { answer.await.unwrap_or_else(|_| Err(CallError::unknown(BRANCH_STORAGE, STOPPED))) });
            }
            Some(Err(error)) => CallError::refused(INVALID_CALL, error.to_string()),
            None => no_transaction(),
        };
        Box::pin(std::future::ready(Err(refused)))
    }

    fn prepare<'a>(&'a self, branch: &'a BranchId, actions_done: u32) -> Branching<'a, Result<Vote, BranchError>> {
        self.ask(branch, |reply| Verb::Prepare { actions_done, reply })
    }

    fn commit<'a>(&'a self, branch: &'a BranchId) -> Branching<'a, Result<(), BranchError>> {
        self.ask(branch, |reply| Verb::Commit { reply })
    }

    fn rollback<'a>(&'a self, branch: &'a BranchId) -> Branching<'a, Result<(), BranchError>> {
        self.ask(branch, |reply| Verb::Rollback { reply })
    }

    fn commit_one_phase<'a>(&'a self, branch: &'a BranchId, actions_done: u32) -> Branching<'a, Result<(), BranchError>> {
        self.ask(branch, |reply| Verb::CommitOnePhase { actions_done, reply })
    }

    fn in_doubt(&self) -> Branching<'_, Result<Vec<InDoubt>, BranchError>> {
        let (reply, answer) = oneshot::channel();
        drop(self.inner.requests.send(Request::InDoubt(reply)));
        Box::pin(async move { answer.await.map_err(|_| BranchError::unknown(BRANCH_STORAGE, STOPPED)) })
    }
}
