//! [`Weather`]: how it is between a node and the log, and what that does to one request.

use sagamq_broker::env::Random;
use std::time::Duration;

/// Whether anything gets through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Way {
    /// Yes.
    #[default]
    Open,
    /// Requests are taken, and nobody hears of them until the way is open again: then they arrive, also of those who have given up.
    Silent,
    /// Connections break off.
    Refused,
}

/// How it is between a node and the log. The chances are in a thousand writes; reads, of which there are many more, have a quarter of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Weather {
    pub(super) way: Way,
    /// Each request takes so much longer, at most, in milliseconds.
    pub(super) slow_ms: u64,
    /// It is done, and nobody hears of it.
    pub(super) answer_lost: u16,
    /// It is not done, and nobody hears of it.
    pub(super) request_lost: u16,
    /// It is done twice, and the second answer is given.
    pub(super) twice: u16,
    /// Its connection breaks off, and it is done seconds later.
    pub(super) late: u16,
    /// The server says that it is too busy.
    pub(super) busy: u16,
}

/// What happens to one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    None,
    AnswerLost,
    RequestLost,
    Twice,
    Late(Duration),
    Busy,
}

impl Fault {
    /// What it is called in the table.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::None => "request of the log answered",
            Self::AnswerLost => "answer of the log lost",
            Self::RequestLost => "request to the log lost",
            Self::Twice => "request to the log sent twice",
            Self::Late(_) => "request to the log done late",
            Self::Busy => "log too busy",
        }
    }
}

/// How much later what is late is done, in milliseconds: from, and how much more.
const LATE_MS: (u64, u64) = (500, 9_500);

/// A read has such a part of the chances of a write.
const READS: u16 = 4;

impl Weather {
    /// Nothing gets through.
    pub(super) const fn shut(way: Way) -> Self {
        Self { way, slow_ms: 0, answer_lost: 0, request_lost: 0, twice: 0, late: 0, busy: 0 }
    }

    /// As bad as it gets while the log can still be used.
    pub(super) const STORM: Self = Self { way: Way::Open, slow_ms: 120, answer_lost: 40, request_lost: 40, twice: 100, late: 40, busy: 40 };

    /// What happens to the next request, and how much longer it takes.
    pub(super) fn draw(&self, random: &mut Random, is_write: bool) -> (Fault, Duration) {
        let slow = if self.slow_ms == 0 { 0 } else { random.next_u64() % (self.slow_ms + 1) };
        let mut drawn = u16::try_from(random.next_u64() % 1_000).expect("it is below a thousand");
        let late = Duration::from_millis(LATE_MS.0 + random.next_u64() % LATE_MS.1);
        let chances = [
            (self.answer_lost, Fault::AnswerLost),
            (self.request_lost, Fault::RequestLost),
            (self.twice, Fault::Twice),
            (self.late, Fault::Late(late)),
            (self.busy, Fault::Busy),
        ];
        for (chance, fault) in chances {
            match drawn.checked_sub(if is_write { chance } else { chance / READS }) {
                None => return (fault, Duration::from_millis(slow)),
                Some(left) => drawn = left,
            }
        }
        (Fault::None, Duration::from_millis(slow))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn fine_weather_does_nothing_and_a_storm_everything() {
        let mut random = Random::from_seed(7);
        for _ in 0..1_000 {
            assert_eq!(Weather::default().draw(&mut random, true), (Fault::None, Duration::ZERO));
        }
        let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
        for _ in 0..10_000 {
            let (fault, slow) = Weather::STORM.draw(&mut random, true);
            assert!(slow <= Duration::from_millis(Weather::STORM.slow_ms));
            *counts.entry(fault.name()).or_default() += 1;
        }
        assert_eq!(counts.len(), 6, "{counts:?}");
        assert!(counts.values().all(|times| *times > 200), "{counts:?}");
        let faults = (0..10_000).filter(|_| Weather::STORM.draw(&mut random, false).0 != Fault::None).count();
        assert!(faults < 1_000, "{faults}");
    }
}
