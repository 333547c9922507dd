//! Stream groups: which member reads which partition, and how far the group has come in each.
//!
//! Everything here is pure: the clock is passed in, and nothing is written. One coordinator, on the shard that the group's name hashes to,
//! has all of a group: members, who holds what, and the committed offsets. A member says everything with one call, the heartbeat. A
//! partition goes to its next holder only when the one before has said that it has handed it back, or is fenced.

mod assign;
mod changes;
mod codec;
mod commit;
mod config;
mod coordinator;
mod error;
mod heartbeat;
mod invariants;
mod member;
mod row;
mod sessions;
mod state;

#[cfg(test)]
mod assign_tests;
#[cfg(test)]
mod model_tests;

pub use config::StreamConfig;
pub use coordinator::{Answer, Assigned, Coordinator, Heartbeat, Join, Leave, Terms};
pub use error::{Fenced, HeartbeatError};
pub use member::{Member, TopicPartition};
pub use state::{Committed, StreamState};

pub(crate) use row::{RowChange, StoredStream, StreamRow};
