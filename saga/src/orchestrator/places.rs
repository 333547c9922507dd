//! Work that may take long, on threads that may block, so many at a time.
//!
//! Whoever asked for it may go, as a client does that waits no longer. Then the work is told to stop, and keeps its place until it does: else those who
//! ask again and again would have it run as often as they ask.

use core::time::Duration;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::Semaphore;

/// The places, and how long work may take at one.
pub(super) struct Places {
    free: Semaphore,
    most: Duration,
}

impl Places {
    pub(super) const fn new(count: usize, most: Duration) -> Self {
        Self { free: Semaphore::const_new(count), most }
    }

    /// Runs work when a place is free. It is given what becomes true when its time is over or nobody waits for it any more, and ends soon then.
    ///
    /// # Panics
    /// When the work does.
    pub(super) async fn run<T: Send + 'static>(&'static self, work: impl FnOnce(Arc<AtomicBool>) -> T + Send + 'static) -> T {
        let place = self.free.acquire().await.expect("it is never closed");
        let stop = Stop::default();
        let told = Arc::clone(&stop.0);
        let mut running = tokio::task::spawn_blocking(move || {
            let _place = place;
            work(told)
        });
        let ended = match tokio::time::timeout(self.most, &mut running).await {
            Ok(ended) => ended,
            Err(_) => {
                stop.now();
                running.await
            }
        };
        match ended {
            Ok(done) => done,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            // The runtime is going down, and whoever waits with it.
            Err(_) => core::future::pending().await,
        }
    }
}

/// Tells the work to stop when whoever waits for it goes.
#[derive(Default)]
struct Stop(Arc<AtomicBool>);

impl Stop {
    fn now(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Drop for Stop {
    fn drop(&mut self) {
        self.now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    /// Nothing here takes so long that is as it should be.
    const LIMIT: Duration = Duration::from_secs(20);

    /// Waits for `stop`, and says so.
    fn until_stopped(stop: &AtomicBool, said: &mpsc::Sender<bool>) {
        for _ in 0..LIMIT.as_millis() {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        said.send(stop.load(Ordering::Relaxed)).expect("the test waits for it");
    }

    #[tokio::test]
    async fn work_that_nobody_waits_for_any_more_is_stopped() {
        static PLACES: Places = Places::new(1, LIMIT);
        let ((began, begins), (said, says)) = (tokio::sync::oneshot::channel(), mpsc::channel());
        let asked = tokio::spawn(PLACES.run(move |stop| {
            began.send(()).expect("the test waits for it");
            until_stopped(&stop, &said);
        }));
        begins.await.expect("it begins");
        asked.abort();
        let stopped = tokio::task::spawn_blocking(move || says.recv_timeout(2 * LIMIT)).await.expect("it does not panic");
        assert_eq!(stopped, Ok(true));
    }

    #[tokio::test]
    async fn work_that_nobody_waits_for_any_more_keeps_its_place_until_it_ends() {
        static PLACES: Places = Places::new(1, LIMIT);
        let ((began, begins), (end, ends)) = (tokio::sync::oneshot::channel(), mpsc::channel::<()>());
        let asked = tokio::spawn(PLACES.run(move |_| {
            began.send(()).expect("the test waits for it");
            // It does not look whether it is to stop; an error only says that the test is over.
            let _ = ends.recv_timeout(LIMIT);
        }));
        begins.await.expect("it begins");
        asked.abort();
        assert!(asked.await.expect_err("it was given up").is_cancelled());
        assert_eq!(PLACES.free.available_permits(), 0, "it goes on");
        end.send(()).expect("it waits");
        tokio::time::timeout(LIMIT, PLACES.run(|_| ())).await.expect("the place is free when it has ended");
    }

    #[tokio::test]
    async fn work_is_stopped_when_its_time_is_over_and_its_result_counts() {
        static PLACES: Places = Places::new(1, Duration::from_millis(5));
        let (said, says) = mpsc::channel();
        let done = PLACES.run(move |stop| {
            until_stopped(&stop, &said);
            7
        });
        assert_eq!((done.await, says.recv()), (7, Ok(true)));
    }
}
