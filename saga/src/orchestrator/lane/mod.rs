//! A lane: the one task that owns the instances of a shard.
//!
//! Inputs, decide each, ONE commit for all that came together (events, summaries, lists, next commands, settled commands, cursor), apply,
//! and only when that is durable: answers and calls. The task runs ahead of the disk; the commits of a shard become durable in their order,
//! and what leaves
//! the lane waits for its commit in `follower.rs`.

mod adopted;
mod advance;
mod along;
mod asleep;
mod batch;
mod children;
mod decide;
mod due;
mod finished;
mod follower;
mod forget;
mod forgotten;
mod home_locks;
mod input;
mod locks;
mod look;
mod not_taken;
mod open_repairs;
mod pump;
mod recovery;
mod refusal;
mod repair_error;
mod repairs;
mod replies;
mod rerun;
mod signal;
mod start;
mod take;
mod task;
mod timers;
mod waiters;
mod wake;
mod watches;

pub(super) use input::{Addressee, LaneHandle, LaneInput, LockInput, RepairInput, Seen, Wanted};
pub use not_taken::NotTaken;
pub(super) use open_repairs::Search;
pub(super) use pump::pump;
pub use recovery::RecoveryError;
pub(super) use recovery::recover;
pub use refusal::StartError;
pub(super) use refusal::Undecided;
pub use repair_error::RepairError;
pub(super) use replies::{read_replies, release_replies};
pub(super) use task::{Lane, LaneParts};
pub(super) use waiters::Waiter;
