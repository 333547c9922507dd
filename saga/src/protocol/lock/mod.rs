//! Semantic locks, pure: who holds a key, who waits for it, in which order, and who waits in a circle.
//!
//! A lock is held by an instance, from before a step is called until the instance is at its end. Its home is the lane that its key hashes to
//! (`key.rs`). [`Locks`] is what a home knows: of each key that is held its holder, with a fencing token that only grows, and who waits, in the
//! order in which they came. Instances and homes speak in messages between lanes (`message.rs`), which come once and in the order of each
//! pair, so an instance that gives up and asks again is told from itself by the number of its claim.
//!
//! Circles are looked for by probes that follow the waits over the lanes (`probe.rs`; Chandy, Misra and Haas 1983): one sets out from a
//! holder whenever somebody begins to wait for it, or it holds what others wait for already, and from a sub-saga that has completed with locks and waits for its
//! parent's end. What an instance does with what it is told is the affair of its own protocol (`super::saga`).

mod claimant;
mod key;
mod message;
mod probe;
mod said;
mod table;
#[cfg(test)]
mod tests;

pub use claimant::Claimant;
pub use key::{is_lock_key, lane_of_lock};
pub use message::LockMessage;
pub use probe::{Circle, Hop, Next, Probe, Wait};
pub use said::LockSaid;
pub use table::{Change, Holder, Lock, LockDecision, Locks, Waiter};
