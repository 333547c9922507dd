//! What a shard's task is told, and the door through which it is told.

use crate::liveness::Liveness;
use crate::shard::ack_records::AckRecords;
use crate::shard::catalogue::CatalogueOp;
use crate::shard::commit::WriteError;
use crate::shard::embedded::EmbeddedCommit;
use crate::shard::log::LogOp;
use crate::shard::queues::request::QueueRequest;
use crate::shard::relay::Relay;
use crate::shard::streams::request::StreamRequest;
use crate::shard::trim::TrimOp;
use tokio::sync::{mpsc, oneshot};

/// Inputs that may wait for a shard's task; a full channel makes the senders wait.
const INPUTS_MAX: usize = 4096;

/// What a shard's task is told: something for one of its owners.
pub(crate) enum Input {
    /// Store records, or ask for their idempotency keys.
    Log(LogOp),
    /// Something with queue groups.
    Queue(QueueRequest),
    /// Something with a stream group.
    Stream(StreamRequest),
    /// A commit of the embedder.
    Embedded(EmbeddedCommit),
    /// Topics and groups come and go.
    Catalogue(CatalogueOp),
    /// Retention takes records away.
    Trim(TrimOp),
    /// Acknowledge records, and store what was made of them.
    AckRecords(Box<AckRecords>),
    /// Store records that an acknowledgement on another shard has produced.
    Relay(Relay),
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
