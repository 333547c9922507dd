//! `Producer`: many small sends become few requests, without waiting for company.
//!
//! One background task per producer gives each record to its partition, and has up to five batches of each in flight. While they are, the records that
//! arrive are gathered; they are the next batch. So a lone record travels at once, a crowd travels together, and the order of the sends is the order in
//! the partitions: each batch says who sends it and which of his it is, the same over all its retries, and the server takes them in that order, each once.
//! Records that have keys of their own, and all others as JSON, travel one request at a time, under those keys or one of the request.

mod batch;
mod builder;
mod flight;
mod form;
mod lane;
mod partitions;
mod task;

pub use builder::ProducerBuilder;
pub use form::Encoding;

use crate::error::ClientError;
use crate::trace;
use batch::Entry;
use form::Form;
use sagamq_api::record::ProduceRecord;
use sagamq_api::topic::ProducedRecord;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use task::Message;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::Instant;
use uuid::Uuid;

/// Sends records of one topic in order and in batches. Cloning is cheap; clones share the order, the buffer and the task.
///
/// Records with the same key, or for the same partition, are stored in the order of their sends. A record with neither goes where
/// its batch goes: within a batch such records keep their order, over batches they may lie in different partitions.
///
/// Dropping the last clone sends what is buffered, if the runtime lives on, without telling anybody how it went. At the end of `main` the runtime does
/// not live on: call [`Producer::close`] and await it.
///
/// ```no_run
/// use sagamq_sdk::{Client, api::record::ProduceRecord};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let producer = Client::new("http://127.0.0.1:7070")?.producer("orders".parse()?).build();
/// // One after the other, each durable before the next:
/// let first = producer.send(ProduceRecord::text("one").with_key("k")).await?;
/// // Many at once, in this order:
/// let stored = producer.send_all((0..1_000).map(|n| ProduceRecord::text(n.to_string()))).await?;
/// println!("{:?} … {:?}", first.offset, stored[999].offset);
/// producer.close().await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Producer {
    messages: mpsc::Sender<Message>,
    /// Permits are bytes of buffer: who sends more than there is room for waits here.
    room: Arc<Semaphore>,
    buffer_bytes_max: usize,
    record_bytes_max: usize,
    record_keys: bool,
    encoding: Encoding,
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer")
            .field("buffer_bytes_max", &self.buffer_bytes_max)
            .field("buffer_bytes_left", &self.room.available_permits())
            .field("closed", &self.messages.is_closed())
            .finish()
    }
}

impl Producer {
    /// Sends one record and waits until it is as durable as its topic promises (by default synced). Dropped before its end, the record may be sent or not; dropped while it
    /// waits for room, it is not.
    ///
    /// # Errors
    /// The error of the record's batch after all retries; see [`Client::produce`](crate::Client::produce). A batch that is
    /// refused is split, so a bad record fails alone. [`ClientError::Closed`] after [`Self::close`]; in doubt with
    /// [`ClientError::Abandoned`] when the runtime in which the producer was built ended meanwhile.
    pub async fn send(&self, record: ProduceRecord) -> Result<ProducedRecord, ClientError> {
        self.enqueue(record).await?.await
    }

    /// Puts one record into the buffer, waiting for room, and returns: what becomes of it is known by awaiting the result.
    /// Records are stored in the order in which they are put in.
    ///
    /// # Errors
    /// [`ClientError::InvalidRequest`] when the record alone is larger than a request may be, [`ClientError::Closed`].
    pub async fn enqueue(&self, mut record: ProduceRecord) -> Result<PendingRecord, ClientError> {
        if self.record_keys {
            record.idempotency_key.get_or_insert_with(|| Uuid::new_v4().to_string());
        }
        trace::note(&mut record.headers);
        let (own_key, since) = (record.idempotency_key.clone(), Instant::now());
        let form = Form::of(record, self.encoding)?;
        if form.bytes() > self.record_bytes_max {
            let reason = format!("the record has {} bytes, a request at most {}", form.bytes(), self.record_bytes_max);
            return Err(ClientError::InvalidRequest { reason });
        }
        // A record larger than the whole buffer travels alone: it takes all the room there is.
        let bytes = form.bytes().min(self.buffer_bytes_max);
        let permits = u32::try_from(bytes).expect("a record has less than 4 GiB: it was checked above");
        let room = Arc::clone(&self.room).acquire_many_owned(permits).await.map_err(|_| ClientError::Closed)?;
        let (answer, receiver) = oneshot::channel();
        let entry = Entry { form, own_key: own_key.clone(), since, is_dealt_again: false, answer, _room: room };
        self.messages.send(Message::Record(entry)).await.map_err(|_| ClientError::Closed)?;
        Ok(PendingRecord { receiver, own_key })
    }

    /// Sends many records in order and waits until all are as durable as their topic promises (by default synced).
    ///
    /// A record that fails does not hold back the ones behind it.
    ///
    /// # Errors
    /// [`SendAllError`] with what became of each record, when one of them was not stored or may not have been.
    pub async fn send_all(&self, records: impl IntoIterator<Item = ProduceRecord>) -> Result<Vec<ProducedRecord>, SendAllError> {
        let mut pending = Vec::new();
        for record in records {
            pending.push(self.enqueue(record).await);
        }
        let mut results = Vec::with_capacity(pending.len());
        for record in pending {
            results.push(match record {
                Ok(pending) => pending.await,
                Err(error) => Err(error),
            });
        }
        if results.iter().all(Result::is_ok) { Ok(results.into_iter().flatten().collect()) } else { Err(SendAllError { results }) }
    }

    /// Waits until every record that was put in before is settled: stored, or its sender was told why not. It comes to an end however
    /// the server is, see [`ProducerBuilder::delivery_timeout`].
    ///
    /// # Errors
    /// [`ClientError::Closed`] when the producer was closed before.
    pub async fn flush(&self) -> Result<(), ClientError> {
        let (done, receiver) = oneshot::channel();
        self.messages.send(Message::Flush(done)).await.map_err(|_| ClientError::Closed)?;
        receiver.await.map_err(|_| ClientError::Abandoned)
    }

    /// [`Self::flush`], for no longer than this.
    ///
    /// # Errors
    /// [`ClientError::FlushElapsed`] when records are still on their way, [`ClientError::Closed`].
    pub async fn flush_within(&self, at_most: Duration) -> Result<(), ClientError> {
        within(at_most, self.flush()).await
    }

    /// [`Self::close`], waiting for no longer than this. The producer is closed all the same, and goes on with what it has as long as the
    /// runtime lives.
    ///
    /// # Errors
    /// [`ClientError::FlushElapsed`] when records are still on their way, [`ClientError::Closed`].
    pub async fn close_within(&self, at_most: Duration) -> Result<(), ClientError> {
        within(at_most, self.close()).await
    }

    /// Takes no more records, from any clone, and waits until every record that was put in is settled.
    ///
    /// # Errors
    /// [`ClientError::Closed`] when the producer was closed before.
    pub async fn close(&self) -> Result<(), ClientError> {
        let (done, receiver) = oneshot::channel();
        self.messages.send(Message::Close(done)).await.map_err(|_| ClientError::Closed)?;
        receiver.await.map_err(|_| ClientError::Abandoned)
    }
}

async fn within(at_most: Duration, settled: impl Future<Output = Result<(), ClientError>>) -> Result<(), ClientError> {
    let begun = Instant::now();
    match tokio::time::timeout(at_most, settled).await {
        Ok(result) => result,
        Err(_) => Err(ClientError::FlushElapsed { waited: begun.elapsed() }),
    }
}

/// Not all records of a [`Producer::send_all`] were stored.
#[derive(Clone, Debug)]
pub struct SendAllError {
    /// What became of each record, in their order.
    pub results: Vec<Result<ProducedRecord, ClientError>>,
}

impl SendAllError {
    /// The first error and the number of its record, counted from 0.
    fn first(&self) -> Option<(usize, &ClientError)> {
        self.results.iter().enumerate().find_map(|(index, result)| Some((index, result.as_ref().err()?)))
    }
}

impl fmt::Display for SendAllError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let failed = self.results.iter().filter(|result| result.is_err()).count();
        write!(f, "{failed} of {} records were not stored for sure", self.results.len())?;
        match self.first() {
            Some((index, error)) => write!(f, "; record {index}: {error}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for SendAllError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.first().map(|(_, error)| error as _)
    }
}

/// A record in the buffer of a [`Producer`]. Awaiting it tells where the record was stored; dropping it does not take the record back.
#[derive(Debug)]
#[must_use = "whether the record was stored is only known by awaiting it"]
pub struct PendingRecord {
    receiver: oneshot::Receiver<Result<ProducedRecord, ClientError>>,
    own_key: Option<String>,
}

impl PendingRecord {
    /// The record's own idempotency key, given or drawn ([`ProducerBuilder::record_keys`]): sending the same record with it again stores it
    /// once.
    #[must_use]
    pub fn idempotency_key(&self) -> Option<&str> {
        self.own_key.as_deref()
    }
}

impl Future for PendingRecord {
    type Output = Result<ProducedRecord, ClientError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        // The task answers every record, so without an answer it is gone, and with it what it knew of this one.
        let answer = Pin::new(&mut self.receiver).poll(context);
        answer.map(|answer| answer.unwrap_or_else(|_| Err(ClientError::Abandoned.with_key(self.own_key.clone()))))
    }
}
