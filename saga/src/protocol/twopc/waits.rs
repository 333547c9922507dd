//! What a transaction waits for, and whether it is in trouble.

use super::action::{Attempt, Open};
use super::state::TransactionState;
use crate::protocol::waits::{
    FAILED_ATTEMPTS_MIN, Trouble, blocked, called, first_failure, last_failure, queued, retry, unreachable, worst,
};
use sagamq_api::saga::{Operation, StepAttempt, Waits};

impl TransactionState {
    /// Everything it waits for; nothing if it is at its end.
    #[must_use]
    pub fn waits(&self) -> Vec<Waits> {
        if let Some(trouble) = self.trouble().filter(|trouble| trouble.is_blocked) {
            return vec![blocked(&trouble, None)];
        }
        self.live().filter_map(|(attempt, doing)| self.wait_of(&attempt, doing)).collect()
    }

    fn wait_of(&self, attempt: &StepAttempt, doing: Attempt) -> Option<Waits> {
        let last = last_failure(&self.failures, &attempt.step, None, attempt.operation);
        match doing {
            Attempt::None => None,
            Attempt::Waiting { retry_at_ms } => Some(retry(attempt, last, retry_at_ms)),
            Attempt::Open(Open { is_unsent, deadline_ms, timeout_ms }) => {
                let since_ms = deadline_ms.saturating_sub(timeout_ms);
                Some(match last.filter(|last| is_unsent && last.attempt == *attempt) {
                    Some(said) => unreachable(attempt, said),
                    None if is_unsent => queued(attempt, since_ms, Some(deadline_ms)),
                    None => called(attempt, since_ms, deadline_ms),
                })
            }
        }
    }

    /// What is wrong with it, if something is: a branch disagrees, a call failed again and again, or a participant cannot be reached.
    #[must_use]
    pub fn trouble(&self) -> Option<Trouble> {
        if self.phase.is_at_rest() {
            return None;
        }
        if let Some(branch) = self.disagreeing() {
            let failure = self.reason()?.clone();
            let step = Some(self.actions[branch.first_step()].id.clone());
            return Some(Trouble { step, operation: branch.told, failure, since_ms: self.head.updated_at_ms, is_blocked: true });
        }
        worst(self.live().filter_map(|(attempt, doing)| self.trouble_of(&attempt, doing)))
    }

    fn trouble_of(&self, attempt: &StepAttempt, doing: Attempt) -> Option<Trouble> {
        let last = last_failure(&self.failures, &attempt.step, None, attempt.operation)?;
        let (failed, is_unsent) = match doing {
            Attempt::None => return None,
            Attempt::Waiting { .. } => (attempt.epoch, false),
            Attempt::Open(open) => (attempt.epoch - 1, open.is_unsent),
        };
        if failed < FAILED_ATTEMPTS_MIN && !is_unsent {
            return None;
        }
        let since_ms = first_failure(&self.failures, &attempt.step, None, attempt.operation)?.at_ms;
        let (step, operation) = (Some(attempt.step.clone()), Some(attempt.operation));
        Some(Trouble { step, operation, failure: last.failure.clone(), since_ms, is_blocked: false })
    }

    /// What it calls now, or will when a pause is over.
    fn live(&self) -> impl Iterator<Item = (StepAttempt, Attempt)> {
        let actions = self.actions.iter().filter_map(|action| {
            let attempt = StepAttempt { step: action.id.clone(), item: None, operation: Operation::Action, epoch: action.epoch };
            Some((attempt, Attempt::Open(action.open?)))
        });
        let branches = self.branches.iter().filter_map(|branch| {
            let (operation, progress) = branch.live()?;
            let step = self.actions[branch.first_step()].id.clone();
            Some((StepAttempt { step, item: None, operation, epoch: progress.epoch }, progress.attempt))
        });
        actions.chain(branches)
    }
}
