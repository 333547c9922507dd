//! What an operator does to a saga.

use super::planner::Planner;
use super::state::Phase;
use crate::protocol::codes;
use crate::protocol::decision::{Rejection, Verb};
use sagamq_api::saga::Failure;

impl Planner<'_> {
    /// Gives whether nothing is new about it.
    pub(super) fn operate(&mut self, verb: Verb, actor: Option<String>) -> Result<bool, Rejection> {
        match verb {
            Verb::Cancel { reason } => self.cancel(reason, actor),
            Verb::ResolveBranch { .. } => Err(Rejection::NoTransaction),
        }
    }

    fn cancel(&mut self, reason: String, actor: Option<String>) -> Result<bool, Rejection> {
        if self.state.phase.is_at_rest() {
            return Err(Rejection::AlreadyFinal(self.state.saga_state()));
        }
        if self.state.phase == Phase::Compensating || self.state.stop.is_some() {
            return Ok(true);
        }
        if self.state.is_past_pivot() {
            return Err(Rejection::NotCancellable);
        }
        self.stop(Failure { code: codes::CANCELLED.to_owned(), message: reason }, actor);
        Ok(false)
    }
}
