//! What an operator does to a transaction.

use super::event::TransactionEvent;
use super::planner::Planner;
use super::state::Phase;
use crate::protocol::codes;
use crate::protocol::decision::{By, Rejection, ResolvedOutcome, Verb};
use sagamq_api::saga::{Failure, SagaVerb};

impl Planner<'_> {
    /// Gives whether nothing is new about it. What an operator did is on disk when the operator hears of it.
    pub(super) fn operate(&mut self, verb: Verb, by: By) -> Result<bool, Rejection> {
        let is_known = match verb {
            Verb::Saga(SagaVerb::Cancel) => self.cancel(by)?,
            Verb::Saga(other) => return Err(Rejection::OnlySagas(other.name())),
            Verb::ResolveBranch { branch, outcome } => self.resolve(branch, outcome, by)?,
        };
        self.forced = true;
        Ok(is_known)
    }

    fn cancel(&mut self, By { actor, reason }: By) -> Result<bool, Rejection> {
        match self.state.phase {
            Phase::Active | Phase::Preparing => {
                self.abort(Failure { code: codes::CANCELLED.to_owned(), message: reason.unwrap_or_default() }, actor);
                Ok(false)
            }
            Phase::Aborting => Ok(true),
            Phase::OnePhase | Phase::Committing => Err(Rejection::NotCancellable),
            Phase::New | Phase::Committed | Phase::Aborted | Phase::Unknown => Err(Rejection::AlreadyFinal(self.state.saga_state())),
        }
    }

    /// A branch that has the decision may be resolved too: the operator says what it did.
    fn resolve(&mut self, branch: String, outcome: ResolvedOutcome, By { actor, reason }: By) -> Result<bool, Rejection> {
        let Some(index) = self.state.branch_index(&branch) else { return Err(Rejection::NoSuchBranch(branch)) };
        if self.state.phase.is_undecided() {
            return Err(Rejection::Undecided);
        }
        if self.state.branches[index].state.is_ended() {
            return Err(Rejection::BranchSettled(branch));
        }
        self.settle_branch(index);
        let (heuristic, reason) = (self.state.heuristic_of(outcome), reason.unwrap_or_default());
        self.emit(TransactionEvent::BranchResolved { branch, outcome, heuristic, actor, reason });
        Ok(false)
    }
}
