//! Reading a partition by offset or by time, with a long poll.

use crate::broker::parameter::{ParameterError, in_range};
use crate::broker::topics::TopicError;
use crate::broker::{Broker, Held};
use crate::log::batch::StoredRecord;
use crate::log::budget::Budget;
use crate::log::partition::Partition;
use crate::log::reader::{self, Found, ReadBatches};
use crate::log::{ReadError, ReadMemoryFull};
use crate::storage::Storage;
use core::time::Duration;
use sagamq_api::limits::{BATCHES_BYTES_DEFAULT, RECEIVE_RECORDS_DEFAULT, RECEIVE_RECORDS_MAX, RESPONSE_BYTES_MAX, WAIT_MS_MAX};
use sagamq_api::topic::ReadQuery;
use sagamq_api::{Offset, PartitionId, TopicName};
use std::sync::Arc;

/// Why a partition was not read.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ReadRequestError {
    /// No such topic.
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// No such partition.
    #[error("topic `{topic}` has {partitions} partitions, counted from 0; there is no partition {partition}")]
    PartitionNotFound {
        /// The topic.
        topic: TopicName,
        /// The partition that was asked for.
        partition: PartitionId,
        /// How many there are.
        partitions: u32,
    },
    /// A parameter is out of range.
    #[error(transparent)]
    Parameter(#[from] ParameterError),
    /// The records could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// There is no memory for the answer now.
    #[error(transparent)]
    Overloaded(#[from] ReadMemoryFull),
}

/// Records of one partition.
#[derive(Clone, Debug)]
pub struct Records {
    /// In the order of their offsets.
    pub records: Vec<StoredRecord>,
    /// Where to read on.
    pub next_offset: Offset,
    /// First offset that is still there.
    pub log_start: Offset,
    /// Offset after the last durable record.
    pub high_watermark: Offset,
}

/// Batches of one partition.
#[derive(Clone, Debug)]
pub struct Batches {
    /// One behind the other, as they are stored.
    pub bytes: Vec<u8>,
    /// Where to read on.
    pub next_offset: Offset,
    /// First offset that is still there.
    pub log_start: Offset,
    /// Offset after the last durable record.
    pub high_watermark: Offset,
}

/// How a partition is read from an offset on.
type Reading<T> = fn(&dyn Storage, &Partition, Offset, &mut Budget) -> Result<T, ReadError>;

/// What is read of batches, and so what it takes where they lie in memory.
#[derive(Clone, Copy)]
enum Depth {
    /// The batches, as they are.
    Batches,
    /// Their records, which may have to be decompressed.
    Records,
}

impl Depth {
    /// Whether reading from here on takes little time and no look at storage.
    fn is_at_hand(self, partition: &Partition, from: Offset) -> bool {
        match self {
            Self::Batches => partition.is_in_tail(from),
            Self::Records => partition.is_ready_in_tail(from),
        }
    }
}

/// What a read gave.
struct Done<T> {
    read: T,
    /// Where it began.
    from: Offset,
    partition: Arc<Partition>,
    budget: Budget,
}

impl<T> Done<T> {
    fn answer<A>(self, make: impl FnOnce(T, Offset, Offset) -> A) -> Held<A> {
        let answer = make(self.read, self.partition.log_start(), self.partition.high_watermark());
        Held::new(answer, self.budget.into_share())
    }
}

impl Broker {
    /// Records of one partition. Waits for a first one if it was asked to.
    ///
    /// # Errors
    /// When there is no such partition, a parameter or the offset is out of range, storage fails, or there is no memory for the answer.
    pub async fn read(&self, topic: &TopicName, partition: PartitionId, query: &ReadQuery) -> Result<Records, ReadRequestError> {
        Ok(self.read_held(topic, partition, query).await?.into_value())
    }

    /// [`Broker::read`] with the answer's share of the memory, to be kept until it is sent.
    ///
    /// # Errors
    /// As [`Broker::read`].
    pub async fn read_held(&self, topic: &TopicName, partition: PartitionId, query: &ReadQuery) -> Result<Held<Records>, ReadRequestError> {
        let records_max = in_range("max_records", query.max_records.unwrap_or(RECEIVE_RECORDS_DEFAULT), 1, RECEIVE_RECORDS_MAX)?;
        let bytes_max = in_range("max_bytes", query.max_bytes.unwrap_or(RESPONSE_BYTES_MAX), 1, RESPONSE_BYTES_MAX)?;
        let done = self.read_as(topic, partition, query, records_max, bytes_max, (Depth::Records, reader::read)).await?;
        let next_offset = done.read.last().map_or(done.from, |record| record.offset.next());
        Ok(done.answer(|records, log_start, high_watermark| Records { records, next_offset, log_start, high_watermark }))
    }

    /// Batches of one partition as they are stored, the first being the one that holds the offset or the time: records before that may
    /// stand in front. Waits for a first one if it was asked to. With the answer's share of the memory, to be kept until it is sent.
    ///
    /// # Errors
    /// As [`Broker::read`].
    pub async fn read_batches(
        &self,
        topic: &TopicName,
        partition: PartitionId,
        query: &ReadQuery,
    ) -> Result<Held<Batches>, ReadRequestError> {
        let records_max = in_range("max_records", query.max_records.unwrap_or(u32::MAX), 1, u32::MAX)?;
        let bytes_max = in_range("max_bytes", query.max_bytes.unwrap_or(BATCHES_BYTES_DEFAULT), 1, RESPONSE_BYTES_MAX)?;
        let done = self.read_as(topic, partition, query, records_max, bytes_max, (Depth::Batches, reader::read_batches)).await?;
        Ok(done.answer(|ReadBatches { bytes, next }, log_start, high_watermark| Batches {
            bytes,
            next_offset: next,
            log_start,
            high_watermark,
        }))
    }

    async fn read_as<T: Send + 'static>(
        &self,
        topic: &TopicName,
        partition: PartitionId,
        query: &ReadQuery,
        records_max: u32,
        bytes_max: u32,
        read: (Depth, Reading<T>),
    ) -> Result<Done<T>, ReadRequestError> {
        let topic = self.topic(topic)?;
        let partition = topic.partition(partition).ok_or_else(|| ReadRequestError::PartitionNotFound {
            topic: topic.name.clone(),
            partition,
            partitions: topic.partitions.count(),
        })?;
        let wait_ms = in_range("wait_ms", query.wait_ms.unwrap_or(0), 0, WAIT_MS_MAX)?;
        let mut from = match (query.offset, query.timestamp_ms) {
            (Some(_), Some(_)) => return Err(ParameterError::new("`offset` and `timestamp_ms` cannot both be given").into()),
            (Some(offset), None) => offset,
            (None, Some(timestamp_ms)) => self.offset_at(partition, timestamp_ms).await?,
            (None, None) => partition.log_start(),
        };
        self.wait_for_record(partition, from, Duration::from_millis(wait_ms)).await;
        let refused = |full| {
            self.0.metrics.rejected_read_requests.inc();
            full
        };
        let mut budget = self.0.read_memory.budget(records_max as usize, bytes_max as usize).await.map_err(refused)?;
        let done = loop {
            let done;
            (done, budget) = self.read_with(partition, from, budget, read).await;
            if partition.is_deleted() {
                return Err(TopicError::NotFound(topic.name.clone()).into());
            }
            let done = match done {
                // Who did not name an offset gets the oldest records that are left when retention is faster.
                Err(ReadError::OutOfRange { log_start, .. }) if query.offset.is_none() && from < log_start => {
                    from = log_start;
                    continue;
                }
                done => done?,
            };
            if !budget.is_lacking() {
                break done;
            }
            budget.wait().await.map_err(refused)?;
        };
        Ok(Done { read: done, from, partition: Arc::clone(partition), budget })
    }

    /// Waits until there is a record at `from`, the time is over, or the broker shuts down.
    pub(crate) async fn wait_for_record(&self, partition: &Arc<Partition>, from: Offset, wait: Duration) {
        let arrived = async {
            let waiter = partition.waiter();
            loop {
                let moved = waiter.moved();
                if partition.high_watermark() > from || partition.is_deleted() {
                    break;
                }
                moved.await;
            }
        };
        tokio::select! {
            _ = tokio::time::timeout(wait, arrived) => {}
            () = self.shutdown_begun() => {}
        }
    }

    /// Reads records from memory if it can, else off the async runtime.
    pub(crate) async fn read_from(
        &self,
        partition: &Arc<Partition>,
        from: Offset,
        budget: Budget,
    ) -> (Result<Vec<StoredRecord>, ReadError>, Budget) {
        self.read_with(partition, from, budget, (Depth::Records, reader::read)).await
    }

    async fn read_with<T: Send + 'static>(
        &self,
        partition: &Arc<Partition>,
        from: Offset,
        mut budget: Budget,
        (depth, read): (Depth, Reading<T>),
    ) -> (Result<T, ReadError>, Budget) {
        if from >= partition.high_watermark() || depth.is_at_hand(partition, from) {
            return (read(&*self.0.storage, partition, from, &mut budget), budget);
        }
        let (storage, partition) = (Arc::clone(&self.0.storage), Arc::clone(partition));
        self.blocking(move || (read(&*storage, &partition, from, &mut budget), budget)).await
    }

    /// Reads what is wanted as far as the answer's budget goes; waits for memory if there is none for the first record.
    pub(super) async fn read_offsets(
        &self,
        mut wanted: Vec<(Arc<Partition>, Vec<Offset>)>,
        max: u32,
    ) -> Result<(Vec<Found>, Budget), ReadMemoryFull> {
        for (_, offsets) in &mut wanted {
            offsets.sort_unstable();
        }
        let refused = |full| {
            self.0.metrics.rejected_read_requests.inc();
            full
        };
        let wanted: Arc<[(Arc<Partition>, Vec<Offset>)]> = wanted.into();
        let mut budget = self.0.read_memory.budget(max as usize, RESPONSE_BYTES_MAX as usize).await.map_err(refused)?;
        loop {
            let found;
            (found, budget) = self.read_all(&wanted, budget).await;
            if !budget.is_lacking() {
                return Ok((found, budget));
            }
            budget.wait().await.map_err(refused)?;
        }
    }

    /// From memory if it can, else off the async runtime.
    async fn read_all(&self, wanted: &Arc<[(Arc<Partition>, Vec<Offset>)]>, mut budget: Budget) -> (Vec<Found>, Budget) {
        let is_at_hand = |(partition, offsets): &(Arc<Partition>, Vec<Offset>)| {
            offsets.first().is_none_or(|&first| Depth::Records.is_at_hand(partition, first))
        };
        let is_in_memory = wanted.iter().all(is_at_hand);
        let (storage, wanted) = (Arc::clone(&self.0.storage), Arc::clone(wanted));
        let read = move || {
            let read = |(partition, offsets): &(Arc<Partition>, Vec<Offset>)| reader::read_at(&*storage, partition, offsets, &mut budget);
            (wanted.iter().map(read).collect(), budget)
        };
        if is_in_memory { read() } else { self.blocking(read).await }
    }

    /// How old the first record at or behind an offset is, in seconds; 0 if there is none.
    pub(super) async fn age_seconds(&self, partition: &Arc<Partition>, offset: Offset) -> Result<f64, ReadError> {
        let now_ms = i64::try_from(self.0.clock.now_ms()).unwrap_or(i64::MAX);
        let (storage, of) = (Arc::clone(&self.0.storage), Arc::clone(partition));
        let read = move || {
            let mut at = offset;
            loop {
                let found = reader::read_at(&*storage, &of, &[at], &mut Budget::unshared(1, usize::MAX));
                // Compaction took what was there: who stands before a gap lags behind what lies beyond.
                match found.gap {
                    Some(ref gap) if gap.end > at && gap.end < of.high_watermark() => at = gap.end,
                    _ => return found,
                }
            }
        };
        let found = if Depth::Records.is_at_hand(partition, offset) { read() } else { self.blocking(read).await };
        match (found.records.first(), found.error) {
            (Some(record), _) => Ok(now_ms.saturating_sub(record.timestamp_ms).max(0) as f64 / 1000.0),
            (None, Some(error)) => Err(error),
            (None, None) => Ok(0.0),
        }
    }

    pub(super) async fn offset_at(&self, partition: &Arc<Partition>, timestamp_ms: i64) -> Result<Offset, ReadError> {
        let (storage, partition) = (Arc::clone(&self.0.storage), Arc::clone(partition));
        self.blocking(move || reader::offset_at_time(&*storage, &partition, timestamp_ms)).await
    }

    /// Runs a read of storage off the async runtime.
    pub(super) async fn blocking<T: Send + 'static>(&self, read: impl FnOnce() -> T + Send + 'static) -> T {
        tokio::task::spawn_blocking(read).await.expect("a read of storage neither panics nor is aborted")
    }
}
