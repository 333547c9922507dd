//! A service that takes its time, for so many orders at a time, and that can be slow or away. The same one is called and reads from a queue.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::Instant;

/// Orders that a service works on at a time.
pub const PLACES: usize = 16;

/// Orders that wait for a place; a server that lets more wait only answers nobody in time.
const WAITING_MAX: u64 = 64;

/// How long an order takes when nothing is wrong: so a service does 800 a second at most.
pub const WORK: Duration = Duration::from_millis(20);

/// Why an order was not worked on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotDone {
    /// The service is away.
    #[error("the service is away")]
    Away,
    /// Too many wait already.
    #[error("the service is overloaded")]
    Overloaded,
}

/// One of the four.
#[derive(Debug)]
pub struct Service {
    places: Semaphore,
    waiting: AtomicU64,
    work_ms: AtomicU64,
    away: AtomicBool,
    /// Its effects: each order once, with when it was done.
    done: Mutex<BTreeMap<u64, Instant>>,
}

impl Default for Service {
    fn default() -> Self {
        Self {
            places: Semaphore::new(PLACES),
            waiting: AtomicU64::new(0),
            work_ms: AtomicU64::new(millis(WORK)),
            away: AtomicBool::new(false),
            done: Mutex::default(),
        }
    }
}

impl Service {
    /// Works on an order. The effect is there when this returns, and once, however often the order comes.
    ///
    /// # Errors
    /// [`NotDone`], and nothing has happened.
    pub async fn work(&self, order: u64) -> Result<(), NotDone> {
        if self.is_away() {
            return Err(NotDone::Away);
        }
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= WAITING_MAX + PLACES as u64 {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            return Err(NotDone::Overloaded);
        }
        // Counted down also when a caller gives up and this is dropped.
        let _waiting = Waiting(&self.waiting);
        let _place = self.places.acquire().await.expect("it is never closed");
        tokio::time::sleep(Duration::from_millis(self.work_ms.load(Ordering::Relaxed))).await;
        if self.is_away() {
            return Err(NotDone::Away);
        }
        self.done().entry(order).or_insert_with(Instant::now);
        Ok(())
    }

    /// Makes it slow, or quick again.
    pub fn take(&self, work: Duration) {
        self.work_ms.store(millis(work), Ordering::Relaxed);
    }

    /// Takes it away, or brings it back. What it was working on is lost.
    pub fn set_away(&self, away: bool) {
        self.away.store(away, Ordering::Relaxed);
    }

    /// Whether it is away.
    #[must_use]
    pub fn is_away(&self) -> bool {
        self.away.load(Ordering::Relaxed)
    }

    /// Its effects.
    pub fn done(&self) -> MutexGuard<'_, BTreeMap<u64, Instant>> {
        self.done.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Waiting<'a>(&'a AtomicU64);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_effect_is_there_once_and_not_while_it_is_away() {
        let service = Service::default();
        service.work(1).await.expect("done");
        service.work(1).await.expect("done again");
        service.set_away(true);
        assert_eq!(service.work(2).await, Err(NotDone::Away));
        assert_eq!(service.done().keys().copied().collect::<Vec<_>>(), [1]);
    }

    #[tokio::test]
    async fn too_many_are_turned_away_and_those_who_give_up_leave_their_place() {
        let service = Service::default();
        service.take(Duration::from_secs(60));
        let mut held: Vec<_> = (0..WAITING_MAX + PLACES as u64).map(|order| Box::pin(service.work(order))).collect();
        for work in &mut held {
            assert!(futures_poll(work).await.is_none());
        }
        assert_eq!(service.work(1_000).await, Err(NotDone::Overloaded));
        held.pop();
        assert!(futures_poll(&mut Box::pin(service.work(1_001))).await.is_none(), "there is room again");
    }

    /// One look at a future.
    async fn futures_poll<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
        tokio::select! {
            biased;
            output = future => Some(output),
            () = std::future::ready(()) => None,
        }
    }
}
