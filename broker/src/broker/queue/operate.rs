//! What operators do to a queue group: pause and resume it, skip all that is there, begin anew somewhere.

use super::find::FindGroupError;
use crate::audit::Note;
use crate::broker::Broker;
use crate::broker::parameter::ParameterError;
use crate::broker::seek_target::SeekTarget;
use crate::broker::topics::put;
use crate::log::ReadError;
use crate::shard::commit::WriteError;
use crate::shard::queues::request::{QueueError, QueueOp};
use crate::storage::keys::MetaKey;
use crate::topic::{Group, GroupEntry, QueueRef};
use futures_util::future::try_join_all;
use sagamq_api::audit::AuditOutcome;
use sagamq_api::queue::{GroupPause, GroupSeek, GroupSeekResponse, GroupSought, PurgeRequest, PurgeResponse};
use sagamq_api::stream::SeekPosition;
use sagamq_api::{GroupName, Offset, PartitionId, TopicName};
use serde_json::json;
use std::sync::Arc;

/// Why a group was neither paused, resumed, purged nor moved.
#[derive(Clone, Debug, thiserror::Error)]
pub enum OperateGroupError {
    /// No such topic or group.
    #[error(transparent)]
    Find(#[from] FindGroupError),
    /// The embedder needs it as it is.
    #[error("group `{group}` of topic `{topic}` is in use: a part of this server needs it, and would not know of the change")]
    Owned {
        /// The topic.
        topic: TopicName,
        /// The group.
        group: GroupName,
    },
    /// A parameter does not go with another, or is missing.
    #[error(transparent)]
    Parameter(#[from] ParameterError),
    /// No such partition.
    #[error("topic `{topic}` has {partitions} partitions, counted from 0; there is no partition {partition}")]
    PartitionNotFound {
        /// The topic.
        topic: TopicName,
        /// The partition that was asked for.
        partition: PartitionId,
        /// How many there are.
        partitions: usize,
    },
    /// The offset lies behind the last record.
    #[error("partition {partition} ends at {end}: offset {offset} is behind it; seek to the position `end` to skip all that is there")]
    BehindEnd {
        /// The partition.
        partition: PartitionId,
        /// The offset that was asked for.
        offset: Offset,
        /// The first offset that is still there.
        log_start: Offset,
        /// The end.
        end: Offset,
    },
    /// The group's shard refused.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The log could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The durable write failed or is not tried any more.
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl Broker {
    /// Delivers nothing to a group from now on, or delivers again. What is leased stays leased and can be settled. Durable when it returns,
    /// and from then on no lease is given.
    ///
    /// # Errors
    /// When there is no such group, the embedder needs it, or the write fails.
    pub async fn pause_group(&self, topic: &TopicName, group: &GroupName, paused: bool) -> Result<GroupPause, OperateGroupError> {
        let (broker, topic, group) = (self.clone(), topic.clone(), group.clone());
        self.finish(async move {
            let _changes = broker.0.catalog.changes.lock().await;
            let group = broker.operated(&topic, &group)?;
            if group.is_paused() != paused {
                let entry = GroupEntry { paused, ..group.entry() };
                let note = broker.note(AuditOutcome::Done, &[("topic", &topic), ("group", &group.name)]);
                let note = note.before(&json!({ "paused": !paused })).after(&json!({ "paused": paused }));
                broker.write_meta(vec![put(MetaKey::Group(group.id), &entry)], note).await?;
                group.set_paused(paused);
                tracing::info!(%topic, group = %group.name, paused, "group paused or resumed");
            }
            Ok(GroupPause { paused })
        })
        .await
    }

    /// Settles every record that is there now, whoever has it leased. Dead letters stay. Durable when it returns; each partition by itself.
    ///
    /// # Errors
    /// When there is no such group or partition, the embedder needs it, or the write fails.
    pub async fn purge_group(
        &self,
        topic: &TopicName,
        group: &GroupName,
        request: &PurgeRequest,
    ) -> Result<PurgeResponse, OperateGroupError> {
        let group = self.operated(topic, group)?;
        let queues = meant(topic, &group, request.partition)?;
        let purged = queues.into_iter().map(|of| {
            let note = self.note_of(topic, &group, of);
            self.0.queue(of, |reply| QueueOp::Purge { note, reply })
        });
        let purged = try_join_all(purged).await?;
        Ok(PurgeResponse { purged: purged.iter().sum() })
    }

    /// Sets where a group stands: what lies below is settled, and what lies from there on is delivered, whatever became of it before. Leases
    /// end. Durable when it returns; each partition by itself.
    ///
    /// # Errors
    /// When there is no such group or partition, the embedder needs it, it is not said where to, the offset lies behind the end, or the
    /// write fails.
    pub async fn seek_group(
        &self,
        topic: &TopicName,
        group: &GroupName,
        request: &GroupSeek,
    ) -> Result<GroupSeekResponse, OperateGroupError> {
        let needed = request.partition.is_none().then_some("`partition`");
        let to = SeekTarget::of(request.offset, request.timestamp_ms, request.position, needed)?;
        let group = self.operated(topic, group)?;
        let mut places = Vec::new();
        for of in meant(topic, &group, request.partition)? {
            places.push((of, self.place(of, to).await?));
        }
        let group = &group;
        let asks = places.into_iter().map(|(of, to)| async move {
            let note = self.note_of(topic, group, of);
            let sought = self.0.queue(of, |reply| QueueOp::Seek { to, note, reply }).await?;
            let partition = of.key().partition.partition;
            Ok::<_, QueueError>(GroupSought { partition, offset: sought.offset, skipped: sought.skipped, again: sought.again })
        });
        let partitions = try_join_all(asks).await?;
        let sum = |field: fn(&GroupSought) -> u64| partitions.iter().map(field).sum();
        Ok(GroupSeekResponse { skipped: sum(|of| of.skipped), again: sum(|of| of.again), partitions })
    }

    /// What is written down of a verb for a group in one partition: each is a commit of its own.
    pub(super) fn note_of(&self, topic: &TopicName, group: &Group, of: QueueRef<'_>) -> Note {
        self.note(AuditOutcome::Done, &[("topic", topic), ("group", &group.name), ("partition", &of.key().partition.partition)])
    }

    /// A group that is not the embedder's.
    fn operated(&self, topic: &TopicName, group: &GroupName) -> Result<Arc<Group>, OperateGroupError> {
        let (_, found) = self.group(topic, group)?;
        match found.is_owned() {
            true => Err(OperateGroupError::Owned { topic: topic.clone(), group: group.clone() }),
            false => Ok(found),
        }
    }

    async fn place(&self, of: QueueRef<'_>, to: SeekTarget) -> Result<Offset, OperateGroupError> {
        let (log_start, end) = (of.offsets().log_start, of.high_watermark());
        match to {
            SeekTarget::Offset(offset) if offset > end => {
                Err(OperateGroupError::BehindEnd { partition: of.key().partition.partition, offset, log_start, end })
            }
            SeekTarget::Offset(offset) => Ok(offset),
            SeekTarget::Position(SeekPosition::Start) => Ok(log_start),
            SeekTarget::Position(SeekPosition::End) => Ok(end),
            SeekTarget::Time(timestamp_ms) => Ok(self.offset_at(of.partition(), timestamp_ms).await?),
        }
    }
}

/// The queues that a request means.
fn meant<'a>(topic: &TopicName, group: &'a Group, only: Option<PartitionId>) -> Result<Vec<QueueRef<'a>>, OperateGroupError> {
    let partitions = group.queues().len();
    match only {
        Some(partition) if partition.0 as usize >= partitions => {
            Err(OperateGroupError::PartitionNotFound { topic: topic.clone(), partition, partitions })
        }
        Some(partition) => Ok(vec![group.queue(partition.0 as usize)]),
        None => Ok(group.queues().collect()),
    }
}
