//! Time that does not jump, as a pure function of the wall clock and of a monotonic one.
//!
//! Leases, backoffs, timers of sagas and idempotency windows are lengths of time that are stored as moments. So the time they are
//! measured by must run evenly: it goes at the pace of the monotonic clock and comes nearer to the wall clock by at most a tenth of
//! the time that passes. A wall clock that jumps, in either direction, is approached and never jumped after, and this time never
//! goes back.

use core::time::Duration;

/// The part of the time that passes by which it may run faster or slower to come nearer to the wall clock.
const PULL: u32 = 10;

/// A distance from the wall clock that is worth telling.
const OFF: Duration = Duration::from_secs(1);

/// The time since 1970, as the server goes by it.
#[derive(Clone, Copy, Debug)]
pub struct SteadyTime {
    now: Duration,
    monotonic: Duration,
    off_by: Duration,
}

impl SteadyTime {
    /// Begins with the wall clock's time.
    #[must_use]
    pub fn new(wall: Duration, monotonic: Duration) -> Self {
        Self { now: wall, monotonic, off_by: Duration::ZERO }
    }

    /// The time in milliseconds, given what both clocks show.
    pub fn advance(&mut self, wall: Duration, monotonic: Duration) -> u64 {
        let passed = monotonic.saturating_sub(self.monotonic);
        self.monotonic = self.monotonic.max(monotonic);
        let even = self.now + passed;
        let pull = passed / PULL;
        self.now = if wall >= even { even + (wall - even).min(pull) } else { even - (even - wall).min(pull) };
        self.off_by = wall.abs_diff(self.now);
        u64::try_from(self.now.as_millis()).expect("the year is below half a billion")
    }

    /// Goes on from this moment if it is later.
    pub fn not_before(&mut self, moment: Duration) {
        self.now = self.now.max(moment);
    }

    /// Distance from the wall clock.
    #[must_use]
    pub fn off_by(&self) -> Duration {
        self.off_by
    }

    /// Whether the wall clock shows another time.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.off_by > OFF
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const START: Duration = Duration::from_secs(1_800_000_000);
    const HOUR: Duration = Duration::from_secs(3_600);

    proptest! {
        #[test]
        fn whatever_the_wall_clock_does_time_runs_evenly_and_never_back(
            steps in prop::collection::vec((0_u64..5_000, 0_u64..4_000_000_000_000), 1..60)
        ) {
            let mut time = SteadyTime::new(START, Duration::ZERO);
            let (mut monotonic, mut before) = (Duration::ZERO, time.advance(START, Duration::ZERO));
            let first = before;
            for (passed_ms, wall_ms) in steps {
                monotonic += Duration::from_millis(passed_ms);
                let now = time.advance(Duration::from_millis(wall_ms), monotonic);
                let (least, most) = (passed_ms * 9 / 10, passed_ms * 11 / 10 + 1);
                prop_assert!((before + least..=before + most + 1).contains(&now), "{passed_ms} ms: {before} to {now}");
                before = now;
            }
            let all = u64::try_from(monotonic.as_millis()).expect("small");
            prop_assert!((first + all * 9 / 10 - 1..=first + all * 11 / 10 + 1).contains(&before), "errors do not add up");
        }

        #[test]
        fn a_wall_clock_that_jumped_is_reached_in_ten_times_the_jump(jump_s in -100_000_i64..100_000, step_ms in 1_u64..60_000) {
            let mut time = SteadyTime::new(START, Duration::ZERO);
            let jump = Duration::from_secs(jump_s.unsigned_abs());
            let wall = |monotonic: Duration| if jump_s < 0 { START + monotonic - jump } else { START + monotonic + jump };
            let (mut monotonic, end) = (Duration::ZERO, jump * PULL + Duration::from_secs(1));
            // Not before the time that the jump takes at the least.
            time.advance(wall(jump * (PULL - 1)), jump * (PULL - 1));
            prop_assert!(jump.is_zero() || time.off_by() > Duration::ZERO);
            monotonic += jump * (PULL - 1);
            while monotonic < end {
                monotonic += Duration::from_millis(step_ms);
                time.advance(wall(monotonic), monotonic);
            }
            prop_assert!(!time.is_off(), "off by {:?}", time.off_by());
        }
    }

    #[test]
    fn an_hour_back_does_not_hold_a_lease_and_an_hour_forward_does_not_end_it() {
        for wall in [START - HOUR, START + HOUR] {
            let mut time = SteadyTime::new(START, Duration::ZERO);
            let leased_at = time.advance(START, Duration::ZERO);
            let jumped = time.advance(wall, Duration::from_millis(1));
            assert!(jumped - leased_at <= 2, "{jumped}");
            assert!(time.is_off());
            let later = time.advance(wall + Duration::from_secs(30), Duration::from_secs(30));
            assert!((27_000..=33_001).contains(&(later - leased_at)), "{}", later - leased_at);
        }
    }

    #[test]
    fn it_does_not_begin_before_what_storage_holds() {
        let mut time = SteadyTime::new(START, Duration::ZERO);
        time.not_before(START + HOUR);
        time.not_before(START);
        let now = time.advance(START, Duration::ZERO);
        assert_eq!(u128::from(now), (START + HOUR).as_millis());
    }
}
