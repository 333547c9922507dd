//! What participants say, and that they cannot be reached.

use super::event::TransactionEvent;
use super::planner::Planner;
use super::state::Place;
use crate::protocol::BranchAddress;
use crate::protocol::decision::Rejection;
use crate::protocol::failures::{bounded, within_bounds};
use sagamq_api::saga::{CallOutcome, Failure, Operation, StepAttempt};

impl Planner<'_> {
    /// Gives whether nothing is new about it.
    pub(super) fn reply(
        &mut self,
        attempt: StepAttempt,
        outcome: CallOutcome,
        note: Option<Failure>,
        address: Option<BranchAddress>,
    ) -> Result<bool, Rejection> {
        let outcome = within_bounds(outcome);
        match self.state.place_of(&attempt) {
            None => Err(Rejection::NoSuchStep { attempt }),
            Some(Place::Action(index)) => self.action_reply(index, attempt, outcome, note.map(bounded), address),
            Some(Place::Branch(index)) => {
                let last = self.state.branches[index].progress(attempt.operation).epoch;
                if attempt.epoch == 0 || attempt.epoch > last {
                    return Err(Rejection::Fenced { attempt, reason: format!("the last attempt is {last}") });
                }
                match attempt.operation {
                    Operation::Prepare => self.vote_reply(index, attempt, outcome, note),
                    _ => self.end_reply(index, attempt, outcome),
                }
            }
        }
    }

    /// The call could not be sent. Gives whether nothing is new about it.
    pub(super) fn not_sent(&mut self, attempt: StepAttempt, failure: Failure) -> Result<bool, Rejection> {
        let open = match self.state.place_of(&attempt) {
            None => return Err(Rejection::NoSuchStep { attempt }),
            Some(Place::Action(index)) => self.state.actions[index].open.filter(|_| self.state.actions[index].epoch == attempt.epoch),
            Some(Place::Branch(index)) => {
                let progress = self.state.branches[index].progress(attempt.operation);
                progress.attempt.open().filter(|_| progress.epoch == attempt.epoch)
            }
        };
        if open.is_none_or(|open| open.is_unsent) {
            return Ok(true);
        }
        let (operation, failure) = (attempt.operation, bounded(failure));
        let place = self.state.place_of(&attempt);
        self.emit(TransactionEvent::CallNotSent { attempt, failure: failure.clone() });
        // Trying on would only wait: its worker may be gone for good, and another one can end it.
        if let Some(Place::Branch(index)) = place
            && self.state.branches[index].has_detour(operation)
        {
            self.not_heard(index, operation, failure, None);
        }
        Ok(false)
    }
}
