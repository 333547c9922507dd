//! The clock of the server: milliseconds since 1970, from the system or from a test.

use super::steady::SteadyTime;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Time as the server goes by it. Leases and due times are stored as such, because they must mean the same after a restart.
pub trait Clock: Send + Sync + 'static {
    /// Milliseconds since 1970.
    fn now_ms(&self) -> u64;

    /// From now on it shows this time or a later one: storage holds times up to it.
    fn not_before(&self, ms: u64);
}

/// The server's clock: it runs at an even pace whatever is done to the wall clock, see [`SteadyTime`].
#[derive(Debug)]
pub struct SteadyClock(Mutex<SteadyTime>);

impl SteadyClock {
    /// A clock that begins with the wall clock's time.
    #[must_use]
    pub fn start() -> Self {
        Self(Mutex::new(SteadyTime::new(wall(), monotonic())))
    }
}

impl Clock for SteadyClock {
    fn now_ms(&self) -> u64 {
        // A plain mutex: it is held for a few instructions and never across an await.
        let mut time = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let was_off = time.is_off();
        let now_ms = time.advance(wall(), monotonic());
        let (is_off, off_s) = (time.is_off(), time.off_by().as_secs());
        drop(time);
        if is_off && !was_off {
            tracing::warn!(off_s, "the wall clock jumped or was set; it is followed slowly, so that leases and timers keep their lengths");
        } else if was_off && !is_off {
            tracing::info!("the server's clock has come up with the wall clock again");
        }
        now_ms
    }

    fn not_before(&self, ms: u64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).not_before(Duration::from_millis(ms));
    }
}

/// The wall clock as it is, jumps included: for tests that want real time.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now_ms(&self) -> u64 {
        u64::try_from(wall().as_millis()).expect("the year is below half a billion")
    }

    fn not_before(&self, _ms: u64) {}
}

#[expect(clippy::disallowed_methods, reason = "this is the one place that asks the system")]
fn wall() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO)
}

/// Time since some moment, the sleep of the machine included where the system counts it.
#[cfg(target_os = "linux")]
fn monotonic() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Time since the first call.
#[cfg(not(target_os = "linux"))]
#[expect(clippy::disallowed_methods, reason = "this is the one place that asks the system")]
fn monotonic() -> Duration {
    static FIRST: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    FIRST.get_or_init(std::time::Instant::now).elapsed()
}

/// A clock that stands still until a test moves it. Clones share the time.
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<AtomicU64>);

impl ManualClock {
    /// A clock that shows `now_ms`.
    #[must_use]
    pub fn at(now_ms: u64) -> Self {
        Self(Arc::new(AtomicU64::new(now_ms)))
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        let by_ms = u64::try_from(by.as_millis()).expect("tests do not wait for eternity");
        self.0.fetch_add(by_ms, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now_ms(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }

    fn not_before(&self, ms: u64) {
        self.0.fetch_max(ms, Ordering::SeqCst);
    }
}
