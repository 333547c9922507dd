//! A participant's word on an attempt.

use super::output::{Output, kept};
use crate::protocol::Input;
use sagamq_api::saga::{AttemptId, CallOutcome, CompleteCall, Failure};

/// A participant's word on an attempt.
#[derive(Clone, Debug)]
pub(crate) struct Word {
    pub(crate) attempt: AttemptId,
    pub(crate) outcome: CallOutcome,
    /// What must be told of an output that could not be kept.
    pub(crate) note: Option<Failure>,
}

impl From<CompleteCall> for Word {
    /// A known success is never thrown away: what cannot be kept of it is left out, and that is told.
    fn from(CompleteCall { attempt, reply }: CompleteCall) -> Self {
        match reply {
            CallOutcome::Succeeded { output } => {
                let Output { output, note } = kept(output);
                Self { attempt, outcome: CallOutcome::Succeeded { output }, note }
            }
            outcome => Self { attempt, outcome, note: None },
        }
    }
}

impl From<Word> for Input {
    fn from(Word { attempt, outcome, note }: Word) -> Self {
        // A worker behind a topic takes no part in transactions.
        Self::Reply { attempt, outcome, note, branch_address: None }
    }
}
