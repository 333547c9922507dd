//! What becomes of a call over HTTP while it is made.

use sagamq_api::saga::{CallOutcome, Failure};

/// What becomes of a call.
#[derive(Debug)]
pub(super) enum Progress {
    /// The participant said this, or was asked in vain.
    Word {
        /// What it says.
        reply: CallOutcome,
        /// What must be told of an output that could not be kept.
        note: Option<Failure>,
        /// Base URL of the worker that has the branch of a transaction open, if the answer named it.
        branch_address: Option<String>,
    },
    /// Nothing was sent; it is tried on. Told once a call.
    NotSent(Failure),
}
