//! The pump: from an outbox to the broker, whatever database the outbox lies in.

use crate::client::Client;
use crate::error::ClientError;
use crate::retry::RetryPolicy;
use sagamq_api::record::ProduceRecord;
use sagamq_api::{ErrorCode, TopicName};
use std::collections::BTreeMap;
use std::fmt::Display;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

/// Most bytes of records in one request, unless one record alone has more.
const REQUEST_BYTES_MAX: usize = 1024 * 1024;

/// Bounds of the wait before a topic, or the database, is tried again.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// A record that waits.
pub(super) struct Entry {
    /// Its number; older ones have lower ones.
    pub(super) id: i64,
    pub(super) topic: String,
    /// The record, JSON.
    pub(super) record: String,
}

/// An outbox in some database, as its only pump sees it.
pub(super) trait Source: Send + 'static {
    type Error: Display + Send;

    /// Becomes the one that pumps, or stays it; false if somebody else is. Called before each turn.
    fn lead(&mut self) -> impl Future<Output = Result<bool, Self::Error>> + Send;

    /// The oldest records that wait, in order, some thousand at most; none of these topics.
    fn oldest(&mut self, without: Vec<String>) -> impl Future<Output = Result<Vec<Entry>, Self::Error>> + Send;

    /// Deletes what is stored by the broker.
    fn sent(&mut self, ids: Vec<i64>) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Sets aside what never will be.
    fn refused(&mut self, id: i64, reason: String) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Lets the connection go after an error.
    fn reset(&mut self);
}

/// Produces what an outbox holds.
pub(super) struct Pump<S> {
    source: S,
    client: Client,
    wake: Arc<Notify>,
    poll_interval: Duration,
}

/// Topics that could not be reached.
#[derive(Default)]
struct Blocked(BTreeMap<String, (Instant, Duration)>);

impl Blocked {
    /// Those that are not to be tried yet.
    fn now(&self) -> Vec<String> {
        let now = Instant::now();
        self.0.iter().filter(|(_, (until, _))| *until > now).map(|(topic, _)| topic.clone()).collect()
    }

    fn add(&mut self, topic: &str) -> Duration {
        let wait = self.0.get(topic).map_or(BACKOFF.0, |(_, wait)| (*wait * 2).min(BACKOFF.1));
        self.0.insert(topic.to_owned(), (Instant::now() + wait, wait));
        wait
    }
}

/// What is to be done about a request that was not answered with success.
enum Fault {
    /// The same request may succeed later.
    Later,
    /// This record, or one of these, can never be stored.
    Refused,
}

fn fault(error: &ClientError) -> Fault {
    if matches!(error, ClientError::InvalidRequest { .. }) {
        return Fault::Refused;
    }
    match error.code() {
        Some(
            ErrorCode::MalformedRequest
            | ErrorCode::InvalidRequest
            | ErrorCode::InvalidBase64
            | ErrorCode::PartitionNotFound
            | ErrorCode::RecordTooLarge
            | ErrorCode::BodyTooLarge
            | ErrorCode::PayloadTooLarge
            | ErrorCode::HeadersTooLarge
            | ErrorCode::IdempotencyKeyReused,
        ) => Fault::Refused,
        // Nobody knows, or somebody has to do something: make the topic, mend the proxy, start the broker.
        _ => Fault::Later,
    }
}

impl<S: Source> Pump<S> {
    pub(super) fn new(source: S, client: &Client, wake: Arc<Notify>, poll_interval: Duration) -> Self {
        // Topics are tried one after the other: what has to wait does so by its topic, and not within a request.
        Self { source, client: client.with_retry(RetryPolicy::none()), wake, poll_interval }
    }

    /// Pumps until `shutdown` is cancelled; then the turn that runs is finished. Never gives up: what fails is logged and tried again.
    pub(super) async fn run(mut self, shutdown: CancellationToken) {
        let mut blocked = Blocked::default();
        let mut backoff = BACKOFF.0;
        while !shutdown.is_cancelled() {
            let wait = match self.turn(&mut blocked).await {
                Ok(true) => {
                    backoff = BACKOFF.0;
                    continue;
                }
                Ok(false) => {
                    backoff = BACKOFF.0;
                    self.poll_interval
                }
                Err(error) => {
                    tracing::warn!(%error, "the outbox cannot be read or written; trying again");
                    self.source.reset();
                    backoff = (backoff * 2).min(BACKOFF.1);
                    backoff
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = self.wake.notified() => {}
                () = sleep(wait) => {}
            }
        }
    }

    /// Produces a batch; whether there may be more.
    async fn turn(&mut self, blocked: &mut Blocked) -> Result<bool, S::Error> {
        if !self.source.lead().await? {
            return Ok(false);
        }
        let entries = self.source.oldest(blocked.now()).await?;
        let mut by_topic: BTreeMap<String, Vec<Entry>> = BTreeMap::new();
        for entry in entries {
            by_topic.entry(entry.topic.clone()).or_default().push(entry);
        }
        let mut has_sent = false;
        for (topic, entries) in by_topic {
            has_sent |= self.send_topic(&topic, entries, blocked).await?;
        }
        Ok(has_sent)
    }

    /// Produces the records of one topic, in order, as far as it goes.
    async fn send_topic(&mut self, topic: &str, entries: Vec<Entry>, blocked: &mut Blocked) -> Result<bool, S::Error> {
        let mut has_sent = false;
        for request in requests(entries) {
            if !self.send(topic, request).await? {
                let wait = blocked.add(topic);
                tracing::warn!(topic, wait_ms = wait.as_millis(), "records of the outbox wait");
                return Ok(has_sent);
            }
            has_sent = true;
        }
        blocked.0.remove(topic);
        Ok(has_sent)
    }

    /// Produces these records, or sets aside those that can never be; false if they have to wait.
    async fn send(&mut self, topic: &str, entries: Vec<Entry>) -> Result<bool, S::Error> {
        let error = match self.produce(topic, &entries).await {
            Ok(()) => {
                self.source.sent(entries.iter().map(|entry| entry.id).collect()).await?;
                return Ok(true);
            }
            Err(Unsent::Failed(error)) => error,
            Err(Unsent::Unreadable(reason)) => return self.one_by_one(topic, entries, &reason).await,
        };
        match fault(&error) {
            Fault::Later => {
                tracing::warn!(topic, %error, "records of the outbox could not be produced");
                Ok(false)
            }
            Fault::Refused => self.one_by_one(topic, entries, &error.to_string()).await,
        }
    }

    /// One of these records can never be stored: which one, and the others are.
    async fn one_by_one(&mut self, topic: &str, mut entries: Vec<Entry>, reason: &str) -> Result<bool, S::Error> {
        if entries.len() > 1 {
            for entry in entries {
                if !Box::pin(self.send(topic, vec![entry])).await? {
                    return Ok(false);
                }
            }
            return Ok(true);
        }
        if let Some(entry) = entries.pop() {
            tracing::error!(topic, id = entry.id, reason, "a record of the outbox can never be stored; it is set aside");
            self.source.refused(entry.id, reason.to_owned()).await?;
        }
        Ok(true)
    }

    async fn produce(&self, topic: &str, entries: &[Entry]) -> Result<(), Unsent> {
        let topic: TopicName = topic.parse().map_err(|error| Unsent::Unreadable(format!("{error}")))?;
        let records: Result<Vec<ProduceRecord>, _> = entries.iter().map(|entry| serde_json::from_str(&entry.record)).collect();
        let records = records.map_err(|error| Unsent::Unreadable(format!("the record cannot be read: {error}")))?;
        self.client.produce(&topic, records, None).await.map(drop).map_err(Unsent::Failed)
    }
}

/// Why records were not produced.
enum Unsent {
    Failed(ClientError),
    /// One of them is damaged in the outbox.
    Unreadable(String),
}

/// What goes into one request each.
fn requests(entries: Vec<Entry>) -> Vec<Vec<Entry>> {
    let (mut requests, mut bytes) = (Vec::<Vec<Entry>>::new(), 0);
    for entry in entries {
        bytes += entry.record.len();
        match requests.last_mut() {
            Some(request) if bytes <= REQUEST_BYTES_MAX => request.push(entry),
            _ => {
                bytes = entry.record.len();
                requests.push(vec![entry]);
            }
        }
    }
    requests
}
