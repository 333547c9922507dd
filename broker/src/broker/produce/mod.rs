//! Produce: check everything, choose partitions, encode, and hand each shard the records of its partitions.

mod append;
mod batches;
mod deal;
mod error;
mod once;
mod record;
mod with_ack;

pub use batches::{ProducedBatch, SentBatch};
pub use error::ProduceError;
pub use record::{Due, NewRecord, Produced};
pub use with_ack::{AckRecordsError, AckedWithRecords};

use crate::broker::Broker;
use crate::broker::topics::TopicError;
use crate::dedup::Hash;
use crate::log::batch::NewBatch;
use crate::shard::commit::WriteError;
use crate::shard::log::append_error::AppendError;
use crate::topic::{Topic, TopicKind};
use append::Request;
use batches::Dealt;
use deal::{Places, Share, check_key, deal};
use sagamq_api::partitioner::partition_of;
use sagamq_api::{PartitionId, TopicName};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::OwnedSemaphorePermit;

/// What every produce request begins with.
struct Begun<'a> {
    topic: Arc<Topic>,
    /// The idempotency key of the request.
    key: Option<&'a [u8]>,
    /// Where records without any key go.
    sticky: PartitionId,
    arrived_ms: i64,
}

/// Fingerprints under a request's key.
struct Prints {
    /// Of all records together.
    fingerprint: Hash,
    /// Of each record, if some are to wait.
    of_records: Option<Vec<Hash>>,
}

impl Broker {
    /// Stores records, or lets those wait that are to be appended later. What it returns is on disk; a duplicate is answered with the place of
    /// the first one.
    ///
    /// `request_key` is an idempotency key for all records together; records may have their own instead.
    ///
    /// # Errors
    /// When something about the request is not valid (nothing is stored), the broker is overloaded (nothing is stored), or the
    /// write fails (the records may be stored: try again with the same key).
    pub async fn produce(
        &self,
        topic: &TopicName,
        records: Vec<NewRecord>,
        request_key: Option<&str>,
    ) -> Result<Vec<Produced>, ProduceError> {
        let Begun { topic, key, sticky, arrived_ms } = self.begin_produce(topic, request_key)?;
        let mut dealt = deal(&topic, records, key.is_some(), sticky, arrived_ms)?;
        let prints = Prints { fingerprint: dealt.fingerprint, of_records: dealt.take_prints() };
        let (shares, places) = dealt.encode(&topic)?;
        self.store(&topic, key, shares, places, prints, arrived_ms).await
    }

    /// Stores batches as they came. What it returns is on disk; see [`Broker::produce`].
    ///
    /// # Errors
    /// As [`Broker::produce`].
    pub async fn produce_batches(
        &self,
        topic: &TopicName,
        batches: Vec<SentBatch>,
        request_key: Option<&str>,
    ) -> Result<Vec<ProducedBatch>, ProduceError> {
        let Begun { topic, key, sticky, arrived_ms } = self.begin_produce(topic, request_key)?;
        let Dealt { shares, places, fingerprint, records } = batches::deal(&topic, batches, key.is_some(), sticky, arrived_ms)?;
        let prints = Prints { fingerprint, of_records: None };
        let produced = self.store(&topic, key, shares, places, prints, arrived_ms).await?;
        Ok(batches::told(&records, &produced))
    }

    fn begin_produce<'a>(&self, topic: &TopicName, request_key: Option<&'a str>) -> Result<Begun<'a>, ProduceError> {
        let topic = self.topic(topic)?;
        if topic.kind == TopicKind::DeadLetters {
            return Err(TopicError::DeadLetters(topic.name.clone()).into());
        }
        let key = request_key.map(|key| check_key(key.as_bytes())).transpose()?;
        let arrived_ms = i64::try_from(self.0.clock.now_ms()).expect("the year is below 292 million");
        let sticky = match key {
            Some(key) => partition_of(key, topic.partitions.count()),
            None => {
                let turn = self.0.rotation.fetch_add(1, Ordering::Relaxed) % topic.partitions.len();
                PartitionId(u32::try_from(turn).expect("a topic has at most a thousand partitions"))
            }
        };
        Ok(Begun { topic, key, sticky, arrived_ms })
    }

    async fn store(
        &self,
        topic: &Arc<Topic>,
        key: Option<&[u8]>,
        shares: Vec<Share>,
        places: Places,
        prints: Prints,
        arrived_ms: i64,
    ) -> Result<Vec<Produced>, ProduceError> {
        // Before anything is stored, so that no share is stored beside one that cannot be.
        if let Some(reason) = shares.iter().find_map(|share| self.0.write_stops.reason(share.shard)) {
            return Err(AppendError::from(WriteError::Stopped(reason.to_owned())).into());
        }
        self.require_room().map_err(AppendError::from)?;
        let permit = self.reserve(&shares)?;
        let Prints { fingerprint, of_records } = prints;
        let request = Request { shares, places, fingerprint, prints: of_records, arrived_ms, permit };
        match key {
            Some(key) => self.produce_under_key(topic, key, request).await,
            None => {
                self.check_keys(&request).await?;
                self.append_all(topic, request).await
            }
        }
    }

    /// Takes the request's share of the bytes that may wait for the disk; all of it or none.
    fn reserve(&self, shares: &[Share]) -> Result<Arc<OwnedSemaphorePermit>, ProduceError> {
        let stored: usize = shares.iter().flat_map(|share| &share.batches).map(NewBatch::len).sum();
        let bytes = stored + shares.iter().flat_map(|share| &share.to_wait).map(|record| record.batch.len()).sum::<usize>();
        self.reserve_bytes(bytes).map(Arc::new)
    }

    fn reserve_bytes(&self, bytes: usize) -> Result<OwnedSemaphorePermit, ProduceError> {
        let bound = self.0.config.staged_bytes_max;
        // A request above the bound gets through when nothing else waits.
        let bytes = u32::try_from(bytes.min(bound)).unwrap_or(u32::MAX);
        Arc::clone(&self.0.staged_bytes).try_acquire_many_owned(bytes).map_err(|_| {
            self.0.metrics.rejected_produce_requests.inc();
            ProduceError::Overloaded(bound)
        })
    }
}
