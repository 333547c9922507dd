//! [`Lease`]: how long a node may take itself for the active one without hearing from the log.
//!
//! It guards what is read and answered, and never a write: a write is refused by the log's content.

use super::clock::Uptime;
use core::time::Duration;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The lease of one term; clones are the same one.
#[derive(Clone, Debug)]
pub struct Lease(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    clock: Arc<dyn Uptime>,
    length: Duration,
    /// By the clock, in nanoseconds.
    until: AtomicU64,
    /// Set once: the term is over, whatever comes.
    is_over: AtomicBool,
}

impl Lease {
    /// A lease that does not hold yet.
    #[must_use]
    pub fn new(clock: Arc<dyn Uptime>, length: Duration) -> Self {
        Self(Arc::new(Inner { clock, length, until: AtomicU64::new(0), is_over: AtomicBool::new(false) }))
    }

    /// The log has taken a heartbeat that was sent at `sent`: the lease is counted from then.
    pub fn renew(&self, sent: Duration) {
        let until = sent.saturating_add(self.0.length);
        self.0.until.fetch_max(u64::try_from(until.as_nanos()).unwrap_or(u64::MAX), Ordering::AcqRel);
    }

    /// Ends it for good.
    pub fn end(&self) {
        self.0.is_over.store(true, Ordering::Release);
    }

    /// Whether it is over for good.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.0.is_over.load(Ordering::Acquire)
    }

    /// Whether it holds at this moment. What was read before is then true at this moment, too.
    #[must_use]
    pub fn holds(&self) -> bool {
        !self.is_over() && !self.left().is_zero()
    }

    /// How long it will hold.
    #[must_use]
    pub fn left(&self) -> Duration {
        Duration::from_nanos(self.0.until.load(Ordering::Acquire)).saturating_sub(self.0.clock.now())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::ManualUptime;
    use super::*;

    #[test]
    fn it_is_counted_from_sending_and_no_later_answer_to_an_earlier_heartbeat_shortens_it() {
        let clock = ManualUptime::default();
        let lease = Lease::new(Arc::new(clock.clone()), Duration::from_secs(5));
        assert!(!lease.holds(), "nothing was acknowledged");
        clock.set(Duration::from_secs(100));
        lease.renew(Duration::from_secs(98));
        assert!(lease.holds());
        lease.renew(Duration::from_secs(97));
        assert_eq!(lease.left(), Duration::from_secs(3));
        clock.set(Duration::from_secs(103));
        assert!(!lease.holds(), "it ends at its end");
        lease.renew(Duration::from_secs(102));
        assert!(lease.holds(), "nobody else has claimed, so it goes on");
        lease.end();
        lease.renew(Duration::from_secs(103));
        assert!(!lease.holds(), "what is over stays over");
    }
}
