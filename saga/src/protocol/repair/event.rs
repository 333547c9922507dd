//! What happens to a repair: its log, from which it is folded.

use super::request::RepairRequest;
use crate::protocol::decision::Recorded;
use sagamq_api::repair::Repaired;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// An event with its time.
pub type RecordedRepairEvent = Recorded<RepairEvent>;

/// An event of a repair. What is stored is never renamed or given another meaning.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", content = "data", rename_all = "snake_case", deny_unknown_fields)]
pub enum RepairEvent {
    /// The first one. Sagas that are named one by one are found with it.
    RepairStarted {
        /// What it is to do.
        request: Box<RepairRequest>,
    },
    /// A page of sagas that fitted when they were looked at. They are numbered in this order.
    SagasFound {
        /// The sagas.
        sagas: Vec<Uuid>,
        /// Where the next page begins; `None`: there is none.
        next: Option<String>,
    },
    /// So many of those that wait longest were begun: their lanes are told.
    SagasBegun {
        /// How many.
        count: u64,
    },
    /// What became of a saga.
    SagaRepaired {
        /// Its number in the repair.
        number: u64,
        /// The saga.
        saga: Uuid,
        /// What became of it.
        repaired: Repaired,
    },
    /// No other saga is begun for now.
    RepairPaused {
        /// Who wants it.
        actor: Option<String>,
        /// Why.
        reason: Option<String>,
    },
    /// It goes on.
    RepairResumed {
        /// Who wants it.
        actor: Option<String>,
        /// Why.
        reason: Option<String>,
    },
    /// No other saga will be begun.
    RepairCancelled {
        /// Who wants it.
        actor: Option<String>,
        /// Why.
        reason: Option<String>,
    },
    /// Every saga that was begun has its result.
    RepairEnded,
}
