//! The topics of commands and replies: one partition a shard, and nobody can delete them while sagas need them.

use crate::participant::Hold;
use sagamq_api::limits::RECORD_BYTES_MAX;
use sagamq_api::queue::StartPosition;
use sagamq_api::saga::{REPLY_TOPIC, WORKER_GROUP};
use sagamq_api::topic::TopicConfig;
use sagamq_api::{GroupName, TopicName};
use sagamq_broker::{Broker, CreateGroupError, CreateTopicError, OwnGroupError, TopicError};
use std::sync::Arc;

/// Why a topic cannot be used for sagas.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LaneTopicError {
    /// It exists with another number of partitions.
    #[error(
        "topic `{topic}` exists with {partitions} partitions; a topic of commands, or of what steps tell, needs one a shard, {shards}: let publishing create it"
    )]
    NotALaneTopic {
        /// The topic.
        topic: TopicName,
        /// Its partitions.
        partitions: u32,
        /// Shards of the data directory.
        shards: u16,
    },
    /// It cannot be created.
    #[error("the topic `{topic}` cannot be created: {reason}")]
    Create {
        /// The topic.
        topic: TopicName,
        /// Why.
        reason: Arc<CreateTopicError>,
    },
    /// It cannot be kept from being deleted.
    #[error("the topic `{topic}` cannot be taken for sagas: {reason}")]
    Own {
        /// The topic.
        topic: TopicName,
        /// Why.
        reason: Arc<TopicError>,
    },
    /// The group of its workers cannot be created.
    #[error("the workers' group of `{topic}` cannot be created: {reason}")]
    Group {
        /// The topic.
        topic: TopicName,
        /// Why.
        reason: Arc<CreateGroupError>,
    },
    /// The group of its workers cannot be kept from being deleted.
    #[error("the workers' group of `{topic}` cannot be taken for sagas: {reason}")]
    OwnGroup {
        /// The topic.
        topic: TopicName,
        /// Why.
        reason: Arc<OwnGroupError>,
    },
}

/// How long commands and replies are kept once they are done with, in milliseconds: time enough to look at them.
const DONE_RETENTION_MS: u64 = 60 * 60 * 1000;

/// How long what a topic is for is of use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// Until a participant or a lane has done with it: then for an hour more.
    Once,
    /// Others read it at their own pace: as long as other topics.
    Anybody,
}

/// The topic of replies.
pub(super) fn reply_topic() -> TopicName {
    REPLY_TOPIC.parse().expect("a constant that is a legal name")
}

/// The group of those who do what commands ask for.
pub(super) fn workers() -> GroupName {
    WORKER_GROUP.parse().expect("a constant that is a legal name")
}

/// Makes a topic with one partition a shard, or accepts one that is there; from then on it cannot be deleted. Commands are never dead
/// letters: the attempt's deadline ends them, and the saga knows what to do then.
pub(super) async fn ensure_lane_topic(broker: &Broker, topic: &TopicName, of: Use) -> Result<(), LaneTopicError> {
    let (shards, default) = (broker.shards(), TopicConfig::default());
    let config = TopicConfig {
        partitions: u32::from(shards),
        delivery_limit: 0,
        record_bytes_max: RECORD_BYTES_MAX,
        retention_ms: if of == Use::Once { DONE_RETENTION_MS } else { default.retention_ms },
        ..default
    };
    let made = match broker.create_topic(topic, config).await {
        Ok(_) => Ok(()),
        Err(reason @ CreateTopicError::Exists(_)) => {
            let partitions = broker.describe_topic(topic).map_or(0, |found| found.config.partitions);
            match partitions {
                0 => Err(LaneTopicError::Create { topic: topic.clone(), reason: Arc::new(reason) }),
                found if found == u32::from(shards) => Ok(()),
                partitions => Err(LaneTopicError::NotALaneTopic { topic: topic.clone(), partitions, shards }),
            }
        }
        Err(reason) => Err(LaneTopicError::Create { topic: topic.clone(), reason: Arc::new(reason) }),
    };
    made?;
    let owned = broker.own_topic(topic).await;
    owned.map_err(|reason| LaneTopicError::Own { topic: topic.clone(), reason: Arc::new(reason) })?;
    // Partitions may have been added just before; from now on none can be.
    match broker.describe_topic(topic).map_or(0, |found| found.config.partitions) {
        partitions if partitions > u32::from(shards) => Err(LaneTopicError::NotALaneTopic { topic: topic.clone(), partitions, shards }),
        _ => Ok(()),
    }
}

/// As [`ensure_lane_topic`], with the group of its workers and the marks of their hand-outs.
pub(super) async fn ensure_command_topic(broker: &Broker, topic: &TopicName, hold: &Hold) -> Result<(), LaneTopicError> {
    ensure_lane_topic(broker, topic, Use::Once).await?;
    let workers = workers();
    let made = broker.ensure_group(topic, &workers, StartPosition::Earliest).await;
    made.map_err(|reason| LaneTopicError::Group { topic: topic.clone(), reason: Arc::new(reason) })?;
    // Without its group an old command would be delivered again, so neither can be deleted.
    let owned = broker.own_group(topic, &workers).await;
    owned.map_err(|reason| LaneTopicError::OwnGroup { topic: topic.clone(), reason: Arc::new(reason) })?;
    mark_hand_outs(broker, topic);
    if hold.is_held() {
        hold_commands(broker, topic, true);
    }
    Ok(())
}

/// Every topic that commands are sent to, or were: also those of definitions that cannot be read.
pub(super) fn command_topics(broker: &Broker) -> Vec<TopicName> {
    broker.owned_topics(&workers())
}

/// From now on no worker gets a command of the topic, or gets those that are there.
pub(super) fn hold_commands(broker: &Broker, topic: &TopicName, is_held: bool) {
    let workers = workers();
    for lane in 0..broker.shards() {
        if let Err(error) = broker.embedder(lane).hold(topic, &workers, is_held) {
            tracing::warn!(%topic, lane, %error, "the commands of a topic cannot be held or released");
        }
    }
}

/// From now on it is known of every command whether a worker may have seen it. Of one that was handed out before, it may have been.
pub(super) fn mark_hand_outs(broker: &Broker, topic: &TopicName) {
    let workers = workers();
    for lane in 0..broker.shards() {
        if let Err(error) = broker.embedder(lane).mark_hand_outs(topic, &workers) {
            tracing::warn!(%topic, lane, %error, "hand-outs of a command topic are not marked");
        }
    }
}
