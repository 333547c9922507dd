//! Bodies of the stream-group routes: heartbeat, commit, offsets, seek, describe.

use crate::ids::{Offset, PartitionId};
use crate::names::{GroupName, InstanceId, MemberId, TopicName};
pub use crate::queue::SeekPosition;
use crate::queue::StartPosition;
use serde::{Deserialize, Serialize};
#[cfg(feature = "openapi")]
use utoipa::ToSchema;

/// `POST …:heartbeat`: the one call by which a member joins, stays, hands back and leaves. The group is made by the first join.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
#[serde(deny_unknown_fields)]
pub struct StreamHeartbeat {
    /// The member: an id that its process has chosen for itself, and no other process ever uses.
    pub member_id: MemberId,
    /// The epoch of the last answer; 0 joins, or begins anew with nothing.
    pub epoch: u64,
    /// The topics it reads. Needed to join; later they may be left out, or changed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub topics: Option<Vec<TopicName>>,
    /// With a join: the program that this process is an instance of. A process of the same instance takes the place of the one before, with
    /// its partitions, and that one is fenced.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub instance_id: Option<InstanceId>,
    /// With a join: how long it is a member without a heartbeat, in milliseconds (default as the server's, 45 s; 1 s to 30 min).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub session_ms: Option<u64>,
    /// With a join: where the group begins in a topic that it has not read before.
    #[serde(default)]
    pub start: StartPosition,
    /// All that the member works on: what it was assigned and has not handed back.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub owned: Vec<StreamPartitions>,
    /// The member leaves.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub leave: Option<StreamLeave>,
}

/// Partitions of one topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
#[serde(deny_unknown_fields)]
pub struct StreamPartitions {
    /// The topic.
    pub topic: TopicName,
    /// Its partitions.
    pub partitions: Vec<PartitionId>,
}

/// How a member leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum StreamLeave {
    /// Its partitions go to others at once.
    ForGood,
    /// Its partitions wait for the next process of its instance until the session ends. Needs an instance id.
    ToReturn,
}

/// What a member is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct StreamHeartbeatResponse {
    /// The member's epoch: for the next heartbeat and for commits. 0 if it left.
    pub epoch: u64,
    /// All that it is to read. What it works on beyond that it commits and hands back: it leaves it out of `owned`.
    pub assigned: Vec<StreamAssigned>,
    /// How many partitions are meant for it that others have not handed back yet: it asks again soon.
    pub awaited: usize,
    /// How often to send a heartbeat, in milliseconds.
    pub heartbeat_ms: u64,
    /// How long it is a member without one, in milliseconds.
    pub session_ms: u64,
}

/// A partition that a member is to read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct StreamAssigned {
    /// The topic.
    pub topic: TopicName,
    /// The partition.
    pub partition: PartitionId,
    /// The epoch under which it was given. If the member has the partition under another one, it was taken and given anew: begin at `offset`.
    pub epoch: u64,
    /// The next record to read, as it was committed, or where the group begins.
    pub offset: Offset,
}

/// `POST …:commit`: how far a member has come. All offsets are committed or none; durable when it is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
#[serde(deny_unknown_fields)]
pub struct StreamCommit {
    /// The member.
    pub member_id: MemberId,
    /// Its epoch.
    pub epoch: u64,
    /// At most 10,000 partitions.
    pub offsets: Vec<StreamOffset>,
}

/// A place in a partition.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
#[serde(deny_unknown_fields)]
pub struct StreamOffset {
    /// The topic.
    pub topic: TopicName,
    /// The partition.
    pub partition: PartitionId,
    /// The next record to read.
    pub offset: Offset,
}

/// What was committed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct StreamCommitResponse {
    /// Partitions whose offsets are stored.
    pub committed: usize,
}

/// `GET …/offsets`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct StreamOffsetList {
    /// One a partition of every topic that the group has read.
    pub offsets: Vec<StreamOffset>,
}

/// `POST …:seek`: sets how far the group has come, also while members read: they begin there, and what they read before is fenced. Exactly one
/// of `offset`, `timestamp_ms` and `position` is given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct StreamSeek {
    /// Only this topic; else all that the group has read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic: Option<TopicName>,
    /// Only this partition of the topic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition: Option<PartitionId>,
    /// To this offset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<Offset>,
    /// To the first record whose time is at least this, in milliseconds since 1970; the end if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timestamp_ms: Option<i64>,
    /// To the oldest record, or behind the newest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<SeekPosition>,
}

/// `GET /v1/stream-groups`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct StreamGroupList {
    /// The groups by name.
    pub groups: Vec<StreamGroupEntry>,
}

/// A stream group in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct StreamGroupEntry {
    /// Its name.
    pub name: GroupName,
    /// The topics that it has read.
    pub topics: Vec<TopicName>,
    /// When it was made, in milliseconds since 1970.
    pub created_at_ms: u64,
}

/// A stream group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct StreamGroupDescription {
    /// Its name.
    pub name: GroupName,
    /// The epoch of the assignment: it rises when members come or go or topics change.
    pub epoch: u64,
    /// Records that the group has not committed.
    pub lag_records: u64,
    /// Age of the oldest of them, in seconds.
    pub lag_seconds: f64,
    /// Records that retention took before the group had committed them.
    pub trimmed_unsettled: u64,
    /// Its members by id.
    pub members: Vec<StreamMember>,
    /// Every partition of every topic that it has read.
    pub partitions: Vec<StreamPartitionDescription>,
}

/// A member of a stream group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct StreamMember {
    /// Its id.
    pub member_id: MemberId,
    /// The program it is an instance of.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub instance_id: Option<InstanceId>,
    /// Its epoch.
    pub epoch: u64,
    /// It left to come back.
    pub away: bool,
    /// The topics that it reads.
    pub topics: Vec<TopicName>,
    /// Partitions that it holds.
    pub held: usize,
    /// Partitions that it is to hand back.
    pub revoked: usize,
    /// Partitions that it waits for.
    pub awaited: usize,
    /// How long it is a member if nothing is heard of it, in milliseconds.
    pub session_left_ms: u64,
}

/// A stream group in one partition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct StreamPartitionDescription {
    /// The topic.
    pub topic: TopicName,
    /// The partition.
    pub partition: PartitionId,
    /// The next record to read.
    pub offset: Offset,
    /// When it was committed, in milliseconds since 1970; none if it never was.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub committed_at_ms: Option<u64>,
    /// Offset after the last durable record.
    pub high_watermark: Offset,
    /// Records from `offset` on.
    pub lag_records: u64,
    /// Age of the first of them, in seconds.
    pub lag_seconds: f64,
    /// Records that retention took before the group had committed them.
    pub trimmed_unsettled: u64,
    /// Who holds it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub member_id: Option<MemberId>,
}
