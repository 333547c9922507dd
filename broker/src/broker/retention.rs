//! Retention: once a minute it is looked which records may go, by their times and by their bytes. What goes is a commit of its shard.

use crate::broker::Broker;
use crate::ids::PartitionKey;
use crate::log::expiry::{Cut, Limits, find_cut};
use crate::shard::commit::WriteError;
use crate::shard::input::Input;
use crate::shard::streams::request::{StreamOp, StreamRequest};
use crate::shard::trim::{TrimOp, Trimmed};
use crate::storage::{Storage, StorageError};
use crate::topic::{Group, Topic, TopicKind};
use core::ops::ControlFlow;
use futures_util::future::try_join_all;
use sagamq_api::topic::TopicConfig;
use std::sync::Arc;

/// Partitions that are looked at in one go.
const AT_ONCE: usize = 64;

/// Why not all records went whose time is over. The rest goes with a later look.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RetentionError {
    /// What may go could not be found.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The durable write failed or is not tried any more.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// Looks once. Whether it was for the last time.
pub(super) async fn round(broker: &Broker) -> ControlFlow<()> {
    match broker.apply_retention().await {
        Ok(0) => {}
        Ok(records) => tracing::debug!(records, "retention took records"),
        Err(RetentionError::Write(WriteError::ShuttingDown)) => return ControlFlow::Break(()),
        Err(error) => tracing::error!(%error, "not all records are taken whose time is over"),
    }
    ControlFlow::Continue(())
}

/// A topic at one moment.
struct Look<'a> {
    topic: &'a Arc<Topic>,
    config: Arc<TopicConfig>,
    letters_of: Option<&'a Arc<Group>>,
}

impl Broker {
    /// Takes what the retention of its topic does not keep, in all topics. How many records that were. This happens by itself as often as
    /// [`BrokerConfig::retention_interval`](crate::BrokerConfig::retention_interval) says. It is synced before anybody is shown that a log begins
    /// later: where it begins never goes back.
    ///
    /// # Errors
    /// When storage fails or writes are stopped. What was taken before is.
    pub async fn apply_retention(&self) -> Result<u64, RetentionError> {
        let (mut taken, mut error) = (0, None);
        // One topic that cannot be looked at keeps no other from being.
        let mut note = |result: Result<u64, RetentionError>| match result {
            Ok(records) => taken += records,
            Err(reason) => drop(error.get_or_insert(reason)),
        };
        for topic in self.0.catalog.topics().into_iter().chain(self.0.audit.topic().cloned()) {
            if topic.kind == TopicKind::DeadLetters {
                continue;
            }
            note(self.take_from(&topic, None).await);
            for group in topic.groups() {
                if let Some(letters) = self.0.catalog.topic(&group.dead_letters.name).filter(|of| of.id == group.dead_letters.id) {
                    note(self.take_from(&letters, Some(&group)).await);
                }
            }
        }
        error.map_or(Ok(taken), Err)
    }

    async fn take_from(&self, topic: &Arc<Topic>, letters_of: Option<&Arc<Group>>) -> Result<u64, RetentionError> {
        let look = Look { topic, config: topic.config.get(), letters_of };
        if !look.config.cleanup_policy.deletes() || (look.config.retention_ms == 0 && look.config.retention_bytes == 0) {
            return Ok(0);
        }
        // Where a log may be cut is found from its index: nobody rewrites that meanwhile.
        let _upkeep = self.0.upkeep.lock().await;
        let used = (0..topic.partitions.len()).filter_map(|index| topic.partitions.in_memory(index));
        let with_records: Vec<_> = used.filter(|partition| partition.log_start() < partition.high_watermark()).collect();
        let mut taken = 0;
        for some in with_records.chunks(AT_ONCE) {
            let of = |&partition: &&Arc<_>| Trimmed {
                topic: Arc::clone(look.topic),
                partition: Arc::clone(partition),
                letters_of: look.letters_of.cloned(),
            };
            let bounded = try_join_all(some.iter().map(of).map(|of| self.bounded(of, &look.config))).await?;
            let storage = Arc::clone(&self.0.storage);
            let found = self.blocking(move || find_cuts(&*storage, bounded)).await?;
            let cuts = found.into_iter().map(|(of, cut)| self.cut(of, &look.config, cut));
            taken += try_join_all(cuts).await?.into_iter().sum::<u64>();
        }
        if taken > 0 {
            self.tell_streams(topic).await?;
        }
        Ok(taken)
    }

    /// Stream groups count at their homes what they lose. One that is not told does so before its next commit.
    async fn tell_streams(&self, topic: &Topic) -> Result<(), WriteError> {
        for group in self.0.streams.reading(topic.id) {
            self.0.shard(group.home).send(Input::Stream(StreamRequest { group: group.id, op: StreamOp::Trimmed })).await?;
        }
        Ok(())
    }

    /// The partition with what of it need not be kept.
    async fn bounded(&self, of: Trimmed, config: &TopicConfig) -> Result<(Trimmed, Limits), WriteError> {
        let below = match of.has_needs() {
            false => None,
            true => self.ask_to_trim(of.partition.key, |reply| TrimOp::Needed { of: of.clone(), reply }).await?,
        };
        let now_ms = self.0.clock.now_ms();
        let limits = Limits {
            older_than_ms: (config.retention_ms > 0).then(|| now_ms.saturating_sub(config.retention_ms).cast_signed()),
            bytes_max: (config.retention_bytes > 0).then_some(config.retention_bytes),
            below,
        };
        Ok((of, limits))
    }

    async fn cut(&self, of: Trimmed, config: &Arc<TopicConfig>, cut: Cut) -> Result<u64, WriteError> {
        self.ask_to_trim(of.partition.key, |reply| TrimOp::Cut { of, config: Arc::clone(config), cut, reply }).await?
    }

    pub(super) async fn ask_to_trim<T>(
        &self,
        key: PartitionKey,
        make: impl FnOnce(tokio::sync::oneshot::Sender<T>) -> TrimOp,
    ) -> Result<T, WriteError> {
        self.0.ask(key, |reply| Input::Trim(make(reply))).await
    }
}

fn find_cuts(storage: &dyn Storage, all: Vec<(Trimmed, Limits)>) -> Result<Vec<(Trimmed, Cut)>, StorageError> {
    let mut cuts = Vec::new();
    for (of, limits) in all {
        if let Some(cut) = find_cut(storage, &of.partition, &limits)? {
            cuts.push((of, cut));
        }
    }
    Ok(cuts)
}
