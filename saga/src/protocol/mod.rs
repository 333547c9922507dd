//! The protocols, pure: what happened goes in, what must be written and done comes out. No clock, no disk, no network.
//!
//! [`Instance`] is all that lanes, store and metrics know of them: it decides what an [`Input`] means and gives events to write and
//! commands to perform once they are durable, and it applies events, which is the only way it changes. What these events are, and what
//! follows from what, is a protocol's own affair; there are two, [`saga`] and [`twopc`]. Instances and events say on disk which protocol
//! they are of.
//!
//! Beside them, [`repair`] is what becomes of an operator's verb for many instances, and [`lock`] who holds what several want.
//!
//! Upwards: `decision.rs` (the words that all protocols share), `failures.rs`, `pause.rs` and `same.rs`, locks, then a folder for each protocol, then
//! `event.rs` and `instance.rs` over them, and `preview.rs` and repairs on top.

mod branch_address;
pub mod codes;
mod decision;
mod event;
mod failures;
mod head;
mod id;
mod instance;
pub mod lock;
mod occurrence;
mod pause;
mod preview;
pub mod repair;
pub mod saga;
mod same;
pub mod twopc;
mod waits;

pub use branch_address::BranchAddress;
pub use decision::{
    By, CallCommand, ChildCall, ChildName, Command, Decision, HandOut, IllegalEvent, Input, Parent, Recorded, Rejection, Related,
    ResolvedOutcome, Signal, Told, Verb,
};
pub use event::{EVENT_FORMAT, Event, Protocol, RecordedEvent, Started, UnknownProtocol};
pub use failures::Failures;
pub use head::Head;
pub use id::{FIRST_GENERATION, instance_id, lane_of, lane_of_key};
pub use instance::Instance;
pub use occurrence::{AttemptEnd, BranchEnd, EndedAttempt, Heuristic, Occurrence};
pub use preview::{ForeseenCall, Preview, preview};
pub use same::{asks_the_same, says_the_same};
pub use waits::Trouble;
pub(crate) use waits::held_back;
