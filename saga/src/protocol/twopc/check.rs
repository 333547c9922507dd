//! What holds in every state that an event can lead to. The protocol's own events never break it; a stored history that does is damaged.

use super::action::{Action, Attempt};
use super::branch::{Branch, BranchState};
use super::state::{Phase, TransactionState};
use sagamq_api::saga::{Operation, StepState};

impl TransactionState {
    pub(super) fn check(&self) -> Result<(), String> {
        self.actions.iter().try_for_each(check_action)?;
        self.branches.iter().try_for_each(|branch| self.check_branch(branch))?;
        self.check_phase()
    }

    fn check_phase(&self) -> Result<(), String> {
        let each = |is_legal: fn(BranchState) -> bool| self.branches.iter().all(|branch| is_legal(branch.state));
        let is_idle = self.actions.iter().all(|action| action.state != StepState::InProgress);
        let holds = match self.phase {
            Phase::New => self.head.events == 0,
            Phase::Active => self.failure.is_none() && each(|state| matches!(state, BranchState::Unopened | BranchState::Active)),
            Phase::Preparing => {
                // A vote against is written before the decision that follows from it.
                let is_voting =
                    |state| matches!(state, BranchState::Active | BranchState::Prepared | BranchState::ReadOnly | BranchState::RolledBack);
                self.failure.is_none() && self.is_done() && each(is_voting)
            }
            Phase::OnePhase => self.failure.is_none() && self.is_done() && self.branches.len() == 1,
            Phase::Committing => {
                self.failure.is_none()
                    && self.is_done()
                    && each(|state| state.is_ended() || matches!(state, BranchState::Prepared | BranchState::Disagrees))
                    && self.is_commit()
            }
            Phase::Committed => self.is_done() && each(BranchState::is_ended) && self.is_commit(),
            Phase::Aborting => self.failure.is_some() && is_idle && each(|state| state != BranchState::Committed),
            Phase::Aborted => self.failure.is_some() && is_idle && each(|state| state.is_ended() && state != BranchState::Committed),
            Phase::Unknown => self.branches.len() == 1 && each(BranchState::is_ended),
        };
        if holds { Ok(()) } else { Err(format!("a transaction that is {:?} cannot have such branches or no reason", self.phase)) }
    }

    /// Whether no branch is rolled back as far as it says itself.
    fn is_commit(&self) -> bool {
        self.branches
            .iter()
            .all(|branch| !matches!(branch.state, BranchState::RolledBack | BranchState::Unacknowledged | BranchState::Unopened))
    }

    fn check_branch(&self, branch: &Branch) -> Result<(), String> {
        let is_called = branch.steps.iter().any(|&index| self.actions[index].epoch > 0);
        let is_asked = branch.vote.attempt != Attempt::None;
        let is_told = branch.ending.attempt != Attempt::None;
        let tells = match self.phase {
            Phase::OnePhase => Some(Operation::CommitOnePhase),
            Phase::Committing => Some(Operation::Commit),
            Phase::Aborting => Some(Operation::Rollback),
            _ => None,
        };
        let holds = (branch.state == BranchState::Unopened) != is_called
            && is_called == branch.called_at_ms.is_some()
            && (!is_asked || (self.phase == Phase::Preparing && branch.state == BranchState::Active && branch.vote.epoch > 0))
            && (!is_told || (tells.is_some() && tells == branch.told && branch.ending.epoch > 0))
            && (!is_told || matches!(branch.state, BranchState::Active | BranchState::Prepared))
            && (branch.ending.epoch > 0) == branch.told.is_some()
            && (branch.state != BranchState::Disagrees || branch.failure.is_some())
            && (!branch.is_detour || branch.told.is_some_and(|told| branch.has_detour(told)))
            && branch.first_detour.is_none_or(|first| (1..=branch.ending.epoch).contains(&first))
            && (!branch.is_in_doubt() || matches!(branch.state, BranchState::Active | BranchState::Prepared));
        if holds {
            Ok(())
        } else {
            Err(format!("branch `{}` cannot be {:?}: {:?}, {:?}", branch.name, branch.state, branch.vote, branch.ending))
        }
    }
}

fn check_action(action: &Action) -> Result<(), String> {
    let is_called = action.open.is_some() && action.arguments.is_some() && action.epoch > 0;
    let is_idle = action.open.is_none() && action.arguments.is_none();
    let holds = match action.state {
        StepState::Scheduled => is_idle && action.epoch == 0 && action.output.is_none(),
        StepState::InProgress => is_called && action.output.is_none(),
        StepState::Succeeded => is_idle && action.epoch > 0 && action.output.is_some(),
        StepState::Failed => is_idle && action.output.is_none(),
        StepState::Unknown => is_idle && action.epoch > 0 && action.output.is_none(),
        StepState::Skipped | StepState::Compensating | StepState::Compensated | StepState::CompensationFailed => false,
    };
    if holds { Ok(()) } else { Err(format!("action `{}` cannot be {:?}: {:?}", action.id, action.state, action.open)) }
}
