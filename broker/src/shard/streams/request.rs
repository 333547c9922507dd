//! What can be asked of a stream group at its home.

use crate::audit::Note;
use crate::group::stream::{Answer, Coordinator, Fenced, Heartbeat, HeartbeatError, StreamState, TopicPartition};
use crate::ids::GroupId;
use crate::shard::commit::WriteError;
use sagamq_api::{MemberId, Offset};
use std::collections::BTreeMap;
use tokio::sync::oneshot;

/// Something with a stream group whose home is the shard.
pub(crate) struct StreamRequest {
    pub(crate) group: GroupId,
    pub(crate) op: StreamOp,
}

/// Something with one stream group.
pub(crate) enum StreamOp {
    Heartbeat {
        member: MemberId,
        heartbeat: Heartbeat,
        reply: Reply<Answer>,
    },
    Commit {
        member: MemberId,
        epoch: u64,
        offsets: Vec<(TopicPartition, Offset)>,
        reply: Reply<()>,
    },
    Seek {
        offsets: Vec<(TopicPartition, Offset)>,
        note: Note,
        reply: Reply<()>,
    },
    Look {
        reply: Reply<StreamLook>,
    },
    /// For the metrics: nothing is written for it.
    Measure {
        reply: Reply<StreamMeasure>,
    },
    /// Retention took records of a topic of the group.
    Trimmed,
    /// A topic of the group is deleted.
    FollowTopics {
        reply: Reply<()>,
    },
    /// Nobody joins any more, if there are no members.
    Close {
        reply: Reply<()>,
    },
    /// Takes [`StreamOp::Close`] back.
    OpenAgain,
}

pub(super) type Reply<T> = oneshot::Sender<Result<T, StreamError>>;

/// Why a stream group did not do what it was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum StreamError {
    /// The group is deleted.
    #[error("the group is deleted")]
    GroupDeleted,
    /// It cannot be deleted.
    #[error("it has {0} members")]
    HasMembers(usize),
    /// The heartbeat was refused.
    #[error(transparent)]
    Heartbeat(#[from] HeartbeatError),
    /// The commit was refused.
    #[error(transparent)]
    Fenced(#[from] Fenced),
    /// The durable write failed or is not tried any more.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// What metrics say of a stream group.
#[derive(Clone, Debug)]
pub(crate) struct StreamMeasure {
    pub(crate) members: usize,
    /// How far it has come where something was committed.
    pub(crate) offsets: BTreeMap<TopicPartition, Offset>,
}

/// A stream group as it is.
#[derive(Clone, Debug)]
pub(crate) struct StreamLook {
    pub(crate) state: StreamState,
    /// How long the session of each member goes on, in milliseconds.
    pub(crate) sessions_left_ms: BTreeMap<MemberId, u64>,
}

impl StreamMeasure {
    pub(super) fn of(state: &StreamState) -> Self {
        Self { members: state.members().len(), offsets: state.offsets().collect() }
    }
}

impl StreamLook {
    pub(super) fn of(coordinator: &Coordinator, now_ms: u64) -> Self {
        let left = |id: &MemberId| (id.clone(), coordinator.session_left_ms(id, now_ms));
        Self { state: coordinator.state().clone(), sessions_left_ms: coordinator.state().members().keys().map(left).collect() }
    }
}
