//! The HTTP routes of a participant of sagas: a function an operation.

use super::answer::{Answer, CALL_BYTES_MAX, answered, detached, failure, mismatch, read};
use super::{INVALID_CALL, SAGAS_ONLY};
use crate::trace::HandlerSpan;
use crate::worker::{CallError, HANDLER_PANICKED, HANDLER_TIMEOUT, Handled, UNKNOWN_CALL, handled};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::post;
use sagamq_api::saga::{Call, Operation};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

type Handler = Arc<dyn Fn(Call) -> Handled + Send + Sync>;

/// Builds the routes by which the orchestrator calls a service over HTTP: `POST /{operation}`, to be nested under the base URL that
/// definitions name.
///
/// | the handler returns | answer |
/// |---|---|
/// | `Ok(output)` | 200 with the output |
/// | [`CallError::Refused`] | 409 with `{code, message}` |
/// | [`CallError::Ongoing`] | 202 with `Retry-After` |
/// | [`CallError::Unknown`], every other error, a panic, more time than it has | 503 with `{code, message}` |
///
/// A body that is no call is 400 and an operation without a handler 404: no handler has run, and the saga tries again.
///
/// A handler runs in a task of its own, so it comes to its end when the caller hangs up; the next attempt gets its answer from the barrier.
/// With a barrier a handler is one function:
///
/// ```no_run
/// # #[cfg(feature = "rocksdb")] {
/// use sagamq_sdk::barrier::rocksdb::{MultiThreaded, Transaction, TransactionDB};
/// use sagamq_sdk::barrier::{RocksBarrier, RocksOperations};
/// use sagamq_sdk::participant::ParticipantRouter;
/// use sagamq_sdk::{Call, CallError};
/// use serde_json::{Value, json};
/// use std::sync::Arc;
///
/// type Db = TransactionDB<MultiThreaded>;
///
/// fn reserve(txn: &Transaction<'_, Db>, call: &Call) -> Result<Value, CallError> {
///     if txn.get_for_update("place", true)?.is_some() {
///         return Err(CallError::refused("TAKEN", "somebody has it"));
///     }
///     txn.put("place", &call.key)?;
///     Ok(json!({ "place": 1 }))
/// }
///
/// fn release(txn: &Transaction<'_, Db>, _: &Call) -> Result<(), CallError> {
///     Ok(txn.delete("place")?)
/// }
///
/// async fn serve(db: Arc<Db>) -> std::io::Result<()> {
///     let operations = RocksOperations::new(db, RocksBarrier::new());
///     let saga = ParticipantRouter::new().on("reserve", operations.local(reserve)).on("release", operations.local(release)).build();
///     let listener = tokio::net::TcpListener::bind("127.0.0.1:8080").await?;
///     axum::serve(listener, axum::Router::new().nest("/saga", saga)).await
/// }
/// # }
/// ```
#[derive(Clone, Default)]
#[must_use = "a builder does nothing until `build`"]
pub struct ParticipantRouter {
    handlers: BTreeMap<String, Handler>,
    timeout: Option<Duration>,
}

impl fmt::Debug for ParticipantRouter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ParticipantRouter").field("calls", &self.handlers.keys()).field("timeout", &self.timeout).finish()
    }
}

impl ParticipantRouter {
    /// Without handlers yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Registers the handler of an operation of the service: what a definition names in `call` or `compensate`. A second handler of the same
    /// name replaces the first. The same handler serves [`SagaWorkerBuilder::on`](crate::SagaWorkerBuilder::on).
    ///
    /// It is called again with the same [`Call::idempotency_key`] whenever an outcome is not known for sure. Make its effect happen once: a
    /// barrier does.
    pub fn on<H, F, O>(mut self, call: impl Into<String>, handler: H) -> Self
    where
        H: Fn(Call) -> F + Send + Sync + 'static,
        F: Future<Output = Result<O, CallError>> + Send + 'static,
        O: Serialize + Send,
    {
        self.handlers.insert(call.into(), Arc::new(move |call| handled(handler(call))));
        self
    }

    /// How long one handler may take (default: as long as it likes). Then it is cut off at its next await, and the outcome of the call is
    /// unknown with the code `HANDLER_TIMEOUT`. A handler that blocks its thread does not notice.
    pub fn handler_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// The routes.
    pub fn build(self) -> Router {
        Router::new().route("/{operation}", post(serve)).layer(DefaultBodyLimit::max(CALL_BYTES_MAX)).with_state(Arc::new(self))
    }

    /// The handler of this call, or why there is none to run.
    fn handler(&self, operation: &str, call: &Call) -> Result<Handler, Answer> {
        if call.call != operation {
            return Err(mismatch(operation, &call.call));
        }
        if call.transaction.is_some() {
            let message = "the call belongs to a transaction, and this participant takes part in sagas only";
            // Nothing was done, so this is a refusal: the transaction need not wait for anybody.
            return Err(Answer::Refused(failure(SAGAS_ONLY, message)));
        }
        if !matches!(call.attempt.operation, Operation::Action | Operation::Compensation) {
            return Err(Answer::Invalid(failure(INVALID_CALL, format!("no saga asks for {}", call.attempt.operation))));
        }
        self.handlers.get(operation).cloned().ok_or_else(|| {
            let known = self.handlers.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            Answer::NotFound(failure(UNKNOWN_CALL, format!("there is no handler for `{operation}`; there is: {known}")))
        })
    }
}

async fn serve(State(router): State<Arc<ParticipantRouter>>, Path(operation): Path<String>, headers: HeaderMap, body: Bytes) -> Response {
    let found = read(&body).and_then(|call| Ok((router.handler(&operation, &call)?, call)));
    let (handler, call) = match found {
        Ok(found) => found,
        Err(answer) => return answer.response(),
    };
    let timeout = router.timeout;
    let span = HandlerSpan::request(&headers, &call);
    let handling = async move {
        match timeout {
            None => handler(call).await,
            Some(timeout) => tokio::time::timeout(timeout, handler(call)).await.unwrap_or_else(|_| {
                Err(CallError::unknown(HANDLER_TIMEOUT, format!("the handler did not finish within {} ms", timeout.as_millis())))
            }),
        }
    };
    detached(HANDLER_PANICKED, answered(span, handling)).await.response()
}
