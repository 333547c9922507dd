//! The task of a producer: deal the records to their partitions, send, answer, again. It owns the order.

use super::batch::{Batch, BatchLimits, Entry};
use super::flight::Landed;
use super::form::{Form, json_body};
use super::lane::{Lane, is_about_a_record};
use super::partitions::Partitions;
use crate::client::Client;
use crate::error::ClientError;
use crate::retry::RetryPolicy;
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use sagamq_api::batch::{Compression, PRODUCER_ID_MAX};
use sagamq_api::partitioner::partition_of;
use sagamq_api::topic::ProducedRecord;
use sagamq_api::{ErrorCode, PartitionId, ProducerName, TopicName};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

/// Most records that are taken and in no batch. More wait in the channel, and then their senders.
const TAKEN_MAX: usize = 16 * 1024;

/// Most requests in flight over all partitions: while they are, what comes for other partitions gathers.
const REQUESTS_MAX: usize = 16;

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

/// What is done when everything before it is settled; nothing is taken until then.
enum Barrier {
    /// Somebody is told.
    Flush(oneshot::Sender<()>),
    /// A record travels as JSON: it has no sequence, so nothing may pass it.
    Json(Box<Entry>),
}

/// What ended the gathering of records that travel as JSON.
enum Next {
    /// Nothing more is there, or the batch is full.
    Send,
    /// This did not fit: it comes next.
    Then(Message),
}

/// How a producer sends.
#[derive(Clone, Debug)]
pub(super) struct Sending {
    /// Of a request as JSON.
    pub(super) limits: BatchLimits,
    /// Of a binary batch.
    pub(super) binary_limits: BatchLimits,
    pub(super) in_flight_max: usize,
    pub(super) linger: Duration,
    pub(super) delivery_timeout: Duration,
    pub(super) compression: Compression,
    /// What the producer takes over.
    pub(super) name: Option<ProducerName>,
}

pub(super) struct ProducerTask {
    client: Client,
    topic: Arc<TopicName>,
    sending: Sending,
    messages: mpsc::Receiver<Message>,
    /// Nobody sends any more.
    is_ended: bool,
    closing: Vec<oneshot::Sender<()>>,
    barrier: Option<Barrier>,
    /// Under which id batches are sent; none before it is known.
    producer: Option<u64>,
    /// The name is taken over.
    registering: Option<BoxFuture<'static, Result<u64, ClientError>>>,
    /// Another producer has the name: nothing more is sent.
    superseded: Option<ClientError>,
    /// Records that have no partition yet.
    taken: VecDeque<Entry>,
    partitions: Partitions,
    /// The server is asked how many partitions there are.
    counting: Option<BoxFuture<'static, Result<u32, ClientError>>>,
    /// The topic has other partitions: when everything that is on its way is answered, the records that are left are dealt anew.
    is_dealing_anew: bool,
    /// Those of them that are there already, in their order.
    left: Vec<Entry>,
    /// Where records go that name no partition and have no key, until a batch of them is full or sent.
    sticky: u32,
    lanes: BTreeMap<PartitionId, Lane>,
    flights: FuturesUnordered<BoxFuture<'static, Landed>>,
    last_number: u64,
}

impl ProducerTask {
    pub(super) fn new(client: Client, topic: TopicName, sending: Sending, messages: mpsc::Receiver<Message>) -> Self {
        let producer = sending.name.is_none().then(draw_producer);
        Self {
            client,
            topic: Arc::new(topic),
            sending,
            messages,
            is_ended: false,
            closing: Vec::new(),
            barrier: None,
            producer,
            registering: None,
            superseded: None,
            taken: VecDeque::new(),
            partitions: Partitions::default(),
            counting: None,
            is_dealing_anew: false,
            left: Vec::new(),
            sticky: rand::random(),
            lanes: BTreeMap::new(),
            flights: FuturesUnordered::new(),
            last_number: 0,
        }
    }

    /// Runs until the last producer is dropped or one is closed, and the buffer is empty.
    pub(super) async fn run(mut self) {
        loop {
            self.take_all();
            self.deal();
            let lingers_until = self.send_all();
            if self.is_idle() {
                match self.barrier.take() {
                    Some(Barrier::Flush(done)) => {
                        let _ = done.send(());
                        continue;
                    }
                    Some(Barrier::Json(first)) => {
                        self.send_json_from(*first).await;
                        continue;
                    }
                    None if self.is_ended => break,
                    None => {}
                }
            }
            let takes = self.room() > 0;
            tokio::select! {
                message = self.messages.recv(), if takes => self.take(message),
                Some(landed) = self.flights.next(), if !self.flights.is_empty() => self.landed(landed),
                counted = answered(&mut self.counting), if self.counting.is_some() => self.counted(counted),
                registered = answered(&mut self.registering), if self.registering.is_some() => self.registered(registered),
                () = tokio::time::sleep_until(lingers_until.unwrap_or_else(Instant::now)), if lingers_until.is_some() => {}
            }
        }
        for done in self.closing {
            let _ = done.send(());
        }
    }

    /// How many more records are taken now.
    fn room(&self) -> usize {
        if self.is_ended || self.barrier.is_some() {
            return 0;
        }
        TAKEN_MAX.saturating_sub(self.taken.len() + self.lanes.values().map(Lane::waiting).sum::<usize>())
    }

    /// Takes what waits in the channel.
    fn take_all(&mut self) {
        for _ in 0..self.room() {
            let Ok(message) = self.messages.try_recv() else { return };
            self.take(Some(message));
            if self.barrier.is_some() {
                return;
            }
        }
    }

    fn take(&mut self, message: Option<Message>) {
        match message {
            Some(Message::Record(entry)) if entry.form.is_json() => self.barrier = Some(Barrier::Json(Box::new(entry))),
            Some(Message::Record(entry)) => self.taken.push_back(entry),
            Some(Message::Flush(done)) => self.barrier = Some(Barrier::Flush(done)),
            Some(Message::Close(done)) => {
                // Refuses new records; those in the channel are still received.
                self.messages.close();
                self.closing.push(done);
            }
            None => self.is_ended = true,
        }
    }

    fn is_idle(&self) -> bool {
        self.taken.is_empty() && self.left.is_empty() && self.flights.is_empty() && self.lanes.values().all(Lane::is_empty)
    }

    /// Gives the records to their partitions, in their order.
    fn deal(&mut self) {
        if let Some(error) = &self.superseded {
            self.taken.drain(..).for_each(|entry| entry.settle(Err(error.clone())));
        }
        while self.counting.is_none()
            && self.registering.is_none()
            && !self.is_dealing_anew
            && let Some(entry) = self.taken.pop_front()
        {
            let Form::Binary { record, partition } = &entry.form else { unreachable!("records as JSON are not taken here") };
            let Some(producer) = self.producer else {
                self.taken.push_front(entry);
                self.register();
                return;
            };
            let partition = match (partition, self.partitions.count()) {
                (Some(partition), _) => *partition,
                (None, Some(count)) => match record.payload.key.as_deref() {
                    Some(key) => partition_of(key, count),
                    None => self.sticky(count),
                },
                (None, None) => {
                    self.taken.push_front(entry);
                    self.ask_for_count();
                    return;
                }
            };
            let lane = self.lanes.entry(partition).or_insert_with(|| Lane::new(partition, producer));
            lane.push(entry);
        }
    }

    /// Where the next record goes that neither names a partition nor has a key.
    fn sticky(&mut self, count: u32) -> PartitionId {
        let at = |sticky: u32| PartitionId(sticky % count.max(1));
        if self.lanes.get(&at(self.sticky)).is_some_and(|lane| lane.is_full(self.sending.binary_limits)) {
            self.sticky = self.sticky.wrapping_add(1);
        }
        at(self.sticky)
    }

    fn register(&mut self) {
        let Some(name) = self.sending.name.clone() else { return };
        let client = self.within(self.taken.front().map_or(Duration::ZERO, |first| first.since.elapsed()));
        self.registering = Some(Box::pin(async move { client.register_producer(&name).await.map(|producer| producer.producer_id.0) }));
    }

    fn registered(&mut self, registered: Result<u64, ClientError>) {
        self.registering = None;
        match registered {
            Ok(producer) => self.producer = Some(producer),
            // Nothing of the records was sent, whatever became of the name.
            Err(error) if error.is_outcome_unknown() => self.taken.drain(..).for_each(Entry::expire),
            Err(error) => self.taken.drain(..).for_each(|entry| entry.settle(Err(error.clone()))),
        }
    }

    fn ask_for_count(&mut self) {
        let waited = self.taken.front().map_or(Duration::ZERO, |first| first.since.elapsed());
        let (client, topic) = (self.within(waited), Arc::clone(&self.topic));
        self.counting = Some(Box::pin(async move { client.describe_topic(&topic).await.map(|topic| topic.config.partitions) }));
    }

    fn counted(&mut self, counted: Result<u32, ClientError>) {
        self.counting = None;
        let error = match counted {
            Ok(count) => return self.partitions.heard(Some(count)),
            Err(error) => error,
        };
        let timeout = self.sending.delivery_timeout;
        for entry in std::mem::take(&mut self.taken) {
            match &entry.form {
                Form::Binary { partition: Some(_), .. } => self.taken.push_back(entry),
                _ if entry.since.elapsed() >= timeout => entry.expire(),
                _ => entry.settle(Err(error.clone())),
            }
        }
    }

    /// Sends what may be sent. When something is to be sent that waits for company.
    fn send_all(&mut self) -> Option<Instant> {
        let Self { client, topic, sending, lanes, flights, last_number, sticky, partitions, .. } = self;
        let is_hurried = self.barrier.is_some() || self.is_ended || !self.closing.is_empty();
        let mut number = || {
            *last_number += 1;
            *last_number
        };
        let mut lingers_until: Option<Instant> = None;
        // Who waits longest comes first.
        let mut ready: Vec<(Instant, PartitionId)> = Vec::new();
        for (&partition, lane) in lanes.iter_mut() {
            while let Some((flight, is_first)) = lane.next_to_send(sending.in_flight_max) {
                flights.push(Box::pin(flight.send(client, topic, partition, sending.delivery_timeout, is_first, sending.compression)));
            }
            let Some(since) = lane.since(sending.in_flight_max, sending.binary_limits, flights.len()) else { continue };
            let until = since + sending.linger;
            if is_hurried || lane.is_full(sending.binary_limits) || until <= Instant::now() {
                ready.push((since, partition));
            } else {
                lingers_until = Some(lingers_until.map_or(until, |earliest| earliest.min(until)));
            }
        }
        ready.sort_unstable();
        while !ready.is_empty() {
            // One batch of each, then the next of those that have more.
            ready.retain(|(_, partition)| {
                if flights.len() >= REQUESTS_MAX {
                    return false;
                }
                let Some(lane) = lanes.get_mut(partition) else { return false };
                lane.seal(number(), partitions.count(), sending.binary_limits, sending.delivery_timeout);
                while let Some((flight, is_first)) = lane.next_to_send(sending.in_flight_max) {
                    flights.push(Box::pin(flight.send(client, topic, *partition, sending.delivery_timeout, is_first, sending.compression)));
                }
                if partitions.count().is_some_and(|count| *sticky % count.max(1) == partition.0) {
                    *sticky = sticky.wrapping_add(1);
                }
                lane.since(sending.in_flight_max, sending.binary_limits, flights.len()).is_some()
                    && (sending.linger.is_zero() || lane.is_full(sending.binary_limits))
            });
        }
        lingers_until
    }

    fn landed(&mut self, landed: Landed) {
        let Landed { partition, number, result } = landed;
        let Some(lane) = self.lanes.get_mut(&partition) else { return };
        if let Err(error) = &result
            && self.sending.name.is_some()
            && error.code() == Some(ErrorCode::ProducerFenced)
        {
            // What is on its way will hear for itself; what is not is told now, and that it was not sent is certain.
            lane.end(number, error);
            let error = self.superseded.get_or_insert_with(|| error.last().clone());
            for lane in self.lanes.values_mut() {
                lane.refuse(error);
            }
            self.left.drain(..).for_each(|entry| entry.settle(Err(error.clone())));
            self.is_dealing_anew = false;
            return;
        }
        let said = result.as_ref().err().and_then(ClientError::partitions);
        if lane.landed(number, result) {
            self.partitions.heard(said);
            if !std::mem::replace(&mut self.is_dealing_anew, true) {
                self.lanes.values_mut().for_each(Lane::close);
            }
        }
        self.settle_lanes(partition);
    }

    /// Lets lanes begin epochs: this one, or all of them where records are dealt anew.
    fn settle_lanes(&mut self, partition: PartitionId) {
        let Self { lanes, last_number, left, partitions, sending, .. } = self;
        let mut number = || {
            *last_number += 1;
            *last_number
        };
        let of = if self.is_dealing_anew { PartitionId(0)..=PartitionId(u32::MAX) } else { partition..=partition };
        for (_, lane) in lanes.range_mut(of) {
            let another = |id| if sending.name.is_some() { own_id_after(id) } else { draw_producer() };
            left.extend(lane.settle(&mut number, another, partitions.count(), sending.delivery_timeout));
        }
        // Lanes that were closed to be dealt anew give their records back also where nobody deals any more.
        if let Some(error) = &self.superseded {
            self.left.drain(..).for_each(|entry| entry.settle(Err(error.clone())));
        }
        // Only when all of them are there: a key may lie elsewhere from now on, and its records keep their order.
        if self.is_dealing_anew && self.flights.is_empty() {
            self.is_dealing_anew = false;
            for entry in std::mem::take(&mut self.left).into_iter().rev() {
                self.taken.push_front(entry);
            }
        }
    }

    /// The client, for no longer than a record has that has waited so long.
    fn within(&self, waited: Duration) -> Client {
        let policy = self.client.retry_policy();
        let deadline = policy.deadline.min(self.sending.delivery_timeout.saturating_sub(waited));
        self.client.with_retry(RetryPolicy { deadline, ..*policy })
    }

    /// Sends the records as JSON that begin with this one.
    async fn send_json_from(&mut self, first: Entry) {
        let mut batch = Batch::new(first);
        let next = self.fill(&mut batch).await;
        self.settle(batch).await;
        match next {
            Next::Send => {}
            Next::Then(message) => self.take(Some(message)),
        }
    }

    /// Adds what waits already, and what comes within the linger.
    async fn fill(&mut self, batch: &mut Batch) -> Next {
        let until = Instant::now() + self.sending.linger;
        while !batch.is_full(self.sending.limits) {
            let message = match self.messages.try_recv() {
                Ok(message) => message,
                Err(_) if self.sending.linger.is_zero() => return Next::Send,
                Err(_) => match tokio::time::timeout_at(until, self.messages.recv()).await {
                    Ok(Some(message)) => message,
                    Ok(None) | Err(_) => return Next::Send,
                },
            };
            match message {
                Message::Record(entry) => {
                    if let Err(entry) = batch.push(entry, self.sending.limits) {
                        return Next::Then(Message::Record(*entry));
                    }
                }
                other @ (Message::Flush(_) | Message::Close(_)) => return Next::Then(other),
            }
        }
        Next::Send
    }

    /// Sends a batch of records as JSON until every record of it is settled. A refused batch stored nothing, so its halves can be sent in its
    /// place, in order: one bad record does not fail its neighbours.
    async fn settle(&mut self, batch: Batch) {
        let mut waiting = vec![batch];
        while let Some(batch) = waiting.pop() {
            // A batch that waited behind others while the server was away: what is too old by now is not sent any more.
            let Some(batch) = batch.expire(self.sending.delivery_timeout) else { continue };
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
        let client = self.within(batch.waited());
        let places = client.produce_json(&self.topic, json_body(batch.forms(), batch.bytes()), batch.key()).await?;
        if places.len() == batch.len() {
            return Ok(places);
        }
        let reason = format!("{} records were sent, the answer has {}", batch.len(), places.len());
        Err(ClientError::Decode { url: self.client.url().to_owned(), source: Arc::new(serde::ser::Error::custom(reason)) })
    }
}

/// An id that nobody else has: 62 random bits. The upper half of all ids is the server's to give.
fn draw_producer() -> u64 {
    rand::random::<u64>() & (PRODUCER_ID_MAX >> 1)
}

/// The next of the ids of a producer with a name, whose lowest eight bits are its own.
fn own_id_after(id: u64) -> u64 {
    (id & !0xff) | (id.wrapping_add(1) & 0xff)
}

/// What was asked, when it comes.
async fn answered<T>(question: &mut Option<BoxFuture<'static, Result<T, ClientError>>>) -> Result<T, ClientError> {
    match question {
        Some(question) => question.await,
        None => std::future::pending().await,
    }
}
