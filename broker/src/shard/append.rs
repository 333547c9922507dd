//! Storing records: duplicates are found, offsets given, batches staged.

use crate::log::batch::{Batch, BatchError, EncodeError};
use crate::log::cut::encode_cut;
use crate::log::partition::Partition;
use crate::metrics::TopicLabel;
use crate::shard::Shard;
use crate::shard::commit::WriteError;
use crate::shard::idempotency::{Keys, Verdict};
use crate::storage::keys::PartitionKey;
use crate::storage::{Family, Mutation, StorageError};
use sagamq_api::Offset;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

/// Distance between two entries of the time index, in milliseconds of record time.
const TIME_INDEX_STEP_MS: i64 = 1_000;

/// Why records were not stored.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AppendError {
    /// The partition's topic is deleted.
    #[error("the topic is deleted")]
    TopicDeleted,
    /// The idempotency key of a record was used with another payload. Nothing was stored.
    #[error("its idempotency key was used with another payload, {}", stored_at(*first))]
    KeyReused {
        /// Index of the record among those sent to the partition.
        index: usize,
        /// Where the first one lies; none if it stands in the same request.
        first: Option<Offset>,
    },
    /// The idempotency key of the request was used with other records. Nothing was stored.
    #[error("the request's idempotency key was used in this topic with other records{}", from_offset(*first))]
    RequestKeyReused {
        /// Where the first one lies, if it lies in one place.
        first: Option<Offset>,
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

/// Records for one partition.
pub(crate) struct AppendRequest {
    pub(crate) partition: Arc<Partition>,
    pub(crate) topic: Arc<str>,
    /// The records, encoded where they arrived.
    pub(crate) batches: Vec<Batch>,
    pub(crate) keys: Keys,
    pub(crate) dedup_window_ms: u64,
    /// The time of records without one of their own.
    pub(crate) arrived_ms: i64,
    /// The request's share of the bound on bytes that are not durable; given back when all of them are.
    pub(crate) permit: Arc<OwnedSemaphorePermit>,
    pub(crate) reply: oneshot::Sender<Result<Vec<Placed>, AppendError>>,
}

/// Where a record lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Placed {
    pub(crate) offset: Offset,
    /// When the first one arrived, if this is a duplicate.
    pub(crate) duplicate_of_ms: Option<i64>,
}

impl Shard {
    pub(crate) fn append(&mut self, mut request: AppendRequest) {
        let batches = std::mem::take(&mut request.batches);
        let result = if self.owns(&request.partition) { self.place(&request, batches) } else { Err(AppendError::TopicDeleted) };
        let AppendRequest { permit, reply, .. } = request;
        self.answer(move |written| {
            drop(permit);
            // A client that went away does not hear the answer; what he asked for is done all the same.
            let _ = reply.send(written.map_err(AppendError::from).and(result));
        });
    }

    /// Answers when everything staged so far is written: what a refusal tells of must be durable too.
    pub(crate) fn answer_append<T: Send + 'static>(
        &mut self,
        reply: oneshot::Sender<Result<T, AppendError>>,
        result: Result<T, AppendError>,
    ) {
        self.answer(move |written| {
            let _ = reply.send(written.map_err(AppendError::from).and(result));
        });
    }

    fn place(&mut self, request: &AppendRequest, batches: Vec<Batch>) -> Result<Vec<Placed>, AppendError> {
        let AppendRequest { partition, topic, keys, arrived_ms, .. } = request;
        let count: usize = batches.iter().map(|batch| batch.records_count() as usize).sum();
        let verdicts = self.verdicts(partition.key, count, keys)?;
        let duplicates = verdicts.iter().filter(|verdict| !matches!(verdict, Verdict::Fresh)).count();
        self.count_duplicates(topic, duplicates as u64);
        let fresh = if duplicates == 0 { batches } else { without_duplicates(&batches, &verdicts)? };
        let mut base = Offset(0);
        if !fresh.is_empty() {
            self.count_produced(topic, &fresh);
            base = self.stage_batches(partition, fresh);
        }
        let mut next = base;
        let placed: Vec<Placed> = verdicts
            .into_iter()
            .map(|verdict| match verdict {
                Verdict::Duplicate(placed) => placed,
                Verdict::Again(first) => Placed { offset: base.plus(first as u64), duplicate_of_ms: Some(*arrived_ms) },
                Verdict::Fresh => {
                    let offset = next;
                    next = next.next();
                    Placed { offset, duplicate_of_ms: None }
                }
            })
            .collect();
        if duplicates < count {
            self.stage_entries(partition.key, keys, &placed, request.dedup_window_ms, *arrived_ms);
        }
        Ok(placed)
    }

    /// Counts what is stored. Only the shard's task counts by topic, so that nothing is counted for a topic that is gone.
    pub(crate) fn count_produced(&self, topic: &str, batches: &[Batch]) {
        let label = TopicLabel { topic: topic.to_owned() };
        let records: u64 = batches.iter().map(|batch| u64::from(batch.records_count())).sum();
        let bytes: usize = batches.iter().map(Batch::len).sum();
        self.metrics.produced_records.get_or_create(&label).inc_by(records);
        self.metrics.produced_bytes.get_or_create(&label).inc_by(bytes as u64);
    }

    pub(crate) fn count_duplicates(&self, topic: &str, records: u64) {
        if records > 0 {
            self.metrics.duplicate_records.get_or_create(&TopicLabel { topic: topic.to_owned() }).inc_by(records);
        }
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
}

/// The same records without the duplicates, encoded anew. Rare: only a retry of a part comes here.
fn without_duplicates(batches: &[Batch], verdicts: &[Verdict]) -> Result<Vec<Batch>, AppendError> {
    let mut verdicts = verdicts.iter();
    let mut fresh = Vec::new();
    for batch in batches {
        for record in batch.records()? {
            if matches!(verdicts.next(), Some(Verdict::Fresh)) {
                fresh.push(record.into_record());
            }
        }
    }
    Ok(encode_cut(&fresh)?)
}

fn from_offset(first: Option<Offset>) -> String {
    first.map_or_else(String::new, |first| format!(", stored from offset {first} of the key's partition on"))
}

fn stored_at(first: Option<Offset>) -> String {
    first.map_or_else(|| "by a record before it".to_owned(), |first| format!("stored at offset {first}"))
}
