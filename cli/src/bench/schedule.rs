//! When requests are meant to start. An open loop: the next one is due whether the one before was answered or not, so a server that
//! stands still does not slow down those who measure it.

use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Most requests a second that a schedule may ask for.
pub const RATE_MAX: f64 = 1_000_000.0;

/// Longest sleep of the thread that lets requests start: it looks so often whether the run is over.
const SLEEP_MAX: Duration = Duration::from_millis(50);

/// Requests at even distances: request `n` is due `n / rate` after the beginning.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    per_second: f64,
}

impl Schedule {
    /// So many requests a second.
    ///
    /// # Errors
    /// What is allowed, when the rate is not.
    pub fn new(per_second: f64) -> Result<Self, String> {
        if per_second > 0.0 && per_second <= RATE_MAX {
            Ok(Self { per_second })
        } else {
            Err(format!("a rate of {per_second} requests a second: it must be above 0 and at most {RATE_MAX}"))
        }
    }

    /// Requests a second.
    #[must_use]
    pub fn per_second(&self) -> f64 {
        self.per_second
    }

    /// When a request is due, counted from the beginning. Computed for each, so errors do not add up.
    #[must_use]
    pub fn start_of(&self, index: u64) -> Duration {
        Duration::from_nanos((index as f64 * 1e9 / self.per_second) as u64)
    }

    /// How many requests are due after so long: those whose start is not later.
    #[must_use]
    pub fn due(&self, elapsed: Duration) -> u64 {
        let mut due = (elapsed.as_nanos() as f64 / 1e9 * self.per_second) as u64;
        // The quotient is rounded; what counts is what `start_of` says.
        while self.start_of(due) <= elapsed {
            due += 1;
        }
        while due > 0 && self.start_of(due - 1) > elapsed {
            due -= 1;
        }
        due
    }
}

/// Gives a permit for each request when it is due, until `count` are given or the run is over. Blocks: a sleeping thread wakes with the
/// precision of the system's clock, a timer of the runtime with that of a millisecond, which would count as latency.
pub(super) fn pace(schedule: Schedule, count: u64, began: Instant, permits: &Arc<Semaphore>, stop: &CancellationToken) {
    let mut given = 0;
    while given < count && !stop.is_cancelled() {
        let due = schedule.due(began.elapsed()).min(count);
        if due > given {
            permits.add_permits(usize::try_from(due - given).unwrap_or(Semaphore::MAX_PERMITS));
            given = due;
            continue;
        }
        std::thread::sleep(schedule.start_of(given).saturating_sub(began.elapsed()).min(SLEEP_MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_are_even_and_do_not_drift() {
        let schedule = Schedule::new(3.0).expect("a rate");
        assert_eq!(schedule.start_of(0), Duration::ZERO);
        assert_eq!(schedule.start_of(1), Duration::from_nanos(333_333_333));
        assert_eq!(schedule.start_of(3_000_000_000), Duration::from_secs(1_000_000_000));
    }

    #[test]
    fn what_is_due_agrees_with_the_starts() {
        for rate in [0.1, 1.0, 3.0, 7.77, 1_000.0, 33_333.3, RATE_MAX] {
            let schedule = Schedule::new(rate).expect("a rate");
            for index in [0, 1, 2, 10, 999, 123_456] {
                let start = schedule.start_of(index);
                assert_eq!(schedule.due(start), index + 1, "{rate} {index}");
                if index > 0 {
                    assert_eq!(schedule.due(start - Duration::from_nanos(1)), index, "{rate} {index}: not before its time");
                }
            }
        }
    }

    #[test]
    fn a_rate_that_is_none_is_refused() {
        for rate in [0.0, -1.0, f64::NAN, f64::INFINITY, RATE_MAX * 2.0] {
            assert!(Schedule::new(rate).is_err(), "{rate}");
        }
    }

    #[test]
    fn permits_come_when_they_are_due_and_no_more_than_were_asked_for() {
        let (permits, stop) = (Arc::new(Semaphore::new(0)), CancellationToken::new());
        let began = Instant::now();
        pace(Schedule::new(1_000.0).expect("a rate"), 20, began, &permits, &stop);
        assert!(began.elapsed() >= Duration::from_millis(19), "the twentieth is due after 19 ms");
        assert_eq!(permits.available_permits(), 20);
        stop.cancel();
        pace(Schedule::new(0.001).expect("a rate"), 20, began, &permits, &stop);
        assert_eq!(permits.available_permits(), 20, "a run that is over starts nothing");
    }
}
