//! Shards: the unit of order and of atomicity. One task owns a shard; everybody else sends it what to do.

pub(crate) mod append;
pub(crate) mod commit;
pub(crate) mod committer;
pub(crate) mod dead_letters;
mod due;
pub(crate) mod embedded;
pub(crate) mod idempotency;
pub(crate) mod queue;
mod recent;
mod task;

use crate::group::HandOut;
use crate::liveness::Liveness;
use crate::log::partition::Partition;
use crate::storage::Mutation;
use crate::storage::keys::{GroupKey, PartitionKey};
use append::AppendRequest;
use commit::WriteError;
use embedded::EmbeddedCommit;
use idempotency::{CheckRequest, ClaimRequest};
use queue::{QueueRequest, Slot};
use sagamq_api::Offset;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

pub(crate) use task::{Shard, ShardParts};

/// Inputs that may wait for a shard's task; a full channel makes the senders wait.
const INPUTS_MAX: usize = 4096;

/// What a shard's task is told.
pub(crate) enum Input {
    /// Store records in one partition.
    Append(AppendRequest),
    /// Claim the idempotency key of a request.
    Claim(ClaimRequest),
    /// Would these keys be refused? Stores nothing.
    Check(CheckRequest),
    /// Something with one group in one partition.
    Queue(QueueRequest),
    /// A commit of the embedder.
    Embedded(EmbeddedCommit),
    /// Were these records ever handed out? Answered at once: the answer may be ahead of the disk, never behind it.
    HandOuts { asked: Vec<(GroupKey, Offset)>, reply: oneshot::Sender<Vec<HandOut>> },
    /// Keys of the data directory's own, on shard 0.
    Meta { mutations: Vec<Mutation>, reply: oneshot::Sender<Result<(), WriteError>> },
    /// Own these partitions from now on.
    AddPartitions { logs: Vec<ShardLog> },
    /// Own these groups from now on.
    AddSlots { slots: Vec<(GroupKey, Slot)> },
    /// Forget partitions and groups, and delete what is stored of them.
    Remove { partitions: Vec<PartitionKey>, groups: Vec<GroupKey>, reply: oneshot::Sender<Result<(), WriteError>> },
}

/// The task's half of a partition.
#[derive(Debug)]
pub(crate) struct ShardLog {
    pub(crate) partition: Arc<Partition>,
    /// Highest record time so far.
    pub(crate) timestamp_ms_max: i64,
    /// Highest time that stands in the time index.
    pub(crate) timestamp_ms_indexed: i64,
}

/// The door to one shard; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct ShardHandle {
    inputs: mpsc::Sender<Input>,
    liveness: Liveness,
}

impl ShardHandle {
    pub(crate) fn channel(liveness: Liveness) -> (Self, mpsc::Receiver<Input>) {
        let (inputs, receiver) = mpsc::channel(INPUTS_MAX);
        (Self { inputs, liveness }, receiver)
    }

    /// Hands the input over; waits while the shard is behind. [`WriteError::ShuttingDown`]: it was not taken. A death is told before
    /// the channel closes, so a shard that died is never taken for one that ended.
    pub(crate) async fn send(&self, input: Input) -> Result<(), WriteError> {
        self.inputs.send(input).await.map_err(|_| match self.liveness.death() {
            None => WriteError::ShuttingDown,
            Some(death) => WriteError::Lost(death.to_owned()),
        })
    }

    /// Sends what `make` builds around a reply channel and waits for the reply.
    pub(crate) async fn ask<T>(&self, make: impl FnOnce(oneshot::Sender<T>) -> Input) -> Result<T, WriteError> {
        let (reply, answer) = oneshot::channel();
        self.send(make(reply)).await?;
        // The shard had it: what became of it is not known here, whatever the reason.
        answer.await.map_err(|_| WriteError::lost(&self.liveness))
    }
}
