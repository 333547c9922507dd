//! A participant's side of two-phase commit, the same for every resource manager.
//!
//! A **branch** is all that one transaction does at one service, in one local transaction. A [`BranchManager`] opens it with the first call,
//! prepares it when it is asked for its vote, and ends it when it hears the decision. Between the vote and the decision it is **in doubt**: it
//! keeps its locks, also over a crash, and never guesses.

mod error;
mod id;
mod manager;
#[cfg(feature = "postgres")]
pub mod postgres;
mod resolver;
#[cfg(feature = "rocksdb")]
pub mod rocks;
mod router;

pub use crate::participant::{CALL_MISMATCH, INVALID_CALL};
pub use error::{BRANCH_COMMITTED, BRANCH_EXPIRED, BRANCH_PREPARED, BRANCH_ROLLED_BACK, BRANCH_STORAGE, BRANCH_UNKNOWN, BranchError};
pub use id::{BRANCH_NAME_BYTES_MAX, BranchId, BranchIdError};
pub use manager::{BranchManager, Branching, InDoubt, Vote};
pub use resolver::{Resolver, ResolverHealth};
pub use router::{BranchRouter, NO_TRANSACTION, router};
