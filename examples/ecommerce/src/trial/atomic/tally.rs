//! The table at the end: for each point and each who was killed there, what became of the runs.

use super::case::Point;
use super::play::Played;
use crate::trial::site::{BROKER, PARTICIPANTS};
use sagamq_api::saga::SagaState;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

/// What became of the runs of one kind.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    runs: usize,
    not_reached: usize,
    committed: usize,
    in_doubt: Duration,
    settled: Duration,
}

impl Tally {
    fn add(&mut self, played: &Played) {
        self.runs += 1;
        if played.is_reached {
            self.committed += usize::from(played.saga.summary.state == SagaState::Completed);
            self.in_doubt = self.in_doubt.max(played.in_doubt);
            self.settled = self.settled.max(played.settled);
        } else {
            self.not_reached += 1;
        }
    }

    const fn killed(&self) -> usize {
        self.runs - self.not_reached
    }
}

fn tallies(played: &[Played]) -> BTreeMap<(Point, usize), Tally> {
    let column = |killed: &str| std::iter::once(BROKER).chain(PARTICIPANTS).position(|name| name == killed).unwrap_or_default();
    let mut tallies: BTreeMap<(Point, usize), Tally> = BTreeMap::new();
    for run in played {
        tallies.entry((run.case.point, column(run.case.killed))).or_default().add(run);
    }
    tallies
}

/// Kinds of kills that were planned and never came about.
pub(super) fn never_killed(played: &[Played]) -> usize {
    tallies(played).values().filter(|tally| tally.killed() == 0).count()
}

/// The table, as text.
pub(super) fn table(played: &[Played]) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write_table(&mut text, played);
    text
}

fn write_table(text: &mut String, played: &[Played]) -> std::fmt::Result {
    let names: Vec<&str> = std::iter::once("coordinator").chain(PARTICIPANTS).collect();
    writeln!(
        text,
        "\n{:<36}{:<13}{:>5}{:>11}{:>9}{:>13}{:>18}{:>18}",
        "POINT", "KILLED", "runs", "committed", "aborted", "not reached", "longest in doubt", "longest to settle"
    )?;
    let mut all = Tally::default();
    for ((point, column), tally) in tallies(played) {
        line(text, &point.to_string(), names.get(column).copied().unwrap_or_default(), &tally)?;
        all.runs += tally.runs;
        all.not_reached += tally.not_reached;
        all.committed += tally.committed;
        all.in_doubt = all.in_doubt.max(tally.in_doubt);
        all.settled = all.settled.max(tally.settled);
    }
    line(text, "all", "", &all)
}

fn line(text: &mut String, point: &str, killed: &str, tally: &Tally) -> std::fmt::Result {
    let aborted = tally.killed() - tally.committed;
    writeln!(
        text,
        "{point:<36}{killed:<13}{:>5}{:>11}{aborted:>9}{:>13}{:>15} ms{:>15} ms",
        tally.runs,
        tally.committed,
        tally.not_reached,
        tally.in_doubt.as_millis(),
        tally.settled.as_millis()
    )
}
