//! The worker: from a command record to the handler, from the handler to the reply.

use super::CallError;
use super::call_error::{Handled, handled, outcome, outcome_of};
use super::clerk::{Clerk, REQUESTS_WITH_NEXT};
use super::limits::Limits;
use crate::client::Client;
use crate::consumer::{Handling, Settings, Settlement, run};
use crate::error::ClientError;
use crate::trace::HandlerSpan;
use sagamq_api::limits::{LEASE_MS_MAX, LEASE_MS_MIN, RECEIVE_RECORDS_MAX};
use sagamq_api::queue::Delivery;
use sagamq_api::saga::{Call, CallOutcome, CompleteCall, Failure, WORKER_GROUP};
use sagamq_api::{ErrorCode, GroupName, JsonText, TopicName};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// The failure code of a call that the worker has no handler for.
pub(crate) const UNKNOWN_CALL: &str = "UNKNOWN_CALL";

/// How long a worker that has stopped waits for its last requests.
const LAST_REQUESTS_TIMEOUT: Duration = Duration::from_secs(5);

type Handler = Box<dyn Fn(Call) -> Handled + Send + Sync>;

/// Builds a [`SagaWorker`].
#[must_use = "a builder does nothing until `build`"]
pub struct SagaWorkerBuilder {
    client: Client,
    settings: Settings,
    limits: Limits,
    handlers: BTreeMap<String, Handler>,
}

impl fmt::Debug for SagaWorkerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SagaWorkerBuilder").field("settings", &self.settings).field("calls", &self.handlers.keys()).finish_non_exhaustive()
    }
}

impl SagaWorkerBuilder {
    /// Registers the handler of an operation of the service: what a definition names in `call` or `compensate`. A second handler
    /// of the same name replaces the first.
    ///
    /// What it returns is anything that can be written as JSON; a [`JsonText`] is passed on byte for byte.
    ///
    /// The handler is called again with the same [`Call::idempotency_key`] whenever an outcome is not known for sure. Make its
    /// effect happen once: the crate's barrier does it for a RocksDB and a PostgreSQL.
    ///
    /// It must not block its thread, see [`Self::concurrency`].
    pub fn on<H, F, O>(mut self, call: impl Into<String>, handler: H) -> Self
    where
        H: Fn(Call) -> F + Send + Sync + 'static,
        F: Future<Output = Result<O, CallError>> + Send + 'static,
        O: Serialize + Send,
    {
        self.handlers.insert(call.into(), Box::new(move |call| handled(handler(call))));
        self
    }

    /// Calls that are handled at the same time (default 16, at least 1).
    ///
    /// A handler must not block its thread:
    /// database drivers without async, files and long computations belong into `tokio::task::spawn_blocking`. Blocked threads also stop the
    /// extension of leases, and calls are handled twice.
    pub fn concurrency(mut self, calls: usize) -> Self {
        self.settings.concurrency = calls.clamp(1, RECEIVE_RECORDS_MAX as usize);
        self
    }

    /// Commands that are leased ahead of the handlers (default: as many as [`Self::concurrency`]). Commands have deadlines: do not hoard
    /// them.
    pub fn prefetch(mut self, commands: usize) -> Self {
        self.settings.prefetch = Some(commands.min(RECEIVE_RECORDS_MAX as usize));
        self
    }

    /// How long a command is leased at a time (default 30 s; 1 s to 12 h); extended at its half while the call is held.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.settings.lease = lease.clamp(Duration::from_millis(LEASE_MS_MIN), Duration::from_millis(LEASE_MS_MAX));
        self
    }

    /// How long one handler may take (default: as long as it likes). Then it is cut off at its next await, and the outcome of the call is
    /// unknown with the code `HANDLER_TIMEOUT`. A handler that blocks its thread does not notice.
    pub fn handler_timeout(mut self, timeout: Duration) -> Self {
        self.limits.timeout = Some(timeout);
        self
    }

    /// Whether a handler goes on when the lease of its command is lost (default: no, it is cut off at its next await, because the command
    /// is somebody else's by then). Either way [`lease_lost`](crate::lease_lost) tells it, and what a handler has returned is replied, with
    /// a lease or without.
    ///
    /// A handler is told in the same way, and not cut off, when the attempt of its call is over: its outcome still counts, as long as the
    /// call is live.
    pub fn outlive_lease(mut self, outlive: bool) -> Self {
        self.limits.outlives_its_lease = outlive;
        self
    }

    /// How long a stop waits for running handlers (default 30 s), see [`ConsumerBuilder::stop_timeout`](crate::ConsumerBuilder::stop_timeout).
    pub fn stop_timeout(mut self, timeout: Duration) -> Self {
        self.settings.stop_timeout = timeout;
        self
    }

    /// Whether to wait for a command topic that does not exist yet (default: yes, it is made when a definition that names the
    /// service is published). With `false`, [`SagaWorker::run`] returns `TOPIC_NOT_FOUND`.
    pub fn wait_for_topic(mut self, wait: bool) -> Self {
        self.settings.wait_for_topic = wait;
        self
    }

    /// The worker.
    #[must_use]
    pub fn build(self) -> SagaWorker {
        let (topic, group) = (self.settings.topic.clone(), self.settings.group.clone());
        let desk = Arc::new(Desk { topic, group, handlers: self.handlers, limits: self.limits });
        SagaWorker { client: self.client, desk, settings: self.settings }
    }
}

/// A participant of sagas. Any number of workers may serve one topic.
///
/// ```no_run
/// use sagamq_sdk::{CallError, CancellationToken, Client, SagaWorker, api::saga::Call};
/// use serde_json::{Value, json};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let client = Client::new("http://127.0.0.1:7070")?;
/// let worker = SagaWorker::builder(client, "inventory.commands".parse()?)
///     .on("reserve", |call: Call| async move {
///         if call.arguments.to_value()["quantity"].as_u64() > Some(100) {
///             return Err(CallError::refused("OUT_OF_STOCK", "there are 100 of it"));
///         }
///         Ok::<Value, CallError>(json!({ "reservation": call.idempotency_key }))
///     })
///     .on("release", |_call: Call| async move { Ok(Value::Null) })
///     .concurrency(16)
///     .build();
/// worker.run(CancellationToken::new()).await?;
/// # Ok(()) }
/// ```
pub struct SagaWorker {
    client: Client,
    desk: Arc<Desk>,
    settings: Settings,
}

impl fmt::Debug for SagaWorker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SagaWorker").field("settings", &self.settings).field("calls", &self.desk.handlers.keys()).finish_non_exhaustive()
    }
}

impl SagaWorker {
    /// A worker of the service whose commands come through `topic`, without handlers yet.
    ///
    /// # Panics
    /// Never: the name of the workers' group is legal.
    pub fn builder(client: Client, topic: TopicName) -> SagaWorkerBuilder {
        let group = WORKER_GROUP.parse().expect("the name of the workers' group is a legal name");
        // The worker itself cuts a handler off whose lease is lost: what a handler has returned is told without one.
        let handling = Handling { outlives_its_lease: true, ..Handling::default() };
        let settings = Settings {
            wait_for_topic: true,
            handling,
            receives: REQUESTS_WITH_NEXT,
            counts_from_begin: false,
            ..Settings::new(topic, group)
        };
        SagaWorkerBuilder { client, settings, limits: Limits::default(), handlers: BTreeMap::new() }
    }

    /// Handles calls until `shutdown` is cancelled, then stops as a [`Consumer`](crate::Consumer) does: what was begun is
    /// finished and replied, what was not begun is given back.
    ///
    /// **Do not drop this future to stop: cancel `shutdown` and await it.** Dropped, running handlers are cut off at their next await, which counts
    /// as an attempt, and what was fetched stays leased until its lease runs out.
    ///
    /// # Errors
    /// What the server refuses for good when commands are received.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), ClientError> {
        let Self { client, desk, settings } = self;
        let (clerk, work) = Clerk::new(client.clone(), settings.topic.clone());
        let (receive, work) = (clerk.receive(), tokio::spawn(work));
        let result = run(client, settings, receive, shutdown, move |delivery| Arc::clone(&desk).serve(clerk.clone(), delivery)).await;
        // What came too late is given back. Handlers that block their threads keep the clerk, and are not waited for.
        drop(tokio::time::timeout(LAST_REQUESTS_TIMEOUT, work).await);
        result
    }
}

/// Handlers, and the way back.
struct Desk {
    topic: TopicName,
    group: GroupName,
    handlers: BTreeMap<String, Handler>,
    limits: Limits,
}

impl Desk {
    async fn serve(self: Arc<Self>, clerk: Clerk, delivery: Delivery) -> Settlement {
        let call: Call = match delivery.record.json() {
            Ok(call) => call,
            Err(error) => return Settlement::Terminate { reason: format!("the record is no call of a saga: {error}") },
        };
        // Its time is over, so the saga has ended or will end the attempt: beginning now would only be in the way of those that are on time.
        if delivery.handed_out_ago_ms.is_some_and(|ago_ms| ago_ms >= call.timeout_ms) {
            tracing::debug!(attempt = %call.attempt, "the call's time was over before it began");
            return Settlement::Ack;
        }
        let attempt = call.attempt.clone();
        let span = HandlerSpan::command(&self.topic, &self.group, &delivery, &call);
        match span.run(self.handle(call)).await {
            Some(result) => {
                span.end(outcome_of(&result), result.as_ref().err().and_then(CallError::failure).map(|failure| failure.code.as_str()));
                reply(&clerk, CompleteCall { attempt, reply: outcome(result) }).await
            }
            // It is somebody else's now; there is nothing left to settle.
            None => {
                span.end("lease_lost", Some("lease_lost"));
                Settlement::Settled
            }
        }
    }

    /// What the handler returned; `None`, if the lease was lost before it did.
    async fn handle(&self, call: Call) -> Option<Result<JsonText, CallError>> {
        let Some(handler) = self.handlers.get(&call.call) else {
            let known = self.handlers.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            return Some(Err(CallError::unknown(UNKNOWN_CALL, format!("the worker has no handler for `{}`; it has: {known}", call.call))));
        };
        self.limits.run(move || handler(call)).await
    }
}

async fn reply(clerk: &Clerk, reply: CompleteCall) -> Settlement {
    let error = match clerk.reply(reply.clone()).await {
        Ok(_) => return Settlement::Settled,
        Err(error) => error,
    };
    tracing::debug!(attempt = %reply.attempt, %error, "reply was not applied");
    match error.code() {
        // Nobody waits for this reply any more, and nobody ever will: the command is stale.
        Some(ErrorCode::Fenced | ErrorCode::SagaNotFound | ErrorCode::SagaStateConflict) => Settlement::Ack,
        // A reply that the server can never take, for example one whose output is over the bound of a request. A success is told
        // without its output; else the effect may be there, so the saga is told that the outcome is unknown, and why.
        Some(code) if !error.is_retryable() && !error.is_outcome_unknown() => reply_unknown(clerk, reply, code, &error).await,
        // The server may or may not have it. Delivered again, the call is handled again under the same key.
        _ => Settlement::Nack { delay: None, reason: format!("the reply could not be given: {error}") },
    }
}

async fn reply_unknown(clerk: &Clerk, refused: CompleteCall, code: ErrorCode, error: &ClientError) -> Settlement {
    let failure = Failure { code: code.as_str().to_owned(), message: format!("the reply was refused: {error}") };
    // That it took effect is known, and must not become doubt because of what it returned.
    let word = match refused.reply {
        CallOutcome::Succeeded { .. } => CallOutcome::Succeeded { output: JsonText::null() },
        _ => CallOutcome::Unknown { failure, retry_after_ms: None },
    };
    match clerk.reply(CompleteCall { reply: word, ..refused }).await {
        Ok(_) => Settlement::Settled,
        Err(again) => Settlement::Nack { delay: None, reason: format!("the reply was refused: {again}") },
    }
}
