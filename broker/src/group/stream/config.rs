//! What stream groups are held to.

use super::coordinator::Terms;
use core::time::Duration;
use sagamq_api::limits::{
    STREAM_GROUPS_MAX_DEFAULT, STREAM_HEARTBEAT_MS_DEFAULT, STREAM_MEMBERS_MAX_DEFAULT, STREAM_REBALANCE_MS_DEFAULT,
    STREAM_SESSION_MS_DEFAULT, STREAM_TOPICS_MAX_DEFAULT,
};

/// What stream groups are held to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamConfig {
    /// How long a member is one without a heartbeat, if it does not say.
    pub session: Duration,
    /// How often members are told to send heartbeats; a member with a short session is told a third of it.
    pub heartbeat: Duration,
    /// How long a member has to hand back a partition; then it is fenced.
    pub rebalance: Duration,
    /// Most members of a group.
    pub members_max: usize,
    /// Most topics of a group.
    pub topics_max: usize,
    /// Most groups whose home is one shard.
    pub groups_max: usize,
}

impl Default for StreamConfig {
    fn default() -> Self {
        Self {
            session: Duration::from_millis(STREAM_SESSION_MS_DEFAULT),
            heartbeat: Duration::from_millis(STREAM_HEARTBEAT_MS_DEFAULT),
            rebalance: Duration::from_millis(STREAM_REBALANCE_MS_DEFAULT),
            members_max: STREAM_MEMBERS_MAX_DEFAULT,
            topics_max: STREAM_TOPICS_MAX_DEFAULT,
            groups_max: STREAM_GROUPS_MAX_DEFAULT,
        }
    }
}

impl StreamConfig {
    pub(crate) fn terms(&self) -> Terms {
        Terms { members_max: self.members_max, rebalance_ms: millis(self.rebalance) }
    }

    /// How often a member of such a session sends a heartbeat, in milliseconds: so often that two may be lost.
    pub(crate) fn heartbeat_ms(&self, session_ms: u64) -> u64 {
        millis(self.heartbeat).min(session_ms / 3).max(1)
    }

    pub(crate) fn session_ms(&self) -> u64 {
        millis(self.session)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
