//! What was decided about a transaction: the question of a participant that has prepared, and holds locks until it knows.
//!
//! A wrong answer cannot be taken back: the participant commits or rolls back by it. So the answer is what is durable, or that nothing is
//! known of the transaction, which means that it was rolled back (presumed abort). Whatever stands in the way of knowing is an error, and the
//! participant asks again.

use super::door::Orchestrator;
use super::error::InstanceError;
use super::lane::LaneInput;
use super::queries::blocking;
use crate::protocol::{Instance, lane_of};
use crate::store::{LaneStore, StoreError};
use sagamq_api::transaction::{Outcome, TransactionOutcome};
use uuid::Uuid;

/// Why it cannot be said what was decided. It is no sign of a rollback.
#[derive(Clone, Debug, thiserror::Error)]
pub enum OutcomeError {
    /// The transaction is of a coordinator with other data.
    #[error("the transaction is of the coordinator with the data {asked}, and this server has the data {own}: ask that one")]
    WrongCluster {
        /// Whose it is.
        asked: Uuid,
        /// What this server has.
        own: Uuid,
    },
    /// No transaction of this server has such an id.
    #[error("{id} is no id of a transaction of this server: it names lane {lane}, and there are {lanes}")]
    NoLane {
        /// What was asked.
        id: Uuid,
        /// The lane in it.
        lane: u16,
        /// The lanes of this server.
        lanes: usize,
    },
    /// The instance is no transaction.
    #[error("{0} is a saga and no transaction")]
    Saga(Uuid),
    /// The instance cannot be asked.
    #[error(transparent)]
    Instance(#[from] InstanceError),
}

impl From<StoreError> for OutcomeError {
    fn from(error: StoreError) -> Self {
        Self::Instance(error.into())
    }
}

impl Orchestrator {
    /// What was decided about a transaction of the coordinator with this data. A decision that is told is durable.
    ///
    /// # Errors
    /// When that cannot be said. It is no sign of a rollback.
    pub async fn outcome(&self, id: Uuid, cluster: Uuid) -> Result<TransactionOutcome, OutcomeError> {
        let own = self.0.broker.cluster();
        if cluster != own {
            return Err(OutcomeError::WrongCluster { asked: cluster, own });
        }
        let lane = self.lane(id).map_err(|_| OutcomeError::NoLane { id, lane: lane_of(id), lanes: self.0.lanes.len() })?;
        // Unlike a description, this is not read from the disk when the lane cannot answer: what a failed write left there may still go.
        let live = lane.ask(|reply| LaneInput::Get { id, reply }).await?;
        let instance = match live {
            Some(instance) => Some(*instance),
            None => {
                let (store, definitions) = (self.store(lane_of(id)), self.0.definitions.clone());
                blocking(move || found(&store, id, &|saga, version| definitions.compiled(saga, version))).await?
            }
        };
        match instance {
            Some(instance) => of_instance(&instance),
            None => Ok(TransactionOutcome { id, outcome: Outcome::RolledBack, known: false }),
        }
    }
}

/// What the disk has of an instance that is not in memory: nothing is only what is nothing in every row.
fn found(store: &LaneStore, id: Uuid, find: crate::store::FindDefinition<'_>) -> Result<Option<Instance>, StoreError> {
    let folded = store.fold(id, find)?;
    if folded.is_none() && store.summary(id)?.is_some() {
        return Err(StoreError::History { id, reason: "its events are missing".to_owned() });
    }
    Ok(folded.map(|(_, instance)| instance))
}

fn of_instance(instance: &Instance) -> Result<TransactionOutcome, OutcomeError> {
    match instance {
        Instance::Saga(state) => Err(OutcomeError::Saga(state.head.id)),
        Instance::TwoPc(state) => Ok(TransactionOutcome { id: state.head.id, outcome: state.outcome(), known: true }),
    }
}
