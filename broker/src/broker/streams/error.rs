//! Why something with a stream group was not done.

use crate::broker::parameter::ParameterError;
use crate::broker::topics::TopicError;
use crate::group::stream::HeartbeatError;
use crate::log::ReadError;
use crate::shard::commit::WriteError;
use crate::shard::streams::request::StreamError;
use sagamq_api::{GroupName, Offset, PartitionId, TopicName};

/// Why something with a stream group was not done.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StreamGroupError {
    /// No such topic.
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// No such group.
    #[error("there is no stream group `{0}`: the first member that joins it makes it")]
    NotFound(GroupName),
    /// The group does not read the topic.
    #[error("stream group `{group}` does not read topic `{topic}`: join with that topic first")]
    NotRead {
        /// The group.
        group: GroupName,
        /// The topic.
        topic: TopicName,
    },
    /// The topic has no such partition.
    #[error("topic `{topic}` has {partitions} partitions, counted from 0; there is no partition {partition}")]
    PartitionNotFound {
        /// The topic.
        topic: TopicName,
        /// The partition that was asked for.
        partition: PartitionId,
        /// How many there are.
        partitions: usize,
    },
    /// The offset lies behind the end of the partition.
    #[error("offset {offset} lies behind the end of partition {partition} of topic `{topic}`, which is {end}; nothing was changed")]
    BehindEnd {
        /// The topic.
        topic: TopicName,
        /// The partition.
        partition: PartitionId,
        /// The offset that was asked for.
        offset: Offset,
        /// The end.
        end: Offset,
    },
    /// A queue group has the name on one of the topics.
    #[error("`{group}` is a queue group of topic `{topic}`: receive from it, or use another name for a stream group")]
    QueueGroup {
        /// The topic.
        topic: TopicName,
        /// The group.
        group: GroupName,
    },
    /// The topic holds dead letters: it goes with its group.
    #[error(
        "topic `{0}` holds the dead letters of a group, and no other group reads it: list, redrive or discard them through their group"
    )]
    OfDeadLetters(TopicName),
    /// The group would read too many topics.
    #[error(
        "stream group `{group}` would read {topics} topics, at most {max} are allowed (those that it has read count): use several groups, or \
         raise the server's stream_topics_max"
    )]
    TopicsMax {
        /// The group.
        group: GroupName,
        /// How many it would read.
        topics: usize,
        /// The bound.
        max: usize,
    },
    /// The group's home has as many groups as it may have.
    #[error(
        "shard {shard}, the home of stream group `{group}`, has {max} stream groups, which is as many as it may have: delete some that nobody \
         needs, or raise the server's stream_groups_max"
    )]
    GroupsMax {
        /// The group.
        group: GroupName,
        /// Its home.
        shard: u16,
        /// The bound.
        max: usize,
    },
    /// The group has as many members as it may have.
    #[error("{0}")]
    MembersMax(HeartbeatError),
    /// The group has members, so it is not deleted.
    #[error("stream group `{group}` has {members} members: stop them first, and wait until the sessions of those that died end")]
    InUse {
        /// The group.
        group: GroupName,
        /// How many.
        members: usize,
    },
    /// The member was superseded.
    #[error("{0}")]
    Fenced(String),
    /// A parameter is out of range, or does not go with another.
    #[error(transparent)]
    Parameter(#[from] ParameterError),
    /// The log could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The durable write failed or is not tried any more.
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl StreamGroupError {
    /// What the home of a group said.
    pub(super) fn of(group: &GroupName, error: StreamError) -> Self {
        match error {
            StreamError::GroupDeleted => Self::NotFound(group.clone()),
            StreamError::HasMembers(members) => Self::InUse { group: group.clone(), members },
            StreamError::Heartbeat(HeartbeatError::Fenced(fenced)) | StreamError::Fenced(fenced) => Self::Fenced(fenced.to_string()),
            StreamError::Heartbeat(error @ HeartbeatError::MembersMax(_)) => Self::MembersMax(error),
            StreamError::Heartbeat(error @ HeartbeatError::NoInstance(_)) => ParameterError::new(error.to_string()).into(),
            StreamError::Write(error) => error.into(),
        }
    }
}
