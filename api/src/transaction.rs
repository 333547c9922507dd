//! Bodies of the transaction routes: instances that run in two phases, as participants ask for them and operators look at them.

mod outcome;

pub use outcome::{Outcome, OutcomeQuery, TransactionOutcome};
