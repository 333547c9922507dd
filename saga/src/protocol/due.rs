//! When an instance has to be looked at because time passes. Derived from its state, so that no timer is a truth of its own.

use super::state::{InstanceState, Phase};
use super::step::Attempt;
use sagamq_api::StepId;
use sagamq_api::saga::Operation;

/// A call in progress whose hand-out is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnseenCall {
    /// The step.
    pub step: StepId,
    /// Action or compensation.
    pub operation: Operation,
    /// The attempt.
    pub epoch: u32,
}

/// Whether a call was handed to its participant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandOut {
    /// Never: it provably had no effect, and waits in its queue.
    Never,
    /// At this time, in milliseconds since 1970.
    At(u64),
    /// It may have been; nobody knows when.
    Unknown,
}

impl InstanceState {
    /// When time alone changes the instance, in milliseconds since 1970. Nothing else stores timers.
    #[must_use]
    pub fn next_due_ms(&self) -> Option<u64> {
        if self.phase.is_at_rest() {
            return None;
        }
        self.steps.iter().filter_map(super::step::StepStatus::due_ms).chain(self.running_timeout_ms()).min()
    }

    /// Whether time alone may change the instance now.
    #[must_use]
    pub fn is_due(&self, now_ms: u64) -> bool {
        !self.phase.is_at_rest()
            && (self.running_timeout_ms().is_some_and(|at_ms| at_ms <= now_ms)
                || self.attempts().any(|(operation, attempt)| match attempt {
                    Attempt::None => false,
                    Attempt::Open(open) => open.is_due(now_ms, operation == Operation::Action && self.is_withdrawing()),
                    Attempt::Waiting { retry_at_ms } => retry_at_ms <= now_ms,
                }))
    }

    /// When the instance is to be looked at after `now_ms`, if nothing else happens and a look at `now_ms` changed nothing.
    #[must_use]
    pub fn next_look_ms(&self, now_ms: u64) -> Option<u64> {
        if self.phase.is_at_rest() {
            return None;
        }
        let looks = self.attempts().filter_map(|(_, attempt)| match attempt {
            Attempt::None => None,
            Attempt::Open(open) => Some(open.next_look_ms(now_ms)),
            Attempt::Waiting { retry_at_ms } => Some(retry_at_ms),
        });
        looks.chain(self.running_timeout_ms()).min()
    }

    /// Calls in progress of which is not known whether they were handed out: what a [`Timer`](super::Input::Timer) is to be told of.
    #[must_use]
    pub fn unseen_calls(&self) -> Vec<UnseenCall> {
        let unseen = self.steps.iter().filter_map(|step| {
            let operation = step.live_operation()?;
            let progress = step.progress(operation);
            progress.attempt.open().filter(|open| !open.is_handed_out)?;
            Some(UnseenCall { step: step.id.clone(), operation, epoch: progress.epoch })
        });
        unseen.collect()
    }

    /// Whether actions that wait in their queues are to be taken out of them: the instance is, or is to be, undone.
    pub(crate) fn is_withdrawing(&self) -> bool {
        self.phase == Phase::Compensating || self.stop.is_some()
    }

    fn attempts(&self) -> impl Iterator<Item = (Operation, Attempt)> {
        self.steps.iter().filter_map(|step| step.live_operation().map(|operation| (operation, step.progress(operation).attempt)))
    }

    fn running_timeout_ms(&self) -> Option<u64> {
        self.timeout_at_ms.filter(|_| self.phase == Phase::Running)
    }
}
