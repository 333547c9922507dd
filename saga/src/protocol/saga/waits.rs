//! What a saga waits for, and whether it is in trouble.

use super::claims::StepLock;
use super::state::{InstanceState, Phase};
use super::step::{Attempt, Open, StepStatus};
use crate::protocol::decision::HandOut;
use crate::protocol::waits::{
    FAILED_ATTEMPTS_MIN, Trouble, awaits_lock, blocked, called, first_failure, hand_out, last_failure, last_failure_of_step, lost_lock,
    paused, queued, retry, sleeps, sub_saga, undecided, unreachable, works, worst,
};
use sagamq_api::saga::{AttemptId, Operation, StepAttempt, StepFailure, StepState, Waits};

impl InstanceState {
    /// Everything it waits for; nothing if it is at its end. `known` says of calls whether they were handed out.
    #[must_use]
    pub fn waits(&self, known: &[(AttemptId, HandOut)]) -> Vec<Waits> {
        if let Some(since_ms) = self.paused_at_ms {
            return vec![paused(since_ms)];
        }
        if self.phase == Phase::Blocked {
            let failed = self.failed_compensation();
            let attempt = failed.map(|step| step.attempts(Operation::Compensation));
            let lost = failed.and_then(|step| self.lost_lock(step));
            return self.trouble().iter().map(|trouble| under(blocked(trouble, attempt), lost)).collect();
        }
        let locked = self.steps.iter().filter(|step| step.awaits_lock() && !self.phase.is_at_rest());
        let locked =
            locked.filter_map(|step| step.lock.as_ref().map(|lock| awaits_lock(&step.id, &lock.key, lock.since_ms, lock.until_ms)));
        let called = self.attempts_in_progress();
        let called = called.filter_map(|(step, attempt)| Some(under(self.wait_of(step, &attempt, known)?, self.lost_lock(step))));
        locked.chain(called).collect()
    }

    fn wait_of(&self, step: &StepStatus, attempt: &StepAttempt, known: &[(AttemptId, HandOut)]) -> Option<Waits> {
        let last = last_failure(&self.failures, &step.id, attempt.item, attempt.operation);
        match step.progress(attempt.operation).attempt {
            Attempt::None => None,
            waiting if waiting.is_undecided() => Some(undecided(attempt, last)),
            Attempt::Waiting { retry_at_ms } => Some(retry(attempt, last, retry_at_ms)),
            Attempt::Asleep(asleep) => Some(sleeps(&step.id, step.signal.as_ref(), asleep.since_ms, asleep.until_ms)),
            Attempt::Open(open) if open.is_endless() => {
                let child = self.shown_child(step)?;
                Some(sub_saga(attempt, &child, open.called_at_ms))
            }
            Attempt::Open(open) => {
                let hand_out = if open.is_handed_out {
                    HandOut::At(open.deadline_ms.saturating_sub(open.timeout_ms))
                } else {
                    hand_out(known, &self.named(attempt))
                };
                Some(in_progress(attempt, open, hand_out, unsent(last, attempt, open)))
            }
        }
    }

    /// What is wrong with it, if something is: it is blocked, an operation failed again and again, or a participant cannot be reached.
    #[must_use]
    pub fn trouble(&self) -> Option<Trouble> {
        if self.phase == Phase::Blocked {
            let step = self.failed_compensation();
            let last = step.and_then(|step| last_failure_of_step(&self.failures, &step.id, Operation::Compensation));
            let failure = last.map(|last| &last.failure).or(self.failure.as_ref())?.clone();
            let (id, operation) = (step.map(|step| step.id.clone()), step.map(|_| Operation::Compensation));
            return Some(Trouble { step: id, operation, failure, since_ms: self.head.updated_at_ms, is_blocked: true });
        }
        worst(self.attempts_in_progress().filter_map(|(step, attempt)| self.trouble_of(step, &attempt)))
    }

    fn trouble_of(&self, step: &StepStatus, attempt: &StepAttempt) -> Option<Trouble> {
        let last = last_failure(&self.failures, &step.id, attempt.item, attempt.operation)?;
        let (failed, unsent) = match step.progress(attempt.operation).attempt {
            Attempt::None | Attempt::Asleep(_) => return None,
            Attempt::Waiting { .. } => (attempt.epoch, None),
            Attempt::Open(open) => (attempt.epoch - 1, unsent(Some(last), attempt, open)),
        };
        let is_blocked = step.progress(attempt.operation).attempt.is_undecided();
        if failed < FAILED_ATTEMPTS_MIN && unsent.is_none() && !is_blocked {
            return None;
        }
        let since_ms = first_failure(&self.failures, &step.id, attempt.item, attempt.operation)?.at_ms;
        let (id, operation) = (Some(step.id.clone()), Some(attempt.operation));
        Some(Trouble { step: id, operation, failure: last.failure.clone(), since_ms, is_blocked })
    }

    fn attempts_in_progress(&self) -> impl Iterator<Item = (&StepStatus, StepAttempt)> {
        let is_at_rest = self.phase.is_at_rest();
        self.live().filter(move |_| !is_at_rest).map(|(place, operation)| (self.at(place), self.attempt_at(place, operation)))
    }

    fn failed_compensation(&self) -> Option<&StepStatus> {
        self.steps.iter().find(|step| step.state == StepState::CompensationFailed && !step.is_undoing_left_out)
    }
}

/// What is waited for, of a step whose lock somebody took away.
fn under(waits: Waits, lost: Option<&StepLock>) -> Waits {
    match lost.and_then(|lock| Some(lost_lock(&waits, &lock.key, lock.token?))) {
        Some(message) => Waits { message, ..waits },
        None => waits,
    }
}

fn in_progress(attempt: &StepAttempt, open: Open, hand_out: HandOut, unsent: Option<&StepFailure>) -> Waits {
    let (since_ms, is_sent) = match hand_out {
        HandOut::Never | HandOut::Again => (open.called_at_ms, false),
        HandOut::At(at_ms) => (at_ms.max(open.called_at_ms), true),
        HandOut::Unknown => (open.called_at_ms, unsent.is_none()),
    };
    match unsent {
        Some(said) if !is_sent => unreachable(attempt, said),
        _ if !is_sent => queued(attempt, since_ms, open.queue_deadline_ms),
        None if open.is_waiting => works(attempt, since_ms, since_ms.saturating_add(open.timeout_ms)),
        _ => called(attempt, since_ms, since_ms.saturating_add(open.timeout_ms)),
    }
}

/// Why this attempt could not be sent, if that was so: its doubt is told in no other way while it is in progress.
fn unsent<'a>(last: Option<&'a StepFailure>, attempt: &StepAttempt, open: Open) -> Option<&'a StepFailure> {
    last.filter(|last| open.is_waiting && last.attempt == *attempt)
}
