//! What becomes of a call over HTTP while it is made.

use crate::protocol::BranchAddress;
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
        /// Where the worker is that has the branch of a transaction open, if the answer said so.
        branch_address: Option<BranchAddress>,
    },
    /// Nothing can be sent; it is tried on. Told once a call, and once more if somebody was told meanwhile that it had been sent.
    NotSent {
        /// Why.
        failure: Failure,
        /// Whether it is certain that nothing was when that was told.
        was_never_sent: bool,
    },
}
