//! Records that may be what kills the process, as bookkeeping without a clock: each runs alone, so that nothing else fails with it.
//!
//! Not for ever: a handler that takes long would keep all others waiting. Whatever has run for so long was begun for sure, and is counted as such.

use std::collections::VecDeque;
use std::time::Duration;
use tokio::time::Instant;

/// How long one of them waits for those that run, and how long these are waited with while it runs.
const PATIENCE: Duration = Duration::from_secs(60);

/// Records that run alone, those that wait and the one that runs.
#[derive(Debug)]
pub(super) struct Alone<T> {
    waiting: VecDeque<(Instant, T)>,
    /// When the one that runs began.
    since: Option<Instant>,
}

impl<T> Default for Alone<T> {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), since: None }
    }
}

impl<T> Alone<T> {
    /// A record came.
    pub(super) fn push(&mut self, record: T, now: Instant) {
        self.waiting.push_back((now, record));
    }

    /// Nothing runs any more.
    pub(super) fn ended(&mut self) {
        self.since = None;
    }

    /// Whether nothing begins now: one of them runs.
    pub(super) fn runs(&self, now: Instant) -> bool {
        self.since.is_some_and(|since| now < since + PATIENCE)
    }

    /// Whether nothing is received now: one of them runs or waits.
    pub(super) fn keeps_others(&self, now: Instant) -> bool {
        !self.waiting.is_empty() || self.runs(now)
    }

    /// The next one that is to run, with when it came, if nothing else runs or it has waited for long enough.
    pub(super) fn next(&mut self, is_idle: bool, now: Instant) -> Option<(Instant, T)> {
        let came = self.waiting.front()?.0;
        let may_run = !self.runs(now) && (is_idle || came + PATIENCE <= now);
        if may_run { self.waiting.pop_front() } else { None }
    }

    /// It begins. The others that wait: they are to be given back.
    pub(super) fn begin(&mut self, now: Instant) -> Vec<T> {
        self.since = Some(now);
        self.drain().collect()
    }

    /// Takes out all that wait.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = T> {
        self.waiting.drain(..).map(|(_, record)| record)
    }

    /// When it is time to look again, if nothing happens before.
    pub(super) fn wakes(&self, now: Instant) -> Option<Instant> {
        let since = self.since.filter(|_| self.runs(now));
        since.or_else(|| self.waiting.front().map(|(came, _)| *came)).map(|from| from + PATIENCE).filter(|at| *at > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_runs_when_nothing_else_does_and_nothing_is_begun_or_received_beside_it() {
        let (mut alone, now) = (Alone::default(), Instant::now());
        assert!(!alone.keeps_others(now) && !alone.runs(now) && alone.next(true, now).is_none());
        ["a", "b", "c"].into_iter().for_each(|record| alone.push(record, now));
        assert!(alone.keeps_others(now) && !alone.runs(now), "what is there may begin, nothing more is received");
        assert_eq!(alone.next(false, now), None);
        assert_eq!(alone.next(true, now), Some((now, "a")));
        assert_eq!(alone.begin(now), ["b", "c"]);
        assert!(alone.keeps_others(now) && alone.runs(now));
        alone.push("d", now);
        assert_eq!(alone.next(true, now), None, "one at a time");
        alone.ended();
        assert_eq!(alone.next(true, now), Some((now, "d")));
    }

    #[test]
    fn neither_waits_for_the_other_for_ever() {
        let (mut alone, begin) = (Alone::default(), Instant::now());
        let at = |seconds| begin + Duration::from_secs(seconds);
        alone.push("a", begin);
        assert_eq!((alone.wakes(at(1)), alone.next(false, at(59))), (Some(at(60)), None));
        assert_eq!(alone.wakes(at(60)), None, "it is looked now");
        assert_eq!(alone.next(false, at(60)), Some((begin, "a")));
        assert!(alone.begin(at(60)).is_empty());
        assert_eq!((alone.wakes(at(61)), alone.runs(at(119))), (Some(at(120)), true));
        assert!(!alone.runs(at(120)) && !alone.keeps_others(at(120)), "it did not kill the process so far");
        assert_eq!(alone.wakes(at(120)), None);
    }
}
