//! What workers do with a branch that they were lent: the steps that wait for locks or for the disk.

use super::builder::{Handler, RocksBranchesError};
use super::ended::Ended;
use super::open_branch::Held;
use super::recovery::{Families, writes_of};
use super::request::{Answer, Reply};
use super::row::{RowKind, decode_value, encode_key, encode_value};
use super::{BranchDb, BranchTransaction};
use crate::branch::error::{BRANCH_COMMITTED, BRANCH_STORAGE, BRANCH_UNKNOWN, BranchError};
use crate::branch::id::BranchId;
use crate::branch::manager::Vote;
use crate::consumer::panic_text;
use crate::worker::CallError;
use ::rocksdb::{TransactionOptions, WriteOptions};
use sagamq_api::JsonText;
use sagamq_api::saga::{Call, Failure};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

/// The code of a vote against, because the branch wrote to a column family that was not named.
const BRANCH_COLUMN_FAMILY: &str = "BRANCH_COLUMN_FAMILY";

/// The code of a call whose handler panicked.
const HANDLER_PANICKED: &str = "HANDLER_PANICKED";

/// The code of a call whose handler says that it goes on elsewhere.
const HANDLER_ONGOING: &str = "HANDLER_ONGOING";

/// How long the row of a refusal waits for its lock, which nobody has but who sweeps.
const REFUSAL_LOCK_TIMEOUT: Duration = Duration::from_secs(1);

/// A transaction that is prepared.
pub(super) struct Prepared<'db> {
    pub(super) txn: BranchTransaction<'db>,
    /// Of a recovered one: the transaction that holds its locks.
    pub(super) locks: Option<BranchTransaction<'db>>,
    pub(super) at_ms: u64,
}

/// What became of a branch.
pub(super) enum Next<'db> {
    /// It goes on.
    Goes(Held<'db>),
    /// It has ended.
    Ended(Ended),
    /// There is none.
    Absent,
    /// A write failed that must not be in doubt: nothing more may be done here. What is left of the branch is kept.
    Broken { reason: String, left: Option<BranchTransaction<'db>> },
}

/// What a job gives back to the owner.
pub(super) struct Outcome<'db> {
    pub(super) id: BranchId,
    pub(super) next: Next<'db>,
    /// The call that was done, with its output, to be remembered.
    pub(super) done: Option<(Call, JsonText)>,
    pub(super) answer: Answer,
}

/// What every job needs to know.
#[derive(Clone)]
pub(super) struct Desk<'db> {
    pub(super) db: &'db BranchDb,
    pub(super) prefix: Arc<[u8]>,
    pub(super) families: Families,
    pub(super) clock: fn() -> u64,
}

/// Begins the transaction of a branch.
pub(super) fn begin(db: &BranchDb, lock_timeout: Duration) -> BranchTransaction<'_> {
    let mut write = WriteOptions::default();
    write.set_sync(true);
    let mut options = TransactionOptions::default();
    options.set_deadlock_detect(true);
    options.set_lock_timeout(i64::try_from(lock_timeout.as_millis()).unwrap_or(i64::MAX));
    db.transaction_opt(&write, &options)
}

impl<'db> Desk<'db> {
    /// Runs an action. With the first one it is looked up whether the branch is committed already, or its commit was refused: then
    /// this is a call that comes late.
    pub(super) fn work(
        &self,
        id: BranchId,
        txn: BranchTransaction<'db>,
        call: Call,
        handler: &Handler,
        reply: Reply<Result<JsonText, CallError>>,
    ) -> Outcome<'db> {
        let is_first = call.transaction.as_ref().is_some_and(|transaction| transaction.actions_done == 0);
        let result = match is_first.then(|| self.row(&id)) {
            Some(Ok(Some(kind))) => {
                let (code, message) = match kind {
                    RowKind::Committed => (BRANCH_COMMITTED, "the branch is committed; the call comes late"),
                    RowKind::Refused => (BRANCH_UNKNOWN, "the commit of the branch was refused; the call comes late"),
                };
                let answer = Answer::Work(reply, Err(CallError::refused(code, message)));
                return Outcome { id, next: Next::Ended(kind.into()), done: None, answer };
            }
            Some(Err(error)) => Err(CallError::refused(BRANCH_STORAGE, error.to_string())),
            Some(Ok(None)) | None => catch_unwind(AssertUnwindSafe(|| handler(&txn, &call)))
                .unwrap_or_else(|panic| Err(CallError::refused(HANDLER_PANICKED, panic_text(&*panic)))),
        };
        match result {
            Ok(output) => {
                let answer = Answer::Work(reply, Ok(output.clone()));
                Outcome { id, next: Next::Goes(Held::Open(txn)), done: Some((call, output)), answer }
            }
            Err(error) => {
                // Dropped, a transaction that is not prepared is rolled back: from now on nothing of it can take effect.
                drop(txn);
                let failure = failure_of(error);
                let why = format!("`{}` said {}: {}", call.call, failure.code, failure.message);
                let answer = Answer::Work(reply, Err(CallError::Refused(failure)));
                Outcome { id, next: Next::Ended(Ended::RolledBack(why)), done: None, answer }
            }
        }
    }

    /// Votes for an open branch.
    pub(super) fn prepare(&self, id: BranchId, txn: BranchTransaction<'db>, reply: Reply<Result<Vote, BranchError>>) -> Outcome<'db> {
        let (next, vote) = self.vote(&id, txn);
        Outcome { id, next, done: None, answer: Answer::Vote(reply, vote) }
    }

    fn vote(&self, id: &BranchId, txn: BranchTransaction<'db>) -> (Next<'db>, Result<Vote, BranchError>) {
        let at_ms = (self.clock)();
        match self.write_row(id, &txn, at_ms) {
            Ok(true) => {}
            Ok(false) => return (Next::Ended(Ended::ReadOnly), Ok(Vote::ReadOnly)),
            Err((ended, error)) => return (Next::Ended(ended), Err(error)),
        }
        if let Err(error) = txn.set_name(id.to_string().as_bytes()) {
            let error = format!("the prepared transaction cannot have its name: {error}");
            return (Next::Ended(Ended::RolledBack(error.clone())), Err(BranchError::refused(BRANCH_STORAGE, error)));
        }
        match txn.prepare() {
            Ok(()) => (Next::Goes(Held::Prepared(Prepared { txn, locks: None, at_ms })), Ok(Vote::Yes)),
            Err(error) => broken(format!("the prepare of {id} failed: {error}"), Some(txn)),
        }
    }

    /// Commits an open branch, which is the outcome of its transaction.
    pub(super) fn commit_one_phase(
        &self,
        id: BranchId,
        txn: BranchTransaction<'db>,
        reply: Reply<Result<(), BranchError>>,
    ) -> Outcome<'db> {
        let (next, result) = match self.write_row(&id, &txn, (self.clock)()) {
            Ok(true) => commit(&id, txn),
            Ok(false) => (Next::Ended(Ended::ReadOnly), Ok(())),
            Err((Ended::Committed, _)) => (Next::Ended(Ended::Committed), Ok(())),
            Err((ended, error)) => {
                // It may have the lock of its row.
                drop(txn);
                self.refused(&id, Some(ended), error)
            }
        };
        Outcome { id, next, done: None, answer: Answer::End(reply, result) }
    }

    /// Refuses a commit in one phase. `ended`: how the branch has ended, if that is known.
    pub(super) fn refuse_one_phase(
        &self,
        id: BranchId,
        ended: Option<Ended>,
        refusal: BranchError,
        reply: Reply<Result<(), BranchError>>,
    ) -> Outcome<'db> {
        let (next, result) = self.refused(&id, ended, refusal);
        Outcome { id, next, done: None, answer: Answer::End(reply, result) }
    }

    /// The refusal is the decision of its transaction, so it is told when it is on disk, and not before.
    fn refused(&self, id: &BranchId, ended: Option<Ended>, refusal: BranchError) -> (Next<'db>, Result<(), BranchError>) {
        match self.write_refusal(id) {
            Ok(RowKind::Committed) => (Next::Ended(Ended::Committed), Ok(())),
            Ok(RowKind::Refused) => (Next::Ended(ended.unwrap_or(Ended::Refused)), Err(refusal)),
            Err(error) => {
                let message = format!("the commit of {id} is refused, and that cannot be written: {error}");
                (ended.map_or(Next::Absent, Next::Ended), Err(BranchError::unknown(BRANCH_STORAGE, message)))
            }
        }
    }

    /// Writes down that the commit of a branch was refused, unless it has a row; says what its row says then.
    fn write_refusal(&self, id: &BranchId) -> Result<RowKind, RocksBranchesError> {
        let key = encode_key(&self.prefix, id);
        let txn = begin(self.db, REFUSAL_LOCK_TIMEOUT);
        if let Some(value) = txn.get_for_update(&key, true)? {
            return Ok(decode_value(&value)?.0);
        }
        txn.put(&key, encode_value(RowKind::Refused, (self.clock)()))?;
        txn.commit()?;
        Ok(RowKind::Refused)
    }

    /// Writes the row of a branch as its last write; says false, and writes nothing, if the branch wrote nothing.
    fn write_row(&self, id: &BranchId, txn: &BranchTransaction<'db>, at_ms: u64) -> Result<bool, (Ended, BranchError)> {
        let rolled_back = |code, message: String| (Ended::RolledBack(message.clone()), BranchError::refused(code, message));
        let writes = writes_of(&txn.get_writebatch());
        if writes.is_empty() {
            return Ok(false);
        }
        if let Some(number) = self.families.unknown_in(&writes) {
            let message = format!("the branch wrote to column family number {number}, which was not named when the branches were opened");
            return Err(rolled_back(BRANCH_COLUMN_FAMILY, message));
        }
        let key = encode_key(&self.prefix, id);
        match txn.get_for_update(&key, true) {
            Ok(None) => {}
            Ok(Some(value)) => {
                return Err(match decode_value(&value) {
                    Ok((kind, _)) => (kind.into(), Ended::from(kind).refusal()),
                    Err(error) => rolled_back(BRANCH_STORAGE, error.to_string()),
                });
            }
            Err(error) => return Err(rolled_back(BRANCH_STORAGE, format!("the row of the branch cannot be read: {error}"))),
        }
        match txn.put(&key, encode_value(RowKind::Committed, at_ms)) {
            Ok(()) => Ok(true),
            Err(error) => Err(rolled_back(BRANCH_STORAGE, format!("the row of the branch cannot be written: {error}"))),
        }
    }

    /// Answers for a branch that nobody knows here: `answer` is told what its row says, if one is visible.
    pub(super) fn look(
        &self,
        id: BranchId,
        answer: impl FnOnce(Result<Option<RowKind>, BranchError>) -> (Option<Ended>, Answer),
    ) -> Outcome<'db> {
        let row = self.row(&id).map_err(|error| BranchError::unknown(BRANCH_STORAGE, error.to_string()));
        let (ended, answer) = answer(row);
        Outcome { id, next: ended.map_or(Next::Absent, Next::Ended), done: None, answer }
    }

    /// What the row of the branch says, if one is visible.
    fn row(&self, id: &BranchId) -> Result<Option<RowKind>, RocksBranchesError> {
        let Some(value) = self.db.get_pinned(encode_key(&self.prefix, id))? else { return Ok(None) };
        Ok(Some(decode_value(&value)?.0))
    }
}

/// Commits a prepared branch.
pub(super) fn commit_prepared<'db>(id: BranchId, prepared: Prepared<'db>, reply: Reply<Result<(), BranchError>>) -> Outcome<'db> {
    let Prepared { txn, locks, .. } = prepared;
    let (next, result) = match commit(&id, txn) {
        // The locks of a recovered branch are kept: it is not committed.
        (Next::Broken { reason, .. }, result) => (Next::Broken { reason, left: locks }, result),
        committed => {
            drop(locks);
            committed
        }
    };
    Outcome { id, next, done: None, answer: Answer::End(reply, result) }
}

/// Rolls a prepared branch back.
pub(super) fn roll_back_prepared<'db>(id: BranchId, prepared: Prepared<'db>, reply: Reply<Result<(), BranchError>>) -> Outcome<'db> {
    let (next, result) = match prepared.txn.rollback() {
        Ok(()) => (Next::Ended(Ended::RolledBack("the coordinator said so".to_owned())), Ok(())),
        // The database keeps it prepared, so it can be asked for again.
        Err(error) => (Next::Goes(Held::Prepared(prepared)), Err(BranchError::unknown(BRANCH_STORAGE, error.to_string()))),
    };
    Outcome { id, next, done: None, answer: Answer::End(reply, result) }
}

/// Commits, which gives the transaction away: when it fails, the handle is gone and with it the locks that it had. RocksDB takes no write after
/// a failed one until it is opened again, and then the transaction is found as it was; so the participant stops here.
fn commit<'db>(id: &BranchId, txn: BranchTransaction<'db>) -> (Next<'db>, Result<(), BranchError>) {
    match txn.commit() {
        Ok(()) => (Next::Ended(Ended::Committed), Ok(())),
        Err(error) => broken(format!("the commit of {id} failed: {error}"), None),
    }
}

fn broken<'db, T>(reason: String, left: Option<BranchTransaction<'db>>) -> (Next<'db>, Result<T, BranchError>) {
    let error = BranchError::unknown(BRANCH_STORAGE, format!("{reason}; end the process and start it again"));
    (Next::Broken { reason, left }, Err(error))
}

/// The refusal of a branch that does not know what it is asked about.
pub(super) fn unknown_branch(id: &BranchId) -> BranchError {
    BranchError::refused(BRANCH_UNKNOWN, format!("{id} is not known here, and no row says that it is committed"))
}

/// What a handler said, as a refusal: the branch is rolled back, so nothing took effect.
fn failure_of(error: CallError) -> Failure {
    match error {
        CallError::Refused(failure) | CallError::Unknown { failure, .. } => failure,
        CallError::Ongoing { .. } => {
            let message =
                "the handler goes on elsewhere, which the action of a branch cannot: its writes must be in the branch when it returns";
            Failure { code: HANDLER_ONGOING.to_owned(), message: message.to_owned() }
        }
    }
}
