//! The loop of a consumer, shared by [`Consumer`](crate::Consumer) and [`SagaWorker`](crate::SagaWorker): they differ only in how
//! a handler's result settles its record.

use super::alone::Alone;
use super::handling::Handling;
use super::lease_book::LeaseTokens;
use super::leases::{Keeping, Leases};
use super::settler::{Settlement, Settler};
use crate::client::Client;
use crate::error::ClientError;
use futures_util::future::select_all;
use sagamq_api::limits::{LEASE_MS_DEFAULT, RECEIPTS_MAX, RECEIVE_RECORDS_MAX, WAIT_MS_MAX};
use sagamq_api::queue::{Delivery, ReceiveRequest, ReceiveResponse, StartPosition};
use sagamq_api::{ErrorCode, GroupName, TopicName};
use std::collections::{HashSet, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, JoinMap};
use uuid::Uuid;

/// Pause after a receive that failed for all its retries, and between two looks for a topic that does not exist yet; half of it at
/// least and half as much again at most, so that many consumers do not come back together.
const PAUSE: Duration = Duration::from_secs(1);

/// How often a trouble that lasts is told.
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// A receive that is younger than this when the consumer stops is waited for: its answer may be on the way, and with it records
/// that would stay leased to nobody. An older one is a long poll that waits for a record to come.
const YOUNG_RECEIVE: Duration = Duration::from_secs(1);

/// How long a stop waits for the last settlements to be answered. Without an answer the records are delivered again.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a stop waits for handlers that were cut off. Those that block their thread do not notice, and are left alone.
const CUT_OFF_TIMEOUT: Duration = Duration::from_secs(1);

/// From this attempt on a record may be what kills the process, and so may one that came back from somebody who had not begun: beside it
/// nothing is prefetched, because all that is held would come back again.
const SUSPECT_ATTEMPT: u32 = 3;

/// A record that came back so often from somebody who had not begun runs alone: what runs beside it would have to say as well that it has begun, and
/// fail with it. Not at the first time: after one kill of the process, for whatever reason, all that it held has come back once.
const ALONE_RETURNS: u32 = 2;

/// How a consumer behaves.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) topic: TopicName,
    pub(crate) group: GroupName,
    pub(crate) concurrency: usize,
    /// None: as many as handlers may run.
    pub(crate) prefetch: Option<usize>,
    pub(crate) lease: Duration,
    pub(crate) wait: Duration,
    pub(crate) start: StartPosition,
    pub(crate) stop_timeout: Duration,
    pub(crate) wait_for_topic: bool,
    pub(crate) handling: Handling,
    /// Receives at a time, at most.
    pub(crate) receives: usize,
    /// Whether a record counts as tried when its handler begins, and not when it comes.
    pub(crate) counts_from_begin: bool,
}

impl Settings {
    pub(crate) fn new(topic: TopicName, group: GroupName) -> Self {
        Self {
            topic,
            group,
            concurrency: 16,
            prefetch: None,
            lease: Duration::from_millis(LEASE_MS_DEFAULT),
            wait: Duration::from_millis(WAIT_MS_MAX),
            start: StartPosition::Earliest,
            stop_timeout: Duration::from_secs(30),
            wait_for_topic: false,
            handling: Handling::default(),
            receives: 1,
            counts_from_begin: true,
        }
    }

    fn prefetch(&self) -> usize {
        self.prefetch.unwrap_or(self.concurrency)
    }
}

/// An answer with records that is on its way.
pub(crate) type Receiving = Pin<Box<dyn Future<Output = Result<ReceiveResponse, ClientError>> + Send>>;

/// How records are asked for.
pub(crate) type Receive = Arc<dyn Fn(ReceiveRequest) -> Receiving + Send + Sync>;

/// Asks for the records of a group.
pub(crate) fn receive_from(client: &Client, settings: &Settings) -> Receive {
    let (client, topic, group) = (client.clone(), settings.topic.clone(), settings.group.clone());
    Arc::new(move |request| {
        let (client, topic, group) = (client.clone(), topic.clone(), group.clone());
        Box::pin(async move { client.receive(&topic, &group, &request).await })
    })
}

/// Runs until `shutdown` is cancelled or the server refuses for good.
pub(crate) async fn run<H, F>(
    client: Client,
    settings: Settings,
    receive: Receive,
    shutdown: CancellationToken,
    handler: H,
) -> Result<(), ClientError>
where
    H: Fn(Delivery) -> F + Send + Sync + 'static,
    F: Future<Output = Settlement> + Send + 'static,
{
    let leases = Arc::new(Leases::new(settings.lease));
    let (settle, settlements) = mpsc::channel(RECEIPTS_MAX);
    let closing = CancellationToken::new();
    let settler = Settler {
        client: client.clone(),
        topic: settings.topic.clone(),
        group: settings.group.clone(),
        leases: Arc::clone(&leases),
        settlements,
        closing: closing.clone(),
    };
    let settler = tokio::spawn(settler.run());
    let keeping = Arc::new(Keeping::new(&client, settings.topic.clone(), settings.group.clone(), settings.lease));
    let keeper = tokio::spawn({
        let (leases, keeping) = (Arc::clone(&leases), Arc::clone(&keeping));
        async move { leases.keep(&keeping).await }
    });
    let keeper = AbortOnDropHandle::new(keeper);
    let mut engine = Engine {
        receive,
        settings,
        handler: Arc::new(handler),
        leases,
        keeping,
        settle,
        queue: VecDeque::new(),
        alone: Alone::default(),
        running: JoinMap::new(),
        suspects: HashSet::new(),
        receiving: Vec::new(),
        has_heard: false,
        is_busy: false,
        told: None,
    };
    let result = engine.handle_until(&shutdown).await;
    engine.stop().await;
    // Whoever finished has handed over its settlement by now.
    drop(engine);
    closing.cancel();
    if tokio::time::timeout(SETTLE_TIMEOUT, settler).await.is_err() {
        tracing::warn!("the last settlements were not answered in time; their records may be delivered again");
    }
    drop(keeper);
    result
}

struct Engine<H> {
    receive: Receive,
    settings: Settings,
    handler: Arc<H>,
    leases: Arc<Leases>,
    keeping: Arc<Keeping>,
    settle: mpsc::Sender<(String, Settlement)>,
    /// Leased, not begun, and since when it is here.
    queue: VecDeque<(Instant, Delivery)>,
    /// As the queue, of those that run alone.
    alone: Alone<Delivery>,
    /// The running handlers by the receipts of their records.
    running: JoinMap<String, ()>,
    /// Receipts of records held that were delivered so often that they may be what kills the process.
    suspects: HashSet<String>,
    receiving: Vec<Asked>,
    /// Whether there was an answer yet.
    has_heard: bool,
    /// Whether the last answer had several records.
    is_busy: bool,
    /// When the trouble that lasts was told last.
    told: Option<Instant>,
}

/// A receive that is under way.
struct Asked {
    /// When it was sent, or is to be.
    sent: Instant,
    /// Records that may come of it.
    room: usize,
    answer: Receiving,
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
            let wakes = self.alone.wakes(Instant::now());
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(()),
                // Before the handlers: quick ones are always ready, and the queue would run dry before anybody looked here.
                answer = answer_of(&mut self.receiving) => {
                    match answer {
                        Ok(answer) => self.take_in(answer),
                        Err(error) => self.pause_or_fail(error)?,
                    }
                }
                Some((receipt, ended)) = self.running.join_next() => {
                    self.suspects.remove(&receipt);
                    // Panics are caught inside, so nothing cuts a handler off here. If something does, its lease is not kept.
                    if ended.is_err() {
                        self.leases.release(&receipt);
                    }
                }
                () = tokio::time::sleep_until(wakes.unwrap_or_else(Instant::now)), if wakes.is_some() => {}
            }
        }
    }

    fn begin_handlers(&mut self) {
        if self.running.is_empty() {
            self.alone.ended();
        }
        let now = Instant::now();
        while self.running.len() < self.settings.concurrency && !self.alone.runs(now) {
            let Some((since, delivery)) = self.queue.pop_front() else { break };
            if let Some(lease) = self.lease_of(&delivery.receipt) {
                self.begin(since, delivery, lease, None);
            }
        }
        while self.running.len() < self.settings.concurrency
            && let Some((since, delivery)) = self.alone.next(self.running.is_empty() && self.receiving.is_empty(), now)
        {
            let Some(lease) = self.lease_of(&delivery.receipt) else { continue };
            let others: Vec<String> = self.alone.begin(now).into_iter().map(|delivery| delivery.receipt).collect();
            self.suspects.retain(|suspect| !others.contains(suspect));
            self.begin(since, delivery, lease, Some(others));
        }
    }

    /// The lease of a record with which a handler begins now. `None`: it ran out in the queue, so the record is or will be delivered to somebody.
    fn lease_of(&mut self, receipt: &str) -> Option<LeaseTokens> {
        let lease = self.leases.begin(receipt);
        if lease.is_none() {
            self.suspects.remove(receipt);
        }
        lease
    }

    /// Begins with a record. `others`: it runs alone, and these are given back before.
    fn begin(&mut self, since: Instant, mut delivery: Delivery, lease: LeaseTokens, others: Option<Vec<String>>) {
        // The time in the queue counts: the handler is told how long ago it is now.
        if let Some(ago_ms) = &mut delivery.handed_out_ago_ms {
            *ago_ms = ago_ms.saturating_add(millis(since.elapsed()));
        }
        let receipt = delivery.receipt.clone();
        let (handler, settle, handling) = (Arc::clone(&self.handler), self.settle.clone(), self.settings.handling);
        let (leases, keeping) = (Arc::clone(&self.leases), Arc::clone(&self.keeping));
        self.running.spawn(receipt.clone(), async move {
            if let Some(others) = others {
                // What is held beside it would come back once more, and what comes back too often counts as tried.
                leases.give_back(&keeping, others).await;
                // Who had it before may have died of it before he could say that he had begun: now this is said first, so that it counts.
                if !leases.say_begun(&keeping, &receipt).await {
                    leases.release(&receipt);
                    return;
                }
            }
            let settlement = handling.run(move || handler(delivery), lease).await;
            // The slot stays taken until the settler has room: slow settling slows the receiving.
            drop(settle.send((receipt, settlement)).await);
        });
    }

    /// How many more records this process may hold, beside those that it has asked for.
    fn room(&self) -> usize {
        if self.alone.keeps_others(Instant::now()) {
            return 0;
        }
        // Nobody knows yet whether the process before died of a record that comes now.
        let knows = self.has_heard || !self.settings.counts_from_begin;
        let prefetch = if knows && self.suspects.is_empty() { self.settings.prefetch() } else { 0 };
        let asked: usize = self.receiving.iter().map(|asked| asked.room).sum();
        (self.settings.concurrency + prefetch).saturating_sub(self.queue.len() + self.running.len() + asked)
    }

    fn begin_receive(&mut self) {
        // A receive for every freed place would be many small ones: the queue is filled up when it is half empty.
        while self.receiving.len() < self.receives() && self.queue.len() <= self.settings.prefetch() / 2 && self.room() > 0 {
            self.ask(Duration::ZERO);
        }
    }

    /// How many receives may be under way. Where records come one by one, a second one would have the record, and what is asked for together
    /// with the reply to the record before would wait for nothing.
    fn receives(&self) -> usize {
        if self.is_busy { self.settings.receives } else { 1 }
    }

    /// Asks for records after a pause.
    fn ask(&mut self, pause: Duration) {
        let (receive, settings) = (Arc::clone(&self.receive), &self.settings);
        // Each leaves room for those that can be under way beside it.
        let room = self.room().div_ceil(self.receives().saturating_sub(self.receiving.len()).max(1)).max(1);
        let request = ReceiveRequest {
            max_records: Some(u32::try_from(room).unwrap_or(u32::MAX).min(RECEIVE_RECORDS_MAX)),
            wait_ms: Some(millis(settings.wait)),
            lease_ms: Some(millis(settings.lease)),
            auto_ack: false,
            not_begun: settings.counts_from_begin,
            start: settings.start,
        };
        let answer = Box::pin(async move {
            rest(pause).await;
            receive(request).await
        });
        self.receiving.push(Asked { sent: Instant::now() + pause, room, answer });
    }

    fn take_in(&mut self, answer: ReceiveResponse) {
        if self.told.take().is_some() {
            tracing::info!(topic = %self.settings.topic, group = %self.settings.group, "receiving again");
        }
        self.has_heard = true;
        self.is_busy = answer.deliveries.len() > 1;
        self.leases.take(answer.deliveries.iter().map(|delivery| delivery.receipt.as_str()));
        let suspects = answer.deliveries.iter().filter(|delivery| delivery.attempt >= SUSPECT_ATTEMPT || delivery.returned > 0);
        self.suspects.extend(suspects.map(|delivery| delivery.receipt.clone()));
        let now = Instant::now();
        let runs_alone = |delivery: &Delivery| self.settings.counts_from_begin && delivery.returned >= ALONE_RETURNS;
        let (alone, others): (Vec<Delivery>, Vec<Delivery>) = answer.deliveries.into_iter().partition(runs_alone);
        alone.into_iter().for_each(|delivery| self.alone.push(delivery, now));
        self.queue.extend(others.into_iter().map(|delivery| (now, delivery)));
    }

    /// A server that is away or overloaded is waited for; a refusal that stands ends the consumer, and so does an answer that cannot be
    /// read: the next one could not be read either.
    fn pause_or_fail(&mut self, error: ClientError) -> Result<(), ClientError> {
        let is_awaited = self.settings.wait_for_topic && error.code() == Some(ErrorCode::TopicNotFound);
        let is_unreadable = matches!(error.last(), ClientError::Decode { .. });
        if is_unreadable || !(error.is_retryable() || error.is_outcome_unknown() || is_awaited) {
            return Err(error);
        }
        let (topic, group) = (&self.settings.topic, &self.settings.group);
        if self.told.is_none_or(|at| at.elapsed() >= TOLD_EVERY) {
            self.told = Some(Instant::now());
            if is_awaited {
                tracing::info!(%topic, %group, "the topic does not exist yet; waiting for it");
            } else {
                tracing::warn!(%topic, %group, %error, "receiving failed; trying again");
            }
        } else {
            tracing::debug!(%topic, %group, %error, "receiving failed again");
        }
        let pause = PAUSE.mul_f64(0.5 + draw());
        self.ask(pause);
        Ok(())
    }

    /// Stops receiving, gives back what was not begun, waits for what was.
    async fn stop(&mut self) {
        let deadline = Instant::now() + self.settings.stop_timeout;
        self.last_receive().await;
        let unbegun: Vec<Delivery> = self.queue.drain(..).map(|(_, delivery)| delivery).chain(self.alone.drain()).collect();
        for delivery in unbegun {
            // The settler has no room when the server is away; then the leases run out instead.
            drop(tokio::time::timeout_at(deadline, self.settle.send((delivery.receipt, Settlement::GiveBack))).await);
        }
        while let Ok(Some(_)) = tokio::time::timeout_at(deadline, self.running.join_next()).await {}
        if self.running.is_empty() {
            return;
        }
        tracing::warn!(handlers = self.running.len(), "handlers did not finish in time; they are cut off and their records given back");
        self.running.abort_all();
        let patience = Instant::now() + CUT_OFF_TIMEOUT;
        while let Ok(Some((receipt, ended))) = tokio::time::timeout_at(patience, self.running.join_next()).await {
            if ended.is_err() {
                drop(self.settle.try_send((receipt, cut_off())));
            }
        }
        if !self.running.is_empty() {
            // Nothing can stop a thread. Their leases are not extended any more, so their records are delivered again when those run out.
            tracing::warn!(handlers = self.running.len(), "handlers block their threads and were abandoned; they may still be running");
            for receipt in self.running.keys() {
                self.leases.release(receipt);
            }
            self.running.detach_all();
        }
    }

    async fn last_receive(&mut self) {
        for Asked { sent, answer, .. } in std::mem::take(&mut self.receiving) {
            // One that waits out a pause was not sent.
            if sent <= Instant::now()
                && let Ok(Ok(answer)) = tokio::time::timeout_at(sent + YOUNG_RECEIVE, answer).await
            {
                self.take_in(answer);
            }
        }
    }
}

/// What was not begun when the consumer is dropped without a stop (by a `select!`, a panic beside it) is given back all the same, as long
/// as the runtime lives: the settler is a task of its own.
impl<H> Drop for Engine<H> {
    fn drop(&mut self) {
        for delivery in self.queue.drain(..).map(|(_, delivery)| delivery).chain(self.alone.drain()) {
            drop(self.settle.try_send((delivery.receipt, Settlement::GiveBack)));
        }
        for receipt in self.running.keys() {
            drop(self.settle.try_send((receipt.clone(), cut_off())));
        }
    }
}

/// Waits for so long. A sleep of nothing would last until the timer's next millisecond, which is more than a request takes.
async fn rest(pause: Duration) {
    if !pause.is_zero() {
        tokio::time::sleep(pause).await;
    }
}

fn cut_off() -> Settlement {
    Settlement::Nack { delay: None, reason: "the consumer was stopped before the handler finished".to_owned() }
}

/// The answer of the first receive that has one; never, if none is under way.
async fn answer_of(receiving: &mut Vec<Asked>) -> Result<ReceiveResponse, ClientError> {
    if receiving.is_empty() {
        return std::future::pending().await;
    }
    let (answer, index, _) = select_all(receiving.iter_mut().map(|asked| &mut asked.answer)).await;
    drop(receiving.remove(index));
    answer
}

/// A number from 0 to 1.
fn draw() -> f64 {
    f64::from(Uuid::new_v4().as_fields().0) / f64::from(u32::MAX)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::poll;
    use std::pin::pin;

    #[tokio::test]
    async fn what_is_asked_for_at_once_waits_for_no_timer() {
        assert!(poll!(pin!(rest(Duration::ZERO))).is_ready());
        assert!(poll!(pin!(rest(PAUSE))).is_pending());
    }
}
