//! Many machines for SagaMQ: a shard's commits go to a log that outlives every machine, and its content says who may write.
//!
//! The log is not ours. [`log::CommitLog`] is the little that is asked of it. [`entry`] is what stands in a shard's log, and [`fold`] what it
//! means: pure, and alike for everybody who reads it. [`owner`] is how a node writes, as pure steps; [`shard_log`] takes them.
//! [`objects`] is the object storage on which one of the logs lives, and [`snapshot`] what a newcomer begins with there. [`node`] is a server
//! with all of that: it stands by, takes over, and writes.

pub mod entry;
pub mod fold;
pub mod log;
pub mod node;
pub mod objects;
pub mod owner;
pub mod shard_log;
#[cfg(test)]
mod simulation;
pub mod snapshot;

mod open;

pub use open::{Cluster, OpenLogError};
