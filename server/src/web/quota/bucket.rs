//! A token bucket, as a pure function of the time.

/// Thousandths, so that a rate by the second is a whole number by the millisecond.
const MILLI: i64 = 1_000;

/// What a client may still take. It fills up at a rate, to one second's worth, and may be overdrawn: who takes more than there is waits longer
/// the next time. So nothing is too large for it, and over any time no more than the rate and one second's worth passes beside the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bucket {
    milli: i64,
    at_ms: u64,
}

impl Bucket {
    /// A full one.
    pub(super) fn full(per_second: u64, now_ms: u64) -> Self {
        Self { milli: capacity(per_second), at_ms: now_ms }
    }

    /// Lets the time pass.
    pub(super) fn fill(&mut self, per_second: u64, now_ms: u64) {
        let passed_ms = now_ms.saturating_sub(self.at_ms);
        let gained = i64::try_from(passed_ms.saturating_mul(per_second)).unwrap_or(i64::MAX);
        self.milli = self.milli.saturating_add(gained).min(capacity(per_second));
        self.at_ms = self.at_ms.max(now_ms);
    }

    /// How long it is until something may be taken, in milliseconds, as it was filled last; 0: now.
    pub(super) fn wait_ms(&self, per_second: u64) -> u64 {
        let missing = u64::try_from(1 - self.milli.min(1)).expect("it is not negative");
        missing.div_ceil(per_second.max(1))
    }

    /// Takes so much, whether it is there or not.
    pub(super) fn take(&mut self, amount: u64) {
        let amount = i64::try_from(amount).unwrap_or(i64::MAX).saturating_mul(MILLI);
        self.milli = self.milli.saturating_sub(amount);
    }

    /// Whether it is as good as new.
    pub(super) fn is_full(&self, per_second: u64) -> bool {
        self.milli >= capacity(per_second)
    }
}

fn capacity(per_second: u64) -> i64 {
    i64::try_from(per_second).unwrap_or(i64::MAX).saturating_mul(MILLI)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_second_s_worth_may_be_taken_at_once_and_then_as_fast_as_it_fills() {
        let mut bucket = Bucket::full(10, 0);
        for _ in 0..10 {
            assert_eq!(bucket.wait_ms(10), 0);
            bucket.take(1);
        }
        assert_eq!(bucket.wait_ms(10), 1, "it is empty, and not overdrawn");
        bucket.take(1);
        assert_eq!(bucket.wait_ms(10), 101);
        bucket.fill(10, 100);
        assert_eq!(bucket.wait_ms(10), 1);
        bucket.fill(10, 101);
        assert_eq!(bucket.wait_ms(10), 0);
        bucket.fill(10, 1_000_000);
        assert!(bucket.is_full(10), "and no more than full");
        bucket.take(10);
        assert_eq!(bucket.wait_ms(10), 1);
    }

    #[test]
    fn what_is_larger_than_the_bucket_passes_and_is_paid_for_afterwards() {
        let mut bucket = Bucket::full(1_000, 5);
        bucket.take(61_000);
        assert_eq!(bucket.wait_ms(1_000), 60_001);
        bucket.fill(1_000, 60_005);
        assert_eq!(bucket.wait_ms(1_000), 1);
        // A clock that shows an earlier time takes nothing away.
        bucket.fill(1_000, 5);
        bucket.fill(1_000, 60_006);
        assert_eq!(bucket.wait_ms(1_000), 0);
        bucket.take(u64::MAX);
        bucket.fill(1_000, u64::MAX);
        assert!(bucket.wait_ms(1_000) <= 1 || bucket.milli < 0);
    }

    proptest! {
        /// Whoever takes only when nothing is to be waited for gets no more than the rate, one second's worth, and one piece beyond.
        #[test]
        fn no_more_passes_than_the_rate(
            rate in 1_u64..1_000,
            tries in prop::collection::vec((0_u64..500, 1_u64..2_000), 1..200),
        ) {
            let (mut bucket, mut now_ms, mut taken, mut largest) = (Bucket::full(rate, 0), 0, 0, 0);
            for (pause_ms, amount) in tries {
                now_ms += pause_ms;
                bucket.fill(rate, now_ms);
                let wait_ms = bucket.wait_ms(rate);
                if wait_ms == 0 {
                    bucket.take(amount);
                    taken += amount;
                    largest = largest.max(amount);
                } else {
                    // It is right to the millisecond.
                    let mut later = bucket;
                    later.fill(rate, now_ms + wait_ms - 1);
                    prop_assert!(later.wait_ms(rate) > 0);
                    later.fill(rate, now_ms + wait_ms);
                    prop_assert_eq!(later.wait_ms(rate), 0);
                }
                prop_assert!(taken * 1_000 <= rate * 1_000 + rate * now_ms + largest * 1_000);
            }
        }
    }
}
