//! How much of a service is asked at a time, and whether at all: bounds that an operator sets for it. What is held back is not sent, so it uses up no
//! attempt.
//!
//! What lets the locks of a transaction go is never held back.

use super::endpoint::{Admission, Ejection, Health};
use core::time::Duration;
use sagamq_api::service::BreakerState;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};

/// How much of a second's calls may follow each other at once.
const BURST: u64 = 10;

/// Microseconds of a second.
const SECOND_US: u64 = 1_000_000;

/// A call that decides about a service does so with its answer, whenever that comes.
const NO_HURRY: Duration = Duration::MAX;

/// What is set for a service; 0: no bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Bounds {
    /// Calls at a time.
    pub(super) in_flight: u32,
    /// Calls that begin in a second.
    pub(super) per_second: u32,
    /// Calls in a row that had no answer, or one that says nothing, after which nobody calls for a while.
    pub(super) break_after: u32,
    /// How long, in milliseconds.
    pub(super) break_ms: u64,
}

/// The bounds of a service at work.
#[derive(Debug)]
pub(super) struct Limits {
    pub(super) bounds: Bounds,
    breaker: Health,
    throttle: Throttle,
}

/// What a call passes that is held back by numbers; clones are the same.
#[derive(Clone, Debug)]
pub(super) struct Throttle {
    bounds: Bounds,
    places: Option<Arc<Semaphore>>,
    /// Whoever has the lock is the next to begin; the others wait behind it, in their order.
    pace: Option<Arc<Mutex<Pace>>>,
    waiting: Arc<AtomicU32>,
}

impl Limits {
    pub(super) fn new(bounds: Bounds) -> Self {
        let places = (bounds.in_flight > 0).then(|| Arc::new(Semaphore::new(usize::try_from(bounds.in_flight).unwrap_or(usize::MAX))));
        let pace = (bounds.per_second > 0).then(|| Arc::new(Mutex::new(Pace::new(bounds.per_second))));
        Self { bounds, breaker: Health::default(), throttle: Throttle { bounds, places, pace, waiting: Arc::default() } }
    }

    /// Other bounds, or the same: what is known of the service stays known. A bound that is the same stays as it is, with what runs and waits; of one
    /// that rises, what runs keeps its places. Beside calls of a bound that falls as many run as the new one says, until those are over.
    pub(super) fn renewed(self, bounds: Bounds) -> Self {
        let Self { bounds: before, breaker, throttle: Throttle { places, pace, waiting, .. } } = self;
        let fresh = Self::new(bounds);
        let places = match places {
            Some(places) if bounds.in_flight >= before.in_flight => {
                places.add_permits(usize::try_from(bounds.in_flight - before.in_flight).unwrap_or(0));
                Some(places)
            }
            Some(_) | None => fresh.throttle.places,
        };
        let pace = if bounds.per_second == before.per_second { pace } else { fresh.throttle.pace };
        Self { bounds, breaker, throttle: Throttle { bounds, places, pace, waiting } }
    }

    pub(super) fn throttle(&self) -> Throttle {
        self.throttle.clone()
    }

    const fn ejection(&self) -> Ejection {
        Ejection { after: self.bounds.break_after, ms: self.bounds.break_ms }
    }

    /// Whether the service is called now.
    pub(super) fn admission(&self, now_ms: u64) -> Admission {
        if self.bounds.break_after == 0 { Admission::Open } else { self.breaker.admission(now_ms, NO_HURRY) }
    }

    /// A call was let through that decides.
    pub(super) fn probe(&mut self, now_ms: u64) {
        self.breaker.probe(now_ms);
    }

    /// That call was not made.
    pub(super) fn give_probe_back(&mut self) {
        self.breaker.give_probe_back();
    }

    /// A call had an answer. Gives whether nobody called before.
    pub(super) fn answered(&mut self) -> bool {
        self.breaker.connected()
    }

    /// A call had none, or one that says nothing. Gives whether nobody calls from now on, and was called before.
    pub(super) fn unanswered(&mut self, now_ms: u64) -> bool {
        let ejection = self.ejection();
        self.breaker.refused(now_ms, ejection)
    }

    /// How the service gets along: whether it is called, and when it is tried again if it is not, in milliseconds from now.
    pub(super) fn breaker(&self, now_ms: u64) -> (BreakerState, Option<u64>) {
        match self.admission(now_ms) {
            Admission::Open => (BreakerState::Closed, None),
            Admission::Probe => (BreakerState::Open, Some(0)),
            Admission::Closed { .. } if self.breaker.is_probed(now_ms) => (BreakerState::Trying, None),
            Admission::Closed { until_ms } => (BreakerState::Open, Some(until_ms.saturating_sub(now_ms))),
        }
    }

    /// Calls that run, as far as they are bounded, and calls that wait for a bound.
    pub(super) fn load(&self) -> (u32, u32) {
        let free = self.throttle.places.as_ref().map_or(0, |places| places.available_permits());
        let running = usize::try_from(self.bounds.in_flight).unwrap_or(usize::MAX).saturating_sub(free);
        (u32::try_from(running).unwrap_or(u32::MAX), self.throttle.waiting.load(Ordering::Relaxed))
    }
}

impl Throttle {
    /// A place among the calls of the service, if they are bounded. `waits` is called with the bound if there is none at once.
    pub(super) async fn place(&self, waits: impl FnOnce(u32)) -> Option<OwnedSemaphorePermit> {
        let places = self.places.clone()?;
        if let Ok(place) = Arc::clone(&places).try_acquire_owned() {
            return Some(place);
        }
        waits(self.bounds.in_flight);
        let _waits = Waits::begin(&self.waiting);
        // Nobody closes it.
        places.acquire_owned().await.ok()
    }

    /// Returns when the call may begin: `pause` waits until a time in milliseconds since 1970.
    /// `waits` is called with the bound if that is not now.
    pub(super) async fn turn<F: Future<Output = ()>>(&self, now_ms: impl Fn() -> u64, pause: impl Fn(u64) -> F, waits: impl FnOnce(u32)) {
        let Some(pace) = &self.pace else { return };
        if let Ok(mut pace) = pace.try_lock()
            && pace.wait_until(now_ms()).is_none()
        {
            return pace.take(now_ms());
        }
        waits(self.bounds.per_second);
        let _waits = Waits::begin(&self.waiting);
        let mut pace = pace.lock().await;
        while let Some(at_ms) = pace.wait_until(now_ms()) {
            pause(at_ms).await;
        }
        pace.take(now_ms());
    }
}

/// Counts one that waits.
struct Waits<'w>(&'w AtomicU32);

impl<'w> Waits<'w> {
    fn begin(count: &'w AtomicU32) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Calls in time: so many a second, a tenth of them at once at most. Pure.
#[derive(Debug)]
struct Pace {
    /// Time between two calls, in microseconds.
    apart_us: u64,
    /// How far ahead of its time a call may be.
    ahead_us: u64,
    /// When the next call has its time, in microseconds since 1970.
    next_us: u64,
}

impl Pace {
    fn new(per_second: u32) -> Self {
        let apart_us = (SECOND_US / u64::from(per_second.max(1))).max(1);
        Self { apart_us, ahead_us: (SECOND_US / BURST).max(apart_us) - apart_us, next_us: 0 }
    }

    /// When the next call may begin; `None`: now.
    fn wait_until(&self, now_ms: u64) -> Option<u64> {
        let begins_us = self.next_us.saturating_sub(self.ahead_us);
        (begins_us > now_ms.saturating_mul(1_000)).then(|| begins_us.div_ceil(1_000))
    }

    /// A call begins.
    fn take(&mut self, now_ms: u64) {
        self.next_us = self.next_us.max(now_ms.saturating_mul(1_000)).saturating_add(self.apart_us);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Calls that begin in each of so many milliseconds, if as many want to as can.
    fn begun(pace: &mut Pace, from_ms: u64, until_ms: u64) -> usize {
        let mut count = 0;
        for now_ms in from_ms..until_ms {
            while pace.wait_until(now_ms).is_none() {
                pace.take(now_ms);
                count += 1;
            }
        }
        count
    }

    #[test]
    fn so_many_begin_in_a_second_and_a_tenth_of_them_at_once() {
        for per_second in [1_u32, 3, 10, 100, 1_000, 20_000] {
            let (mut pace, most) = (Pace::new(per_second), usize::try_from(per_second).expect("small"));
            let burst = begun(&mut pace, 5_000, 5_001);
            assert!(burst >= 1 && burst <= (most / 10).max(1) + most / 1_000 + 1, "{per_second}: {burst} at once");
            let rest = begun(&mut pace, 5_001, 15_000);
            let all = burst + rest;
            assert!(all <= 10 * most + (most / 10).max(1) + 1, "{per_second}: {all} in ten seconds");
            assert!(all >= 10 * most, "{per_second}: {all} in ten seconds");
        }
        let mut rested = Pace::new(10);
        rested.take(0);
        assert!(begun(&mut rested, 60_000, 60_001) <= 2, "a rest is not made up for");
    }

    #[test]
    fn whoever_waits_is_told_when_its_turn_comes() {
        let mut pace = Pace::new(2);
        assert_eq!(pace.wait_until(1_000), None);
        pace.take(1_000);
        assert_eq!(pace.wait_until(1_000), Some(1_500));
        assert_eq!(pace.wait_until(1_500), None);
    }

    #[test]
    fn the_breaker_opens_after_so_many_in_a_row_and_one_answer_closes_it() {
        let bounds = Bounds { break_after: 3, break_ms: 1_000, ..Bounds::default() };
        let mut limits = Limits::new(bounds);
        assert!(!limits.unanswered(1) && !limits.unanswered(2) && !limits.answered());
        assert!(!limits.unanswered(3) && !limits.unanswered(4) && limits.unanswered(5), "only those in a row count");
        assert_eq!(limits.breaker(6), (BreakerState::Open, Some(999)));
        assert_eq!(limits.admission(1_005), Admission::Probe);
        limits.probe(1_005);
        assert_eq!(
            (limits.breaker(9_000).0, limits.admission(9_000) == Admission::Open),
            (BreakerState::Trying, false),
            "until it answers"
        );
        assert!(!limits.unanswered(9_000), "it was open already");
        assert_eq!(limits.breaker(9_001), (BreakerState::Open, Some(999)));
        limits.probe(10_000);
        assert!(limits.answered());
        assert_eq!(limits.breaker(10_001), (BreakerState::Closed, None));
        let mut never = Limits::new(Bounds::default());
        assert!((0..100).all(|at_ms| !never.unanswered(at_ms)) && never.admission(100) == Admission::Open);
    }

    #[test]
    fn other_bounds_forget_nothing_that_is_known_of_the_service() {
        let bounds = Bounds { break_after: 1, break_ms: 1_000, ..Bounds::default() };
        let mut limits = Limits::new(bounds);
        assert!(limits.unanswered(0));
        let limits = limits.renewed(Bounds { in_flight: 2, ..bounds });
        assert_eq!((limits.breaker(1).0, limits.load()), (BreakerState::Open, (0, 0)));
    }

    #[tokio::test]
    async fn calls_that_run_count_against_a_bound_that_another_one_was_set_beside_and_one_that_rises() {
        let bounds = Bounds { in_flight: 2, per_second: 1, ..Bounds::default() };
        let limits = Limits::new(bounds);
        let _running = [limits.throttle().place(|_| ()).await, limits.throttle().place(|_| ()).await];
        limits.throttle().turn(|| 5_000, |_| core::future::ready(()), |_| ()).await;
        let free = |limits: &Limits| limits.throttle().places.map(|places| places.available_permits());
        let limits = limits.renewed(Bounds { break_after: 3, break_ms: 1, ..bounds });
        assert_eq!((free(&limits), limits.load()), (Some(0), (2, 0)), "not twice as many");
        let pace = limits.throttle().pace.expect("bounded");
        assert_eq!(pace.lock().await.wait_until(5_000), Some(6_000), "nor twice as fast");
        let limits = limits.renewed(Bounds { in_flight: 5, per_second: 9, ..bounds });
        assert_eq!((free(&limits), limits.load()), (Some(3), (2, 0)));
        assert_eq!(limits.throttle().pace.expect("bounded").lock().await.wait_until(5_000), None);
        let limits = limits.renewed(Bounds { in_flight: 1, ..bounds });
        assert_eq!(free(&limits), Some(1));
        assert!(free(&limits.renewed(Bounds::default())).is_none());
    }
}
