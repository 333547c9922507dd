//! The saga protocol.
//!
//! [`decide()`] looks at a [`Definition`](crate::definition::Definition), the state of an instance and one input, and gives the events to
//! write and the commands to perform once they are durable. [`InstanceState::apply`] is the only transition: the state is the fold of the
//! events and of nothing else, so a restart, a test and the live orchestrator cannot disagree.
//!
//! ```text
//!                    every step is done
//!   RUNNING/WAITING ───────────────────────► COMPLETED
//!        │  refused, unknown for good, timeout, cancelled: all of it only before the pivot
//!        ▼               every effect undone            (nothing had to be undone)
//!   COMPENSATING ─────────────────────────► COMPENSATED      FAILED
//!        │  a compensation ran out of attempts
//!        └────────────────────────────────► BLOCKED
//! ```
//!
//! Operators pause it anywhere (`PAUSED`), end it as it is (`TERMINATED`), and mend what is `BLOCKED` or waits: see `operate.rs`. Of one at its
//! end they say what was found out about its steps: `record.rs`.
//!
//! The rules that are not in the names:
//! - *Unknown is never read as refused.* A step whose attempts ran out without an answer is compensated like one that succeeded.
//! - *The pivot is the point of no return.* It starts when every compensatable step succeeded, also those of other branches, so that a
//!   failure can never meet a pivot in flight. Where branches have a pivot each, they run one after the other: the first one decides,
//!   the others are then retried like the steps behind it.
//! - *A timeout or a cancellation that meets a pivot in flight waits for its outcome*, and is void if it succeeded.
//! - *A known outcome is never thrown away.* All attempts of an operation have one idempotency key, so a success or a refusal counts for the
//!   operation as long as it is live, whichever attempt it answers. Doubt about an older attempt is fenced.
//! - *What was not sent had no effect.* A call waits in its queue until it is handed to its participant, and the time of its run counts from
//!   then. Waiting uses up no attempt. A step of which no attempt was ever handed out is `FAILED` when the saga is to be undone: there is
//!   nothing to undo. One attempt that may have been sent puts the step in doubt for good.
//! - *A condition is asked once*, in its step's turn, and its answer is an event. What it leaves out is done, gives no output, and has nothing to
//!   undo.
//! - *The saga goes on without an optional step that had no effect.* One in doubt is undone first, alone; if that cannot finish, all is undone.
//! - *A step that sleeps or waits for a signal has no effect and no attempts.* Time or the signal ends it; when the saga is undone it is
//!   ended at once.
//! - *A sub-saga is a call to another saga*: with no deadline, one sub-saga an attempt, cancelled when the saga is undone, and undone as a whole.
//! - *A step with a lock begins when the instance has it*, and the instance keeps it until it is at its end, so that what is undone is undone under it.
//!   A step that waits has no attempt, and whatever undoes the saga ends the wait.
//! - *Arguments are rendered once*, at the first attempt, and written with it; a compensation that failed for good and is called again by an
//!   operator is rendered anew. *What was done with one input is undone with it*, whatever input an operator or a rerun gives later.
//!
//! - *An item of a step that fans out is a step of its own in small*: it has its own key, attempts, arguments and output, and is undone on its
//!   own. What the step is follows from its items (`fan.rs`).
//!
//! Upwards: `claims.rs`, `step.rs` with `fan.rs`, and `event/`; `state.rs` with `place.rs`, `apply.rs` and `check.rs`; `call.rs`; `planner.rs`, the working state of a decision;
//! what follows from what in `forward.rs` and `compensate.rs`, of items in `each.rs`, of locks in `lock.rs`, and of steps that call nobody in `asleep.rs` with `signal.rs`; the inputs
//! in `reply.rs`, `time.rs` and `operate.rs` (whose events are applied in `operated.rs`), with `record.rs` and `rerun.rs`; `decide.rs`.

mod apply;
mod asleep;
mod call;
mod check;
mod child;
mod claims;
mod compensate;
mod decide;
mod describe;
mod due;
mod each;
mod event;
mod fan;
mod forward;
mod items;
mod lock;
mod operate;
mod operated;
mod place;
mod places;
mod planner;
mod record;
mod reply;
mod rerun;
mod signal;
mod signals;
mod state;
mod step;
mod tell;
#[cfg(test)]
mod tests;
mod time;
mod waits;

pub use call::open_calls;
pub use child::child_key;
pub use claims::{Claim, Claims, StepLock};
pub use decide::decide;
pub use event::{CopiedItems, SagaEvent};
pub use fan::{Fan, Item};
pub use place::Place;
pub use signals::Signals;
pub use state::{HandedOver, RerunOf};
pub use state::{InstanceState, Phase};
pub use step::{Asleep, Attempt, Open, Origin, Progress, Settled, StepStatus};
