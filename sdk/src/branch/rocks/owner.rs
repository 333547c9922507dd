//! The thread that owns every branch: it decides what is done with which, one verb at a time for each, and lends them to workers.

use super::builder::Handler;
use super::ended::{Ended, EndedBranches};
use super::jobs::{Desk, Next, Outcome, Prepared, begin, commit_prepared, roll_back_prepared, unknown_branch};
use super::open_branch::{Branch, Held, Remembered};
use super::recovery::{Families, Recovered};
use super::request::{Answer, Reply, Request, Verb};
use super::row::RowKind;
use super::workers::{AbortOnPanic, Workers};
use super::{BranchDb, BranchTransaction};
use crate::branch::error::{BRANCH_PREPARED, BRANCH_STORAGE, BRANCH_UNKNOWN, BranchError};
use crate::branch::id::BranchId;
use crate::branch::manager::{InDoubt, Vote};
use crate::worker::CallError;
use sagamq_api::JsonText;
use sagamq_api::saga::Call;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, mpsc};
use std::thread::Scope;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// How often it is looked for branches that have heard nothing for too long, and at the end for others who hold the database.
const TICK: Duration = Duration::from_millis(50);

/// The code of a call that opens one branch too many.
const TOO_MANY_BRANCHES: &str = "TOO_MANY_BRANCHES";

/// The code of a call that there is no handler for.
const UNKNOWN_CALL: &str = "UNKNOWN_CALL";

/// The code of a call whose idempotency key stands for another call.
const KEY_REUSED: &str = "IDEMPOTENCY_KEY_REUSED";

/// How branches are run.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) prefix: Arc<[u8]>,
    pub(super) lock_timeout: Duration,
    pub(super) idle_timeout: Duration,
    pub(super) open_max: usize,
    pub(super) clock: fn() -> u64,
}

/// The owner.
pub(super) struct Owner<'scope, 'db> {
    /// The first field: it is dropped, and ends the process, before any transaction is.
    _guard: AbortOnPanic,
    db: &'db Arc<BranchDb>,
    desk: Desk<'db>,
    settings: Settings,
    handlers: BTreeMap<String, Handler>,
    requests: mpsc::Receiver<Request>,
    workers: Workers<'scope, 'db, Outcome<'db>>,
    branches: HashMap<BranchId, Branch<'db>>,
    ended: EndedBranches,
    /// Why nothing is done any more.
    failure: &'db watch::Sender<Option<String>>,
    is_closing: bool,
    /// Told once when the end waits for nothing but others who hold the database.
    lingers: mpsc::Sender<()>,
    /// What is kept only for its locks.
    kept: Vec<BranchTransaction<'db>>,
}

impl<'scope, 'db: 'scope> Owner<'scope, 'db> {
    #[expect(clippy::too_many_arguments, reason = "it is built in one place, from what the thread was given")]
    pub(super) fn new(
        db: &'db Arc<BranchDb>,
        scope: &'scope Scope<'scope, 'db>,
        settings: Settings,
        families: Families,
        handlers: BTreeMap<String, Handler>,
        (wake, requests): (mpsc::Sender<Request>, mpsc::Receiver<Request>),
        (failure, lingers): (&'db watch::Sender<Option<String>>, mpsc::Sender<()>),
        recovered: Recovered<'db>,
    ) -> Self {
        let now = now();
        let held = |prepared| Branch::new(Some(Held::Prepared(prepared)), now, settings.idle_timeout);
        Self {
            _guard: AbortOnPanic,
            db,
            desk: Desk { db, prefix: Arc::clone(&settings.prefix), families, clock: settings.clock },
            handlers,
            requests,
            workers: Workers::new(scope, wake),
            branches: recovered.branches.into_iter().map(|(id, prepared)| (id, held(prepared))).collect(),
            ended: EndedBranches::default(),
            failure,
            is_closing: false,
            lingers,
            kept: recovered.foreign.into_iter().flat_map(|(txn, locks)| [txn, locks]).collect(),
            settings,
        }
    }

    /// Serves until the last handle is gone and nobody needs the locks any more.
    pub(super) fn run(mut self) {
        while !self.may_end() {
            if self.is_closing && self.is_idle() {
                // Whoever gave the last handle back may hold the database himself: he must not wait for himself.
                let _ = self.lingers.send(());
            }
            match self.next_request() {
                Some(Request::Ask { id, verb }) => self.ask(id, verb),
                Some(Request::InDoubt(reply)) => drop(reply.send(self.in_doubt())),
                Some(Request::Close) => self.is_closing = true,
                Some(Request::Wake) | None => {}
            }
            while let Some(outcome) = self.workers.finished() {
                self.settle(outcome);
            }
            self.expire();
            if self.is_closing {
                // They may hold the database, which somebody else then would seem to do.
                self.handlers.clear();
            }
        }
    }

    fn next_request(&self) -> Option<Request> {
        let waits_for_time = self.is_closing || self.branches.values().any(|branch| matches!(branch.held, Some(Held::Open(_))));
        if waits_for_time {
            return self.requests.recv_timeout(TICK).ok();
        }
        Some(self.requests.recv().expect("the workers have a sender"))
    }

    /// Whether every transaction may be dropped. One that is in doubt may when nobody else holds the database: then nobody can meet its locks,
    /// and the next open finds it.
    fn may_end(&self) -> bool {
        let has_locks = || self.branches.values().any(|branch| branch.prepared_at_ms.is_some()) || !self.kept.is_empty();
        self.is_closing && self.is_idle() && (!has_locks() || Arc::strong_count(self.db) == 1)
    }

    /// Whether no worker has a transaction.
    fn is_idle(&self) -> bool {
        self.branches.values().all(|branch| branch.held.is_some())
    }

    fn in_doubt(&self) -> Vec<InDoubt> {
        let of = |(id, branch): (&BranchId, &Branch<'_>)| Some(InDoubt { id: id.clone(), prepared_at_ms: branch.prepared_at_ms? });
        self.branches.iter().filter_map(of).collect()
    }

    fn ask(&mut self, id: BranchId, verb: Verb) {
        if let Some(reason) = &*self.failure.borrow() {
            let message = format!("{reason}; the process has to be started again");
            return verb.answer(BranchError::unknown(BRANCH_STORAGE, message)).send();
        }
        match self.branches.get_mut(&id) {
            None => self.ask_unknown(id, verb),
            Some(branch) => match branch.held.take() {
                None => branch.waiting.push_back(verb),
                Some(Held::Open(txn)) => self.ask_open(id, txn, verb),
                Some(Held::Prepared(prepared)) => self.ask_prepared(id, prepared, verb),
            },
        }
    }

    /// A verb for a branch that is neither open nor prepared.
    fn ask_unknown(&mut self, id: BranchId, verb: Verb) {
        let ended = self.ended.get(&id);
        match (verb, ended) {
            (verb @ (Verb::Work { .. } | Verb::Prepare { .. }), Some(ended)) => match (verb, ended) {
                (Verb::Prepare { reply, .. }, Ended::ReadOnly) => Answer::Vote(reply, Ok(Vote::ReadOnly)).send(),
                (verb, ended) => verb.answer(ended.refusal()).send(),
            },
            (Verb::Commit { reply } | Verb::CommitOnePhase { reply, .. }, Some(Ended::Committed | Ended::ReadOnly))
            | (Verb::Rollback { reply }, Some(Ended::RolledBack(_) | Ended::ReadOnly | Ended::Expired | Ended::Refused)) => {
                Answer::End(reply, Ok(())).send()
            }
            (Verb::CommitOnePhase { reply, .. }, Some(ended)) => {
                let (ended, refusal) = (ended.clone(), ended.refusal());
                self.refuse_one_phase(id, Some(ended), refusal, reply);
            }
            (verb, Some(ended)) => verb.answer(ended.refusal()).send(),
            (Verb::Work { call, reply }, None) => self.open(id, *call, reply),
            (verb, None) => self.look(id, verb),
        }
    }

    /// Opens a branch with its first call.
    fn open(&mut self, id: BranchId, call: Call, reply: Reply<Result<JsonText, CallError>>) {
        let refuse = |code: &str, message: String| CallError::refused(code, message);
        let actions_done = call.transaction.as_ref().map_or(0, |transaction| transaction.actions_done);
        let open = self.branches.values().filter(|branch| branch.prepared_at_ms.is_none()).count();
        let refused = if actions_done > 0 {
            let message = format!("{id} is not open here, and {actions_done} of its actions were done: they are lost");
            Some(refuse(BRANCH_UNKNOWN, message))
        } else if open >= self.settings.open_max {
            Some(refuse(TOO_MANY_BRANCHES, format!("{open} branches are open here, and no more may be")))
        } else {
            None
        };
        if let Some(refused) = refused {
            return Answer::Work(reply, Err(refused)).send();
        }
        self.branches.insert(id.clone(), Branch::new(None, now(), self.settings.idle_timeout));
        let txn = begin(self.db, self.settings.lock_timeout);
        self.work(id, txn, call, reply);
    }

    /// Looks for the row of a branch that nobody knows here, and answers by it.
    fn look(&mut self, id: BranchId, verb: Verb) {
        let unknown = unknown_branch(&id);
        let verb = match verb {
            Verb::CommitOnePhase { reply, .. } => return self.refuse_one_phase(id, None, unknown, reply),
            verb => verb,
        };
        // It has its place meanwhile, so whatever comes waits for what is found.
        self.branches.insert(id.clone(), Branch::new(None, now(), self.settings.idle_timeout));
        self.lend(move |desk| {
            desk.look(id, |row| match (row, verb) {
                (Err(error), verb) => (None, verb.answer(error)),
                (Ok(Some(RowKind::Committed)), Verb::Commit { reply }) => (Some(Ended::Committed), Answer::End(reply, Ok(()))),
                (Ok(Some(RowKind::Refused)), Verb::Rollback { reply }) => (Some(Ended::Refused), Answer::End(reply, Ok(()))),
                (Ok(Some(kind)), verb) => (Some(kind.into()), verb.answer(Ended::from(kind).refusal())),
                // From now on a call of it comes late.
                (Ok(None), Verb::Rollback { reply }) => {
                    let why = "the coordinator said so, before any of its calls came".to_owned();
                    (Some(Ended::RolledBack(why)), Answer::End(reply, Ok(())))
                }
                (Ok(None), verb) => (None, verb.answer(unknown)),
            })
        });
    }

    /// Refuses to commit, in one phase, a branch that is neither open nor prepared, unless its row says that it is committed.
    fn refuse_one_phase(&mut self, id: BranchId, ended: Option<Ended>, refusal: BranchError, reply: Reply<Result<(), BranchError>>) {
        // It has its place meanwhile, so whatever comes waits until the refusal is written.
        self.branches.insert(id.clone(), Branch::new(None, now(), self.settings.idle_timeout));
        self.lend(move |desk| desk.refuse_one_phase(id, ended, refusal, reply));
    }

    fn ask_open(&mut self, id: BranchId, txn: BranchTransaction<'db>, verb: Verb) {
        let done = self.branches[&id].actions_done();
        match verb {
            Verb::Work { call, reply } => match self.branches[&id].recall(&call) {
                Remembered::Output(output) => {
                    self.keep(&id, Held::Open(txn));
                    Answer::Work(reply, Ok(output)).send();
                }
                Remembered::Other => {
                    self.keep(&id, Held::Open(txn));
                    let message = format!("{} was a call with other arguments", call.idempotency_key);
                    Answer::Work(reply, Err(CallError::refused(KEY_REUSED, message))).send();
                }
                Remembered::Nothing => match call.transaction.as_ref().map(|transaction| transaction.actions_done) {
                    Some(known) if known == done => self.work(id, txn, *call, reply),
                    known => self.lost(id, txn, known.unwrap_or_default(), done, Verb::Work { call, reply }),
                },
            },
            Verb::Prepare { actions_done, .. } | Verb::CommitOnePhase { actions_done, .. } if actions_done != done => {
                self.lost(id, txn, actions_done, done, verb);
            }
            Verb::Prepare { reply, .. } => self.lend(move |desk| desk.prepare(id, txn, reply)),
            Verb::CommitOnePhase { reply, .. } => self.lend(move |desk| desk.commit_one_phase(id, txn, reply)),
            Verb::Rollback { reply } => {
                drop(txn);
                let next = Next::Ended(Ended::RolledBack("the coordinator said so".to_owned()));
                self.settle(Outcome { id, next, done: None, answer: Answer::End(reply, Ok(())) });
            }
            verb @ Verb::Commit { .. } => {
                let message = format!("{id} is open and was never prepared: there is no vote that this decision could rest on");
                self.keep(&id, Held::Open(txn));
                verb.answer(BranchError::refused(BRANCH_UNKNOWN, message)).send();
            }
        }
    }

    fn ask_prepared(&mut self, id: BranchId, prepared: Prepared<'db>, verb: Verb) {
        match verb {
            Verb::Commit { reply } => self.lend(move |_| commit_prepared(id, prepared, reply)),
            Verb::Rollback { reply } => self.lend(move |_| roll_back_prepared(id, prepared, reply)),
            verb => {
                let recalled = match &verb {
                    Verb::Work { call, .. } => self.branches[&id].recall(call),
                    Verb::Prepare { .. } | Verb::Commit { .. } | Verb::Rollback { .. } | Verb::CommitOnePhase { .. } => Remembered::Nothing,
                };
                self.keep(&id, Held::Prepared(prepared));
                match (verb, recalled) {
                    (Verb::Prepare { reply, .. }, _) => Answer::Vote(reply, Ok(Vote::Yes)).send(),
                    (Verb::Work { reply, .. }, Remembered::Output(output)) => Answer::Work(reply, Ok(output)).send(),
                    (verb, _) => {
                        let message = format!("{id} is prepared; only its decision can end it");
                        verb.answer(BranchError::refused(BRANCH_PREPARED, message)).send();
                    }
                }
            }
        }
    }

    /// Runs an action in a branch that has its place.
    fn work(&mut self, id: BranchId, txn: BranchTransaction<'db>, call: Call, reply: Reply<Result<JsonText, CallError>>) {
        let Some(handler) = self.handlers.get(&call.call).cloned() else {
            drop(txn);
            let message = format!("this participant has no handler for `{}`", call.call);
            let next = Next::Ended(Ended::RolledBack(message.clone()));
            let answer = Answer::Work(reply, Err(CallError::refused(UNKNOWN_CALL, message)));
            return self.settle(Outcome { id, next, done: None, answer });
        };
        let idle = self.settings.idle_timeout;
        self.branches.get_mut(&id).expect("the branch has its place").called(&call, idle);
        self.lend(move |desk| desk.work(id, txn, call, &handler, reply));
    }

    /// An open branch that has done another number of actions than the coordinator knows: some were lost.
    fn lost(&mut self, id: BranchId, txn: BranchTransaction<'db>, known: u32, done: u32, verb: Verb) {
        drop(txn);
        let message = format!("{known} actions of {id} were done, and {done} are here: the branch is rolled back");
        let (ended, refusal) = (Ended::RolledBack(message.clone()), BranchError::refused(BRANCH_UNKNOWN, message));
        match verb {
            // It has its place still.
            Verb::CommitOnePhase { reply, .. } => self.lend(move |desk| desk.refuse_one_phase(id, Some(ended), refusal, reply)),
            verb => self.settle(Outcome { id, next: Next::Ended(ended), done: None, answer: verb.answer(refusal) }),
        }
    }

    fn lend(&mut self, job: impl FnOnce(&Desk<'db>) -> Outcome<'db> + Send + 'db) {
        let desk = self.desk.clone();
        self.workers.run(Box::new(move || job(&desk)));
    }

    fn keep(&mut self, id: &BranchId, held: Held<'db>) {
        self.branches.get_mut(id).expect("a branch has its place until it ends").held = Some(held);
    }

    /// Takes in what became of a branch, tells it, and does what has waited for it.
    fn settle(&mut self, outcome: Outcome<'db>) {
        let Outcome { id, next, done, answer } = outcome;
        let waiting = match next {
            Next::Goes(held) => {
                let branch = self.branches.get_mut(&id).expect("a branch has its place until it ends");
                if let Some((call, output)) = done {
                    branch.remember(call, output);
                }
                branch.give_back(held, now());
                std::mem::take(&mut branch.waiting)
            }
            Next::Ended(ended) => {
                self.ended.add(&id, ended);
                self.branches.remove(&id).map(|branch| branch.waiting).unwrap_or_default()
            }
            Next::Absent => self.branches.remove(&id).map(|branch| branch.waiting).unwrap_or_default(),
            Next::Broken { reason, left } => {
                tracing::error!(branch = %id, %reason, "the participant stops: end the process and start it again");
                self.failure.send_replace(Some(reason));
                self.kept.extend(left);
                self.branches.remove(&id).map(|branch| branch.waiting).unwrap_or_default()
            }
        };
        answer.send();
        for verb in waiting {
            self.ask(id.clone(), verb);
        }
    }

    fn expire(&mut self) {
        let now = now();
        let expired: Vec<BranchId> = self.branches.iter().filter(|(_, branch)| branch.is_expired(now)).map(|(id, _)| id.clone()).collect();
        for id in expired {
            tracing::warn!(branch = %id, "an open branch heard nothing for too long; it is rolled back");
            self.branches.remove(&id);
            self.ended.add(&id, Ended::Expired);
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "how long a branch has heard nothing is a time of this process and of nobody else")]
fn now() -> Instant {
    Instant::now()
}
