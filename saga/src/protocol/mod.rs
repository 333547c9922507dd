//! The saga protocol, pure: what happened goes in, what must be written and done comes out. No clock, no disk, no network.
//!
//! [`decide()`] looks at a [`Definition`](crate::definition::Definition), the state of an instance and one [`Input`], and gives the
//! events to write and the commands to perform once they are durable. [`InstanceState::apply`] is the only transition: the state is the
//! fold of the events and of nothing else, so a restart, a test and the live orchestrator cannot disagree.
//!
//! ```text
//!                    every step succeeded
//!   RUNNING/WAITING ───────────────────────► COMPLETED
//!        │  refused, unknown for good, timeout, cancelled: all of it only before the pivot
//!        ▼               every effect undone            (nothing had taken effect)
//!   COMPENSATING ─────────────────────────► COMPENSATED      FAILED
//!        │  a compensation ran out of attempts
//!        └────────────────────────────────► BLOCKED
//! ```
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
//! - *Arguments are rendered once*, at the first attempt, and written with it.

mod compensate;
mod decide;
mod describe;
mod due;
mod event;
mod failures;
mod forward;
mod id;
mod planner;
mod state;
mod step;
#[cfg(test)]
mod tests;

pub use decide::{CallCommand, Command, Decision, Input, Rejection, decide, open_calls};
pub use due::{HandOut, UnseenCall};
pub use event::{EVENT_FORMAT, RecordedEvent, SagaEvent};
pub use failures::Failures;
pub use id::{FIRST_GENERATION, instance_id, lane_of};
pub use state::{IllegalEvent, InstanceState, Phase};
pub use step::{Attempt, Open, Progress, Settled, StepStatus};

/// Codes of failures that the orchestrator itself finds.
pub mod codes {
    /// An attempt had no answer at its deadline.
    pub const TIMEOUT: &str = "TIMEOUT";
    /// The saga had not passed its pivot when its time was over.
    pub const SAGA_TIMEOUT: &str = "SAGA_TIMEOUT";
    /// The call was not handed to its participant before the saga was to be undone.
    pub const NOT_SENT: &str = "NOT_SENT";
    /// The server's settings do not allow the participant's host, so the call is not made.
    pub const PARTICIPANT_HOST_NOT_ALLOWED: &str = "PARTICIPANT_HOST_NOT_ALLOWED";
    /// The call was not handed to its participant within the step's `queue_timeout`.
    pub const QUEUE_TIMEOUT: &str = "QUEUE_TIMEOUT";
    /// Somebody cancelled the saga.
    pub const CANCELLED: &str = "CANCELLED";
    /// An expression had no value at run time.
    pub const EXPRESSION_FAILED: &str = "EXPRESSION_FAILED";
    /// Rendered arguments are larger than a saga's payload may be.
    pub const PAYLOAD_TOO_LARGE: &str = "PAYLOAD_TOO_LARGE";
    /// The instance came near the bound of events before its pivot.
    pub const TOO_MANY_EVENTS: &str = "TOO_MANY_EVENTS";
}
