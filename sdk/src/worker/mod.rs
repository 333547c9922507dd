//! `SagaWorker`: a participant of sagas that is called through its command topic.
//!
//! Each record of the topic is a [`Call`](sagamq_api::saga::Call). The handler's result travels back in a request that applies the
//! reply to the saga and acknowledges the command in one durable commit: there is no moment in which one is done and the other is
//! not. Replies that come together share a request, and its answer brings the next calls (`clerk.rs`).

mod call_error;
mod clerk;
mod limits;
mod saga_worker;

pub use call_error::CallError;
#[cfg(any(feature = "rocksdb", feature = "postgres"))]
pub(crate) use call_error::output_text;
#[cfg(feature = "participant")]
pub(crate) use call_error::{Handled, handled, outcome_of};
#[cfg(feature = "participant")]
pub(crate) use limits::{HANDLER_PANICKED, HANDLER_TIMEOUT};
#[cfg(feature = "participant")]
pub(crate) use saga_worker::UNKNOWN_CALL;
pub use saga_worker::{SagaWorker, SagaWorkerBuilder};
