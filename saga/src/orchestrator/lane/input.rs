//! What a lane is told, and how it answers.

use crate::definition::Definition;
use crate::orchestrator::SagaError;
use crate::protocol::InstanceState;
use sagamq_api::saga::{CompleteCall, CompletedCall, SagaState, StartedSaga};
use sagamq_api::{JsonText, Offset};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

/// Inputs that may wait for a lane; a full channel makes the senders wait, and then their clients.
const INPUTS_MAX: usize = 1024;

pub(crate) type Reply<T> = oneshot::Sender<Result<T, SagaError>>;

/// What a lane is told.
pub(crate) enum LaneInput {
    /// Start an instance once by its key.
    Start { definition: Arc<Definition>, key: String, input: JsonText, reply: Reply<StartedSaga> },
    /// A worker's reply.
    Complete { call: CompleteCall, reply: Reply<CompletedCall> },
    /// An HTTP participant's outcome.
    Outcome(CompleteCall),
    /// A reply record, and the offset after it.
    ReplyRecord { call: Result<CompleteCall, String>, next: Offset },
    /// Undo an instance.
    Cancel { id: Uuid, reason: String, reply: Reply<SagaState> },
    /// The state of an instance in memory; `None` if it is not there, and the disk has the truth.
    Get { id: Uuid, reply: Reply<Option<Box<InstanceState>>> },
}

/// The door to a lane; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct LaneHandle(mpsc::Sender<LaneInput>);

impl LaneHandle {
    pub(crate) fn channel() -> (Self, mpsc::Receiver<LaneInput>) {
        let (sender, receiver) = mpsc::channel(INPUTS_MAX);
        (Self(sender), receiver)
    }

    pub(crate) async fn send(&self, input: LaneInput) -> Result<(), SagaError> {
        self.0.send(input).await.map_err(|_| SagaError::ShuttingDown)
    }

    pub(crate) async fn ask<T>(&self, make: impl FnOnce(Reply<T>) -> LaneInput) -> Result<T, SagaError> {
        let (reply, answer) = oneshot::channel();
        self.send(make(reply)).await?;
        answer.await.map_err(|_| SagaError::ShuttingDown)?
    }
}
