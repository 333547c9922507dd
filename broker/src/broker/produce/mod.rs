//! Produce: check everything, choose partitions, encode, and hand each partition's records to its shard.

mod once;
mod record;

pub use record::{NewRecord, Produced};

use crate::broker::Broker;
use crate::broker::topics::TopicError;
use crate::dedup::{self, Hash, KeyScope};
use crate::log::batch::{Batch, EncodeError, Record};
use crate::log::cut::encode_cut;
use crate::log::partition::Partition;
use crate::shard::commit::WriteError;
use crate::shard::input::Input;
use crate::shard::log::LogOp;
use crate::shard::log::append::AppendRequest;
use crate::shard::log::append_error::AppendError;
use crate::shard::log::keys::{CheckRequest, Keys, Placed};
use crate::topic::partitioner::partition_of;
use crate::topic::{Topic, TopicKind};
use futures_util::future::{join_all, try_join_all};
use sagamq_api::limits::{IDEMPOTENCY_KEY_BYTES_MAX, PRODUCE_RECORDS_MAX};
use sagamq_api::{PartitionId, TopicName};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

/// Why records were not produced. Save for a write error nothing was stored.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ProduceError {
    /// No such topic.
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// The number of records is out of range.
    #[error("the request has {0} records, allowed is 1 to {PRODUCE_RECORDS_MAX}")]
    RecordsCount(usize),
    /// No such partition.
    #[error("record {index}: topic `{topic}` has {partitions} partitions, counted from 0; there is no partition {partition}")]
    PartitionNotFound {
        /// Index of the record.
        index: usize,
        /// The topic.
        topic: TopicName,
        /// The partition that was asked for.
        partition: PartitionId,
        /// How many there are.
        partitions: u32,
    },
    /// A record is larger than the topic allows.
    #[error("record {index} has {bytes} bytes, topic `{topic}` allows {max}")]
    RecordTooLarge {
        /// Index of the record.
        index: usize,
        /// The topic.
        topic: TopicName,
        /// Bytes of key, value and headers.
        bytes: usize,
        /// The topic's bound.
        max: u32,
    },
    /// An idempotency key is empty or too long.
    #[error("an idempotency key has {0} bytes, allowed is 1 to {IDEMPOTENCY_KEY_BYTES_MAX}")]
    IdempotencyKey(usize),
    /// Both the request and a record have an idempotency key.
    #[error("record {0} has an idempotency key, and the request has one for all its records: give one or the other")]
    TwoIdempotencyKeys(usize),
    /// The idempotency key of a record was used with another payload.
    #[error("record {index}: {reason}")]
    KeyReused {
        /// Index of the record.
        index: usize,
        /// Where the first one lies.
        reason: AppendError,
    },
    /// The queue in front of the disk is full.
    #[error("more than {0} bytes wait for the disk")]
    Overloaded(usize),
    /// The records cannot be encoded.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The shard refused, or the write failed.
    #[error(transparent)]
    Append(#[from] AppendError),
}

/// A record that was checked.
struct Checked {
    record: Record,
    given_ms: Option<i64>,
    partition: usize,
    /// Of what has a key; the rest is spared the hash.
    fingerprint: Option<Hash>,
    key_hash: Option<Hash>,
}

/// The records for one partition.
#[derive(Default)]
struct Share {
    /// Places of the records in the request.
    places: Vec<usize>,
    records: Vec<Record>,
    given_ms: Vec<Option<i64>>,
    keys: Vec<Option<(Hash, Hash)>>,
}

/// A checked request: its records by partition, and the fingerprint of all of them if it has a key.
pub(super) struct Request {
    pub(super) shares: Vec<Encoded>,
    pub(super) fingerprint: Hash,
    pub(super) count: usize,
    /// When it arrived: the time of its records without one of their own.
    pub(super) arrived_ms: i64,
    pub(super) permit: Arc<OwnedSemaphorePermit>,
}

/// A share that is ready for its shard.
pub(super) struct Encoded {
    pub(super) partition: Arc<Partition>,
    pub(super) places: Vec<usize>,
    /// Times that the producer gave.
    pub(super) given_ms: Vec<Option<i64>>,
    pub(super) batches: Vec<Batch>,
    pub(super) keys: Keys,
}

/// Where one share went.
pub(super) struct Answer {
    pub(super) partition: PartitionId,
    pub(super) places: Vec<usize>,
    pub(super) given_ms: Vec<Option<i64>>,
    pub(super) placed: Vec<Placed>,
}

impl Broker {
    /// Stores records. What it returns is on disk; a duplicate is answered with the place of the first one.
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
        let topic = self.topic(topic)?;
        if topic.kind == TopicKind::DeadLetters {
            return Err(TopicError::DeadLetters(topic.name.clone()).into());
        }
        if let Some(reason) = self.writes_stopped() {
            return Err(AppendError::from(WriteError::Stopped(reason.to_owned())).into());
        }
        let count = records.len();
        if !(1..=PRODUCE_RECORDS_MAX).contains(&count) {
            return Err(ProduceError::RecordsCount(count));
        }
        let request_key = request_key.map(|key| check_key(key.as_bytes())).transpose()?;
        let arrived_ms = i64::try_from(self.0.clock.now_ms()).expect("the year is below 292 million");
        let (shares, fingerprint) = self.shares(&topic, records, request_key, arrived_ms)?;
        let shares: Vec<Encoded> =
            shares.into_iter().map(|(partition, share)| share.encode(&topic, partition)).collect::<Result<_, _>>()?;
        let permit = self.reserve(&shares)?;
        let request = Request { shares, fingerprint, count, arrived_ms, permit };
        match request_key {
            Some(key) => self.produce_under_key(&topic, key, request).await,
            None => {
                self.check_keys(&request.shares).await?;
                self.append_all(&topic, request).await
            }
        }
    }

    /// Checks every record and deals them to their partitions. Also the fingerprint of all of them, which a request without a key does
    /// not need.
    fn shares(
        &self,
        topic: &Topic,
        records: Vec<NewRecord>,
        request_key: Option<&[u8]>,
        arrived_ms: i64,
    ) -> Result<(BTreeMap<usize, Share>, Hash), ProduceError> {
        // Records without any key stick together: one partition a request makes one batch.
        let sticky = match request_key {
            Some(key) => partition_of(key, topic.config.partitions).0 as usize,
            None => self.0.rotation.fetch_add(1, Ordering::Relaxed) % topic.partitions.len(),
        };
        let mut shares: BTreeMap<usize, Share> = BTreeMap::new();
        let mut fingerprints = Vec::with_capacity(records.len());
        for (index, record) in records.into_iter().enumerate() {
            if request_key.is_some() && record.idempotency_key.is_some() {
                return Err(ProduceError::TwoIdempotencyKeys(index));
            }
            let checked = check(topic, index, record, sticky, arrived_ms, request_key.is_some())?;
            fingerprints.extend(checked.fingerprint);
            let share = shares.entry(checked.partition).or_default();
            share.places.push(index);
            share.records.push(checked.record);
            share.given_ms.push(checked.given_ms);
            share.keys.push(checked.key_hash.zip(checked.fingerprint));
        }
        Ok((shares, dedup::combine(&fingerprints)))
    }

    /// Takes the request's share of the bytes that may wait for the disk; all of it or none.
    fn reserve(&self, encoded: &[Encoded]) -> Result<Arc<OwnedSemaphorePermit>, ProduceError> {
        let bound = self.0.config.staged_bytes_max;
        let bytes: usize = encoded.iter().flat_map(|share| &share.batches).map(Batch::len).sum();
        // A request above the bound gets through when nothing else waits.
        let bytes = u32::try_from(bytes.min(bound)).unwrap_or(u32::MAX);
        Arc::clone(&self.0.staged_bytes).try_acquire_many_owned(bytes).map(Arc::new).map_err(|_| {
            self.0.metrics.rejected_produce_requests.inc();
            ProduceError::Overloaded(bound)
        })
    }

    /// Records with keys of their own over several partitions ask all shards before anything is stored, so that a key that was used
    /// with another payload refuses the whole request.
    async fn check_keys(&self, shares: &[Encoded]) -> Result<(), ProduceError> {
        if shares.len() < 2 {
            return Ok(());
        }
        let checks = shares.iter().filter_map(|share| match &share.keys {
            Keys::Records(keys) => Some((share, keys)),
            Keys::None | Keys::Share { .. } => None,
        });
        try_join_all(checks.map(|(share, keys)| async {
            let request = |reply| Input::Log(LogOp::Check(CheckRequest { partition: share.partition.key, keys: keys.clone(), reply }));
            let answer = self.0.ask(share.partition.key, request).await.map_err(AppendError::from)?;
            answer.map_err(|error| at_place(error, &share.places))
        }))
        .await
        .map(|_| ())
    }

    /// Hands each share to its shard, and waits until all are stored.
    pub(super) async fn append_all(&self, topic: &Topic, request: Request) -> Result<Vec<Produced>, ProduceError> {
        let name: Arc<str> = topic.name.as_str().into();
        let Request { shares, count, arrived_ms, permit, .. } = request;
        let mut asked = Vec::with_capacity(shares.len());
        for share in shares {
            let (reply, answer) = oneshot::channel();
            let request = AppendRequest {
                partition: Arc::clone(&share.partition),
                topic: Arc::clone(&name),
                batches: share.batches,
                keys: share.keys,
                dedup_window_ms: topic.config.dedup_window_ms,
                arrived_ms,
                permit: Arc::clone(&permit),
                reply,
            };
            let sent = self.0.shard(share.partition.key.shard).send(Input::Log(LogOp::Append(request))).await;
            // What was handed over before is stored perhaps.
            sent.map_err(|error| if asked.is_empty() { error } else { WriteError::lost(&self.0.liveness) }).map_err(AppendError::from)?;
            asked.push((share.partition.key.partition, share.places, share.given_ms, answer));
        }
        let answers = join_all(asked.into_iter().map(|(partition, places, given_ms, answer)| async move {
            // The shard ended with the request in its hands: whether it was stored is not known here.
            let placed = answer.await.map_err(|_| AppendError::from(WriteError::lost(&self.0.liveness)))?;
            let placed = placed.map_err(|error| at_place(error, &places))?;
            Ok::<_, ProduceError>(Answer { partition, places, given_ms, placed })
        }))
        .await;
        Ok(in_order(answers.into_iter().collect::<Result<_, _>>()?, count, arrived_ms))
    }
}

/// The answers of all shares in the order of the request.
pub(super) fn in_order(answers: Vec<Answer>, count: usize, arrived_ms: i64) -> Vec<Produced> {
    let mut produced = vec![None; count];
    for Answer { partition, places, given_ms, placed } in answers {
        for ((place, given_ms), placed) in places.into_iter().zip(given_ms).zip(placed) {
            // A duplicate says the same time as the first one, or like that one says none and got its time of arrival.
            let timestamp_ms = given_ms.or(placed.duplicate_of_ms).unwrap_or(arrived_ms);
            produced[place] =
                Some(Produced { partition, offset: placed.offset, timestamp_ms, duplicate: placed.duplicate_of_ms.is_some() });
        }
    }
    produced.into_iter().map(|record| record.expect("every record belongs to one share")).collect()
}

impl Share {
    fn encode(self, topic: &Topic, partition: usize) -> Result<Encoded, ProduceError> {
        Ok(Encoded {
            partition: Arc::clone(&topic.partitions[partition]),
            batches: encode_cut(&self.records)?,
            places: self.places,
            given_ms: self.given_ms,
            keys: if self.keys.iter().all(Option::is_none) { Keys::None } else { Keys::Records(self.keys) },
        })
    }
}

fn check(
    topic: &Topic,
    index: usize,
    record: NewRecord,
    sticky: usize,
    arrived_ms: i64,
    is_request_keyed: bool,
) -> Result<Checked, ProduceError> {
    let NewRecord { payload, partition: explicit, timestamp_ms, idempotency_key } = record;
    let (bytes, max) = (payload.len(), topic.config.record_bytes_max);
    if bytes > max as usize {
        return Err(ProduceError::RecordTooLarge { index, topic: topic.name.clone(), bytes, max });
    }
    let own_key = idempotency_key.as_deref().map(check_key).transpose()?;
    let partitions = topic.config.partitions;
    let partition = match (explicit, &payload.key, own_key) {
        (Some(partition), _, _) if partition.0 >= partitions => {
            return Err(ProduceError::PartitionNotFound { index, topic: topic.name.clone(), partition, partitions });
        }
        (Some(partition), _, _) => partition.0 as usize,
        (None, Some(key), _) => partition_of(key, partitions).0 as usize,
        (None, None, Some(key)) => partition_of(key, partitions).0 as usize,
        (None, None, None) => sticky,
    };
    Ok(Checked {
        given_ms: timestamp_ms,
        partition,
        fingerprint: (is_request_keyed || own_key.is_some()).then(|| dedup::fingerprint(&payload, explicit, timestamp_ms)),
        key_hash: own_key.map(|key| dedup::hash_key(KeyScope::Record, key)),
        record: Record { timestamp_ms: timestamp_ms.unwrap_or(arrived_ms), payload },
    })
}

fn check_key(key: &[u8]) -> Result<&[u8], ProduceError> {
    match key.len() {
        1..=IDEMPOTENCY_KEY_BYTES_MAX => Ok(key),
        bytes => Err(ProduceError::IdempotencyKey(bytes)),
    }
}

/// Says which record of the request it was.
fn at_place(error: AppendError, places: &[usize]) -> ProduceError {
    match error {
        AppendError::KeyReused { index, .. } => {
            ProduceError::KeyReused { index: places.get(index).copied().unwrap_or(index), reason: error }
        }
        other => other.into(),
    }
}
