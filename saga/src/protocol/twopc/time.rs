//! What time does: deadlines of calls, retries, the transaction's own timeout.

use super::action::Attempt;
use super::planner::Planner;
use crate::protocol::codes;
use sagamq_api::saga::Failure;

impl Planner<'_> {
    pub(super) fn time_passed(&mut self) {
        if self.state.phase.is_undecided() && self.state.timeout_at_ms <= self.now_ms {
            let message = "the transaction was not decided when its timeout was over".to_owned();
            self.abort(Failure { code: codes::TRANSACTION_TIMEOUT.to_owned(), message }, None);
        }
        let no_answer = || Failure { code: codes::TIMEOUT.to_owned(), message: "no answer before the attempt's deadline".to_owned() };
        for index in 0..self.state.actions.len() {
            if self.state.actions[index].open.is_some_and(|open| open.deadline_ms <= self.now_ms) {
                self.action_is_unknown(index, no_answer());
            }
        }
        for index in 0..self.state.branches.len() {
            match self.state.branches[index].live() {
                Some((operation, progress)) if progress.attempt.due_ms().is_some_and(|at_ms| at_ms <= self.now_ms) => {
                    match progress.attempt {
                        Attempt::Waiting { .. } => self.call_branch(index, operation),
                        Attempt::Open(_) | Attempt::None => self.not_heard(index, operation, no_answer(), None),
                    }
                }
                _ => {}
            }
        }
    }
}
