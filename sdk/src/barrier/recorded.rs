//! What a barrier keeps of a call, whatever the database.

use sagamq_api::JsonText;
use sagamq_api::saga::Failure;
use uuid::Uuid;

/// What is recorded of a call.
#[derive(Clone, Debug, PartialEq)]
pub enum Recorded {
    /// It took effect and returned this.
    Succeeded(JsonText),
    /// It was refused and took no effect.
    Refused(Failure),
    /// Only an action: its compensation succeeded, whether it came first or undid it, so the action must never take effect again.
    Prevented,
    /// Only an action: it was begun, and nobody knows what came of it outside of the database.
    InDoubt {
        /// The run that began last.
        run: Uuid,
    },
}

/// A row of a call.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Row {
    /// When it was recorded, in milliseconds since 1970. Never before the saga started, and a compensation never before its action.
    pub(super) at_ms: u64,
    pub(super) recorded: Recorded,
}
