//! Shards: the unit of order and of atomicity. One task owns a shard; everybody else sends it what to do.
//!
//! The task hands each input to the owner it concerns. An owner changes its own part and tells the core what follows from it; the core
//! makes the commit.

pub(crate) mod ack_records;
pub(crate) mod catalogue;
pub(crate) mod commit;
pub(crate) mod committer;
mod core;
pub(crate) mod disk_guard;
pub(crate) mod embedded;
pub(crate) mod gather;
pub(crate) mod input;
pub(crate) mod log;
pub(crate) mod outbox;
pub(crate) mod permit;
pub(crate) mod queues;
pub(crate) mod recovery;
pub(crate) mod relay;
pub(crate) mod streams;
pub(crate) mod sync_interval;
pub(crate) mod task;
pub(crate) mod trim;
pub(crate) mod write_stop;
