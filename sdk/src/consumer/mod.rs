//! `Consumer`: drives a queue group. It receives ahead, runs handlers at a time up to a bound, keeps their leases, settles in
//! batches and stops without losing or hiding a record.
//!
//! ```text
//! receive ──▶ queue (prefetch) ──▶ handlers (concurrency) ──▶ settler ──▶ ack | nack | terminate, in batches
//!                    └────── leases: extended at half of their time until settled ──────┘
//! ```

mod alone;
mod builder;
mod engine;
mod handler_error;
mod handling;
mod lease_book;
mod leases;
mod settler;

pub use builder::{Consumer, ConsumerBuilder};
pub(crate) use engine::{Receive, Receiving, Settings, run};
pub use handler_error::HandlerError;
pub use handling::lease_lost;
pub(crate) use handling::{Handling, lease, panic_text};
pub(crate) use settler::Settlement;
