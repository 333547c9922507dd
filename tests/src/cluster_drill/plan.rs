//! Which events happen, in which order: drawn from a seed.

use sagamq_broker::env::Random;

/// What happens to a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Event {
    /// The active node is killed (`SIGKILL`).
    Kill,
    /// The active node is stopped for a while, and goes on.
    Pause,
    /// The active node does not reach the log any more.
    CutFromLog,
    /// The active node does not reach the other nodes any more, and they not it.
    CutFromPeers,
    /// A node is away until the log is trimmed below what it has folded.
    Trim,
    /// What was acknowledged last is missing in the log, and then all of it; it is put back.
    LoseLog,
    /// A node's disk is lost.
    LoseDisk,
    /// The log answers slowly, twice, late, or not at all.
    LogFaults,
    /// Each node in turn is told to end, and is started again, as for an update.
    Roll,
    /// A node of a newer version has written to the log.
    Newer,
    /// Each node in turn is told to end, and is started again with another binary; between two of them the active one is killed.
    Upgrade,
}

impl Event {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Kill,
        Self::Pause,
        Self::CutFromLog,
        Self::CutFromPeers,
        Self::Trim,
        Self::LoseLog,
        Self::LoseDisk,
        Self::LogFaults,
        Self::Roll,
        Self::Newer,
        Self::Upgrade,
    ];

    /// Its name at the command line and in the table.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Pause => "pause",
            Self::CutFromLog => "cut-from-log",
            Self::CutFromPeers => "cut-from-peers",
            Self::Trim => "trim",
            Self::LoseLog => "lose-log",
            Self::LoseDisk => "lose-disk",
            Self::LogFaults => "log-faults",
            Self::Roll => "roll",
            Self::Newer => "newer",
            Self::Upgrade => "upgrade",
        }
    }

    /// The event of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|event| event.name() == name)
    }

    /// All names, for a message.
    #[must_use]
    pub fn names() -> String {
        Self::ALL.map(Self::name).join(", ")
    }
}

/// One event, and what its own choices are drawn from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// What happens.
    pub event: Event,
    /// From which its choices are drawn.
    pub seed: u64,
}

/// Draws so many events. An upgrade happens once, in the middle: what comes before is done by the other binary, and what comes after by the newer one.
#[must_use]
pub fn draw(events: &[Event], runs: u32, seed: u64) -> Vec<Step> {
    let others: Vec<Event> = events.iter().copied().filter(|event| *event != Event::Upgrade).collect();
    if others.len() == events.len() || runs == 0 {
        return draw_others(&others, runs, seed);
    }
    let mut drawn = draw_others(&others, runs - 1, seed);
    drawn.insert(drawn.len() / 2, Step { event: Event::Upgrade, seed });
    drawn
}

/// Draws so many events: each equally often as far as that goes, the rest by chance, in an order by chance.
fn draw_others(events: &[Event], runs: u32, seed: u64) -> Vec<Step> {
    let (mut random, runs) = (Random::from_seed(seed), runs as usize);
    if events.is_empty() {
        return Vec::new();
    }
    let rounds = runs / events.len();
    let mut drawn: Vec<Event> = events.iter().copied().cycle().take(rounds * events.len()).collect();
    let mut rest = events.to_vec();
    shuffle(&mut rest, &mut random);
    drawn.extend(rest.into_iter().take(runs - drawn.len()));
    shuffle(&mut drawn, &mut random);
    drawn.into_iter().map(|event| Step { event, seed: random.next_u64() }).collect()
}

fn shuffle<T>(items: &mut [T], random: &mut Random) {
    for last in (1..items.len()).rev() {
        items.swap(last, below(random, last + 1));
    }
}

/// A number below this one.
pub(super) fn below(random: &mut Random, bound: usize) -> usize {
    usize::try_from(random.next_u64() % bound as u64).expect("it is below a usize")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn counts(steps: &[Step]) -> BTreeMap<Event, usize> {
        steps.iter().fold(BTreeMap::new(), |mut counts, step| {
            *counts.entry(step.event).or_default() += 1;
            counts
        })
    }

    #[test]
    fn forty_runs_have_each_event_three_times_at_least() {
        for seed in 0..50 {
            let counts = counts(&draw(&Event::ALL, 40, seed));
            assert_eq!(counts.len(), Event::ALL.len());
            assert!(counts.iter().all(|(event, times)| *times >= 3 || *event == Event::Upgrade), "{seed}: {counts:?}");
            assert_eq!(counts[&Event::Upgrade], 1);
        }
    }

    #[test]
    fn an_upgrade_is_in_the_middle_and_there_is_one() {
        for (runs, wanted) in [(0, None), (1, Some(0)), (2, Some(0)), (3, Some(1)), (40, Some(19))] {
            let steps = draw(&Event::ALL, runs, 7);
            assert_eq!((steps.len(), steps.iter().position(|step| step.event == Event::Upgrade)), (runs as usize, wanted));
            assert!(counts(&steps).get(&Event::Upgrade).is_none_or(|times| *times == 1));
        }
        assert_eq!(draw(&[Event::Upgrade], 3, 7).len(), 1, "nothing else is asked for");
    }

    #[test]
    fn a_seed_makes_the_same_plan_and_another_one_another() {
        assert_eq!(draw(&Event::ALL, 40, 7), draw(&Event::ALL, 40, 7));
        assert_ne!(draw(&Event::ALL, 40, 7), draw(&Event::ALL, 40, 8));
        assert_eq!(draw(&Event::ALL, 3, 7).len(), 3);
        assert_eq!(counts(&draw(&[Event::Kill], 5, 7)), BTreeMap::from([(Event::Kill, 5)]));
        assert_eq!(draw(&[], 5, 7), []);
    }

    #[test]
    fn each_event_has_a_name_of_its_own() {
        for event in Event::ALL {
            assert_eq!(Event::named(event.name()), Some(event));
        }
    }
}
