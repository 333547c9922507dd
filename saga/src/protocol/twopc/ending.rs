//! The end: branches are told what was decided until they say that it is so, and what they say instead.

use super::branch::{BranchState, Contradiction};
use super::event::TransactionEvent;
use super::planner::Planner;
use super::state::Phase;
use crate::protocol::codes;
use crate::protocol::decision::{Rejection, ResolvedOutcome};
use sagamq_api::saga::{CallOutcome, Failure, Operation, StepAttempt};

/// How often a branch is told to roll back. Who was not reached asks, and hears the same.
const ROLLBACK_ATTEMPTS_MAX: u32 = 10;

/// How a branch ended, as it says.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Committed,
    RolledBack,
    /// It does not know, and is not as it should be.
    Lost,
}

impl Planner<'_> {
    pub(super) fn advance_end(&mut self) {
        if self.state.branches.iter().any(|branch| !branch.state.is_ended()) {
            return;
        }
        if self.state.phase == Phase::Committing {
            let (output, failure) = self.state.head.render_output(self.definition, &self.state);
            self.emit(TransactionEvent::TransactionCommitted { output, failure });
        } else {
            self.emit(TransactionEvent::TransactionAborted);
        }
    }

    /// The only branch has the decision: what it did is what was decided.
    pub(super) fn advance_one_phase(&mut self) {
        let branch = &self.state.branches[0];
        match branch.state {
            BranchState::Committed | BranchState::Resolved(ResolvedOutcome::Committed) => self.emit(TransactionEvent::CommitDecided),
            BranchState::RolledBack => {
                let failure = branch.failure.clone().expect("a branch that refused says why");
                self.emit(TransactionEvent::AbortDecided { failure, actor: None });
            }
            BranchState::Resolved(ResolvedOutcome::RolledBack) => {
                let message = "an operator said that the only branch was rolled back".to_owned();
                self.emit(TransactionEvent::AbortDecided { failure: Failure { code: codes::RESOLVED.to_owned(), message }, actor: None });
            }
            BranchState::Resolved(ResolvedOutcome::Unknown) => self.emit(TransactionEvent::TransactionUnknown),
            BranchState::Unopened
            | BranchState::Active
            | BranchState::Prepared
            | BranchState::ReadOnly
            | BranchState::Unacknowledged
            | BranchState::Disagrees => {}
        }
    }

    /// The answer of a branch that was told its end. Gives whether nothing is new about it.
    pub(super) fn end_reply(&mut self, index: usize, attempt: StepAttempt, outcome: CallOutcome) -> Result<bool, Rejection> {
        let (end, failure) = match outcome {
            CallOutcome::Succeeded { .. } => {
                let (end, what) = match attempt.operation {
                    Operation::Rollback => (End::RolledBack, "rolled back"),
                    _ => (End::Committed, "committed"),
                };
                (end, Failure { code: "ENDED".to_owned(), message: format!("it says that it is {what}") })
            }
            // Another worker of the service need not know the branch. Only that it is done counts there.
            CallOutcome::Refused { failure }
                if failure.code != codes::BRANCH_COMMITTED && !self.state.branches[index].is_answer_of_its_worker(attempt.epoch) =>
            {
                return self.doubt(index, attempt, Some(failure), None);
            }
            CallOutcome::Refused { failure } => match (attempt.operation, failure.code.as_str()) {
                (_, codes::BRANCH_COMMITTED) => (End::Committed, failure),
                (_, codes::BRANCH_ROLLED_BACK) | (Operation::Rollback, codes::BRANCH_UNKNOWN) => (End::RolledBack, failure),
                // A refusal of the branch that decides is the decision.
                (Operation::CommitOnePhase, _) => (End::RolledBack, failure),
                (Operation::Rollback, _) => return self.doubt(index, attempt, Some(failure), None),
                _ => (End::Lost, failure),
            },
            CallOutcome::Ongoing { .. } => return self.doubt(index, attempt, None, None),
            CallOutcome::Unknown { failure, retry_after_ms } => return self.doubt(index, attempt, Some(failure), retry_after_ms),
        };
        self.ended(index, attempt, end, failure)
    }

    /// A branch says how it ended.
    fn ended(&mut self, index: usize, attempt: StepAttempt, end: End, failure: Failure) -> Result<bool, Rejection> {
        let is_waited_for = matches!(self.state.phase, Phase::OnePhase | Phase::Committing | Phase::Aborting);
        let is_at_rest = self.state.phase.is_at_rest();
        let wanted = if attempt.operation == Operation::Rollback { End::RolledBack } else { End::Committed };
        match (self.state.branches[index].state, end) {
            (BranchState::Active | BranchState::Prepared, _) | (BranchState::Unacknowledged, End::RolledBack | End::Committed)
                if is_waited_for =>
            {
                let held_ms = self.held_ms(index);
                self.settle_branch(index);
                self.emit(match end {
                    End::Committed if wanted == end => TransactionEvent::BranchCommitted { attempt, held_ms },
                    End::RolledBack if wanted == end => TransactionEvent::BranchRolledBack { attempt, held_ms },
                    End::RolledBack if attempt.operation == Operation::CommitOnePhase => {
                        TransactionEvent::BranchRefused { attempt, failure, held_ms }
                    }
                    _ => TransactionEvent::BranchDisagrees { attempt, failure },
                });
                Ok(false)
            }
            // What it could not do it has done after all.
            (BranchState::Disagrees, _) if end == wanted => {
                let held_ms = self.held_ms(index);
                self.emit(match end {
                    End::Committed => TransactionEvent::BranchCommitted { attempt, held_ms },
                    End::RolledBack | End::Lost => TransactionEvent::BranchRolledBack { attempt, held_ms },
                });
                Ok(false)
            }
            (BranchState::Disagrees, _)
            | (BranchState::Committed, End::Committed)
            | (BranchState::RolledBack | BranchState::Unacknowledged, End::RolledBack)
            | (BranchState::Resolved(ResolvedOutcome::Committed), End::Committed)
            | (BranchState::Resolved(ResolvedOutcome::RolledBack), End::RolledBack)
            | (BranchState::Resolved(_), End::Lost) => Ok(true),
            (state, _) if is_at_rest => Err(Rejection::Fenced {
                attempt,
                reason: format!("the branch is {state:?} and the transaction {}", self.state.saga_state()),
            }),
            _ => {
                self.contradict(index, attempt, Contradiction::ChangedEnd, failure)?;
                Ok(false)
            }
        }
    }

    /// The attempt at a branch has no word that counts: `failure` says why, `None` that the participant works on. Gives whether nothing is
    /// new about it.
    pub(super) fn doubt(
        &mut self,
        index: usize,
        attempt: StepAttempt,
        failure: Option<Failure>,
        asked_ms: Option<u64>,
    ) -> Result<bool, Rejection> {
        let last = self.state.branches[index].progress(attempt.operation).epoch;
        if attempt.epoch != last {
            return Err(Rejection::Fenced { attempt, reason: format!("the current attempt is {last}") });
        }
        let is_open = self.state.branches[index]
            .live()
            .is_some_and(|(operation, progress)| operation == attempt.operation && progress.attempt.open().is_some());
        // Whoever makes the call asks again what works on.
        let Some(failure) = failure.filter(|_| is_open) else { return Ok(true) };
        self.not_heard(index, attempt.operation, failure, asked_ms);
        Ok(false)
    }

    /// The attempt in progress at a branch is over without a word that counts.
    pub(super) fn not_heard(&mut self, index: usize, operation: Operation, failure: Failure, asked_ms: Option<u64>) {
        let attempt = self.attempt(index, operation);
        if operation == Operation::Rollback && attempt.epoch >= ROLLBACK_ATTEMPTS_MAX {
            self.settle_branch(index);
            self.emit(TransactionEvent::BranchUnacknowledged { attempt, failure });
        } else {
            self.retry_branch(index, operation, failure, false, asked_ms);
        }
    }

    /// Records what does not fit, once a branch and kind.
    pub(super) fn contradict(
        &mut self,
        index: usize,
        attempt: StepAttempt,
        contradiction: Contradiction,
        failure: Failure,
    ) -> Result<(), Rejection> {
        let branch = &self.state.branches[index];
        if self.state.phase.is_at_rest() || branch.contradictions.contains(&contradiction) {
            let reason = format!("the branch is {:?} and the transaction {}", branch.state, self.state.saga_state());
            return Err(Rejection::Fenced { attempt, reason });
        }
        self.emit(TransactionEvent::BranchContradicted { attempt, contradiction, failure });
        Ok(())
    }
}
