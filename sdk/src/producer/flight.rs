//! A batch on its way to one partition, with its place among those of its producer.

use super::batch::Batch;
use super::form::{Form, compressed, encode};
use crate::client::Client;
use crate::error::ClientError;
use crate::retry::RetryPolicy;
use bytes::Bytes;
use sagamq_api::batch::{Compression, Stamp};
use sagamq_api::limits::{PRODUCER_IDLE_MS_MIN, PRODUCER_ONCE_IDLE_MS_MIN};
use sagamq_api::producer::name_of_id;
use sagamq_api::topic::{ProducedBatch, ProducedRecord};
use sagamq_api::{ErrorCode, PartitionId, TopicName};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// Where a batch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Where {
    /// It is to be sent.
    Ready,
    /// It is on its way. `is_first`: everything before it was settled when it was sent, so a refusal of its order is no matter of time.
    Sent { is_first: bool },
    /// It was refused, and not stored by that attempt. `behind`: the first batch at that time; when it is settled, this one may be sent again.
    Refused { behind: u64 },
}

/// What the partition recognises a batch by when it comes again.
#[derive(Clone, Copy, Debug)]
pub(super) enum Mark {
    /// The place of its first record among those of its producer.
    Sequence(Stamp),
    /// An idempotency key: the partition knows as many producers as it may, and not this one.
    Key(Uuid),
}

impl Mark {
    /// How long it may be sent again and again, from the first time on: beyond that the partition may have forgotten it, and store it twice.
    fn known_for(self, request_timeout: Duration) -> Duration {
        let Self::Sequence(stamp) = self else { return Duration::MAX };
        // Without the first one the partition knows no producer and takes none of the others.
        let known_ms = if stamp.sequence == 0 { PRODUCER_ONCE_IDLE_MS_MIN } else { PRODUCER_IDLE_MS_MIN };
        Duration::from_millis(known_ms).saturating_sub(request_timeout)
    }

    /// Where it is not sent again as it is: without a name it need not be a sequence.
    fn stops_at(self) -> Option<ErrorCode> {
        match self {
            Self::Sequence(stamp) if name_of_id(stamp.producer).is_none() => Some(ErrorCode::ProducerLimit),
            _ => None,
        }
    }
}

/// A batch with its place among those of its producer.
#[derive(Debug)]
pub(super) struct Flight {
    /// Tells it apart from all others of the producer.
    pub(super) number: u64,
    /// How many batches of the lane were made before it.
    pub(super) before: u64,
    pub(super) batch: Batch,
    pub(super) mark: Mark,
    pub(super) place: Where,
    /// Whether an attempt may have stored it.
    pub(super) is_in_doubt: bool,
    /// What its last attempt ended with.
    pub(super) error: Option<ClientError>,
    /// Among how many partitions those of its records chose that name none.
    partitions: Option<u32>,
    body: Bytes,
}

/// What tells a batch from others.
#[derive(Clone, Copy, Debug)]
pub(super) struct Made {
    pub(super) number: u64,
    /// How many batches of the lane were made before it.
    pub(super) before: u64,
    /// How many partitions the topic is believed to have.
    pub(super) partitions: Option<u32>,
}

/// The answer to a batch, or why there is none.
pub(super) struct Landed {
    pub(super) partition: PartitionId,
    pub(super) number: u64,
    pub(super) result: Result<ProducedBatch, ClientError>,
}

impl Flight {
    /// The batch with this place.
    ///
    /// # Errors
    /// When its records cannot stand in one batch. Gives it back.
    #[expect(clippy::result_large_err, reason = "the batch is handed back whole, and seldom")]
    pub(super) fn new(made: Made, batch: Batch, mark: Mark, partition: PartitionId) -> Result<Self, (Batch, ClientError)> {
        let Made { number, before, partitions } = made;
        let partitions = partitions.filter(|_| batch.forms().any(|form| !form.names_partition()));
        let stamp = if let Mark::Sequence(stamp) = mark { Some(stamp) } else { None };
        match encode(batch.forms(), partition, stamp) {
            Ok(body) => Ok(Self { number, before, batch, mark, place: Where::Ready, is_in_doubt: false, error: None, partitions, body }),
            Err(error) => Err((batch, error)),
        }
    }

    /// How many records it has.
    pub(super) fn records(&self) -> u32 {
        u32::try_from(self.batch.len()).expect("a batch has at most a thousand records")
    }

    /// Sends it, again and again as the client's policy says, always with the same bytes.
    pub(super) fn send(
        &mut self,
        client: &Client,
        topic: &Arc<TopicName>,
        partition: PartitionId,
        delivery_timeout: Duration,
        is_first: bool,
        compression: Compression,
    ) -> impl Future<Output = Landed> + Send + 'static {
        self.place = Where::Sent { is_first };
        let policy = client.retry_policy();
        let deadline = policy.deadline.min(delivery_timeout.saturating_sub(self.batch.waited()));
        let deadline = deadline.min(self.mark.known_for(client.request_timeout()));
        let client = client.with_retry(RetryPolicy { deadline, ..*policy });
        let (topic, body, number, records, partitions) =
            (Arc::clone(topic), self.body.clone(), self.number, self.records(), self.partitions);
        let stops_at = self.mark.stops_at();
        let key = if let Mark::Key(key) = self.mark { Some(key.to_string()) } else { None };
        async move {
            let body = compressed(body, compression).await;
            let told = client.produce_batches(&topic, body, key, partitions, stops_at).await;
            let result = told.and_then(|told| match told[..] {
                [told] if told.partition == partition && told.records == records => Ok(told),
                _ => {
                    let reason =
                        format!("a batch of {records} records was sent to partition {partition}, the answer is about others: {told:?}");
                    let source = Arc::new(serde::ser::Error::custom(reason));
                    Err(ClientError::Decode { url: client.url().to_owned(), source })
                }
            });
            Landed { partition, number, result }
        }
    }

    /// Tells every sender where its record is.
    pub(super) fn stored(self, told: &ProducedBatch) {
        let place = |(delta, form): (u64, &Form)| ProducedRecord {
            partition: told.partition,
            offset: Some(told.offset.plus(delta)),
            schedule: None,
            timestamp_ms: form.given_ms().unwrap_or(told.timestamp_ms),
            duplicate: told.duplicate,
        };
        let places = (0..).zip(self.batch.forms()).map(place).collect();
        self.batch.stored(places);
    }

    /// Tells every sender that it was not stored, or that nobody knows: the partition will not be asked for it again.
    pub(super) fn give_up(mut self) {
        let waited = self.batch.waited();
        let error = self.error.take().unwrap_or(ClientError::Expired { waited });
        self.failed(error);
    }

    /// Tells every sender the error, or that nobody knows, if an attempt may have stored the batch.
    pub(super) fn failed(self, error: ClientError) {
        let is_hidden = self.is_in_doubt && !error.is_outcome_unknown();
        let error = if is_hidden { ClientError::InDoubt { error: Box::new(error), idempotency_key: None } } else { error };
        self.batch.failed(&error);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_repeated_for_longer_than_the_partition_knows_it() {
        let mark = |sequence| Mark::Sequence(Stamp { producer: 7, epoch: 0, sequence });
        let [minute, second] = [60, 1].map(Duration::from_secs);
        assert_eq!(mark(0).known_for(second), 5 * minute - second, "the last attempt may take so long");
        assert_eq!(mark(1).known_for(second), 15 * minute - second);
        assert_eq!(mark(0).known_for(6 * minute), Duration::ZERO, "it is sent once");
        assert_eq!(Mark::Key(Uuid::new_v4()).known_for(second), Duration::MAX, "its window is longer");
    }
}
