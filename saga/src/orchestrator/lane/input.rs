//! What a lane is told, and how it answers.

use crate::definition::Definition;
use crate::orchestrator::SagaError;
use crate::participant::Word;
use crate::protocol::{InstanceState, UnseenCall};
use sagamq_api::saga::{CompletedCall, Failure, SagaState, StartedSaga};
use sagamq_api::{JsonText, Offset};
use sagamq_broker::{Liveness, WriteError};
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
    Complete { word: Word, reply: Reply<CompletedCall> },
    /// An HTTP participant's outcome.
    Outcome(Word),
    /// An HTTP participant cannot be reached.
    NotSent { instance: Uuid, call: UnseenCall, failure: Failure },
    /// A reply record, and the offset after it.
    ReplyRecord { word: Result<Word, String>, next: Offset },
    /// Every reply record that was there at the start was told, or cannot be read.
    RepliesRead,
    /// Undo an instance.
    Cancel { id: Uuid, reason: String, reply: Reply<SagaState> },
    /// The state of an instance in memory; `None` if it is not there, and the disk has the truth.
    Get { id: Uuid, reply: Reply<Option<Box<InstanceState>>> },
}

/// The door to a lane; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct LaneHandle {
    inputs: mpsc::Sender<LaneInput>,
    liveness: Liveness,
}

impl LaneHandle {
    pub(crate) fn channel(liveness: Liveness) -> (Self, mpsc::Receiver<LaneInput>) {
        let (inputs, receiver) = mpsc::channel(INPUTS_MAX);
        (Self { inputs, liveness }, receiver)
    }

    /// Hands the input over; waits while the lane is behind. A death is told before the channel closes, so a lane that died is never taken
    /// for one that ended.
    pub(crate) async fn send(&self, input: LaneInput) -> Result<(), SagaError> {
        self.inputs.send(input).await.map_err(|_| self.lost())
    }

    fn lost(&self) -> SagaError {
        match self.liveness.death() {
            Some(death) => SagaError::Write(WriteError::Lost(death.to_owned())),
            None => SagaError::ShuttingDown,
        }
    }

    pub(crate) async fn ask<T>(&self, make: impl FnOnce(Reply<T>) -> LaneInput) -> Result<T, SagaError> {
        let (reply, answer) = oneshot::channel();
        self.send(make(reply)).await?;
        // The lane had it. If it died, what became of it is not known.
        answer.await.map_err(|_| self.lost())?
    }
}
