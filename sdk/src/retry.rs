//! When a request is tried again: a pure schedule, so that it can be tested without waiting. The one who waits is the transport.

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use std::time::Duration;

/// How often and when a request is repeated: exponential backoff with full jitter, bounded by a number of attempts and by time.
///
/// The wait before attempt *n + 1* is drawn evenly from zero to `min(max, initial × factor^(n − 1))`: full jitter spreads the
/// clients that an overload has put in step. A `Retry-After` of the server wins over the draw: the wait is that, and up to half of it
/// more, so that those who were refused together do not come back together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetryPolicy {
    /// Most attempts, the first included. 1 never repeats.
    pub attempts: u32,
    /// Upper bound of the first wait.
    pub initial: Duration,
    /// How much the bound grows with each attempt.
    pub factor: f64,
    /// Upper bound of every wait.
    pub max: Duration,
    /// No attempt begins later than this after the first one began.
    pub deadline: Duration,
}

impl Default for RetryPolicy {
    /// 16 attempts, 100 ms × 2 up to 5 s, within 60 s: about half a minute, so a restart of the broker is ridden out.
    fn default() -> Self {
        Self {
            attempts: 16,
            initial: Duration::from_millis(100),
            factor: 2.0,
            max: Duration::from_secs(5),
            deadline: Duration::from_secs(60),
        }
    }
}

impl RetryPolicy {
    /// One attempt, whatever comes back.
    #[must_use]
    pub fn none() -> Self {
        Self { attempts: 1, ..Self::default() }
    }

    /// The waits of one request. The same seed gives the same waits.
    #[must_use]
    pub fn schedule(&self, seed: u64) -> RetrySchedule {
        RetrySchedule { policy: *self, failed: 0, seed, random: None }
    }

    /// Upper bound of the wait after so many failed attempts.
    #[must_use]
    pub fn bound(&self, failed: u32) -> Duration {
        let exponent = i32::try_from(failed.saturating_sub(1)).unwrap_or(i32::MAX);
        let seconds = self.initial.as_secs_f64() * self.factor.max(1.0).powi(exponent);
        // A bound that overflows a Duration is above any maximum.
        Duration::try_from_secs_f64(seconds).map_or(self.max, |bound| bound.min(self.max))
    }
}

/// The waits of one request, see [`RetryPolicy::schedule`].
#[derive(Debug)]
pub struct RetrySchedule {
    policy: RetryPolicy,
    failed: u32,
    seed: u64,
    /// Made with the first failure: most requests have none.
    random: Option<StdRng>,
}

impl RetrySchedule {
    /// Counts a failed attempt and says how long to wait before the next one; `None` when there is to be none.
    ///
    /// `elapsed` is the time since the first attempt began, `retry_after` what the server asked for.
    pub fn after_failure(&mut self, elapsed: Duration, retry_after: Option<Duration>) -> Option<Duration> {
        self.failed = self.failed.saturating_add(1);
        if self.failed >= self.policy.attempts {
            return None;
        }
        let left = self.policy.deadline.saturating_sub(elapsed);
        let draw = self.random.get_or_insert_with(|| StdRng::seed_from_u64(self.seed)).random::<f64>();
        let (least, wait) = match retry_after {
            Some(asked) => (asked, asked.saturating_add((asked / 2).mul_f64(draw))),
            None => (Duration::ZERO, self.policy.bound(self.failed).mul_f64(draw)),
        };
        // What was asked for fits in, but perhaps not all that was added to it.
        let wait = if least < left { wait.min(left - (left - least) / 8) } else { wait };
        (wait < left).then_some(wait)
    }

    /// Attempts that failed so far.
    #[must_use]
    pub fn failed(&self) -> u32 {
        self.failed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn waits(policy: RetryPolicy, seed: u64) -> Vec<Duration> {
        let mut schedule = policy.schedule(seed);
        std::iter::from_fn(|| schedule.after_failure(Duration::ZERO, None)).collect()
    }

    #[test]
    fn a_policy_of_one_attempt_never_waits() {
        assert!(waits(RetryPolicy::none(), 1).is_empty());
        assert!(waits(RetryPolicy { attempts: 0, ..RetryPolicy::default() }, 1).is_empty());
    }

    #[test]
    fn the_bound_doubles_up_to_its_maximum_and_never_overflows() {
        let policy = RetryPolicy::default();
        assert_eq!(policy.bound(1), Duration::from_millis(100));
        assert_eq!(policy.bound(2), Duration::from_millis(200));
        assert_eq!(policy.bound(3), Duration::from_millis(400));
        assert_eq!(policy.bound(u32::MAX), policy.max);
    }

    #[test]
    fn the_server_s_word_wins_unless_it_passes_the_deadline() {
        let policy = RetryPolicy { deadline: Duration::from_secs(10), ..RetryPolicy::default() };
        let mut schedule = policy.schedule(7);
        let wait = schedule.after_failure(Duration::ZERO, Some(Duration::from_secs(3))).expect("within the deadline");
        assert!(wait >= Duration::from_secs(3) && wait <= Duration::from_millis(4_500), "{wait:?}");
        assert_eq!(schedule.after_failure(Duration::from_secs(8), Some(Duration::from_secs(3))), None);
        let wait = schedule.after_failure(Duration::from_secs(7) - Duration::from_millis(1), Some(Duration::from_secs(3)));
        assert!(wait.is_some_and(|wait| wait >= Duration::from_secs(3)), "what is asked for fits in: {wait:?}");
    }

    #[test]
    fn those_who_are_refused_together_do_not_come_back_together() {
        let asked = Some(Duration::from_secs(2));
        let waits: Vec<_> = (0..64).map(|seed| RetryPolicy::default().schedule(seed).after_failure(Duration::ZERO, asked)).collect();
        let different: std::collections::BTreeSet<_> = waits.iter().collect();
        assert!(different.len() > 60, "{waits:?}");
    }

    proptest! {
        #[test]
        fn every_wait_lies_within_its_bound_and_a_seed_repeats_them(seed: u64, attempts in 1u32..40, initial in 1u64..5_000, max in 1u64..60_000) {
            let policy = RetryPolicy {
                attempts,
                initial: Duration::from_millis(initial),
                max: Duration::from_millis(max),
                ..RetryPolicy::default()
            };
            let first = waits(policy, seed);
            prop_assert!(first.len() < attempts as usize);
            for (index, wait) in first.iter().enumerate() {
                let failed = u32::try_from(index).expect("few") + 1;
                prop_assert!(*wait <= policy.bound(failed));
            }
            prop_assert_eq!(first, waits(policy, seed));
        }
    }
}
