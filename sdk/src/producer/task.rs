//! The task of a producer: gather, send, answer, again. It owns the order.

use super::batch::{Batch, BatchLimits, Entry};
use super::form::json_body;
use super::partitions::Partitions;
use crate::client::Client;
use crate::error::ClientError;
use crate::retry::RetryPolicy;
use sagamq_api::TopicName;
use sagamq_api::topic::ProducedRecord;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

/// What a producer tells its task.
#[derive(Debug)]
pub(super) enum Message {
    /// A record to send.
    Record(Entry),
    /// Answer when everything before is settled.
    Flush(oneshot::Sender<()>),
    /// Take nothing more, settle what is there, answer, end.
    Close(oneshot::Sender<()>),
}

/// What ended the gathering of a batch.
enum Next {
    /// Nothing more is there, or the batch is full.
    Send,
    /// This record did not fit: it begins the next batch.
    Begin(Box<Entry>),
    /// Settle the batch, then do this.
    Then(Message),
}

pub(super) struct ProducerTask {
    client: Client,
    topic: TopicName,
    limits: BatchLimits,
    linger: Duration,
    delivery_timeout: Duration,
    messages: mpsc::Receiver<Message>,
    closing: Vec<oneshot::Sender<()>>,
    partitions: Partitions,
}

impl ProducerTask {
    pub(super) fn new(
        client: Client,
        topic: TopicName,
        limits: BatchLimits,
        linger: Duration,
        delivery_timeout: Duration,
        messages: mpsc::Receiver<Message>,
    ) -> Self {
        Self { client, topic, limits, linger, delivery_timeout, messages, closing: Vec::new(), partitions: Partitions::default() }
    }

    /// Runs until the last producer is dropped or one is closed, and the buffer is empty.
    pub(super) async fn run(mut self) {
        while let Some(message) = self.messages.recv().await {
            let mut next = Some(message);
            while let Some(message) = next.take() {
                next = match message {
                    Message::Record(first) => self.batch_from(first).await,
                    Message::Flush(done) => {
                        let _ = done.send(());
                        None
                    }
                    Message::Close(done) => {
                        // Refuses new records; those in the channel are still received.
                        self.messages.close();
                        self.closing.push(done);
                        None
                    }
                };
            }
        }
        for done in self.closing {
            let _ = done.send(());
        }
    }

    /// Sends the batch that begins with this record; returns what came behind it.
    async fn batch_from(&mut self, first: Entry) -> Option<Message> {
        let mut batch = Batch::new(first);
        let next = self.fill(&mut batch).await;
        self.settle(batch).await;
        match next {
            Next::Send => None,
            Next::Begin(entry) => Some(Message::Record(*entry)),
            Next::Then(message) => Some(message),
        }
    }

    /// Adds what waits already, and what comes within the linger.
    async fn fill(&mut self, batch: &mut Batch) -> Next {
        let until = Instant::now() + self.linger;
        while !batch.is_full(self.limits) {
            let message = match self.messages.try_recv() {
                Ok(message) => message,
                Err(_) if self.linger.is_zero() => return Next::Send,
                Err(_) => match tokio::time::timeout_at(until, self.messages.recv()).await {
                    Ok(Some(message)) => message,
                    Ok(None) | Err(_) => return Next::Send,
                },
            };
            match message {
                Message::Record(entry) => {
                    if let Err(entry) = batch.push(entry, self.limits) {
                        return Next::Begin(entry);
                    }
                }
                other @ (Message::Flush(_) | Message::Close(_)) => return Next::Then(other),
            }
        }
        Next::Send
    }

    /// Sends a batch until every record of it is settled. A refused batch stored nothing, so its halves can be sent in its
    /// place, in order: one bad record does not fail its neighbours.
    async fn settle(&mut self, batch: Batch) {
        let mut waiting = vec![batch];
        while let Some(batch) = waiting.pop() {
            // A batch that waited behind others while the server was away: what is too old by now is not sent any more.
            let Some(batch) = batch.expire(self.delivery_timeout) else { continue };
            match self.send(&batch).await {
                Ok(places) => batch.stored(places),
                Err(error) if is_about_a_record(&error) => match batch.split() {
                    Ok((front, back)) => waiting.extend([back, front]),
                    Err(single) => single.failed(&error),
                },
                Err(error) => batch.failed(&error),
            }
        }
    }

    async fn send(&mut self, batch: &Batch) -> Result<Vec<ProducedRecord>, ClientError> {
        let policy = self.client.retry_policy();
        let deadline = policy.deadline.min(self.delivery_timeout.saturating_sub(batch.waited()));
        let client = self.client.with_retry(RetryPolicy { deadline, ..*policy });
        let places = if batch.is_json() {
            client.produce_json(&self.topic, json_body(batch.forms(), batch.bytes()), batch.key()).await?
        } else {
            self.partitions.send(&client, &self.topic, batch).await?
        };
        if places.len() == batch.len() {
            return Ok(places);
        }
        let reason = format!("{} records were sent, the answer has {}", batch.len(), places.len());
        Err(ClientError::Decode { url: self.client.url().to_owned(), source: std::sync::Arc::new(serde::ser::Error::custom(reason)) })
    }
}

/// Whether the server refused the batch for what may be the fault of a single record.
fn is_about_a_record(error: &ClientError) -> bool {
    use sagamq_api::ErrorCode::{
        BodyTooLarge, IdempotencyKeyReused, InvalidBase64, InvalidBatch, InvalidName, InvalidRequest, MalformedRequest, PartitionNotFound,
        RecordTooLarge,
    };
    // What cannot be written beside the others, for example for its time, was not sent at all.
    let is_unwritable = matches!(error, ClientError::InvalidRequest { .. });
    let is_refused = !error.is_outcome_unknown()
        && matches!(
            error.code(),
            Some(
                BodyTooLarge
                    | IdempotencyKeyReused
                    | InvalidBase64
                    | InvalidBatch
                    | InvalidName
                    | InvalidRequest
                    | MalformedRequest
                    | PartitionNotFound
                    | RecordTooLarge
            )
        );
    is_unwritable || is_refused
}
