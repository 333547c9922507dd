//! The orchestrator: runs sagas on the broker's shards. [`Orchestrator`] is its one door; what is above it is transport.
//!
//! A saga's journey: a start finds its lane by its business key (`lane/start.rs`), the protocol decides, one commit makes the events, the
//! next command and the summary durable (`lane/advance.rs`), and then the caller hears of it and participants are called
//! (`lane/follower.rs`). Outcomes come back as inputs, time as the lane's own timers. After a crash the events are folded
//! (`lane/recovery.rs`) and every saga goes on where it was.
//!
//! An operation a file, with the error that it returns: `publish.rs`, `uses.rs`, `activate.rs`, `start.rs`, `complete.rs`, `next.rs`, `operate.rs`, `preview.rs`,
//! `release.rs`, `outcome.rs`, `queries.rs`, `services.rs`, `transactions.rs`, `list/mod.rs`, `incidents.rs`, `versions.rs`, `retention.rs`,
//! `repairs.rs`, `locks.rs`, `signal.rs`, `wait.rs`.

mod activate;
mod beside;
mod bounds;
mod choice;
mod codes;
mod compiler;
mod complete;
mod definitions;
mod door;
mod error;
mod gate;
mod given;
mod incidents;
mod lane;
mod lifecycle;
mod list;
mod locks;
mod look;
mod next;
mod open;
mod operate;
mod operated;
mod outcome;
mod places;
mod preview;
mod publish;
mod quarantine;
mod queries;
mod release;
mod repairs;
mod retention;
mod retentions;
mod search;
mod seen;
mod services;
mod signal;
mod start;
mod sweep;
mod topics;
mod transactions;
mod trouble;
mod uses;
mod versions;
mod wait;

pub use activate::ActivateError;
pub use bounds::OutOfBounds;
pub use codes::{of_rejection, of_write};
pub use complete::{CallError, Called};
pub use definitions::DefinitionError;
pub use door::Orchestrator;
pub use error::InstanceError;
pub use incidents::IncidentError;
pub use lane::{NotTaken, RecoveryError, RepairError, StartError};
pub use list::QueryError;
pub use locks::{BreakError, LockError};
pub use next::{Completed, CompletionError};
pub use open::OpenError;
pub use operate::OperateError;
pub use operated::Operated;
pub use outcome::OutcomeError;
pub use publish::PublishError;
pub use quarantine::SetAside;
pub use queries::HistoryError;
pub use repairs::StartRepairError;
pub use retention::RetentionError;
pub use services::ServiceError;
pub use signal::SignalError;
pub use topics::LaneTopicError;
pub use transactions::TransactionError;
pub use uses::{UsedTopic, Uses};
pub use versions::VersionsError;
pub use wait::{Wait, WaitTooLong};
