//! How long an instance pauses between two attempts.

use crate::definition::RetryPolicy;
use core::time::Duration;

/// Longest pause between two attempts, also one that a participant asks for: a wrong number must not put a saga to sleep for years.
pub(super) const PAUSE_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Shortest wait that a participant can ask for: `Retry-After: 0` must not become a busy loop.
pub(super) const ASKED_PAUSE_MIN: Duration = Duration::from_millis(100);

/// With each so many events the longest pause between two attempts doubles. A pause is then about 1/500 of an instance's age: a history
/// without an end (behind the pivot, and behind a decision to commit, there is none) grows with the logarithm of time, and what is mended
/// goes on in proportion.
const EVENTS_PER_DOUBLING: u64 = 1_000;

/// What the longest pause grows from at least, so that it grows for every policy.
const GROWN_PAUSE_MIN: Duration = Duration::from_secs(1);

/// The pause after attempt `epoch` of an instance with so many events, in milliseconds; `asked_ms` is what the participant asks for.
pub(super) fn pause_ms(policy: &RetryPolicy, epoch: u32, events: u64, asked_ms: Option<u64>, jitter: &mut dyn FnMut() -> f64) -> u64 {
    let doublings = u32::try_from(events / EVENTS_PER_DOUBLING).unwrap_or(u32::MAX);
    let grown = (doublings > 0).then(|| policy.max.max(GROWN_PAUSE_MIN).saturating_mul(1_u32.checked_shl(doublings).unwrap_or(u32::MAX)));
    let pause_ms = match (asked_ms, grown) {
        (Some(asked_ms), grown) => asked_ms.max(millis(grown.map_or(ASKED_PAUSE_MIN, |grown| grown / 2))),
        (None, None) => millis(policy.backoff(epoch, jitter())),
        (None, Some(grown)) => millis(policy.clone().with_max(grown.min(PAUSE_MAX)).backoff(epoch, jitter())),
    };
    pause_ms.min(millis(PAUSE_MAX))
}

/// The duration in whole milliseconds.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
