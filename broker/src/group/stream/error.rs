//! Why a member of a stream group is not heard.

use super::member::TopicPartition;
use sagamq_api::MemberId;

/// The member was superseded: it holds nothing any more, or not what it says. What it read since is read by others.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fenced {
    /// The group has no such member: its session ended, it left, or another process took its instance over.
    #[error("the group has no member `{0}`: its session ended, it left, or another took its place; join again with epoch 0")]
    NotMember(MemberId),
    /// The member has another epoch.
    #[error("member `{member}` has epoch {epoch}, not {asked}: stop what was assigned, and join again with epoch 0")]
    Epoch {
        /// The member.
        member: MemberId,
        /// Its epoch.
        epoch: u64,
        /// What was asked with.
        asked: u64,
    },
    /// The partition is not the member's, or was given to it anew under a later epoch.
    #[error("member `{member}` does not hold partition {partition} under epoch {asked}: nothing was committed; send a heartbeat")]
    NotHeld {
        /// The member.
        member: MemberId,
        /// The partition, without its topic's name, which is not known here.
        partition: TopicPartition,
        /// What was asked with.
        asked: u64,
    },
}

/// Why a heartbeat was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeartbeatError {
    /// The member was superseded.
    #[error(transparent)]
    Fenced(#[from] Fenced),
    /// Only an instance can come back.
    #[error("member `{0}` has no instance id, so nobody can come back as it: leave for good, or join with an instance id")]
    NoInstance(MemberId),
    /// The group is full.
    #[error("the group has {0} members, which is as many as it may have: end some, or raise the server's stream_members_max")]
    MembersMax(usize),
}
