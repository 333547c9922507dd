//! Services that take part in two phases, in the process of the test: each keeps branches, and they survive every crash of the node.

#![allow(dead_code, reason = "each test binary uses its own part of this")]

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use sagamq_api::headers::saga as headers;
use sagamq_api::saga::{Call, Operation};
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// What became of a branch, as its service sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// Its actions run: so many are done.
    Open(u32),
    Prepared,
    Committed,
    RolledBack,
}

/// What a service says once instead of doing its work, or around it.
#[derive(Clone, Debug)]
pub(crate) enum Say {
    /// This status and body, and nothing is done.
    Instead(u16, Value),
    /// The work is done, and this is what is heard of it.
    After(u16, Value),
    /// The work is done, once the test lets it.
    Held(Arc<Semaphore>),
    /// The work is done, and the worker says that it is here.
    At(String),
}

/// A service; clones are the same one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Service(Arc<Mutex<Books>>);

#[derive(Debug, Default)]
struct Books {
    branches: BTreeMap<Uuid, Kept>,
    script: BTreeMap<String, VecDeque<Say>>,
    calls: Vec<(usize, Call)>,
    /// What each call showed as its authorization; nothing for none.
    shown: Vec<String>,
    /// The keys of actions that are done, so that none is done twice.
    done: BTreeMap<String, u32>,
    is_read_only: bool,
}

impl Service {
    /// Serves at one more address; gives its base URL.
    pub(crate) async fn serve(&self, worker: usize) -> String {
        self.serve_at(worker, "127.0.0.1:0", CancellationToken::new()).await
    }

    /// Serves at this address until the token is cancelled: from then on nobody listens there.
    pub(crate) async fn serve_at(&self, worker: usize, address: &str, gone: CancellationToken) -> String {
        let router = Router::new().route("/{call}", post(answer)).route("/2pc/{call}", post(answer)).with_state((self.clone(), worker));
        let listener = tokio::net::TcpListener::bind(address).await.expect("a free port");
        let address = listener.local_addr().expect("it has one");
        let served = axum::serve(listener, router).with_graceful_shutdown(async move { gone.cancelled().await });
        tokio::spawn(async move { served.await.expect("it serves") });
        format!("http://{address}")
    }

    /// What it says next to a call of this operation of the service, or of the protocol (`prepare`, …).
    pub(crate) fn says(&self, word: &str, said: Say) -> &Self {
        self.books().script.entry(word.to_owned()).or_default().push_back(said);
        self
    }

    /// As [`Service::says`], to a call of the transaction with this key.
    pub(crate) fn says_to(&self, key: &str, word: &str, said: Say) {
        self.says(&format!("{key}/{word}"), said);
    }

    /// It has changed nothing whenever it is asked for its vote.
    pub(crate) fn read_only(&self) {
        self.books().is_read_only = true;
    }

    /// What it keeps of a transaction.
    pub(crate) fn kept(&self, id: Uuid) -> Option<Kept> {
        self.books().branches.get(&id).copied()
    }

    /// Makes it keep something else.
    pub(crate) fn keep(&self, id: Uuid, kept: Option<Kept>) {
        let mut books = self.books();
        match kept {
            Some(kept) => books.branches.insert(id, kept),
            None => books.branches.remove(&id),
        };
    }

    /// The words of a transaction's calls, in their order.
    pub(crate) fn words(&self, id: Uuid) -> Vec<String> {
        self.calls().into_iter().filter(|(_, call)| call.attempt.instance == id).map(|(_, call)| word_of(&call)).collect()
    }

    /// Every call, with the worker that got it.
    pub(crate) fn calls(&self) -> Vec<(usize, Call)> {
        self.books().calls.clone()
    }

    /// What each call showed, in their order.
    pub(crate) fn shown(&self) -> Vec<String> {
        self.books().shown.clone()
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does what an honest service does.
    fn work(&self, call: &Call) -> (u16, Value) {
        let mut books = self.books();
        let (id, books) = (call.attempt.instance, &mut *books);
        let kept = books.branches.get(&id).copied();
        let refused = |code: &str| (409, json!({ "code": code, "message": "as the test asks" }));
        let (now, answer) = match (call.attempt.operation, kept) {
            (Operation::Action, kept) => {
                let done = call.transaction.as_ref().expect("a call of a transaction").actions_done;
                let is_open = matches!((done, kept), (0, None)) || kept == Some(Kept::Open(done));
                let is_again = books.done.get(&call.idempotency_key) == Some(&done) && kept == Some(Kept::Open(done + 1));
                if !is_open && !is_again {
                    return refused("BRANCH_UNKNOWN");
                }
                books.done.insert(call.idempotency_key.clone(), done);
                (Kept::Open(done + 1), json!({ "by": call.call }))
            }
            (Operation::Prepare, Some(Kept::Open(_))) if books.is_read_only => {
                books.branches.remove(&id);
                return (200, json!({ "vote": "read_only" }));
            }
            (Operation::Prepare, Some(Kept::Open(_) | Kept::Prepared)) => (Kept::Prepared, json!({ "vote": "yes" })),
            (Operation::Commit, Some(Kept::Prepared | Kept::Committed)) => (Kept::Committed, Value::Null),
            (Operation::CommitOnePhase, Some(Kept::Open(_) | Kept::Committed)) => (Kept::Committed, Value::Null),
            (Operation::Rollback, Some(Kept::Committed)) => return refused("BRANCH_COMMITTED"),
            (Operation::Rollback, _) => (Kept::RolledBack, Value::Null),
            (_, Some(Kept::RolledBack)) => return refused("BRANCH_ROLLED_BACK"),
            _ => return refused("BRANCH_UNKNOWN"),
        };
        books.branches.insert(id, now);
        (200, answer)
    }
}

fn word_of(call: &Call) -> String {
    match call.attempt.operation {
        Operation::Action => call.call.clone(),
        operation => operation.to_string(),
    }
}

async fn answer(State((service, worker)): State<(Service, usize)>, shown: HeaderMap, body: axum::Json<Call>) -> Response {
    let call = body.0;
    let shown = shown.get("authorization").map_or("", |value| value.to_str().expect("a text")).to_owned();
    let said = {
        let mut books = service.books();
        books.calls.push((worker, call.clone()));
        books.shown.push(shown);
        let word = word_of(&call);
        let of_key = books.script.get_mut(&format!("{}/{word}", call.key)).and_then(VecDeque::pop_front);
        of_key.or_else(|| books.script.get_mut(&word).and_then(VecDeque::pop_front))
    };
    let of = |(status, body): (u16, Value)| (StatusCode::from_u16(status).expect("a status"), axum::Json(body)).into_response();
    match said {
        None => of(service.work(&call)),
        Some(Say::Instead(status, body)) => of((status, body)),
        Some(Say::After(status, body)) => {
            service.work(&call);
            of((status, body))
        }
        Some(Say::Held(gate)) => {
            drop(gate.acquire().await.expect("the test does not close it"));
            of(service.work(&call))
        }
        Some(Say::At(address)) => {
            let mut response = of(service.work(&call));
            response.headers_mut().insert(headers::BRANCH_ADDRESS, address.parse().expect("a header"));
            response
        }
    }
}
