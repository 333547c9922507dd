//! What a lane is told, how it answers, and the doors to it.

use super::not_taken::NotTaken;
use super::refusal::{StartError, Undecided};
use super::repair_error::RepairError;
use super::waiters::Waiter;
use crate::definition::{Definition, Misfit};
use crate::orchestrator::error::InstanceError;
use crate::orchestrator::operated::Operated;
use crate::orchestrator::trouble::Troubles;
use crate::participant::Word;
use crate::participant::http::Report;
use crate::protocol::repair::{RepairRequest, RepairVerb};
use crate::protocol::{By, Input, Instance, Signal, Verb};
use crate::store::position::Position;
use sagamq_api::repair::{RepairDescription, StartedRepair};
use sagamq_api::saga::{
    AttemptId, BreakLock, BrokenLock, CompletedCall, LockDescription, LockQuery, Mode, SagaSummary, SentSignal, StartedSaga, Waits,
};
use sagamq_api::{JsonText, Offset, SagaName, TraceContext};
use sagamq_broker::audit::Note;
use sagamq_broker::{Liveness, Message, WriteError};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

/// Inputs that may wait for a lane; a full channel makes the senders wait, and then their clients.
const INPUTS_MAX: usize = 1024;

pub(in crate::orchestrator) type Reply<T, E> = oneshot::Sender<Result<T, E>>;

/// What is to be started.
pub(in crate::orchestrator) struct Wanted {
    pub(in crate::orchestrator) definition: Arc<Definition>,
    /// A service that it calls and that has no address: nothing new is started then.
    pub(in crate::orchestrator) without_address: Option<String>,
    /// Why its input does not fit the schema of the definition.
    pub(in crate::orchestrator) misfit: Option<Misfit>,
    /// How it is run; `None`: as its definition says.
    pub(in crate::orchestrator) mode: Option<Mode>,
    pub(in crate::orchestrator) key: String,
    pub(in crate::orchestrator) input: JsonText,
    /// The span that starts it.
    pub(in crate::orchestrator) trace: Option<TraceContext>,
    /// Who waits until the instance is at rest, if somebody does.
    pub(in crate::orchestrator) at_rest: Option<Waiter>,
}

/// An instance as it is now.
#[derive(Debug)]
pub(in crate::orchestrator) struct Seen {
    pub(in crate::orchestrator) summary: SagaSummary,
    /// Everything it waits for, what most needs help first.
    pub(in crate::orchestrator) waits: Vec<Waits>,
}

/// Which instance is meant.
pub(in crate::orchestrator) enum Addressee {
    /// That one.
    Id(Uuid),
    /// The one that the business key of a definition started last.
    Key(SagaName, String),
}

/// What a lane is told.
pub(in crate::orchestrator) enum LaneInput {
    /// Start an instance once by its key.
    Start { wanted: Wanted, reply: Reply<StartedSaga, StartError> },
    /// A worker's reply.
    Complete { word: Word, reply: Reply<CompletedCall, Undecided> },
    /// An operator's verb.
    Operate { id: Uuid, verb: Verb, by: By, note: Note, reply: Reply<Operated, Undecided> },
    /// A signal for an instance.
    Signal { to: Addressee, signal: Box<Signal>, reply: Reply<SentSignal, Undecided> },
    /// A message of another lane.
    Message(Message),
    /// Something for a repair of the lane.
    Repair(RepairInput),
    /// Something about the locks that have their home on the lane.
    Lock(LockInput),
    /// What is told of a call that the lane itself makes. Nobody waits for an answer.
    Told { instance: Uuid, input: Input },
    /// A reply record, and the offset after it.
    ReplyRecord { word: Result<Word, String>, next: Offset },
    /// Every reply record that was there at the start was told, or cannot be read.
    RepliesRead,
    /// Tell when an instance is at rest and that is durable. If it is so already, or if it is not in memory, nothing is told.
    Wait { id: Uuid, at_rest: Waiter },
    /// What these instances are like now, those of them that are in memory.
    Look { ids: Vec<Uuid>, reply: Reply<Vec<Seen>, InstanceError> },
    /// Instances in trouble, of one definition or of all.
    Troubles { saga: Option<SagaName>, reply: Reply<Troubles, InstanceError> },
    /// Remove these instances of a definition, which ended then and need not be kept.
    Forget { saga: SagaName, ended: Vec<Position>, reply: Reply<(), InstanceError> },
    /// Which instance is meant by the call of this name.
    Addressee { attempt: Box<AttemptId>, reply: Reply<Uuid, InstanceError> },
    /// The state of an instance in memory; `None` if it is not there, and the disk has the truth.
    Get { id: Uuid, reply: Reply<Option<Box<Instance>>, InstanceError> },
}

/// What a lane is asked about its locks.
pub(in crate::orchestrator) enum LockInput {
    /// Those that are wanted, and one more.
    List { query: LockQuery, reply: Reply<Vec<LockDescription>, InstanceError> },
    /// The lock of a key, if it is held.
    Get { key: String, reply: Reply<Option<LockDescription>, InstanceError> },
    /// Take one away from who holds it.
    Break { request: BreakLock, note: Note, reply: Reply<BrokenLock, NotTaken> },
}

/// What a lane is told of its repairs.
pub(in crate::orchestrator) enum RepairInput {
    /// Start one, once by its id.
    Start { id: Uuid, request: Box<RepairRequest>, note: Note, reply: Reply<StartedRepair, RepairError> },
    /// An operator's verb.
    Operate { id: Uuid, verb: RepairVerb, by: By, note: Note, reply: Reply<RepairDescription, RepairError> },
    /// What is known of one.
    Get { id: Uuid, reply: Reply<RepairDescription, RepairError> },
    /// Sagas were found, behind this place.
    Found { repair: Uuid, after: Option<String>, sagas: Vec<Uuid>, next: Option<String> },
    /// Remove rows of one that ended before then; answered with whether nothing of it is left.
    Forget { id: Uuid, before_ms: u64, reply: Reply<bool, RepairError> },
    /// Sagas could not be looked for.
    NotFound { repair: Uuid },
}

/// The door to a lane; cheap to clone. When the last one is gone, the lane ends.
#[derive(Clone, Debug)]
pub(in crate::orchestrator) struct LaneHandle {
    inputs: mpsc::Sender<LaneInput>,
    liveness: Liveness,
}

/// The door for those who work for the lane: it does not keep the lane alive.
#[derive(Clone, Debug)]
pub(in crate::orchestrator) struct WeakLane(mpsc::WeakSender<LaneInput>);

impl LaneHandle {
    pub(in crate::orchestrator) fn channel(liveness: Liveness) -> (Self, mpsc::Receiver<LaneInput>) {
        let (inputs, receiver) = mpsc::channel(INPUTS_MAX);
        (Self { inputs, liveness }, receiver)
    }

    pub(in crate::orchestrator) fn downgrade(&self) -> WeakLane {
        WeakLane(self.inputs.downgrade())
    }

    /// Where calls of the lane report.
    pub(in crate::orchestrator) fn report(&self) -> Report {
        let lane = self.downgrade();
        Arc::new(move |instance, input| {
            let lane = lane.clone();
            Box::pin(async move {
                lane.tell(LaneInput::Told { instance, input }).await;
            })
        })
    }

    /// Tells the lane something; waits while it is behind. `false`: it is gone.
    pub(in crate::orchestrator) async fn tell(&self, input: LaneInput) -> bool {
        self.inputs.send(input).await.is_ok()
    }

    /// A death is told before the channel closes, so a lane that died is never taken for one that ended.
    fn lost(&self) -> WriteError {
        match self.liveness.death() {
            Some(death) => WriteError::Lost(death.to_owned()),
            None => WriteError::ShuttingDown,
        }
    }

    /// Asks the lane; waits while it is behind.
    pub(in crate::orchestrator) async fn ask<T, E: From<WriteError>>(&self, make: impl FnOnce(Reply<T, E>) -> LaneInput) -> Result<T, E> {
        let (reply, answer) = oneshot::channel();
        self.inputs.send(make(reply)).await.map_err(|_| self.lost())?;
        // The lane had it. If it died, what became of it is not known.
        answer.await.map_err(|_| self.lost())?
    }
}

impl WeakLane {
    /// Tells the lane; waits while it is behind. `false`: it is gone.
    pub(in crate::orchestrator) async fn tell(&self, input: LaneInput) -> bool {
        match self.0.upgrade() {
            Some(inputs) => inputs.send(input).await.is_ok(),
            None => false,
        }
    }
}
