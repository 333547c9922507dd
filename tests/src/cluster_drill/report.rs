//! What came of a drill, as a table.

use super::plan::Event;
use super::wrong::Wrong;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

/// One event under load.
#[derive(Clone, Debug)]
pub struct Run {
    /// What happened.
    pub event: Event,
    /// How long takeovers took, if there were any.
    pub takeovers: Vec<Duration>,
    /// The longest time in which no record was acknowledged.
    pub gap: Duration,
    /// Records that were acknowledged meanwhile.
    pub records: usize,
}

/// What came of a drill.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// The events, in their order.
    pub runs: Vec<Run>,
    /// What must not be; nothing if all is well.
    pub wrong: Vec<Wrong>,
    /// What occurred, and how often.
    pub occurred: BTreeMap<String, u64>,
    /// How long it took.
    pub took: Duration,
}

/// What must have occurred if an event has happened so often, or nothing is shown about it.
const MUST_OCCUR: [(Option<Event>, usize, &str); 27] = [
    (None, 0, "records acknowledged"),
    (None, 0, "record sent again and known"),
    (None, 0, "effects of records"),
    (None, 0, "numbers counted"),
    (None, 0, "read of one node answered"),
    (None, 0, "read of one node refused: STANDBY"),
    (None, 0, "ticket saga COMPLETED"),
    (None, 0, "tickets sold"),
    // A node that goes on may end before it answers, and then nobody knows.
    (Some(Event::Pause), 3, "late record refused, not stored"),
    (Some(Event::Pause), 1, "paused, replaced and back"),
    (Some(Event::Pause), 1, "node stepped down by itself"),
    (Some(Event::CutFromLog), 1, "503 with the reason of a node that is cut off"),
    (Some(Event::Trim), 1, "node begun with a snapshot"),
    (Some(Event::Trim), 1, "node handed over when it was told to end"),
    (Some(Event::LoseDisk), 1, "node begun with a snapshot"),
    (Some(Event::LoseLog), 1, "entries of the log lost and put back"),
    (Some(Event::LoseLog), 1, "refused: what was acknowledged is missing in the log"),
    (Some(Event::LoseLog), 1, "refused: the log is empty"),
    (Some(Event::LoseLog), 1, "refused: another cluster"),
    (Some(Event::LoseLog), 1, "loss accepted"),
    (Some(Event::LogFaults), 1, "answer of the log lost"),
    (Some(Event::LogFaults), 1, "request to the log lost"),
    (Some(Event::LogFaults), 1, "request to the log sent twice"),
    (Some(Event::LogFaults), 1, "request to the log done late"),
    (Some(Event::LogFaults), 1, "log too busy"),
    (Some(Event::Newer), 1, "refused: newer"),
    (Some(Event::Upgrade), 1, "node replaced by one of the other version"),
];

impl Outcome {
    /// What never occurred and must have.
    #[must_use]
    pub fn missing(&self) -> Vec<&'static str> {
        let times = |event: Event| self.runs.iter().filter(|run| run.event == event).count();
        let never = |what: &str| self.occurred.get(what).is_none_or(|times| *times == 0);
        let is_due = |event: Option<Event>, runs: usize| event.is_none_or(|event| times(event) >= runs);
        MUST_OCCUR.into_iter().filter(|(event, runs, what)| is_due(*event, *runs) && never(what)).map(|(.., what)| what).collect()
    }

    /// Whether all is as it must be.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.wrong.is_empty() && self.missing().is_empty()
    }

    fn count(&self, is_one: impl Fn(&Wrong) -> bool) -> usize {
        self.wrong.iter().filter(|wrong| is_one(wrong)).count()
    }

    /// In one line.
    #[must_use]
    pub fn summary(&self) -> String {
        let (lost, doubled) = (self.count(|wrong| matches!(wrong, Wrong::Lost(_))), self.count(|wrong| matches!(wrong, Wrong::Doubled(_))));
        let (stale, other) = (self.count(|wrong| matches!(wrong, Wrong::Stale(_))), self.count(|wrong| matches!(wrong, Wrong::Other(_))));
        let runs = self.runs.len();
        format!("{runs} runs, {lost} lost, {doubled} doubled, {stale} stale, {other} wrong, {} never occurred", self.missing().len())
    }

    /// The tables, in Markdown.
    #[must_use]
    pub fn tables(&self) -> String {
        let mut text = "| event | runs | takeovers | takeover p50, s | max, s | nothing acknowledged for p50, s | max, s | records |\n\
                        |---|---:|---:|---:|---:|---:|---:|---:|\n"
            .to_owned();
        for event in Event::ALL {
            let runs: Vec<&Run> = self.runs.iter().filter(|run| run.event == event).collect();
            if runs.is_empty() {
                continue;
            }
            self.row(&mut text, event.name(), &runs);
        }
        self.row(&mut text, "**all**", &self.runs.iter().collect::<Vec<_>>());
        text += "\n| what occurred | times |\n|---|---:|\n";
        for (what, times) in &self.occurred {
            writeln!(text, "| {what} | {times} |").expect("a string takes it");
        }
        text
    }

    fn row(&self, text: &mut String, name: &str, runs: &[&Run]) {
        let takeovers: Vec<Duration> = runs.iter().flat_map(|run| run.takeovers.iter().copied()).collect();
        let gaps: Vec<Duration> = runs.iter().map(|run| run.gap).collect();
        let records: usize = runs.iter().map(|run| run.records).sum();
        let ([median, most], [gap, longest]) = (median_and_most(&takeovers), median_and_most(&gaps));
        let count = takeovers.len();
        writeln!(text, "| {name} | {} | {count} | {median} | {most} | {gap} | {longest} | {records} |", runs.len())
            .expect("a string takes it");
    }
}

/// Both in seconds, or nothing of nothing.
fn median_and_most(times: &[Duration]) -> [String; 2] {
    let mut times = times.to_vec();
    times.sort();
    let shown = |time: Option<&Duration>| time.map_or_else(String::new, |time| format!("{:.1}", time.as_secs_f64()));
    // Of an even number the higher one.
    [shown(times.get(times.len() / 2)), shown(times.last())]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome() -> Outcome {
        let run = |event, seconds: &[u64]| Run {
            event,
            takeovers: seconds.iter().map(|seconds| Duration::from_secs(*seconds)).collect(),
            gap: Duration::from_secs(8),
            records: 100,
        };
        let runs = vec![run(Event::Kill, &[7]), run(Event::Kill, &[9]), run(Event::Kill, &[8]), run(Event::CutFromPeers, &[])];
        let occurred = MUST_OCCUR.into_iter().filter(|(event, ..)| event.is_none()).map(|(.., what)| (what.to_owned(), 1)).collect();
        Outcome { runs, occurred, ..Outcome::default() }
    }

    #[test]
    fn the_table_has_a_row_for_each_event_that_happened() {
        let tables = outcome().tables();
        assert!(tables.contains("| kill | 3 | 3 | 8.0 | 9.0 | 8.0 | 8.0 | 300 |"), "{tables}");
        assert!(tables.contains("| cut-from-peers | 1 | 0 |  |  | 8.0 | 8.0 | 100 |"), "{tables}");
        assert!(!tables.contains("| pause |"), "{tables}");
    }

    #[test]
    fn what_is_wrong_and_what_never_occurred_fail_it() {
        assert!(outcome().is_good(), "{:?}", outcome().missing());
        assert_eq!(outcome().summary(), "4 runs, 0 lost, 0 doubled, 0 stale, 0 wrong, 0 never occurred");
        for (wrong, summary) in [
            (Wrong::Lost(String::new()), "4 runs, 1 lost, 0 doubled, 0 stale, 0 wrong, 0 never occurred"),
            (Wrong::Doubled(String::new()), "4 runs, 0 lost, 1 doubled, 0 stale, 0 wrong, 0 never occurred"),
            (Wrong::Stale(String::new()), "4 runs, 0 lost, 0 doubled, 1 stale, 0 wrong, 0 never occurred"),
        ] {
            let outcome = Outcome { wrong: vec![wrong], ..outcome() };
            assert!(!outcome.is_good());
            assert_eq!(outcome.summary(), summary);
        }
        let mut paused = outcome();
        paused.runs[0].event = Event::Pause;
        assert_eq!(paused.missing(), ["paused, replaced and back", "node stepped down by itself"]);
        assert!(!paused.is_good());
        paused.runs.iter_mut().for_each(|run| run.event = Event::Pause);
        assert_eq!(paused.missing().len(), 3, "{:?}", paused.missing());
    }
}
