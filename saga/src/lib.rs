//! The saga orchestrator of SagaMQ: definitions and the pure protocol.
//!
//! A saga is a sequence of steps at several services, each with what undoes it. [`dsl`] reads a definition and proves what can be
//! proved before it runs; [`protocol`] decides, without a clock or a disk, what follows from what happened; [`orchestrator`] runs that on
//! the shards of a broker, where a reply, the events it causes and the next command are one commit.
//!
//! A saga's journey: `orchestrator/lane/start.rs` gives the request to the lane of its business key,
//! `protocol/saga/decide.rs` says what happens, `orchestrator/lane/advance.rs` commits that through the broker's one door, and only when it is
//! durable are the caller answered and participants called (`participant/`). `store/` holds the keys and values.

mod config;
pub mod definition;
pub mod diff;
pub mod dsl;
pub mod duration;
pub mod expression;
mod metrics;
pub mod orchestrator;
mod outgoing;
mod participant;
pub mod protocol;
pub mod sketch;
pub mod store;
mod trace;
pub mod verify;

pub use config::{NoProxy, OrchestratorConfig, ParticipantProxy};
pub use orchestrator::{
    BreakError, CallError, Completed, CompletionError, DefinitionError, HistoryError, IncidentError, InstanceError, LaneTopicError,
    LockError, NotTaken, OpenError, OperateError, Operated, Orchestrator, OutOfBounds, OutcomeError, PublishError, QueryError, RepairError,
    RetentionError, ServiceError, SetAside, SignalError, StartError, StartRepairError, TransactionError, UsedTopic, Uses, VersionsError,
    Wait, WaitTooLong,
};
pub use outgoing::{AddressRule, AddressRuleError, HostRule, HostRuleError, SecretSource, SecretText, first_expiry_s};
