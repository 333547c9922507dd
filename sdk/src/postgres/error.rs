//! What an error of PostgreSQL means for a caller.

use crate::transport::chain;
use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

/// The whole error with its causes, and what to do where that is known.
pub(crate) fn said(error: &Error) -> String {
    let hint = match error.code() {
        Some(&(SqlState::UNDEFINED_TABLE | SqlState::INVALID_SCHEMA_NAME)) => "; are the tables made? See `PostgresSchema::migrate`",
        _ => "",
    };
    format!("{}{hint}", chain(error))
}

/// Whether the same transaction may succeed if it is made again: another one was in its way, and it was rolled back.
pub(crate) fn is_retryable(error: &Error) -> bool {
    matches!(error.code(), Some(&(SqlState::T_R_SERIALIZATION_FAILURE | SqlState::T_R_DEADLOCK_DETECTED)))
}
