//! What happens to the third of the four services, or to the load.

use crate::service::{Service, WORK};
use std::time::Duration;

/// How long everything takes.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// Before the trouble.
    pub before: Duration,
    /// How long a service is slow, and a burst lasts.
    pub trouble: Duration,
    /// How long a service is away.
    pub outage: Duration,
    /// After it, with the load going on.
    pub after: Duration,
}

/// The trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    /// None.
    Calm,
    /// The third service takes ten times as long.
    Slow,
    /// The third service is away.
    Outage,
    /// Three times as many orders.
    Burst,
}

impl Scenario {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Calm, Self::Slow, Self::Outage, Self::Burst];

    /// What it is, for a table.
    #[must_use]
    pub fn says(self, times: &Times) -> String {
        let seconds = self.trouble(times).as_secs_f64();
        match self {
            Self::Calm => "nothing happens".to_owned(),
            Self::Slow => format!("the third service takes ten times as long for {seconds:.0} s"),
            Self::Outage => format!("the third service is away for {seconds:.0} s"),
            Self::Burst => format!("three times as many orders for {seconds:.0} s"),
        }
    }

    /// How long the trouble lasts.
    #[must_use]
    pub fn trouble(self, times: &Times) -> Duration {
        if self == Self::Outage { times.outage } else { times.trouble }
    }

    /// When each order is due.
    #[must_use]
    pub fn orders(self, times: &Times, rate: f64) -> Vec<Duration> {
        let (begin, end) = (times.before, times.before + self.trouble(times));
        let (mut due, mut orders) = (Duration::ZERO, Vec::new());
        while due < end + times.after {
            orders.push(due);
            let is_burst = self == Self::Burst && (begin..end).contains(&due);
            due += Duration::from_secs_f64(1.0 / if is_burst { rate * 3.0 } else { rate });
        }
        orders
    }

    /// The trouble begins.
    pub fn begin(self, service: &Service) {
        match self {
            Self::Slow => service.take(WORK * 10),
            Self::Outage => service.set_away(true),
            Self::Calm | Self::Burst => {}
        }
    }

    /// The trouble is over.
    pub fn end(self, service: &Service) {
        match self {
            Self::Slow => service.take(WORK),
            Self::Outage => service.set_away(false),
            Self::Calm | Self::Burst => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_three_times_the_rate_while_it_lasts() {
        let second = Duration::from_secs(1);
        let times = Times { before: second, trouble: second * 2, outage: second * 4, after: second };
        let count = |scenario: Scenario| scenario.orders(&times, 100.0).len();
        assert!((399..=401).contains(&count(Scenario::Calm)), "{}", count(Scenario::Calm));
        assert!((798..=802).contains(&count(Scenario::Burst)), "{}", count(Scenario::Burst));
        assert!((599..=601).contains(&count(Scenario::Outage)));
        assert!(Scenario::Burst.orders(&times, 100.0).is_sorted());
    }
}
