//! Two-phase commit, presumed abort (R\*: Mohan, Lindsay, Obermarck 1986).
//!
//! [`decide()`] looks at a [`Definition`](crate::definition::Definition), the state of a transaction and one input, and gives the events to
//! write and the commands to perform once they are written, or, if the decision says so, once they are on disk.
//! [`TransactionState::apply`] is the only transition: the state is the fold of the events and of nothing else.
//!
//! ```text
//!            every action succeeded           every branch voted for it
//!   ACTIVE ───────────────────────► PREPARING ─────────────────────────► COMMITTING ───────► COMMITTED
//!     │ refused, unknown, timeout,      │                                    │ a branch has lost what it prepared, or did the opposite
//!     │ cancelled, restart              │                                    └────────► BLOCKED until an operator resolves it
//!     └───────────► ABORTING ◄──────────┘
//!                       └──► ABORTED
//! ```
//!
//! The rules that are not in the names:
//! - *All that is done at one service is one branch*, done in order, one thing at a time, at the one worker that opened it.
//! - *Who forgets decides to roll back.* So nothing but the start, the decision to commit, giving that decision away to the only branch,
//!   and what operators say needs to be on disk before it is heard of.
//! - *Nothing is rolled back after a decision to commit*, and it is told until it is acknowledged, without end. A rollback is told some
//!   times: who was not reached asks.
//! - *A branch that is alone decides.* It is told to commit and asked without end what it did. Nobody else decides then: no timeout, no
//!   cancellation, no restart.
//! - *A word that does not fit is recorded and changes nothing*, except that a changed vote before the decision means rolling back.
//!
//! Upwards: `action.rs`, `branch.rs` and `event.rs`; `state.rs` with `apply.rs` and `check.rs`; `call.rs`; `planner.rs`, the working state
//! of a decision; what follows from what in `actions.rs`, `votes.rs` and `ending.rs`; the inputs in `reply.rs`, `time.rs` and `operate.rs`;
//! `decide.rs`.

mod action;
mod actions;
mod apply;
mod branch;
mod call;
mod check;
mod decide;
mod describe;
mod due;
mod ending;
mod event;
mod operate;
mod planner;
mod reply;
mod state;
#[cfg(test)]
mod tests;
mod time;
mod votes;
mod waits;

pub use action::{Action, Attempt, Open};
pub use branch::{Branch, BranchState, Contradiction, Progress, Vote};
pub use call::open_calls;
pub use decide::{TRANSACTION_TIMEOUT_DEFAULT, decide};
pub use event::TransactionEvent;
pub use state::{Phase, TransactionState};
