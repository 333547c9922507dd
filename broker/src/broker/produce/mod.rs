//! Produce: check everything, choose partitions, encode, and hand each shard the records of its partitions.

mod append;
mod batches;
mod deal;
mod error;
mod former;
mod once;
mod record;
mod with_ack;

pub use batches::{ProducedBatch, SentBatch};
pub use error::ProduceError;
pub use record::{Due, NewRecord, Produced};
pub use with_ack::{AckRecordsError, AckedWithRecords};

use crate::broker::Broker;
use crate::broker::topics::TopicError;
use crate::dedup::{Hash, Place};
use crate::log::batch::NewBatch;
use crate::shard::commit::WriteError;
use crate::shard::log::append_error::AppendError;
use crate::shard::permit::Permit;
use crate::topic::{Dealing, Topic, TopicKind};
use append::Request;
use batches::Dealt;
use deal::{Places, Share, check_key, deal};
use former::Former;
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
    /// What happened under it before partitions were added.
    former: Option<Former>,
    /// How many partitions a record's key chooses from: those of the topic, or as many as it had when the request was claimed.
    partitions: u32,
    /// Where records without any key go.
    sticky: PartitionId,
    arrived_ms: i64,
    dealing: Dealing,
}

/// The idempotency key of a request.
struct RequestKey<'a> {
    key: &'a [u8],
    former: Option<Former>,
    prints: Prints,
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
        self.produce_for(None, topic, records, request_key).await
    }

    /// As [`Broker::produce`], for so many partitions: whoever named partitions of keys goes by that number.
    ///
    /// # Errors
    /// As [`Broker::produce`], and when the topic has another number of partitions, unless the request was stored while it had that one.
    pub async fn produce_for(
        &self,
        made_for: Option<u32>,
        topic: &TopicName,
        records: Vec<NewRecord>,
        request_key: Option<&str>,
    ) -> Result<Vec<Produced>, ProduceError> {
        let begun = self.begin_produce(topic, request_key, made_for).await?;
        let Begun { topic, key, former, partitions, sticky, arrived_ms, dealing } = begun;
        let mut dealt = deal(&topic, partitions, records, key.is_some(), sticky, arrived_ms)?;
        let known = self.former_records(&topic, &dealt).await?;
        dealt.leave_out(&known.keys().copied().collect::<Vec<_>>());
        let prints = Prints { fingerprint: dealt.fingerprint, of_records: dealt.take_prints() };
        let (shares, places) = dealt.encode(&topic)?;
        let told = known.into_iter().map(|(place, (home, placed))| (place, places.told(place, home, placed, arrived_ms)));
        let told: Vec<(usize, Produced)> = told.collect();
        let mut produced = match shares.is_empty() {
            true => places.unanswered(),
            false => self.store(&topic, key.map(|key| RequestKey { key, former, prints }), shares, places, arrived_ms, dealing).await?,
        };
        for (place, told) in told {
            produced[place] = told;
        }
        Ok(produced)
    }

    /// Stores batches as they came. What it returns is on disk; see [`Broker::produce_for`].
    ///
    /// # Errors
    /// As [`Broker::produce_for`].
    pub async fn produce_batches(
        &self,
        made_for: Option<u32>,
        topic: &TopicName,
        batches: Vec<SentBatch>,
        request_key: Option<&str>,
    ) -> Result<Vec<ProducedBatch>, ProduceError> {
        // What was stored is known by its sequence, however many partitions there are by now.
        let is_sequenced = batches::is_sequenced(&batches);
        let begun = self.begin_produce(topic, request_key, made_for.filter(|_| !is_sequenced)).await?;
        let Begun { topic, key, former, sticky, arrived_ms, dealing, .. } = begun;
        let outdated = made_for.filter(|&asked| is_sequenced && asked != topic.partitions.count());
        let changed = |error| match (outdated, error) {
            (Some(asked), ProduceError::PartitionNotFound { .. } | ProduceError::Append(AppendError::PartitionsChanged)) => {
                ProduceError::PartitionsChanged { topic: topic.name.clone(), asked, partitions: topic.partitions.count() }
            }
            (_, error) => error,
        };
        let dealt = batches::deal(&topic, batches, key.is_some(), sticky, arrived_ms, outdated.is_some());
        let Dealt { shares, places, fingerprint, records } = dealt.map_err(changed)?;
        let key = key.map(|key| RequestKey { key, former, prints: Prints { fingerprint, of_records: None } });
        let produced = self.store(&topic, key, shares, places, arrived_ms, dealing).await.map_err(changed)?;
        Ok(batches::told(&records, &produced))
    }

    async fn begin_produce<'a>(
        &self,
        topic: &TopicName,
        request_key: Option<&'a str>,
        made_for: Option<u32>,
    ) -> Result<Begun<'a>, ProduceError> {
        let topic = self.topic(topic)?;
        if topic.kind == TopicKind::DeadLetters {
            return Err(TopicError::DeadLetters(topic.name.clone()).into());
        }
        let key = request_key.map(|key| check_key(key.as_bytes())).transpose()?;
        // From here on the number of partitions stays as it is, until the records are stored.
        let dealing = topic.deal().await;
        let arrived_ms = i64::try_from(self.0.clock.now_ms()).expect("the year is below 292 million");
        let former = match key {
            Some(key) => self.former_request(&topic, key, arrived_ms).await?,
            None => None,
        };
        // A retry says what the first attempt said: it is no other request for that.
        if let Some(asked) = made_for.filter(|&asked| asked != topic.partitions.count() && former.is_none()) {
            let (topic, partitions) = (topic.name.clone(), topic.partitions.count());
            return Err(ProduceError::PartitionsChanged { topic, asked, partitions });
        }
        // Whoever goes on from a claim deals as the claim says.
        let partitions = match former.map(|former| former.entry.place) {
            Some(Place::Claimed { partitions, .. }) => partitions,
            Some(Place::Stored { .. }) | None => topic.partitions.count(),
        };
        let sticky = match key {
            Some(key) => partition_of(key, partitions),
            None => {
                let turn = self.0.rotation.fetch_add(1, Ordering::Relaxed) % topic.partitions.len();
                PartitionId(u32::try_from(turn).expect("a topic has at most a thousand partitions"))
            }
        };
        Ok(Begun { topic, key, former, partitions, sticky, arrived_ms, dealing })
    }

    async fn store(
        &self,
        topic: &Arc<Topic>,
        key: Option<RequestKey<'_>>,
        shares: Vec<Share>,
        places: Places,
        arrived_ms: i64,
        dealing: Dealing,
    ) -> Result<Vec<Produced>, ProduceError> {
        // Before anything is stored, so that no share is stored beside one that cannot be.
        if let Some(reason) = shares.iter().find_map(|share| self.0.write_stops.reason(share.shard)) {
            return Err(AppendError::from(WriteError::Stopped(reason.to_owned())).into());
        }
        self.require_room().map_err(AppendError::from)?;
        let permit = Arc::new(Permit::new(self.reserve(&shares)?, vec![dealing]));
        let Some(RequestKey { key, former, prints: Prints { fingerprint, of_records } }) = key else {
            let request = Request { shares, places, fingerprint: Hash::default(), prints: None, arrived_ms, permit };
            self.check_keys(&request).await?;
            return self.append_all(topic, request).await;
        };
        let request = Request { shares, places, fingerprint, prints: of_records, arrived_ms, permit };
        self.produce_under_key(topic, key, former, request).await
    }

    /// Takes the request's share of the bytes that may wait for the disk; all of it or none.
    fn reserve(&self, shares: &[Share]) -> Result<OwnedSemaphorePermit, ProduceError> {
        let stored: usize = shares.iter().flat_map(|share| &share.batches).map(NewBatch::len).sum();
        let bytes = stored + shares.iter().flat_map(|share| &share.to_wait).map(|record| record.batch.len()).sum::<usize>();
        self.reserve_bytes(bytes)
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
