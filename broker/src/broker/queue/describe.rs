//! How far groups are, as their consumers and operators see it.

use super::find::FindGroupError;
use crate::broker::Broker;
use crate::log::ReadError;
use crate::shard::queues::request::{QueueError, QueueNumbers, QueueOp};
use crate::topic::{Group, QueueRef};
use futures_util::future::try_join_all;
use sagamq_api::queue::{GroupDescription, GroupPartitionDescription};
use sagamq_api::{GroupName, TopicName};
use std::sync::Arc;

/// Why a group was not described.
#[derive(Clone, Debug, thiserror::Error)]
pub enum DescribeGroupError {
    /// No such topic or group.
    #[error(transparent)]
    Find(#[from] FindGroupError),
    /// The group's shard refused.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The age of a record could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl Broker {
    /// The groups of a topic, by name.
    ///
    /// # Errors
    /// When there is no such topic.
    pub async fn groups(&self, topic: &TopicName) -> Result<Vec<GroupDescription>, DescribeGroupError> {
        let mut descriptions = Vec::new();
        for group in self.topic(topic).map_err(FindGroupError::from)?.groups() {
            descriptions.push(self.describe(&group).await?);
        }
        Ok(descriptions)
    }

    /// How far a group is.
    ///
    /// # Errors
    /// When there is no such group.
    pub async fn describe_group(&self, topic: &TopicName, group: &GroupName) -> Result<GroupDescription, DescribeGroupError> {
        let (_, group) = self.group(topic, group)?;
        self.describe(&group).await
    }

    async fn describe(&self, group: &Arc<Group>) -> Result<GroupDescription, DescribeGroupError> {
        // A few at a time: the age of a record that is not in memory costs the read of its batch.
        let queues: Vec<QueueRef<'_>> = group.queues().collect();
        let mut partitions = Vec::with_capacity(queues.len());
        for some in queues.chunks(8) {
            partitions.extend(try_join_all(some.iter().map(|&of| self.describe_partition(of))).await?);
        }
        let sum = |field: fn(&GroupPartitionDescription) -> u64| partitions.iter().map(field).sum();
        Ok(GroupDescription {
            name: group.name.clone(),
            paused: group.is_paused(),
            lag_records: sum(|p| p.lag_records),
            lag_seconds: partitions.iter().map(|p| p.lag_seconds).fold(0.0, f64::max),
            in_flight: sum(|p| p.in_flight),
            delayed: sum(|p| p.delayed),
            waiting_for_key: sum(|p| p.waiting_for_key),
            dead_letters: sum(|p| p.dead_letters),
            trimmed_unsettled: sum(|p| p.trimmed_unsettled),
            dead_letter_topic: group.dead_letters.name.to_string(),
            partitions,
        })
    }

    async fn describe_partition(&self, of: QueueRef<'_>) -> Result<GroupPartitionDescription, DescribeGroupError> {
        let numbers = self.numbers(of).await?;
        let lag_seconds = match numbers.oldest_unsettled {
            None => 0.0,
            Some(oldest) => self.age_seconds(of.partition(), oldest).await?,
        };
        Ok(GroupPartitionDescription {
            partition: of.key().partition.partition,
            ack_floor: numbers.ack_floor,
            next_offset: numbers.next_fresh,
            high_watermark: of.high_watermark(),
            lag_records: numbers.lag,
            lag_seconds,
            in_flight: numbers.in_flight,
            delayed: numbers.delayed,
            waiting_for_key: numbers.waiting_for_key,
            dead_letters: numbers.dead_letters,
            trimmed_unsettled: numbers.trimmed,
        })
    }

    pub(in crate::broker) async fn numbers(&self, of: QueueRef<'_>) -> Result<QueueNumbers, QueueError> {
        self.0.queue(of, |reply| QueueOp::Describe { reply }).await
    }
}
