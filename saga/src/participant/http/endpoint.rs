//! Whether one endpoint of a service is called: left alone after so many connection failures in a row, and tried again by one call. Pure.
//!
//! Only that no connection came about is held against it. An endpoint that answers is there, whatever it says.

use core::time::Duration;

/// When an endpoint is left alone, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ejection {
    /// Connection failures in a row; 0: never.
    pub(super) after: u32,
    /// How long, in milliseconds.
    pub(super) ms: u64,
}

/// How one gets along with an endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Health {
    failures: u32,
    /// Until when it is left alone, in milliseconds since 1970.
    ejected_until_ms: Option<u64>,
    /// When the call was let through that decides, in milliseconds since 1970.
    probed_at_ms: Option<u64>,
}

/// Whether it is called now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// It is.
    Open,
    /// It is, by one call, which must say how it went.
    Probe,
    /// It is looked at again at this time, in milliseconds since 1970, if nothing happens before.
    Closed {
        /// When.
        until_ms: u64,
    },
}

impl Health {
    /// Whether it is called now. A probe that was not refused for as long as a connection may take to come about has got one.
    pub(super) fn admission(&self, now_ms: u64, connecting: Duration) -> Admission {
        let Some(until_ms) = self.ejected_until_ms else { return Admission::Open };
        if now_ms < until_ms {
            return Admission::Closed { until_ms };
        }
        let Some(probed_at_ms) = self.probed_at_ms else { return Admission::Probe };
        let connected_ms = probed_at_ms.saturating_add(u64::try_from(connecting.as_millis()).unwrap_or(u64::MAX));
        if now_ms < connected_ms { Admission::Closed { until_ms: connected_ms } } else { Admission::Open }
    }

    /// A call was let through that decides.
    pub(super) fn probe(&mut self, now_ms: u64) {
        self.probed_at_ms = Some(now_ms);
    }

    /// That call came to nothing: another one will decide.
    pub(super) fn give_probe_back(&mut self) {
        self.probed_at_ms = None;
    }

    /// A connection came about. Gives whether it was left alone.
    pub(super) fn connected(&mut self) -> bool {
        core::mem::take(self).ejected_until_ms.is_some()
    }

    /// No connection came about. Gives whether it is left alone from now on, and was not before.
    pub(super) fn refused(&mut self, now_ms: u64, ejection: Ejection) -> bool {
        self.failures = self.failures.saturating_add(1);
        if ejection.after == 0 || self.failures < ejection.after {
            return false;
        }
        let before = self.ejected_until_ms.replace(now_ms.saturating_add(ejection.ms));
        self.probed_at_ms = None;
        before.is_none()
    }

    /// Whether a call was let through that decides, and has not said how it went.
    pub(super) fn is_probed(&self, now_ms: u64) -> bool {
        self.probed_at_ms.is_some() && self.ejected_until_ms.is_some_and(|until_ms| until_ms <= now_ms)
    }

    /// Connection failures in a row.
    pub(super) const fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWICE: Ejection = Ejection { after: 2, ms: 1_000 };
    const CONNECTING: Duration = Duration::from_millis(300);

    #[test]
    fn it_is_left_alone_after_so_many_failures_in_a_row_and_for_so_long() {
        let mut health = Health::default();
        assert!(!health.refused(10, TWICE));
        assert!(!health.connected(), "a connection ends the row");
        assert!(!health.refused(20, TWICE));
        assert_eq!(health.admission(20, CONNECTING), Admission::Open);
        assert!(health.refused(30, TWICE));
        assert_eq!((health.failures(), health.admission(30, CONNECTING)), (2, Admission::Closed { until_ms: 1_030 }));
        assert_eq!(health.admission(1_029, CONNECTING), Admission::Closed { until_ms: 1_030 });
        assert_eq!(health.admission(1_030, CONNECTING), Admission::Probe);
        let never = Ejection { after: 0, ..TWICE };
        let mut health = Health::default();
        for at_ms in 0..100 {
            assert!(!health.refused(at_ms, never));
        }
        assert_eq!(health.admission(100, CONNECTING), Admission::Open);
    }

    #[test]
    fn one_call_decides_whether_it_comes_back() {
        let mut ejected = Health::default();
        ejected.refused(0, TWICE);
        ejected.refused(0, TWICE);
        ejected.probe(1_000);
        assert_eq!(ejected.admission(1_000, CONNECTING), Admission::Closed { until_ms: 1_300 }, "the others wait for it");
        assert_eq!(ejected.admission(1_300, CONNECTING), Admission::Open, "nobody refused it, so it is connected");
        let mut refused = ejected;
        assert!(!refused.refused(1_100, TWICE), "it was left alone before");
        assert_eq!(refused.admission(1_100, CONNECTING), Admission::Closed { until_ms: 2_100 });
        let mut given_back = ejected;
        given_back.give_probe_back();
        assert_eq!(given_back.admission(1_001, CONNECTING), Admission::Probe);
        assert!(ejected.connected());
        assert_eq!(ejected, Health::default());
    }
}
