//! A node of a cluster: it joins, stands by and folds along, takes over when nobody is active any more, and writes to the log as long as it has the term.
//!
//! One node has the term for all shards. What is done for a shard is done for that shard alone (`copy`, `storage`), so that owners of single
//! shards can come later.

mod active;
mod beats;
mod clock;
mod copy;
mod drain;
#[cfg(test)]
mod hindered;
mod init;
mod join;
mod lease;
mod local;
pub mod members;
mod mutations;
mod pauses;
mod settings;
mod snapshots;
mod standby;
mod status;
mod storage;
#[cfg(test)]
mod tests;
mod writer;

pub use active::Active;
pub use clock::{BootClock, Uptime};
pub use copy::CopyError;
pub use drain::{DrainError, Drained, drain};
pub use init::{InitError, InitParts, init_from as init};
pub use join::JoinError;
pub use lease::Lease;
pub use local::{LocalError, cluster as cluster_of, place};
pub use members::roll::{LogAge, RollError};
pub use members::view::{Node, NodeState};
pub use mutations::DecodeError;
pub use settings::NodeSettings;
pub use snapshots::SnapshotsMade;
pub use standby::{FollowError, NodeParts, Shown, Standby};
pub use status::Status;
pub use writer::WriteFailed;
