//! Storing records: duplicates are found, offsets given, batches staged.

use crate::dedup::{self, Entry, Hash};
use crate::log::batch::{Batch, BatchError, EncodeError};
use crate::log::partition::Partition;
use crate::metrics::TopicLabel;
use crate::shard::Shard;
use crate::shard::commit::WriteError;
use crate::storage::keys::PartitionKey;
use crate::storage::{Family, Mutation, Storage, StorageError};
use sagamq_api::Offset;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

/// Distance between two entries of the time index, in milliseconds of record time.
const TIME_INDEX_STEP_MS: i64 = 1_000;

/// Most records of one stored batch, so that a reader never decodes many to find one.
pub(crate) const BATCH_RECORDS_MAX: usize = 256;

/// Why records were not stored.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AppendError {
    /// The partition's topic is deleted.
    #[error("the topic is deleted")]
    TopicDeleted,
    /// The idempotency key was used with another payload. Nothing was stored.
    #[error("the idempotency key of record {index} was used with another payload, stored at offset {first}")]
    KeyReused {
        /// Index of the record among those sent to the partition; 0 for a key of the whole request.
        index: usize,
        /// Where the first one lies.
        first: Offset,
    },
    /// The durable write failed or is not tried any more.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// Idempotency entries could not be read.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The records cannot be written as a batch.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// A batch that was just made cannot be read.
    #[error(transparent)]
    Batch(#[from] BatchError),
}

/// Idempotency keys of the records of one append.
#[derive(Clone, Debug)]
pub(crate) enum Keys {
    /// None has one.
    None,
    /// One for all of them together.
    Request { hash: Hash, fingerprint: Hash },
    /// One for each that has one: hash of the key, fingerprint of the record.
    Records(Vec<Option<(Hash, Hash)>>),
}

/// Records for one partition.
pub(crate) struct AppendRequest {
    pub(crate) partition: Arc<Partition>,
    pub(crate) topic: Arc<str>,
    /// The records, encoded where they arrived.
    pub(crate) batches: Vec<Batch>,
    pub(crate) keys: Keys,
    pub(crate) dedup_window_ms: u64,
    /// The request's share of the bound on bytes that are not durable; given back when all of them are.
    pub(crate) permit: Arc<OwnedSemaphorePermit>,
    pub(crate) reply: oneshot::Sender<Result<Vec<Placed>, AppendError>>,
}

/// Asks whether keys were used with another payload.
pub(crate) struct CheckRequest {
    pub(crate) partition: PartitionKey,
    pub(crate) count: usize,
    pub(crate) keys: Keys,
    pub(crate) dedup_window_ms: u64,
    pub(crate) reply: oneshot::Sender<Result<(), AppendError>>,
}

/// Where a record lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Placed {
    pub(crate) offset: Offset,
    /// When the first one was stored, if this is a duplicate.
    pub(crate) duplicate_of_ms: Option<i64>,
}

/// What the keys say about each record: the place of the first one, or nothing.
type Verdicts = Vec<Option<Entry>>;

impl Shard {
    pub(crate) fn append(&mut self, request: AppendRequest) {
        let AppendRequest { partition, topic, batches, keys, dedup_window_ms, permit, reply } = request;
        let result = if self.owns(&partition) {
            self.place(&partition, &topic, batches, &keys, dedup_window_ms)
        } else {
            Err(AppendError::TopicDeleted)
        };
        self.answer(move |written| {
            drop(permit);
            // A client that went away does not hear the answer; what he asked for is done all the same.
            let _ = reply.send(match written {
                Ok(()) => result,
                Err(error) => result.and(Err(error.into())),
            });
        });
    }

    pub(crate) fn check(&mut self, request: CheckRequest) {
        let verdicts = self.verdicts(request.partition, request.count, &request.keys, request.dedup_window_ms);
        let _ = request.reply.send(verdicts.map(|_| ()));
    }

    fn place(
        &mut self,
        partition: &Arc<Partition>,
        topic: &str,
        batches: Vec<Batch>,
        keys: &Keys,
        dedup_window_ms: u64,
    ) -> Result<Vec<Placed>, AppendError> {
        let count: usize = batches.iter().map(|batch| batch.records_count() as usize).sum();
        let verdicts = self.verdicts(partition.key, count, keys, dedup_window_ms)?;
        let label = TopicLabel { topic: topic.to_owned() };
        let duplicates = verdicts.iter().flatten().count();
        self.metrics.duplicate_records.get_or_create(&label).inc_by(duplicates as u64);
        let fresh = if duplicates == 0 { batches } else { without_duplicates(&batches, &verdicts)? };
        if fresh.is_empty() {
            return Ok(verdicts.into_iter().flatten().map(duplicate).collect());
        }
        self.metrics.produced_records.get_or_create(&label).inc_by((count - duplicates) as u64);
        let timestamp_ms = fresh.first().map_or(0, Batch::max_timestamp);
        let base = self.stage_batches(partition, fresh);
        let mut next = base;
        let placed: Vec<Placed> = verdicts
            .into_iter()
            .map(|verdict| match verdict {
                Some(entry) => match entry.base {
                    IN_THIS_REQUEST => Placed { offset: base.plus(u64::from(entry.count)), duplicate_of_ms: Some(timestamp_ms) },
                    _ => duplicate(entry),
                },
                None => {
                    let offset = next;
                    next = next.next();
                    Placed { offset, duplicate_of_ms: None }
                }
            })
            .collect();
        self.stage_entries(partition.key, keys, &placed, timestamp_ms);
        Ok(placed)
    }

    /// Gives offsets to the batches and stages them. The base offset of the first.
    pub(crate) fn stage_batches(&mut self, partition: &Arc<Partition>, batches: Vec<Batch>) -> Offset {
        let mut first = None;
        let mut staged = Vec::with_capacity(batches.len());
        for batch in batches {
            let base = partition.append(u64::from(batch.records_count()));
            first.get_or_insert(base);
            let batch = batch.with_base_offset(base);
            self.index_time(partition.key, &batch);
            self.commit.push(Mutation::Put { family: Family::Log, key: partition.key.log(base), value: batch.bytes().clone() });
            staged.push(batch);
        }
        self.commit.require_sync();
        self.publish(partition, staged);
        first.expect("a batch is staged only when there is one")
    }

    fn index_time(&mut self, key: PartitionKey, batch: &Batch) {
        let Some(log) = self.logs.get_mut(&key) else { return };
        log.timestamp_ms_max = log.timestamp_ms_max.max(batch.max_timestamp());
        if log.timestamp_ms_max >= log.timestamp_ms_indexed.saturating_add(TIME_INDEX_STEP_MS) {
            log.timestamp_ms_indexed = log.timestamp_ms_max;
            let entry = key.time_index(log.timestamp_ms_max, batch.base_offset());
            self.commit.push(Mutation::Put { family: Family::TimeIndex, key: entry, value: bytes::Bytes::new() });
        }
    }

    fn stage_entries(&mut self, partition: PartitionKey, keys: &Keys, placed: &[Placed], timestamp_ms: i64) {
        let stored_at_ms = self.clock.now_ms();
        let mut stage = |hash: Hash, fingerprint: Hash, base: Offset, count: usize| {
            let count = u32::try_from(count).expect("a request has at most ten thousand records");
            let entry = Entry { base, count, timestamp_ms, stored_at_ms, fingerprint };
            let key = partition.dedup(dedup::bucket(stored_at_ms), hash);
            self.commit.push(Mutation::Put { family: Family::Dedup, key, value: entry.encode().into() });
            self.recent.insert(partition, hash, entry, self.commit_number);
        };
        match keys {
            Keys::None => {}
            Keys::Request { hash, fingerprint } => stage(*hash, *fingerprint, placed[0].offset, placed.len()),
            Keys::Records(keys) => {
                for (key, placed) in keys.iter().zip(placed) {
                    if let (Some((hash, fingerprint)), None) = (key, placed.duplicate_of_ms) {
                        stage(*hash, *fingerprint, placed.offset, 1);
                    }
                }
            }
        }
    }

    /// Which records are duplicates. An error if a key was used with another payload.
    fn verdicts(&self, partition: PartitionKey, count: usize, keys: &Keys, window_ms: u64) -> Result<Verdicts, AppendError> {
        match keys {
            Keys::None => Ok(vec![None; count]),
            Keys::Request { hash, fingerprint } => match self.entry(partition, *hash, window_ms)? {
                None => Ok(vec![None; count]),
                Some(entry) if entry.fingerprint == *fingerprint && entry.count as usize == count => {
                    Ok((0..count as u64).map(|index| Some(Entry { base: entry.base.plus(index), ..entry })).collect())
                }
                Some(entry) => Err(AppendError::KeyReused { index: 0, first: entry.base }),
            },
            Keys::Records(keys) => self.record_verdicts(partition, keys, window_ms),
        }
    }

    fn record_verdicts(&self, partition: PartitionKey, keys: &[Option<(Hash, Hash)>], window_ms: u64) -> Result<Verdicts, AppendError> {
        let mut verdicts = Vec::with_capacity(keys.len());
        // Keys of this very request: the same key twice is stored once, at the place of its first record.
        let mut seen: HashMap<Hash, Entry> = HashMap::new();
        let mut fresh = 0;
        for (index, key) in keys.iter().enumerate() {
            let Some((hash, fingerprint)) = key else {
                verdicts.push(None);
                fresh += 1;
                continue;
            };
            let known = match seen.get(hash) {
                Some(entry) => Some(*entry),
                None => self.entry(partition, *hash, window_ms)?,
            };
            match known {
                Some(entry) if entry.fingerprint != *fingerprint => return Err(AppendError::KeyReused { index, first: entry.base }),
                Some(entry) => verdicts.push(Some(entry)),
                None => {
                    let here = Entry { base: IN_THIS_REQUEST, count: fresh, timestamp_ms: 0, stored_at_ms: 0, fingerprint: *fingerprint };
                    seen.insert(*hash, here);
                    verdicts.push(None);
                    fresh += 1;
                }
            }
        }
        Ok(verdicts)
    }

    fn entry(&self, partition: PartitionKey, hash: Hash, window_ms: u64) -> Result<Option<Entry>, AppendError> {
        let now_ms = self.clock.now_ms();
        let is_in_window = |entry: &Entry| now_ms.saturating_sub(entry.stored_at_ms) <= window_ms;
        if let Some(entry) = self.recent.get(partition, hash) {
            return Ok(Some(entry).filter(is_in_window));
        }
        for bucket in dedup::buckets(now_ms, window_ms) {
            if let Some(bytes) = self.storage.get(Family::Dedup, &partition.dedup(bucket, hash))? {
                let entry = Entry::decode(&bytes).ok_or_else(|| StorageError::Corrupt("an idempotency entry cannot be read".into()))?;
                return Ok(Some(entry).filter(is_in_window));
            }
        }
        Ok(None)
    }
}

/// Stands for "among the records of this request"; the entry's count is then the index among the fresh ones.
const IN_THIS_REQUEST: Offset = Offset(u64::MAX);

fn duplicate(entry: Entry) -> Placed {
    Placed { offset: entry.base, duplicate_of_ms: Some(entry.timestamp_ms) }
}

/// The same records without the duplicates, encoded anew. Rare: only a retry of a part comes here.
fn without_duplicates(batches: &[Batch], verdicts: &Verdicts) -> Result<Vec<Batch>, AppendError> {
    let mut verdicts = verdicts.iter();
    let mut fresh = Vec::new();
    for batch in batches {
        for record in batch.records()? {
            if verdicts.next().is_some_and(Option::is_none) {
                fresh.push(record.into_record());
            }
        }
    }
    fresh.chunks(BATCH_RECORDS_MAX).map(|records| Batch::encode(records).map_err(AppendError::from)).collect()
}
