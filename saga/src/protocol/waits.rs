//! What an instance waits for, and whether it is in trouble, in words that all protocols share.

use crate::protocol::decision::HandOut;
use jiff::Timestamp;
use sagamq_api::ids::ItemIndex;
use sagamq_api::saga::{AttemptId, Failure, HeldBy, Operation, ServiceBound, StepAttempt, StepFailure, SubSaga, WaitCode, Waits};
use sagamq_api::{SignalName, StepId};
use std::sync::Arc;

/// What is wrong with an instance that is not at its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// The step.
    pub step: Option<StepId>,
    /// What was called.
    pub operation: Option<Operation>,
    /// What went wrong last.
    pub failure: Failure,
    /// Since when, in milliseconds since 1970.
    pub since_ms: u64,
    /// Whether it goes on only if somebody helps.
    pub is_blocked: bool,
}

/// Attempts that failed one after the other, from which on an instance that is tried on is in trouble.
pub(super) const FAILED_ATTEMPTS_MIN: u32 = 2;

/// A time in UTC.
fn at(millis: u64) -> String {
    let time = i64::try_from(millis).ok().and_then(|millis| Timestamp::from_millisecond(millis).ok());
    // A clock beyond the calendar is said as it is.
    time.map_or_else(|| format!("{millis} ms"), |time| time.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string())
}

fn about(attempt: &StepAttempt, code: WaitCode, message: String) -> Waits {
    let (step, operation, epoch) = (Some(attempt.step.clone()), Some(attempt.operation), Some(attempt.epoch));
    let item = attempt.item;
    Waits { code, message, step, item, operation, attempt: epoch, since_ms: None, next_at_ms: None, failure: None, held_by: None }
}

fn call(attempt: &StepAttempt) -> String {
    let item = attempt.item.map(|item| format!("[{item}]")).unwrap_or_default();
    format!("{} of `{}{item}`", attempt.operation, attempt.step)
}

/// The last attempt failed, and the next one has its time.
pub(super) fn retry(attempt: &StepAttempt, last: Option<&StepFailure>, retry_at_ms: u64) -> Waits {
    let why = last.map(|last| format!(", because attempt {} failed with {}", attempt.epoch, last.failure.code)).unwrap_or_default();
    let message = format!("waits until {} for attempt {} at {}{why}", at(retry_at_ms), attempt.epoch + 1, call(attempt));
    let (since_ms, failure) = (last.map(|last| last.at_ms), last.map(|last| last.failure.clone()));
    Waits { since_ms, next_at_ms: Some(retry_at_ms), failure, ..about(attempt, WaitCode::RetryWaits, message) }
}

/// The participant cannot be reached.
pub(super) fn unreachable(attempt: &StepAttempt, said: &StepFailure) -> Waits {
    let message = format!("cannot reach the participant for {} since {}: {}", call(attempt), at(said.at_ms), said.failure.message);
    let failure = Some(said.failure.clone());
    Waits { since_ms: Some(said.at_ms), failure, ..about(attempt, WaitCode::ParticipantUnreachable, message) }
}

/// Nobody has the call.
pub(super) fn queued(attempt: &StepAttempt, since_ms: u64, until_ms: Option<u64>) -> Waits {
    let end = until_ms.map(|until_ms| format!(", and is given up at {}", at(until_ms))).unwrap_or_default();
    let message = format!("the call for {} lies in its queue since {}{end}", call(attempt), at(since_ms));
    Waits { since_ms: Some(since_ms), next_at_ms: until_ms, ..about(attempt, WaitCode::InQueue, message) }
}

/// What lies in its queue, or cannot be sent, is held back by a bound of its service: says by which, and how it is raised.
pub(crate) fn held_back(waits: Waits, held: HeldBy, until_ms: Option<u64>) -> Waits {
    let (Some(step), Some(operation)) = (&waits.step, waits.operation) else { return waits };
    let HeldBy { service, bound, limit } = &held;
    let since = waits.since_ms.map(|since_ms| format!(" since {}", at(since_ms))).unwrap_or_default();
    let set = format!("`sagamq service set {service}`, `{bound}`");
    let (code, why) = match bound {
        ServiceBound::BreakAfter => (
            WaitCode::ParticipantUnreachable,
            format!("{limit} calls in a row to the service `{service}` had no answer, and nobody calls it for a while ({set})"),
        ),
        ServiceBound::MaxInFlight => {
            (WaitCode::HeldBack, format!("the service `{service}` is called {limit} times at a time at most, and is ({set})"))
        }
        ServiceBound::CallsPerSecond => {
            (WaitCode::HeldBack, format!("the service `{service}` is called {limit} times a second at most, and is ({set})"))
        }
        ServiceBound::ParticipantCallsMax => {
            (WaitCode::HeldBack, format!("the server makes {limit} calls at a time to `{service}` at most, and does (setting `{bound}`)"))
        }
    };
    let message = format!("the call for {operation} of `{step}` is held back{since}: {why}");
    let failure = waits.failure.filter(|_| code == WaitCode::ParticipantUnreachable);
    Waits { code, message, next_at_ms: until_ms.or(waits.next_at_ms), failure, held_by: Some(held), ..waits }
}

/// The participant works on.
pub(super) fn works(attempt: &StepAttempt, since_ms: u64, until_ms: u64) -> Waits {
    let message =
        format!("the participant works on at {}, which it was called with at {}, until {}", call(attempt), at(since_ms), at(until_ms));
    Waits { since_ms: Some(since_ms), next_at_ms: Some(until_ms), ..about(attempt, WaitCode::ParticipantWorks, message) }
}

/// The participant has the call.
pub(super) fn called(attempt: &StepAttempt, since_ms: u64, until_ms: u64) -> Waits {
    let message = format!("{} is called since {}, and waits for the answer until {}", call(attempt), at(since_ms), at(until_ms));
    Waits { since_ms: Some(since_ms), next_at_ms: Some(until_ms), ..about(attempt, WaitCode::Called, message) }
}

/// The last attempt is in doubt, and only an operator makes another one.
pub(super) fn undecided(attempt: &StepAttempt, last: Option<&StepFailure>) -> Waits {
    let why = last.map(|last| format!(" since {}: {}: {}", at(last.at_ms), last.failure.code, last.failure.message)).unwrap_or_default();
    let message = format!("waits for an operator at {}{why}: `resolve` says what is true, `retry` starts another one", call(attempt));
    let (since_ms, failure) = (last.map(|last| last.at_ms), last.map(|last| last.failure.clone()));
    Waits { since_ms, failure, ..about(attempt, WaitCode::Blocked, message) }
}

/// A sub-saga has the call.
pub(super) fn sub_saga(attempt: &StepAttempt, child: &SubSaga, since_ms: u64) -> Waits {
    let does = if attempt.operation == Operation::Compensation { "to be undone" } else { "to end" };
    let message =
        format!("waits at `{}` since {} for the saga `{}` with the key `{}` {does}", attempt.step, at(since_ms), child.saga, child.key);
    Waits { since_ms: Some(since_ms), ..about(attempt, WaitCode::SubSaga, message) }
}

/// The step sleeps, or waits for a signal.
pub(super) fn sleeps(step: &StepId, signal: Option<&SignalName>, since_ms: u64, until_ms: Option<u64>) -> Waits {
    let end = until_ms.map(|until_ms| format!(" until {}", at(until_ms))).unwrap_or_default();
    let (code, message) = match signal {
        Some(signal) => (WaitCode::AwaitsSignal, format!("waits at `{step}` for the signal `{signal}` since {}{end}", at(since_ms))),
        None => (WaitCode::Sleeps, format!("sleeps at `{step}` since {}{end}", at(since_ms))),
    };
    let (step, since_ms) = (Some(step.clone()), Some(since_ms));
    let (operation, attempt, failure, held_by) = (None, None, None, None);
    Waits { code, message, step, item: None, operation, attempt, since_ms, next_at_ms: until_ms, failure, held_by }
}

/// The step waits for a lock.
pub(super) fn awaits_lock(step: &StepId, key: &str, since_ms: u64, until_ms: Option<u64>) -> Waits {
    let end = until_ms.map(|until_ms| format!(", and is given up at {}", at(until_ms))).unwrap_or_default();
    let message = format!("waits at `{step}` for the lock `{key}` since {}{end}", at(since_ms));
    let (code, step, since_ms) = (WaitCode::AwaitsLock, Some(step.clone()), Some(since_ms));
    let (operation, attempt, failure, held_by) = (None, None, None, None);
    Waits { code, message, step, item: None, operation, attempt, since_ms, next_at_ms: until_ms, failure, held_by }
}

/// What is called bears the token of a lock that was taken away: why it is refused, and what can be done.
pub(super) fn lost_lock(waits: &Waits, key: &str, token: u64) -> String {
    format!(
        "{}; the lock `{key}` was taken away from it, and what it calls here bears the old token {token}, which is refused where a newer one was \
         seen: look what stands, and say it with `resolve`",
        waits.message
    )
}

/// An operator stopped it for now.
pub(super) fn paused(since_ms: u64) -> Waits {
    let message = format!("is paused since {}: nobody is called until an operator resumes it", at(since_ms));
    let (code, step, item, operation, attempt, next_at_ms, failure) = (WaitCode::Paused, None, None, None, None, None, None);
    Waits { code, message, step, item, operation, attempt, since_ms: Some(since_ms), next_at_ms, failure, held_by: None }
}

/// Nothing goes on without an operator.
pub(super) fn blocked(trouble: &Trouble, attempt: Option<u32>) -> Waits {
    let Trouble { step, operation, failure, since_ms, .. } = trouble.clone();
    let what = match (&step, operation) {
        (Some(step), Some(operation)) => format!(" by {operation} of `{step}`"),
        _ => String::new(),
    };
    let message = format!("is blocked{what} since {}: {}: {}", at(since_ms), failure.code, failure.message);
    let (since_ms, failure, item) = (Some(since_ms), Some(failure), None);
    Waits { code: WaitCode::Blocked, message, step, item, operation, attempt, since_ms, next_at_ms: None, failure, held_by: None }
}

/// The last failure of an operation that is kept.
pub(super) fn last_failure<'a>(
    failures: &'a [Arc<StepFailure>],
    step: &StepId,
    item: Option<ItemIndex>,
    operation: Operation,
) -> Option<&'a StepFailure> {
    failures.iter().rev().map(Arc::as_ref).find(|failed| is_of(&failed.attempt, step, item, operation))
}

/// The same, of a step and of whichever item.
pub(super) fn last_failure_of_step<'a>(failures: &'a [Arc<StepFailure>], step: &StepId, operation: Operation) -> Option<&'a StepFailure> {
    failures.iter().rev().map(Arc::as_ref).find(|failed| is_of(&failed.attempt, step, failed.attempt.item, operation))
}

fn is_of(attempt: &StepAttempt, step: &StepId, item: Option<ItemIndex>, operation: Operation) -> bool {
    attempt.step == *step && attempt.item == item && attempt.operation == operation
}

/// The first failure of an operation that is kept.
pub(super) fn first_failure<'a>(
    failures: &'a [Arc<StepFailure>],
    step: &StepId,
    item: Option<ItemIndex>,
    operation: Operation,
) -> Option<&'a StepFailure> {
    failures.iter().map(Arc::as_ref).find(|failed| is_of(&failed.attempt, step, item, operation))
}

/// What is known of the hand-out of an attempt.
pub(super) fn hand_out(known: &[(AttemptId, HandOut)], attempt: &AttemptId) -> HandOut {
    known.iter().find(|(call, _)| call == attempt).map_or(HandOut::Unknown, |(_, hand_out)| *hand_out)
}

/// Of several troubles, the one that most needs help: a blocked one, then the oldest.
pub(super) fn worst(troubles: impl Iterator<Item = Trouble>) -> Option<Trouble> {
    troubles.min_by_key(|trouble| (!trouble.is_blocked, trouble.since_ms))
}
