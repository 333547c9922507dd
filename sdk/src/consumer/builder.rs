//! How a consumer is set up, and how it is run.

use super::engine::{Settings, receive_from, run};
use super::{HandlerError, Settlement};
use crate::client::Client;
use crate::error::ClientError;
use crate::trace::HandlerSpan;
use sagamq_api::limits::{LEASE_MS_MAX, LEASE_MS_MIN, RECEIVE_RECORDS_MAX, WAIT_MS_MAX};
use sagamq_api::pipeline::{AckWithRecordsRequest, ProduceTo};
use sagamq_api::queue::{Delivery, StartPosition};
use sagamq_api::{ErrorCode, GroupName, TopicName};
use std::future::Future;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Builds a [`Consumer`].
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until `build` or `run`"]
pub struct ConsumerBuilder {
    client: Client,
    settings: Settings,
}

impl ConsumerBuilder {
    pub(crate) fn new(client: Client, topic: TopicName, group: GroupName) -> Self {
        Self { client, settings: Settings::new(topic, group) }
    }

    /// Records that are leased ahead of the handlers (default: as many as [`Self::concurrency`]; 0: only what a handler is free for).
    /// More hides the way to the server. Fewer are held back from other consumers, and fewer come back when the process is killed. Every end but a kill gives
    /// back what was not begun; neither counts it. While a record is held that was delivered three times, or that came back from a process
    /// that was killed, nothing is prefetched; one that came back twice is handled alone.
    pub fn prefetch(mut self, records: usize) -> Self {
        self.settings.prefetch = Some(records.min(RECEIVE_RECORDS_MAX as usize));
        self
    }

    /// Handlers that run at the same time (default 16, at least 1). With 1, records are handled one after the other; a group keeps no
    /// order of a key beyond that, see the guide on ordering.
    ///
    /// A handler must not block its thread:
    /// database drivers without async, files and long computations belong into `tokio::task::spawn_blocking`. Blocked threads also stop the
    /// extension of leases, and records are handled twice.
    pub fn concurrency(mut self, handlers: usize) -> Self {
        self.settings.concurrency = handlers.clamp(1, RECEIVE_RECORDS_MAX as usize);
        self
    }

    /// How long a record is leased at a time (default 30 s; 1 s to 12 h). It is extended at its half while the record is held, so
    /// this is not how long a handler may take: it is how long after a crash of this process the record is delivered again.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.settings.lease = lease.clamp(Duration::from_millis(LEASE_MS_MIN), Duration::from_millis(LEASE_MS_MAX));
        self
    }

    /// How long the server holds back an empty answer (default and at most 20 s).
    pub fn wait(mut self, wait: Duration) -> Self {
        self.settings.wait = wait.min(Duration::from_millis(WAIT_MS_MAX));
        self
    }

    /// Where a group that does not exist yet begins (default: with the oldest record).
    pub fn start(mut self, start: StartPosition) -> Self {
        self.settings.start = start;
        self
    }

    /// How long one handler may take (default: as long as it likes). Then it is cut off at its next await and its record given back. A
    /// handler that blocks its thread does not notice.
    pub fn handler_timeout(mut self, timeout: Duration) -> Self {
        self.settings.handling.timeout = Some(timeout);
        self
    }

    /// Whether a handler goes on when the lease of its record is lost (default: no, it is cut off at its next await, because the record
    /// is somebody else's by then). Either way [`lease_lost`](crate::lease_lost) tells it.
    pub fn outlive_lease(mut self, outlive: bool) -> Self {
        self.settings.handling.outlives_its_lease = outlive;
        self
    }

    /// How long a stop waits for running handlers (default 30 s). Those that still run then are cut off at their next await and
    /// their records given back; those that block their thread are abandoned a second later, and their leases run out. The last
    /// acknowledgements may take up to 10 s more if the server is slow to answer.
    pub fn stop_timeout(mut self, timeout: Duration) -> Self {
        self.settings.stop_timeout = timeout;
        self
    }

    /// Whether to wait for a topic that does not exist yet (default: no, [`Consumer::run`] returns `TOPIC_NOT_FOUND`).
    pub fn wait_for_topic(mut self, wait: bool) -> Self {
        self.settings.wait_for_topic = wait;
        self
    }

    /// The consumer.
    #[must_use]
    pub fn build(self) -> Consumer {
        Consumer { client: self.client, settings: self.settings }
    }

    /// Builds and runs, see [`Consumer::process`].
    ///
    /// # Errors
    /// As [`Consumer::run`].
    pub async fn process<H, F>(self, shutdown: CancellationToken, handler: H) -> Result<(), ClientError>
    where
        H: Fn(Delivery) -> F + Send + Sync + 'static,
        F: Future<Output = Result<Vec<ProduceTo>, HandlerError>> + Send + 'static,
    {
        self.build().process(shutdown, handler).await
    }

    /// Builds and runs, see [`Consumer::run`].
    ///
    /// # Errors
    /// As [`Consumer::run`].
    pub async fn run<H, F>(self, shutdown: CancellationToken, handler: H) -> Result<(), ClientError>
    where
        H: Fn(Delivery) -> F + Send + Sync + 'static,
        F: Future<Output = Result<(), HandlerError>> + Send + 'static,
    {
        self.build().run(shutdown, handler).await
    }
}

/// A consumer of one queue group.
///
/// Delivery is at least once: a record whose handler returned `Ok` is acknowledged; if the acknowledgement is lost or comes after
/// the lease, the record is delivered again. Make the handler idempotent, for example by the record's partition and offset.
///
/// ```no_run
/// use sagamq_sdk::{CancellationToken, Client, HandlerError};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let client = Client::new("http://127.0.0.1:7070")?;
/// let shutdown = CancellationToken::new();
/// let consumer = client.consumer("orders".parse()?, "billing".parse()?).concurrency(8);
/// consumer
///     .run(shutdown, |delivery| async move {
///         let order: serde_json::Value = match delivery.record.json() {
///             Ok(order) => order,
///             Err(reason) => return Err(HandlerError::terminate(format!("no order: {reason}"))),
///         };
///         println!("{order}, delivery {}", delivery.attempt);
///         Ok(())
///     })
///     .await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Consumer {
    client: Client,
    settings: Settings,
}

impl Consumer {
    /// Handles records until `shutdown` is cancelled. Then it receives nothing more, gives back what was prefetched and not
    /// begun, lets running handlers finish (see [`ConsumerBuilder::stop_timeout`]), settles, and returns.
    ///
    /// **Do not drop this future to stop: cancel `shutdown` and await it.** Dropped, running handlers are cut off at their next await, which counts
    /// as an attempt, and what was fetched stays leased until its lease runs out.
    ///
    /// A handler must not block its thread, see [`ConsumerBuilder::concurrency`].
    ///
    /// A server that is away or overloaded does not end it. A handler that panics counts as a
    /// [`HandlerError::Retry`].
    ///
    /// # Errors
    /// What the server refuses for good, for example `TOPIC_NOT_FOUND`; running handlers are finished first.
    pub async fn run<H, F>(self, shutdown: CancellationToken, handler: H) -> Result<(), ClientError>
    where
        H: Fn(Delivery) -> F + Send + Sync + 'static,
        F: Future<Output = Result<(), HandlerError>> + Send + 'static,
    {
        let (topic, group) = (self.settings.topic.clone(), self.settings.group.clone());
        let settling = move |delivery: Delivery| {
            let span = HandlerSpan::record(&topic, &group, &delivery);
            let handled = span.enter(|| handler(delivery));
            async move {
                let settlement = match span.run(handled).await {
                    Ok(()) => Settlement::Ack,
                    Err(HandlerError::Retry { delay, reason }) => Settlement::Nack { delay, reason },
                    Err(HandlerError::Terminate { reason }) => Settlement::Terminate { reason },
                };
                end(span, &settlement);
                settlement
            }
        };
        let receive = receive_from(&self.client, &self.settings);
        run(self.client, self.settings, receive, shutdown, settling).await
    }

    /// As [`Consumer::run`], of a handler that makes records of each record: they are stored in the commit that acknowledges it. So each record
    /// is processed until it is done, and what was made of it is stored once, whatever dies meanwhile: effectively once, without a database.
    /// A handler may run more than once for a record; what it returned counts only with the acknowledgement.
    ///
    /// Records that cannot be stored (an unknown topic, too large) count as a [`HandlerError::Retry`].
    ///
    /// # Errors
    /// As [`Consumer::run`].
    pub async fn process<H, F>(self, shutdown: CancellationToken, handler: H) -> Result<(), ClientError>
    where
        H: Fn(Delivery) -> F + Send + Sync + 'static,
        F: Future<Output = Result<Vec<ProduceTo>, HandlerError>> + Send + 'static,
    {
        let (client, topic, group) = (self.client.clone(), self.settings.topic.clone(), self.settings.group.clone());
        let settling = move |delivery: Delivery| {
            let (client, topic, group) = (client.clone(), topic.clone(), group.clone());
            let receipts = vec![delivery.receipt.clone()];
            let span = HandlerSpan::record(&topic, &group, &delivery);
            let handled = span.enter(|| handler(delivery));
            let settling = async move {
                let produce = match handled.await {
                    Ok(produce) => produce,
                    Err(HandlerError::Retry { delay, reason }) => return Settlement::Nack { delay, reason },
                    Err(HandlerError::Terminate { reason }) => return Settlement::Terminate { reason },
                };
                if produce.iter().all(|to| to.records.is_empty()) {
                    return Settlement::Ack;
                }
                let produce = produce.into_iter().filter(|to| !to.records.is_empty()).collect();
                match client.ack_with_records(&topic, &group, &AckWithRecordsRequest { receipts, produce }).await {
                    Ok(_) => Settlement::Settled,
                    // Nothing was stored, because the server takes nothing now: nobody has failed, so it is no attempt.
                    Err(error) if error.is_retryable() && !error.is_outcome_unknown() => {
                        tracing::warn!(%topic, %group, %error, "what was made of a record is not taken now: it is given back, and done again");
                        Settlement::GiveBack
                    }
                    // It is somebody else's now, or the outcome is not known: then the lease runs out, and if it is delivered again, nothing
                    // of this was stored.
                    Err(error) if error.code() == Some(ErrorCode::ReceiptExpired) || error.is_outcome_unknown() => {
                        tracing::warn!(%topic, %group, %error, "a record was not acknowledged; unless it was after all, it will be delivered again");
                        Settlement::Settled
                    }
                    Err(error) => Settlement::Nack { delay: None, reason: format!("what was made of it cannot be stored: {error}") },
                }
            };
            async move {
                let settlement = span.run(settling).await;
                end(span, &settlement);
                settlement
            }
        };
        let receive = receive_from(&self.client, &self.settings);
        run(self.client, self.settings, receive, shutdown, settling).await
    }
}

/// The handler is done, and its record is to be settled so.
fn end(span: HandlerSpan, settlement: &Settlement) {
    match settlement {
        Settlement::Ack | Settlement::Settled => span.end("acknowledged", None),
        Settlement::GiveBack => span.end("given_back", None),
        Settlement::Nack { .. } => span.end("retried", Some("retried")),
        Settlement::Terminate { .. } => span.end("terminated", Some("terminated")),
    }
}
