//! Compaction: once a minute it is looked which logs of compacted topics have enough new records, and these are gone through, one at a time and no
//! faster than the disk can bear. What changes is a commit of the shard for each piece.

use crate::broker::Broker;
use crate::log::ReadError;
use crate::log::compaction::{Compacted, KeyMap, Piece, Rules, cleanable_end, fold_shift, gather, piece_before};
use crate::log::partition::Partition;
use crate::shard::commit::WriteError;
use crate::shard::disk_guard::Room;
use crate::shard::trim::{Compaction, TrimOp, Trimmed};
use crate::storage::Storage;
use crate::topic::{Topic, TopicKind};
use core::ops::ControlFlow;
use core::time::Duration;
use sagamq_api::Offset;
use sagamq_api::topic::TopicConfig;
use std::sync::Arc;

/// Keys of one pass: at about 40 bytes each. What comes behind them is for the next pass.
const KEYS_MAX: usize = 500_000;

/// Bytes of batches that are written a second.
const WRITTEN_A_SECOND: u64 = 16 * 1024 * 1024;

/// Bytes of batches that are read a second.
const READ_A_SECOND: u64 = 64 * 1024 * 1024;

/// A log of no more bytes is gone through whenever it has something new; a larger one when half of it is new.
const SMALL_BYTES: u64 = 1024 * 1024;

/// Why not all was compacted that was due. A later look goes on.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CompactionError {
    /// A log cannot be read. Nothing of the piece changes that holds the damage, and nothing before it.
    #[error("topic `{topic}` partition {partition}: {reason}")]
    Read {
        /// The topic.
        topic: sagamq_api::TopicName,
        /// The partition.
        partition: sagamq_api::PartitionId,
        /// Why.
        reason: ReadError,
    },
    /// The durable write failed or is not tried any more.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// Looks once. Whether it was for the last time.
pub(super) async fn round(broker: &Broker) -> ControlFlow<()> {
    match broker.compact().await {
        Ok(0) => {}
        Ok(records) => tracing::debug!(records, "compaction took records"),
        Err(CompactionError::Write(WriteError::ShuttingDown)) => return ControlFlow::Break(()),
        Err(error) => tracing::error!(%error, "not all is compacted that is due"),
    }
    ControlFlow::Continue(())
}

/// A partition at one moment.
#[derive(Clone)]
struct Look {
    topic: Arc<Topic>,
    partition: Arc<Partition>,
    config: Arc<TopicConfig>,
}

/// A pass that is under way.
struct Pass {
    keys: Arc<KeyMap>,
    end: Offset,
    tombstones_below: Offset,
    /// What the row says meanwhile.
    row: Compacted,
    /// Of what was gone through.
    bytes: u64,
    tombstones: u64,
    records: u64,
    behind: Option<Piece>,
    is_whole: bool,
}

/// What became of a piece.
enum Progress {
    /// So many bytes were read and written.
    Done(u64, u64),
    /// There is no other.
    Through,
    /// The topic is another one now.
    Stopped,
}

impl Broker {
    /// Compacts the logs of compacted topics in which enough is new. How many records went. This happens by itself as often as
    /// [`BrokerConfig::retention_interval`](crate::BrokerConfig::retention_interval) says. It is not synced: after a power cut records may be
    /// there once more, and go with a later pass.
    ///
    /// # Errors
    /// When a log cannot be read or writes are stopped. What was done before is.
    pub async fn compact(&self) -> Result<u64, CompactionError> {
        let (mut taken, mut error) = (0, None);
        for topic in self.0.catalog.topics() {
            let config = topic.config.get();
            if topic.kind != TopicKind::Plain || topic.is_owned() || !config.cleanup_policy.compacts() {
                continue;
            }
            for partition in (0..topic.partitions.len()).filter_map(|index| topic.partitions.in_memory(index)) {
                let look = Look { topic: Arc::clone(&topic), partition: Arc::clone(partition), config: Arc::clone(&config) };
                match self.compact_one(&look).await {
                    Ok(records) => taken += records,
                    // One log that cannot be read keeps no other from being.
                    Err(reason) => drop(error.get_or_insert(reason)),
                }
            }
        }
        error.map_or(Ok(taken), Err)
    }

    async fn compact_one(&self, look: &Look) -> Result<u64, CompactionError> {
        let partition = &look.partition;
        // What is rewritten needs room before what it replaces gives any back.
        if partition.log_start() == partition.high_watermark() || self.disk_room() != Room::Enough {
            return Ok(0);
        }
        let Some(mut row) = self.folded(look).await? else { return Ok(0) };
        let now_ms = self.0.clock.now_ms();
        let lag_ms = look.config.min_compaction_lag_ms;
        let older_than_ms = (lag_ms > 0).then(|| now_ms.saturating_sub(lag_ms).cast_signed());
        let end = self.storage_of(look, move |storage, partition| Ok(cleanable_end(storage, partition, older_than_ms)?)).await?;
        let from = row.end.max(partition.log_start());
        let is_over = row.horizon > Offset(0) && now_ms >= row.horizon_ms.saturating_add(look.config.delete_retention_ms);
        if !(is_over || is_due(partition.bytes(), &row, from, end)) {
            return Ok(0);
        }
        let (keys, end) = self.gather(look, from, end).await?;
        let tombstones_below = if is_over { row.horizon } else { Offset(0) };
        let mut pass =
            Pass { keys: Arc::new(keys), end, tombstones_below, row, bytes: 0, tombstones: 0, records: 0, behind: None, is_whole: true };
        loop {
            // Each piece stands for itself: the rest comes when there is room.
            if self.disk_room() != Room::Enough {
                return Ok(pass.records);
            }
            match self.piece(look, &mut pass).await? {
                Progress::Done(read, written) => pace(read, written).await,
                Progress::Through => break,
                Progress::Stopped => return Ok(pass.records),
            }
        }
        // What went through only in part is begun again from where the last whole pass ended, when as much has come again.
        let end = if pass.is_whole { end } else { row.end };
        row = Compacted { end, bytes: pass.bytes, tombstones: pass.tombstones, shift: 0, shift_below: Offset(0), ..row };
        (row.horizon, row.horizon_ms) = match row.horizon {
            _ if pass.tombstones == 0 || end == Offset(0) => (Offset(0), 0),
            Offset(0) => (end, now_ms),
            _ if is_over => (end, now_ms),
            horizon => (horizon, row.horizon_ms),
        };
        let _upkeep = self.0.upkeep.lock().await;
        self.tell(look, Compaction::Rows(Vec::new(), row)).await?;
        Ok(pass.records)
    }

    /// How far the log is compacted, when what an earlier pass left half done is done. `None`: the topic is another one now.
    async fn folded(&self, look: &Look) -> Result<Option<Compacted>, CompactionError> {
        loop {
            let _upkeep = self.0.upkeep.lock().await;
            let (row, rows) = self
                .storage_of(look, |storage, partition| {
                    let row = Compacted::read(storage, partition.key)?;
                    let rows = (row.shift > 0).then(|| fold_shift(storage, partition.key, &row)).transpose()?;
                    Ok((row, rows))
                })
                .await?;
            let Some((rows, folded)) = rows else { return Ok(Some(row)) };
            if !self.tell(look, Compaction::Rows(rows, folded)).await? {
                return Ok(None);
            }
        }
    }

    /// The keys of what is new, and up to where they were taken.
    async fn gather(&self, look: &Look, from: Offset, end: Offset) -> Result<(KeyMap, Offset), CompactionError> {
        let (mut keys, mut at) = (KeyMap::new(KEYS_MAX), from);
        while at < end && !keys.is_full() {
            let gathered = self.storage_of(look, move |storage, partition| {
                let (next, bytes) = gather(storage, partition, at..end, &mut keys)?;
                Ok((keys, next, bytes))
            });
            let bytes;
            (keys, at, bytes) = gathered.await?;
            pace(bytes as u64, 0).await;
        }
        Ok((keys, at))
    }

    /// Goes through the next piece.
    async fn piece(&self, look: &Look, pass: &mut Pass) -> Result<Progress, CompactionError> {
        // Retention moves the start of the log by what the index says.
        let _upkeep = self.0.upkeep.lock().await;
        let (keys, end, behind) = (Arc::clone(&pass.keys), pass.end, pass.behind.clone());
        let (tombstones_below, shift) = (pass.tombstones_below, pass.row.shift);
        let found = self.storage_of(look, move |storage, partition| {
            let piece_end = behind.as_ref().map_or(end, Piece::start);
            let Some(mut piece) = piece_before(storage, partition, piece_end, behind.as_ref())? else { return Ok(None) };
            let rewrite = piece.rewrite(storage, partition, &Rules { keys: &keys, tombstones_below, shift })?;
            Ok(Some((piece, rewrite)))
        });
        let Some((piece, rewrite)) = found.await? else { return Ok(Progress::Through) };
        let (read, written) = (rewrite.bytes + rewrite.saved, rewrite.batches.iter().map(|batch| batch.len() as u64).sum());
        let (bytes, tombstones, records) = (rewrite.bytes, rewrite.tombstones, rewrite.records);
        pass.is_whole &= rewrite.is_whole;
        if !rewrite.is_nothing() {
            pass.row.shift += rewrite.saved;
            pass.row.shift_below = piece.start();
            if !self.tell(look, Compaction::Piece(rewrite, pass.row)).await? {
                return Ok(Progress::Stopped);
            }
        }
        pass.bytes += bytes;
        pass.tombstones += tombstones;
        pass.records += records;
        pass.behind = Some(piece);
        Ok(Progress::Done(read, written))
    }

    /// Tells the shard; whether it was done and written.
    async fn tell(&self, look: &Look, compaction: Compaction) -> Result<bool, WriteError> {
        let of = Trimmed { topic: Arc::clone(&look.topic), partition: Arc::clone(&look.partition), letters_of: None };
        let (config, compaction) = (Arc::clone(&look.config), Box::new(compaction));
        self.ask_to_trim(look.partition.key, |reply| TrimOp::Rewrite { of, config, compaction, reply }).await?
    }

    /// Looks at storage, beside the runtime.
    async fn storage_of<T: Send + 'static>(
        &self,
        look: &Look,
        read: impl FnOnce(&dyn Storage, &Partition) -> Result<T, ReadError> + Send + 'static,
    ) -> Result<T, CompactionError> {
        let (storage, partition) = (Arc::clone(&self.0.storage), Arc::clone(&look.partition));
        let found = self.blocking(move || read(&*storage, &partition)).await;
        let (topic, partition) = (look.topic.name.clone(), look.partition.key.partition);
        found.map_err(|reason| CompactionError::Read { topic, partition, reason })
    }
}

/// Whether enough is new in a log of so many bytes: half of it, as with Kafka, so that what is written again is no more than what came.
fn is_due(bytes: u64, row: &Compacted, from: Offset, end: Offset) -> bool {
    from < end && (bytes <= SMALL_BYTES || bytes.saturating_sub(row.bytes) >= row.bytes)
}

/// Lets the disk do what others want.
async fn pace(read: u64, written: u64) {
    let pause_us = read * 1_000_000 / READ_A_SECOND + written * 1_000_000 / WRITTEN_A_SECOND;
    tokio::time::sleep(Duration::from_micros(pause_us)).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_log_is_due_with_anything_new_and_a_large_one_when_half_of_it_is() {
        let row = |bytes| Compacted { bytes, end: Offset(5), ..Compacted::default() };
        assert!(is_due(10, &row(9), Offset(5), Offset(6)) && !is_due(10, &row(9), Offset(6), Offset(6)));
        let large = 100 * SMALL_BYTES;
        assert!(is_due(2 * large, &row(large), Offset(5), Offset(6)) && !is_due(2 * large - 1, &row(large), Offset(5), Offset(6)));
        assert!(is_due(large, &row(0), Offset(5), Offset(6)), "never compacted");
    }
}
