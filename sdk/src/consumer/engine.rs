//! The loop of a consumer, shared by [`Consumer`](crate::Consumer) and [`SagaWorker`](crate::SagaWorker): they differ only in how
//! a handler's result settles its record.

use super::leases::Leases;
use super::settler::{Settlement, Settler};
use crate::client::Client;
use crate::error::ClientError;
use futures_util::FutureExt as _;
use sagamq_api::group::{Delivery, ReceiveRequest, ReceiveResponse, StartPosition};
use sagamq_api::limits::{LEASE_MS_DEFAULT, RECEIPTS_MAX, RECEIVE_RECORDS_MAX, WAIT_MS_MAX};
use sagamq_api::{ErrorCode, GroupName, TopicName};
use std::any::Any;
use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

/// Pause after a receive that failed for all its retries, and between two looks for a topic that does not exist yet.
const PAUSE: Duration = Duration::from_secs(1);

/// A receive that is younger than this when the consumer stops is waited for: its answer may be on the way, and with it records
/// that would stay leased to nobody. An older one is a long poll that waits for a record to come.
const YOUNG_RECEIVE: Duration = Duration::from_secs(1);

/// How long a stop waits for the last settlements to be answered. Without an answer the records are delivered again.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(10);

/// How a consumer behaves.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) topic: TopicName,
    pub(crate) group: GroupName,
    pub(crate) concurrency: usize,
    pub(crate) prefetch: usize,
    pub(crate) lease: Duration,
    pub(crate) wait: Duration,
    pub(crate) start: StartPosition,
    pub(crate) stop_timeout: Duration,
    pub(crate) wait_for_topic: bool,
}

impl Settings {
    pub(crate) fn new(topic: TopicName, group: GroupName) -> Self {
        Self {
            topic,
            group,
            concurrency: 16,
            prefetch: 64,
            lease: Duration::from_millis(LEASE_MS_DEFAULT),
            wait: Duration::from_millis(WAIT_MS_MAX),
            start: StartPosition::Earliest,
            stop_timeout: Duration::from_secs(30),
            wait_for_topic: false,
        }
    }
}

/// Runs until `shutdown` is cancelled or the server refuses for good.
pub(crate) async fn run<H, F>(client: Client, settings: Settings, shutdown: CancellationToken, handler: H) -> Result<(), ClientError>
where
    H: Fn(Delivery) -> F + Send + Sync + 'static,
    F: Future<Output = Settlement> + Send + 'static,
{
    let leases = Arc::new(Leases::new(settings.lease));
    let (settle, settlements) = mpsc::channel(RECEIPTS_MAX);
    let settler = Settler {
        client: client.clone(),
        topic: settings.topic.clone(),
        group: settings.group.clone(),
        leases: Arc::clone(&leases),
        settlements,
    };
    let settler = tokio::spawn(settler.run());
    let keeper = tokio::spawn({
        let (leases, client, settings) = (Arc::clone(&leases), client.clone(), settings.clone());
        async move { leases.keep(&client, &settings.topic, &settings.group).await }
    });
    let keeper = AbortOnDropHandle::new(keeper);
    let mut engine = Engine {
        client,
        settings,
        handler: Arc::new(handler),
        leases,
        settle,
        queue: VecDeque::new(),
        running: JoinSet::new(),
        receipts: HashMap::new(),
        receiving: None,
    };
    let result = engine.handle_until(&shutdown).await;
    engine.stop().await;
    // Closes the settler's channel.
    drop(engine);
    if tokio::time::timeout(SETTLE_TIMEOUT, settler).await.is_err() {
        tracing::warn!("the last settlements were not answered in time; their records may be delivered again");
    }
    drop(keeper);
    result
}

type Receiving = Pin<Box<dyn Future<Output = Result<ReceiveResponse, ClientError>> + Send>>;

struct Engine<H> {
    client: Client,
    settings: Settings,
    handler: Arc<H>,
    leases: Arc<Leases>,
    settle: mpsc::Sender<(String, Settlement)>,
    /// Leased, not begun.
    queue: VecDeque<Delivery>,
    running: JoinSet<()>,
    /// The record of each running handler.
    receipts: HashMap<Id, String>,
    /// At most one receive at a time, and when it was sent.
    receiving: Option<(Instant, Receiving)>,
}

impl<H, F> Engine<H>
where
    H: Fn(Delivery) -> F + Send + Sync + 'static,
    F: Future<Output = Settlement> + Send + 'static,
{
    async fn handle_until(&mut self, shutdown: &CancellationToken) -> Result<(), ClientError> {
        loop {
            self.begin_handlers();
            self.begin_receive();
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(()),
                // Before the handlers: quick ones are always ready, and the queue would run dry before anybody looked here.
                answer = answer_of(&mut self.receiving) => {
                    self.receiving = None;
                    match answer {
                        Ok(answer) => self.take_in(answer),
                        Err(error) => self.pause_or_fail(error)?,
                    }
                }
                Some(ended) = self.running.join_next_with_id() => {
                    // Panics are caught inside, so nothing cuts a handler off here. If something does, its lease is not kept.
                    if let Some(receipt) = self.ended(ended) {
                        self.leases.release(&receipt);
                    }
                }
            }
        }
    }

    fn begin_handlers(&mut self) {
        while self.running.len() < self.settings.concurrency {
            let Some(delivery) = self.queue.pop_front() else { return };
            // Its lease ran out in the queue: it is or will be delivered to somebody.
            if !self.leases.holds(&delivery.receipt) {
                continue;
            }
            let receipt = delivery.receipt.clone();
            let (handler, settle) = (Arc::clone(&self.handler), self.settle.clone());
            let task = self.running.spawn(async move {
                let receipt = delivery.receipt.clone();
                let handled = AssertUnwindSafe(async move { handler(delivery).await }).catch_unwind().await;
                let settlement = handled.unwrap_or_else(|panic| Settlement::Nack { delay: None, reason: panic_text(&*panic) });
                // The slot stays taken until the settler has room: slow settling slows the receiving.
                drop(settle.send((receipt, settlement)).await);
            });
            self.receipts.insert(task.id(), receipt);
        }
    }

    /// How many more records this process may hold.
    fn room(&self) -> usize {
        (self.settings.concurrency + self.settings.prefetch).saturating_sub(self.queue.len() + self.running.len())
    }

    fn begin_receive(&mut self) {
        // A receive for every freed place would be many small ones: the queue is filled up when it is half empty.
        if self.receiving.is_none() && self.queue.len() <= self.settings.prefetch / 2 && self.room() > 0 {
            self.receiving = Some((Instant::now(), self.receive(Duration::ZERO)));
        }
    }

    fn receive(&self, pause: Duration) -> Receiving {
        let (client, settings) = (self.client.clone(), self.settings.clone());
        let request = ReceiveRequest {
            max_records: Some(u32::try_from(self.room()).unwrap_or(u32::MAX).min(RECEIVE_RECORDS_MAX)),
            wait_ms: Some(millis(settings.wait)),
            lease_ms: Some(millis(settings.lease)),
            auto_ack: false,
            start: settings.start,
        };
        Box::pin(async move {
            tokio::time::sleep(pause).await;
            client.receive(&settings.topic, &settings.group, &request).await
        })
    }

    fn take_in(&mut self, answer: ReceiveResponse) {
        self.leases.take(answer.deliveries.iter().map(|delivery| delivery.receipt.as_str()));
        self.queue.extend(answer.deliveries);
    }

    /// A server that is away or overloaded is waited for; a refusal that stands ends the consumer.
    fn pause_or_fail(&mut self, error: ClientError) -> Result<(), ClientError> {
        let is_awaited = self.settings.wait_for_topic && error.code() == Some(ErrorCode::TopicNotFound);
        if !(error.is_retryable() || error.is_outcome_unknown() || is_awaited) {
            return Err(error);
        }
        tracing::warn!(topic = %self.settings.topic, group = %self.settings.group, %error, "receiving failed; trying again");
        self.receiving = Some((Instant::now() + PAUSE, self.receive(PAUSE)));
        Ok(())
    }

    /// Forgets a handler that ended. Its record, if the handler was cut off before it could settle it.
    fn ended(&mut self, ended: Result<(Id, ()), JoinError>) -> Option<String> {
        match ended {
            Ok((id, ())) => {
                self.receipts.remove(&id);
                None
            }
            Err(error) => self.receipts.remove(&error.id()),
        }
    }

    /// Stops receiving, gives back what was not begun, waits for what was.
    async fn stop(&mut self) {
        let deadline = Instant::now() + self.settings.stop_timeout;
        self.last_receive().await;
        for delivery in std::mem::take(&mut self.queue) {
            // The settler has no room when the server is away; then the leases run out instead.
            drop(tokio::time::timeout_at(deadline, self.settle.send((delivery.receipt, Settlement::GiveBack))).await);
        }
        while let Ok(Some(ended)) = tokio::time::timeout_at(deadline, self.running.join_next_with_id()).await {
            self.ended(ended);
        }
        if self.running.is_empty() {
            return;
        }
        tracing::warn!(handlers = self.running.len(), "handlers did not finish in time; their records are given back");
        self.running.abort_all();
        let reason = "the consumer was stopped before the handler finished".to_owned();
        let cut_off = Settlement::Nack { delay: None, reason };
        while let Some(ended) = self.running.join_next_with_id().await {
            if let Some(receipt) = self.ended(ended) {
                drop(self.settle.try_send((receipt, cut_off.clone())));
            }
        }
    }

    async fn last_receive(&mut self) {
        let Some((sent, receive)) = self.receiving.take() else { return };
        if sent > Instant::now() {
            // It waits out a pause and was not sent.
            return;
        }
        if let Ok(Ok(answer)) = tokio::time::timeout_at(sent + YOUNG_RECEIVE, receive).await {
            self.take_in(answer);
        }
    }
}

/// The answer of the receive that is in flight; never, if there is none.
async fn answer_of(receiving: &mut Option<(Instant, Receiving)>) -> Result<ReceiveResponse, ClientError> {
    match receiving {
        Some((_, receive)) => receive.await,
        None => std::future::pending().await,
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// What a panic said.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> String {
    let said = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("the handler panicked: {}", said.unwrap_or("without a text"))
}
