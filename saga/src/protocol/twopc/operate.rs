//! What an operator does to a transaction.

use super::event::TransactionEvent;
use super::planner::Planner;
use super::state::Phase;
use crate::protocol::codes;
use crate::protocol::decision::{Rejection, ResolvedOutcome, Verb};
use sagamq_api::saga::Failure;

impl Planner<'_> {
    /// Gives whether nothing is new about it. What an operator did is on disk when the operator hears of it.
    pub(super) fn operate(&mut self, verb: Verb, actor: Option<String>) -> Result<bool, Rejection> {
        let is_known = match verb {
            Verb::Cancel { reason } => self.cancel(reason, actor)?,
            Verb::ResolveBranch { branch, outcome, reason } => self.resolve(branch, outcome, reason, actor)?,
        };
        self.forced = true;
        Ok(is_known)
    }

    fn cancel(&mut self, reason: String, actor: Option<String>) -> Result<bool, Rejection> {
        match self.state.phase {
            Phase::Active | Phase::Preparing => {
                self.abort(Failure { code: codes::CANCELLED.to_owned(), message: reason }, actor);
                Ok(false)
            }
            Phase::Aborting => Ok(true),
            Phase::OnePhase | Phase::Committing => Err(Rejection::NotCancellable),
            Phase::New | Phase::Committed | Phase::Aborted | Phase::Unknown => Err(Rejection::AlreadyFinal(self.state.saga_state())),
        }
    }

    /// A branch that has the decision may be resolved too: the operator says what it did.
    fn resolve(&mut self, branch: String, outcome: ResolvedOutcome, reason: String, actor: Option<String>) -> Result<bool, Rejection> {
        let Some(index) = self.state.branch_index(&branch) else { return Err(Rejection::NoSuchBranch(branch)) };
        if self.state.phase.is_undecided() {
            return Err(Rejection::Undecided);
        }
        if self.state.branches[index].state.is_ended() {
            return Err(Rejection::BranchSettled(branch));
        }
        self.settle_branch(index);
        let heuristic = self.state.heuristic_of(outcome);
        self.emit(TransactionEvent::BranchResolved { branch, outcome, heuristic, actor, reason });
        Ok(false)
    }
}
