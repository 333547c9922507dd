//! How long a write waits for those whom the last one has answered.
//!
//! Who was answered asks next: a worker completes the call that it was given, a producer sends its next record. A write that begins at once
//! leaves them out, so they wait for the end of two writes each time, while two halves of the clients take turns. Where a write takes
//! milliseconds, as one to a log in object storage does, a short wait brings them together again. Whether it does is seen from who came; where they do not,
//! hardly any write waits. PostgreSQL has the fixed form of it (`commit_delay` and `commit_siblings`).

use core::time::Duration;

/// Shorter writes are not waited before: the way to a client and back takes as long.
const WORTHWHILE: Duration = Duration::from_millis(4);

/// The share of a usual write that is waited, at most.
const SHARE: u32 = 4;

/// Nobody waits longer.
const WAIT_MAX: Duration = Duration::from_millis(10);

/// Writes of which one is tried again, at most, where waiting brings nobody.
const PASSED_MAX: u32 = 63;

/// What is known of earlier writes, and how long the next one may wait because of that.
#[derive(Debug, Default)]
pub(super) struct Linger {
    /// How long a write takes.
    usual: Duration,
    /// Whom the last write answered.
    answered: usize,
    /// Writes that do not wait, from now.
    passes: u32,
    /// The same when a wait was for nobody the last time.
    passed: u32,
}

impl Linger {
    /// How long behind the end of the last write the next one may begin, at the latest, for their sake.
    pub(super) fn patience(&self) -> Duration {
        if self.passes > 0 || self.usual < WORTHWHILE { Duration::ZERO } else { (self.usual / SHARE).min(WAIT_MAX) }
    }

    /// How many have to be there so that nobody is missed: those who came while the last write was under way, and whom it answered.
    pub(super) fn expected(&self, came_before: usize) -> usize {
        came_before + self.answered
    }

    /// A write took so long, and answered so many.
    pub(super) fn wrote(&mut self, took: Duration, answered: usize) {
        self.usual = if self.usual.is_zero() { took } else { (self.usual * 7 + took) / 8 };
        self.answered = answered;
        self.passes = self.passes.saturating_sub(1);
    }

    /// It was waited, and so many came meanwhile.
    pub(super) fn waited_for(&mut self, came: usize) {
        // The share is what comes by chance, whoever was answered.
        self.passed = if came * 2 > self.answered { 0 } else { (self.passed * 2 + 1).min(PASSED_MAX) };
        self.passes = self.passed;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_millis(20);

    #[test]
    fn it_waits_a_share_of_a_long_write_and_never_long() {
        let mut linger = Linger::default();
        assert_eq!(linger.patience(), Duration::ZERO, "nothing is known");
        linger.wrote(LONG, 3);
        assert_eq!((linger.patience(), linger.expected(2)), (Duration::from_millis(5), 5));
        (0..100).for_each(|_| linger.wrote(Duration::from_secs(5), 3));
        assert_eq!(linger.patience(), WAIT_MAX);
        (0..100).for_each(|_| linger.wrote(Duration::from_micros(900), 3));
        assert_eq!(linger.patience(), Duration::ZERO, "a quick disk");
    }

    #[test]
    fn one_slow_write_among_quick_ones_changes_little() {
        let mut linger = Linger::default();
        (0..10).for_each(|_| linger.wrote(Duration::from_millis(1), 1));
        linger.wrote(LONG, 1);
        assert_eq!(linger.patience(), Duration::ZERO);
    }

    #[test]
    fn where_nobody_comes_it_waits_ever_more_rarely() {
        let mut linger = Linger::default();
        let mut waits = 0;
        for _ in 0..1000 {
            linger.wrote(LONG, 8);
            if !linger.patience().is_zero() {
                waits += 1;
                // A quarter of them, as by chance.
                linger.waited_for(2);
            }
        }
        assert!((15..30).contains(&waits), "{waits} of 1000");
        // Until they come again.
        while linger.patience().is_zero() {
            linger.wrote(LONG, 8);
        }
        for _ in 0..10 {
            linger.waited_for(5);
            linger.wrote(LONG, 8);
            assert!(!linger.patience().is_zero());
        }
    }
}
