//! When a transaction has to be looked at because time passes, and its calls in progress. Derived from its state, so that no timer is a
//! truth of its own.

use super::state::{Phase, TransactionState};
use sagamq_api::saga::{AttemptId, Operation, StepAttempt};

impl TransactionState {
    /// Whether time alone may change the instance now.
    #[must_use]
    pub fn is_due(&self, now_ms: u64) -> bool {
        self.times().any(|at_ms| at_ms <= now_ms)
    }

    /// When the instance is to be looked at after `now_ms`, if nothing else happens and a look at `now_ms` changed nothing. A look at what
    /// is due always changes something.
    #[must_use]
    pub fn next_look_ms(&self, _now_ms: u64) -> Option<u64> {
        self.times().min()
    }

    /// The attempts in progress.
    #[must_use]
    pub fn open_attempts(&self) -> Vec<AttemptId> {
        let actions =
            self.actions.iter().filter(|action| action.open.is_some()).map(|action| (action.id.clone(), Operation::Action, action.epoch));
        let branches = self.branches.iter().filter_map(|branch| {
            let (operation, progress) = branch.live()?;
            progress.attempt.open()?;
            Some((self.actions[branch.first_step()].id.clone(), operation, progress.epoch))
        });
        let named = |(step, operation, epoch)| StepAttempt { step, item: None, operation, epoch }.of(self.head.id);
        actions.chain(branches).map(named).collect()
    }

    /// When time alone changes something.
    fn times(&self) -> impl Iterator<Item = u64> {
        let actions = self.actions.iter().filter_map(|action| action.open.map(|open| open.deadline_ms));
        let branches = self.branches.iter().filter_map(|branch| branch.live().and_then(|(_, progress)| progress.attempt.due_ms()));
        let timeout = self.phase.is_undecided().then_some(self.timeout_at_ms);
        let is_live = !self.phase.is_at_rest() && self.phase != Phase::New;
        actions.chain(branches).chain(timeout).filter(move |_| is_live)
    }
}
