//! [`Recent`]: up to where the log of members had been read at moments of the last while. What was said since a moment stays in the log, so that whoever
//! reads it now and then reads all of it.

use crate::log::Pos;
use core::time::Duration;
use std::collections::VecDeque;

/// Moments that are kept at the most; more of them would only be closer together.
const MOMENTS_MAX: usize = 256;

#[derive(Clone, Debug, Default)]
pub(super) struct Recent(VecDeque<(Duration, Pos)>);

impl Recent {
    /// At this moment the log had been read up to there.
    pub(super) fn note(&mut self, now: Duration, last: Pos) {
        if self.0.back().is_some_and(|(_, noted)| *noted == last) {
            return;
        }
        if self.0.len() == MOMENTS_MAX {
            // Every second one: what is said of the others holds all the same, a little earlier.
            let mut number = 0;
            self.0.retain(|_| {
                number += 1;
                number % 2 == 1
            });
        }
        self.0.push_back((now, last));
    }

    /// Up to where everything had been read at a moment, as far as is known; what is older is forgotten.
    pub(super) fn read_before(&mut self, moment: Duration) -> Pos {
        while self.0.get(1).is_some_and(|(next, _)| *next <= moment) {
            self.0.pop_front();
        }
        self.0.front().filter(|(at, _)| *at <= moment).map_or(Pos::START, |(_, last)| *last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_at_a_moment_was_said_before_it() {
        let second = Duration::from_secs;
        let mut recent = Recent::default();
        assert_eq!(recent.read_before(second(100)), Pos::START);
        for at in 1..=1_000 {
            recent.note(second(at), Pos(10 * at));
            recent.note(second(at), Pos(10 * at));
        }
        assert!(recent.0.len() <= MOMENTS_MAX);
        assert_eq!(recent.read_before(Duration::ZERO), Pos::START, "it is not known how it was so long ago");
        for moment in [500, 900, 999] {
            let Pos(read) = recent.read_before(second(moment));
            assert!(read <= 10 * moment && read + 100 > 10 * moment, "{read} at {moment}");
        }
        assert_eq!(recent.read_before(second(5_000)), Pos(10_000));
        assert_eq!(recent.0.len(), 1);
    }
}
