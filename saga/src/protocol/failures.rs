//! What went wrong in an instance, as it is kept in memory: bounded in number and in bytes. The history has all of it.

use sagamq_api::limits::{FAILURE_CODE_BYTES_MAX, REASON_BYTES_MAX, SAGA_FAILURES_BYTES_MAX, SAGA_FAILURES_MAX};
use sagamq_api::saga::{CallOutcome, Failure, StepFailure};
use std::sync::Arc;

/// Failures, oldest first. The first half of what the bounds allow is never let go, of the rest the newest stay: how it began matters as
/// much as how it is. A copy shares them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failures {
    kept: Vec<Arc<StepFailure>>,
    bytes: usize,
    /// How many of the first are never let go.
    first: usize,
}

impl Failures {
    pub(in crate::protocol) fn push(&mut self, failure: StepFailure) {
        let bytes = size(&failure);
        if self.first == self.kept.len() && self.first < SAGA_FAILURES_MAX / 2 && self.bytes + bytes <= SAGA_FAILURES_BYTES_MAX / 2 {
            self.first += 1;
        }
        self.bytes += bytes;
        self.kept.push(Arc::new(failure));
        while self.kept.len() > SAGA_FAILURES_MAX || self.bytes > SAGA_FAILURES_BYTES_MAX {
            self.bytes -= size(&self.kept.remove(self.first));
        }
    }
}

impl core::ops::Deref for Failures {
    type Target = [Arc<StepFailure>];

    fn deref(&self) -> &Self::Target {
        &self.kept
    }
}

fn size(failure: &StepFailure) -> usize {
    failure.failure.code.len() + failure.failure.message.len() + failure.attempt.step.as_str().len() + size_of::<StepFailure>()
}

/// What a participant says is cut to what is kept: a known outcome is not thrown away because too much is said about it.
pub(in crate::protocol) fn bounded(failure: Failure) -> Failure {
    Failure { code: cut(failure.code, FAILURE_CODE_BYTES_MAX), message: cut(failure.message, REASON_BYTES_MAX) }
}

/// The outcome with what it says of a failure cut to what is kept.
pub(in crate::protocol) fn within_bounds(outcome: CallOutcome) -> CallOutcome {
    match outcome {
        CallOutcome::Refused { failure } => CallOutcome::Refused { failure: bounded(failure) },
        CallOutcome::Unknown { failure, retry_after_ms } => CallOutcome::Unknown { failure: bounded(failure), retry_after_ms },
        CallOutcome::Succeeded { .. } | CallOutcome::Ongoing { .. } => outcome,
    }
}

fn cut(mut text: String, bytes_max: usize) -> String {
    if text.len() > bytes_max {
        text.truncate(text.floor_char_boundary(bytes_max));
        text.shrink_to_fit();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use sagamq_api::saga::{Operation, StepAttempt};

    fn failure(attempt: u32, message: &str) -> StepFailure {
        let failure = Failure { code: "X".to_owned(), message: message.to_owned() };
        let attempt = StepAttempt { step: "a".parse().expect("legal"), item: None, operation: Operation::Action, epoch: attempt };
        StepFailure { attempt, failure, at_ms: 0 }
    }

    #[test]
    fn the_oldest_and_the_newest_stay_within_both_bounds() {
        for message in ["", &"m".repeat(REASON_BYTES_MAX)] {
            let mut failures = Failures::default();
            for attempt in 0..10_000 {
                failures.push(failure(attempt, message));
            }
            assert!(failures.len() <= SAGA_FAILURES_MAX && failures.len() >= 8, "{}", failures.len());
            assert!(failures.iter().map(|failure| size(failure)).sum::<usize>() <= SAGA_FAILURES_BYTES_MAX);
            assert_eq!((failures[0].attempt.epoch, failures[1].attempt.epoch, failures[failures.len() - 1].attempt.epoch), (0, 1, 9_999));
        }
    }

    #[test]
    fn what_is_said_is_cut_at_whole_characters() {
        let cut = bounded(Failure { code: "ü".repeat(1_000), message: "x".repeat(30_000_000) });
        assert_eq!((cut.code.len(), cut.message.len()), (FAILURE_CODE_BYTES_MAX, REASON_BYTES_MAX));
        let short = Failure { code: "NO".to_owned(), message: "not today".to_owned() };
        assert_eq!(bounded(short.clone()), short);
    }
}
