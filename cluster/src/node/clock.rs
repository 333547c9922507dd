//! [`Uptime`]: time that runs on while the process is stopped and while the machine sleeps. Leases are measured by it.

use core::fmt;
use core::time::Duration;

/// Time since some moment before. It never goes back, and counts the time in which nothing ran.
pub trait Uptime: fmt::Debug + Send + Sync + 'static {
    /// How long since then.
    fn now(&self) -> Duration;
}

/// The machine's, its sleep included where the system counts that.
#[derive(Clone, Copy, Debug, Default)]
pub struct BootClock;

impl Uptime for BootClock {
    fn now(&self) -> Duration {
        #[cfg(target_os = "linux")]
        let clock = rustix::time::ClockId::Boottime;
        #[cfg(not(target_os = "linux"))]
        let clock = rustix::time::ClockId::Monotonic;
        let time = rustix::time::clock_gettime(clock);
        Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
    }
}
