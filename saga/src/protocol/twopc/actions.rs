//! The actions: which is called, and what its outcome means.

use super::event::TransactionEvent;
use super::planner::Planner;
use super::state::Phase;
use crate::protocol::decision::Rejection;
use crate::protocol::{BranchAddress, codes};
use sagamq_api::saga::{CallOutcome, Failure, Operation, StepAttempt, StepState};

impl Planner<'_> {
    pub(super) fn advance_actions(&mut self) {
        for index in 0..self.state.actions.len() {
            if self.is_ready(index)
                && let Err(failure) = self.call_action(index)
            {
                self.emit(TransactionEvent::ActionFailed { attempt: self.action(index), failure: failure.clone() });
                return self.abort(failure, None);
            }
        }
        if self.state.is_done() {
            self.ask_for_votes();
        }
    }

    /// An action is called when all before it succeeded, and all of its branch that stand before it: a branch does one thing at a time, in
    /// the order of the definition, which is one of `after`.
    fn is_ready(&self, index: usize) -> bool {
        let actions = &self.state.actions;
        let is_done = |before: &usize| actions[*before].state == StepState::Succeeded;
        actions[index].state == StepState::Scheduled
            && self.definition.steps[index].after.iter().all(is_done)
            && self.state.branches[actions[index].branch].steps.iter().filter(|&&other| other < index).all(is_done)
    }

    /// A participant's word on an action. Gives whether nothing is new about it.
    pub(super) fn action_reply(
        &mut self,
        index: usize,
        attempt: StepAttempt,
        outcome: CallOutcome,
        note: Option<Failure>,
        address: Option<BranchAddress>,
    ) -> Result<bool, Rejection> {
        let action = &self.state.actions[index];
        if attempt.epoch == 0 || attempt.epoch > action.epoch {
            return Err(Rejection::Fenced { attempt, reason: format!("the last attempt is {}", action.epoch) });
        }
        if action.state != StepState::InProgress {
            let is_known = matches!(
                (action.state, &outcome),
                (StepState::Succeeded, CallOutcome::Succeeded { .. })
                    | (StepState::Failed, CallOutcome::Refused { .. })
                    | (StepState::Unknown, CallOutcome::Unknown { .. })
            );
            let reason = format!("the action is {:?} and the transaction {}", action.state, self.state.saga_state());
            return if is_known { Ok(true) } else { Err(Rejection::Fenced { attempt, reason }) };
        }
        assert_eq!(self.state.phase, Phase::Active, "the decision ends every action in progress");
        let is_located = self.locate(action.branch, address);
        match outcome {
            CallOutcome::Succeeded { output } => {
                self.settle_action(index);
                self.emit(TransactionEvent::ActionSucceeded { attempt, output, note });
            }
            CallOutcome::Refused { failure } => {
                self.settle_action(index);
                self.emit(TransactionEvent::ActionFailed { attempt, failure: failure.clone() });
                self.abort(failure, None);
            }
            // Whoever makes the call asks again.
            CallOutcome::Ongoing { .. } => return Ok(!is_located),
            CallOutcome::Unknown { failure, .. } => self.action_is_unknown(index, failure),
        }
        Ok(false)
    }

    /// The first word on a branch may say where it is. Gives whether that is news.
    fn locate(&mut self, branch: usize, address: Option<BranchAddress>) -> bool {
        let address = address.filter(|_| self.state.branches[branch].address.is_none());
        let Some(BranchAddress { base: address, is_foreign }) = address else { return false };
        self.emit(TransactionEvent::BranchLocated { branch: self.state.branches[branch].name.clone(), address, is_foreign });
        true
    }

    /// What an action did is not known, so the transaction cannot commit.
    pub(super) fn action_is_unknown(&mut self, index: usize, failure: Failure) {
        self.settle_action(index);
        self.emit(TransactionEvent::ActionUnknown { attempt: self.action(index), failure: failure.clone() });
        self.abort(failure, None);
    }

    /// It is rolled back: by itself, or because the operator `actor` wants it so. Forced only for the operator: who forgets this decision
    /// decides it again.
    pub(super) fn abort(&mut self, failure: Failure, actor: Option<String>) {
        for index in 0..self.state.actions.len() {
            self.settle_action(index);
        }
        for index in 0..self.state.branches.len() {
            self.settle_branch(index);
        }
        self.emit(TransactionEvent::AbortDecided { failure, actor });
        for index in 0..self.state.branches.len() {
            if !self.state.branches[index].state.is_ended() {
                self.call_branch(index, Operation::Rollback);
            }
        }
    }

    /// So that what waits for an answer that never comes has an end.
    pub(super) fn abort_if_too_long(&mut self) {
        if self.has_too_many_events() {
            let message = "the transaction came near the bound of events of an instance before its decision".to_owned();
            self.abort(Failure { code: codes::TOO_MANY_EVENTS.to_owned(), message }, None);
        }
    }
}
