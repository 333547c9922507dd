//! A participant of sagas that is called over HTTP: its routes, and what its answers say.
//!
//! [`ParticipantRouter`] takes one function an operation. Whatever such a function returns is answered as the orchestrator reads it, so that a
//! refusal and an unknown outcome cannot be mixed up by a status. What makes effects happen once are the barriers' `Operations`, for RocksDB
//! and for PostgreSQL.

mod answer;
mod router;

#[cfg(feature = "branch")]
pub(crate) use answer::{Answer, CALL_BYTES_MAX, answered, detached, failure, mismatch, read};
pub use router::ParticipantRouter;

/// The code of a request that says one thing in its path and another in its body.
pub const CALL_MISMATCH: &str = "CALL_MISMATCH";

/// The code of a request whose body is no call.
pub const INVALID_CALL: &str = "INVALID_CALL";

/// The code of a call of a transaction at a participant that takes part in sagas only.
pub const SAGAS_ONLY: &str = "SAGAS_ONLY";
