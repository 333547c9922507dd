//! Changing the configuration of a topic while it is in use. A change is durable when its method returns.

use crate::broker::Broker;
use crate::broker::partitions::AddPartitionsError;
use crate::broker::topics::{TopicError, put};
use crate::shard::commit::WriteError;
use crate::storage::keys::MetaKey;
use crate::topic::{TopicEntry, TopicKind};
use sagamq_api::TopicName;
use sagamq_api::audit::AuditOutcome;
use sagamq_api::topic::{Ordering, TopicConfig, TopicConfigChange, TopicDescription};

/// Why the configuration of a topic was not changed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum UpdateTopicError {
    /// No such topic.
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// The configuration would have faults; all of them.
    #[error("the topic's configuration would not be valid: {}", .0.join("; "))]
    Config(Vec<String>),
    /// The embedder needs the topic as it is.
    #[error("a part of this server needs topic `{0}`: only `retention_ms` and `retention_bytes` of it can be changed")]
    Owned(TopicName),
    /// Partitions are added and never taken away.
    #[error("topic `{topic}` has {partitions} partitions: they can be added and not be taken away, so there cannot be {asked}")]
    FewerPartitions {
        /// The topic.
        topic: TopicName,
        /// How many it has.
        partitions: u32,
        /// How many were asked for.
        asked: u32,
    },
    /// Partitions cannot be added, or the order of keys not be kept from now on.
    #[error(transparent)]
    AddPartitions(#[from] AddPartitionsError),
    /// The durable write failed or is not tried any more.
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl Broker {
    /// Changes the configuration of a topic while it is in use. Durable when it returns; from then on it holds.
    ///
    /// # Errors
    /// When there is no such topic, the configuration would not be valid, the embedder needs it as it is, or the write fails.
    pub async fn update_topic(&self, name: &TopicName, change: TopicConfigChange) -> Result<TopicDescription, UpdateTopicError> {
        let (broker, name) = (self.clone(), name.clone());
        self.finish(async move { broker.change_by_updating(&name, &change).await }).await
    }

    async fn change_by_updating(&self, name: &TopicName, change: &TopicConfigChange) -> Result<TopicDescription, UpdateTopicError> {
        let adds = |partitions| self.0.catalog.topic(name).is_some_and(|topic| topic.partitions.count() < partitions);
        if change.partitions.is_some_and(adds) {
            self.before_partitions_are_added().await?;
        }
        let _changes = self.0.catalog.changes.lock().await;
        let topic = self.topic(name)?;
        let before = topic.config();
        let after = change.apply(&before);
        let faults = after.faults();
        if !faults.is_empty() {
            return Err(UpdateTopicError::Config(faults));
        }
        let retention = TopicConfig { retention_ms: after.retention_ms, retention_bytes: after.retention_bytes, ..before.clone() };
        if topic.is_owned() && after != retention {
            return Err(UpdateTopicError::Owned(name.clone()));
        }
        if topic.kind == TopicKind::DeadLetters && after.partitions != before.partitions {
            let fault = "a topic of dead letters has as many `partitions` as the topic of its group: add them there";
            return Err(UpdateTopicError::Config(vec![fault.to_owned()]));
        }
        if topic.kind == TopicKind::DeadLetters && after.cleanup_policy.compacts() {
            let fault = "`cleanup_policy` of a topic of dead letters is `delete`: each of them is needed, also of one key";
            return Err(UpdateTopicError::Config(vec![fault.to_owned()]));
        }
        if after.partitions < before.partitions {
            let (topic, partitions, asked) = (name.clone(), before.partitions, after.partitions);
            return Err(UpdateTopicError::FewerPartitions { topic, partitions, asked });
        }
        let now_ms = self.0.clock.now_ms();
        let keys_until_ms = match after.dedup_window_ms < before.dedup_window_ms {
            true => topic.keys_until_ms().max(now_ms.saturating_add(before.dedup_window_ms)),
            false => topic.keys_until_ms(),
        };
        if after.ordering == Ordering::Key && before.ordering != Ordering::Key {
            self.may_keep_order(&topic).await?;
        }
        if after.partitions > before.partitions {
            self.add_partitions(&topic, after, keys_until_ms).await?;
        } else if after != before {
            let longer = match after.dedup_window_ms > before.dedup_window_ms {
                true => Some(self.growths_with_window(&topic, after.dedup_window_ms).await?),
                false => None,
            };
            let now = topic.entry();
            let growths = longer.clone().unwrap_or(now.growths);
            let entry = TopicEntry { config: after.clone(), keys_until_ms, growths, ..now };
            let note = self.note(AuditOutcome::Changed, &[("topic", name)]).before(&before).after(&after);
            self.write_meta(vec![put(MetaKey::Topic(topic.id), &entry)], note).await?;
            // Before the window: nothing is appended with the longer one that is not asked for as long.
            if let Some(growths) = longer {
                topic.remember(growths);
            }
            topic.configure(after);
        }
        topic.keep_keys_until(keys_until_ms);
        Ok(topic.describe())
    }
}
