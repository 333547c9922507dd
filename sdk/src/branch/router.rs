//! The HTTP routes of a participant: calls of a branch, its vote, its decision.

use super::error::{BRANCH_STORAGE, BranchError};
use super::id::BranchId;
use super::manager::{BranchManager, Branching};
use crate::participant::{Answer, CALL_BYTES_MAX, INVALID_CALL, answered, detached, failure, mismatch, read};
use crate::trace::HandlerSpan;
use crate::worker::{CallError, Handled, handled};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::Response;
use axum::routing::post;
use sagamq_api::JsonText;
use sagamq_api::headers::saga::BRANCH_ADDRESS;
use sagamq_api::saga::{Call, Failure, Operation};
use serde::Serialize;
use serde_json::json;
use std::fmt;
use std::future::Future;
use std::sync::Arc;

/// The code of a call that is no call of a branch, at a service that serves nothing else.
pub const NO_TRANSACTION: &str = "NO_TRANSACTION";

type Otherwise = Arc<dyn Fn(Call) -> Handled + Send + Sync>;

/// The routes of a participant without an address of its own, for a service that takes part in two-phase commit only. For more see
/// [`BranchRouter`].
pub fn router(manager: Arc<dyn BranchManager>) -> Router {
    BranchRouter::new(manager).build()
}

/// Builds the routes by which a coordinator reaches a [`BranchManager`]:
///
/// | request | does |
/// |---|---|
/// | `POST /{operation}` | runs an action in the branch of the call's transaction |
/// | `POST /2pc/prepare`, `/2pc/commit`, `/2pc/rollback`, `/2pc/commit-one-phase` | vote and decision |
///
/// The answers are those of every participant: 2xx with the output, 409 with `{code, message}` for a refusal, anything else unknown. What was
/// asked for runs in a task of its own, so it comes to its end when the caller hangs up.
#[must_use = "a builder does nothing until `build`"]
pub struct BranchRouter {
    manager: Arc<dyn BranchManager>,
    address: Option<HeaderValue>,
    otherwise: Option<Otherwise>,
}

impl fmt::Debug for BranchRouter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BranchRouter")
            .field("address", &self.address)
            .field("serves_sagas", &self.otherwise.is_some())
            .finish_non_exhaustive()
    }
}

impl BranchRouter {
    /// Routes to this manager.
    pub fn new(manager: Arc<dyn BranchManager>) -> Self {
        Self { manager, address: None, otherwise: None }
    }

    /// The base URL of **this process**, without a slash at its end, for example `http://10.0.0.7:9000`: all further calls of a branch that was
    /// opened here come to it. A service with more than one process behind one address must say it, because a branch lives in one process.
    ///
    /// # Panics
    /// When it is no `http` or `https` URL of printable characters.
    pub fn advertise(mut self, base_url: &str) -> Self {
        let is_url = base_url.starts_with("http://") || base_url.starts_with("https://");
        let value = HeaderValue::from_str(base_url).ok().filter(|_| is_url);
        self.address = Some(value.expect("the address of a participant is a URL like http://10.0.0.7:9000"));
        self
    }

    /// Where calls go that belong to no transaction: for a service that takes part in sagas as well, under the same paths. Without this they
    /// are refused with [`NO_TRANSACTION`].
    pub fn otherwise<H, F, O>(mut self, handler: H) -> Self
    where
        H: Fn(Call) -> F + Send + Sync + 'static,
        F: Future<Output = Result<O, CallError>> + Send + 'static,
        O: Serialize + Send,
    {
        self.otherwise = Some(Arc::new(move |call| handled(handler(call))));
        self
    }

    /// The routes, to be served alone or merged with others of the service.
    pub fn build(self) -> Router {
        let desk = Arc::new(Desk { manager: self.manager, address: self.address, otherwise: self.otherwise });
        Router::new()
            .route("/{operation}", post(work))
            .route("/2pc/prepare", post(prepare))
            .route("/2pc/commit", post(commit))
            .route("/2pc/rollback", post(rollback))
            .route("/2pc/commit-one-phase", post(commit_one_phase))
            .layer(DefaultBodyLimit::max(CALL_BYTES_MAX))
            .with_state(desk)
    }
}

struct Desk {
    manager: Arc<dyn BranchManager>,
    address: Option<HeaderValue>,
    otherwise: Option<Otherwise>,
}

async fn work(State(desk): State<Arc<Desk>>, Path(operation): Path<String>, headers: HeaderMap, body: Bytes) -> Response {
    let call = match read(&body) {
        Ok(call) if call.call == operation => call,
        Ok(call) => return mismatch(&operation, &call.call).response(),
        Err(invalid) => return invalid.response(),
    };
    let is_branch = call.transaction.is_some();
    let address = desk.address.clone().filter(|_| is_branch);
    let span = HandlerSpan::request(&headers, &call);
    let working = async move {
        if is_branch {
            return desk.manager.work(call).await;
        }
        match &desk.otherwise {
            Some(otherwise) => otherwise(call).await,
            None => Err(no_transaction()),
        }
    };
    let answer = detached(BRANCH_STORAGE, answered(span, working)).await;
    let mut response = answer.response();
    if let Some(address) = address {
        response.headers_mut().insert(BRANCH_ADDRESS, address);
    }
    response
}

async fn prepare(State(desk): State<Arc<Desk>>, headers: HeaderMap, body: Bytes) -> Response {
    let ask = |manager: Arc<dyn BranchManager>, id: BranchId, actions_done: u32| async move {
        let vote = manager.prepare(&id, actions_done).await?;
        Ok(json!({ "vote": vote.as_str() }).into())
    };
    phase(desk, Operation::Prepare, (&headers, &body), ask).await
}

async fn commit(State(desk): State<Arc<Desk>>, headers: HeaderMap, body: Bytes) -> Response {
    decided(desk, Operation::Commit, (&headers, &body), |manager, id, _| manager.commit(id)).await
}

async fn rollback(State(desk): State<Arc<Desk>>, headers: HeaderMap, body: Bytes) -> Response {
    decided(desk, Operation::Rollback, (&headers, &body), |manager, id, _| manager.rollback(id)).await
}

async fn commit_one_phase(State(desk): State<Arc<Desk>>, headers: HeaderMap, body: Bytes) -> Response {
    decided(desk, Operation::CommitOnePhase, (&headers, &body), |manager, id, actions_done| manager.commit_one_phase(id, actions_done))
        .await
}

async fn decided(
    desk: Arc<Desk>,
    operation: Operation,
    request: (&HeaderMap, &Bytes),
    verb: impl for<'a> Fn(&'a dyn BranchManager, &'a BranchId, u32) -> Branching<'a, Result<(), BranchError>> + Send + 'static,
) -> Response {
    let ask = |manager: Arc<dyn BranchManager>, id: BranchId, actions_done: u32| async move {
        verb(&*manager, &id, actions_done).await?;
        Ok(JsonText::null())
    };
    phase(desk, operation, request, ask).await
}

/// Reads a request of phase one or two and does it.
async fn phase<F>(
    desk: Arc<Desk>,
    operation: Operation,
    (headers, body): (&HeaderMap, &Bytes),
    ask: impl FnOnce(Arc<dyn BranchManager>, BranchId, u32) -> F,
) -> Response
where
    F: Future<Output = Result<JsonText, BranchError>> + Send + 'static,
{
    let (span, id, actions_done) = match read(body) {
        Ok(call) if call.attempt.operation != operation => {
            return mismatch(operation.as_str(), call.attempt.operation.as_str()).response();
        }
        Ok(call) => match (BranchId::of(&call), &call.transaction) {
            (Some(Ok(id)), Some(transaction)) => (HandlerSpan::request(headers, &call), id, transaction.actions_done),
            (Some(Err(error)), _) => return Answer::Invalid(failure(INVALID_CALL, error.to_string())).response(),
            (None, _) | (_, None) => return Answer::of(Err(no_transaction())).response(),
        },
        Err(invalid) => return invalid.response(),
    };
    let asking = ask(Arc::clone(&desk.manager), id, actions_done);
    let asked = async move {
        let result = span.run(asking).await;
        match &result {
            Ok(_) => span.end("succeeded", None),
            Err(BranchError::Refused { code, .. }) => span.end("refused", Some(code)),
            Err(BranchError::Unknown { code, .. }) => span.end("unknown", Some(code)),
        }
        of_phase(result)
    };
    detached(BRANCH_STORAGE, asked).await.response()
}

/// The answer to a call without a transaction. Nothing was done, so this is a refusal.
pub(super) fn no_transaction() -> CallError {
    CallError::refused(NO_TRANSACTION, "the call belongs to no transaction, and this participant takes part in two-phase commit only")
}

/// The answer for what a branch said of a question or a decision.
fn of_phase(result: Result<JsonText, BranchError>) -> Answer {
    match result {
        Ok(output) => Answer::Output(output),
        Err(BranchError::Refused { code, message }) => Answer::Refused(Failure { code, message }),
        Err(BranchError::Unknown { code, message }) => Answer::Unknown { failure: Failure { code, message }, retry_after: None },
    }
}
