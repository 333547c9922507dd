//! The result of a run, as JSON has it.

use super::Done;
use super::board::{Board, Errors, Moment, Total, millis};
use super::disk::Disk;
use super::load::{Ended, Loaded, Plan};
use hdrhistogram::Histogram;
use serde::Serialize;
use serde_json::Value;
use std::time::Duration;

/// A schedule counts as kept if so many of a thousand requests that were due were sent.
const KEPT_OF_THOUSAND: u64 = 990;

/// Quantiles of a latency, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Latency {
    /// Half of them were not longer.
    pub p50: f64,
    /// 90 of 100.
    pub p90: f64,
    /// 99 of 100.
    pub p99: f64,
    /// 999 of 1,000.
    pub p99_9: f64,
    /// The longest.
    pub max: f64,
    /// Their mean.
    pub mean: f64,
}

impl Latency {
    /// Of microseconds.
    #[must_use]
    pub fn of(histogram: &Histogram<u64>) -> Self {
        let at = |quantile| millis(histogram.value_at_quantile(quantile));
        Self { p50: at(0.5), p90: at(0.9), p99: at(0.99), p99_9: at(0.999), max: millis(histogram.max()), mean: histogram.mean() / 1e3 }
    }
}

/// What was measured of one kind of thing.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    /// What it is.
    pub what: String,
    /// What is counted: `records` or `sagas`.
    pub unit: &'static str,
    /// How long was measured.
    pub seconds: f64,
    /// Requests that succeeded (what was received counts each record).
    pub requests: u64,
    /// What was counted in them.
    pub records: u64,
    /// Bytes of the values.
    pub bytes: u64,
    /// Records (or sagas) a second.
    pub records_per_second: f64,
    /// Bytes of values a second, in 10^6.
    pub mb_per_second: f64,
    /// From when it was meant to start until its answer was there.
    pub latency_ms: Latency,
    /// From when it was sent until its answer was there: what the server took, without what waited for a connection.
    pub service_ms: Latency,
    /// The longest that a request was sent after it was due.
    pub late_max_ms: f64,
    /// The longest time without an answer of one that did what it was to do, from the beginning of the warm-up to the end.
    pub silence_max_ms: f64,
    /// Requests that failed, by code.
    pub errors: Errors,
    /// Records before the measurement began.
    pub warmup_records: u64,
    /// Requests that failed before the measurement began, by code.
    pub warmup_errors: Errors,
    /// Percentile and latency in milliseconds, for a plot.
    pub percentiles: Vec<(f64, f64)>,
    /// A line for each second.
    pub timeline: Vec<Moment>,
}

impl Measured {
    /// Everything that a board has counted.
    #[must_use]
    pub fn of(what: &str, unit: &'static str, board: &Board, plan: &Plan, loaded: &Loaded) -> Self {
        let Total { latency, service, counts, mut timeline } = board.total();
        // A run that came to its end took all of its time; what was answered after that took longer.
        let planned = if loaded.ended == Ended::Duration { plan.warmup + plan.duration } else { Duration::ZERO };
        let seconds = planned.max(counts.last_ended).saturating_sub(board.from()).as_secs_f64();
        // Of the time in which only the last answers were waited for there is no rate.
        timeline.retain(|moment| moment.records_per_second > 0.0 || moment.errors > 0 || moment.at_seconds <= seconds);
        let a_second = |count: u64| if seconds > 0.0 { count as f64 / seconds } else { 0.0 };
        Self {
            what: what.to_owned(),
            unit,
            seconds,
            requests: counts.requests,
            records: counts.records,
            bytes: counts.bytes,
            records_per_second: a_second(counts.records),
            mb_per_second: a_second(counts.bytes) / 1e6,
            latency_ms: Latency::of(&latency),
            service_ms: Latency::of(&service),
            late_max_ms: counts.late_max.as_secs_f64() * 1e3,
            silence_max_ms: board.silence_max().as_secs_f64() * 1e3,
            errors: counts.errors,
            warmup_records: counts.warm_records,
            warmup_errors: counts.warm_errors,
            percentiles: percentiles(&latency),
            timeline,
        }
    }

    /// Requests that failed.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.errors.values().chain(self.warmup_errors.values()).sum()
    }

    /// Requests of which nobody knows whether they took effect.
    #[must_use]
    pub fn in_doubt(&self) -> u64 {
        let of = |errors: &Errors| {
            ["TIMEOUT", "OUTCOME_UNKNOWN", "UNEXPECTED_ANSWER", "INTERNAL", "WRITES_STOPPED", "LEASE_LOST"]
                .iter()
                .filter_map(|code| errors.get(code))
                .sum::<u64>()
        };
        of(&self.errors) + of(&self.warmup_errors)
    }
}

/// Points of a curve that shows the tail: ten for each further nine.
fn percentiles(histogram: &Histogram<u64>) -> Vec<(f64, f64)> {
    if histogram.is_empty() {
        return Vec::new();
    }
    let nines = (histogram.len() as f64).log10();
    let steps = (0..).map(|step| f64::from(step) / 10.0).take_while(|&step| step <= nines);
    steps.map(|step| 1.0 - 10.0_f64.powf(-step)).map(|of_one| (of_one * 100.0, millis(histogram.value_at_quantile(of_one)))).collect()
}

/// Whether the requests were sent when they were due.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Kept {
    /// Records (or sagas) a second that were asked for.
    pub asked_per_second: f64,
    /// Requests that were due.
    pub due: u64,
    /// Requests that were sent.
    pub sent: u64,
    /// Requests that were due and never sent: every connection was busy.
    pub not_sent: u64,
    /// The longest that a request was sent after it was due.
    pub late_max_ms: f64,
    /// Whether nearly all were sent. If not, the latencies are those of a queue that only grows.
    pub kept: bool,
}

impl Kept {
    fn of(plan: &Plan, loaded: &Loaded, records_of_request: u64, late_max_ms: f64) -> Option<Self> {
        let schedule = plan.schedule?;
        let (due, sent) = (loaded.due.max(loaded.sent), loaded.sent);
        Some(Self {
            asked_per_second: schedule.per_second() * records_of_request as f64,
            due,
            sent,
            not_sent: due - sent,
            late_max_ms,
            kept: sent * 1_000 >= due * KEPT_OF_THOUSAND,
        })
    }
}

/// The disk's own figures, and what the run is beside them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct BesideDisk {
    /// What was measured, before and after the run.
    #[serde(flatten)]
    pub disk: Disk,
    /// Appends with a sync a second, by one thread.
    pub writes_per_second: f64,
    /// Their bytes a second, in 10^6.
    pub mb_per_second: f64,
    /// Requests of the run for each of them.
    pub requests_a_write: f64,
}

impl BesideDisk {
    fn of(disk: Disk, first: &Measured) -> Self {
        let requests = if first.seconds > 0.0 { first.requests as f64 / first.seconds } else { 0.0 };
        Self {
            disk,
            writes_per_second: disk.per_second(),
            mb_per_second: disk.mb_per_second(),
            requests_a_write: if disk.per_second() > 0.0 { requests / disk.per_second() } else { 0.0 },
        }
    }
}

/// The result of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Which benchmark.
    pub bench: &'static str,
    /// Version of the program.
    pub version: &'static str,
    /// Address of the server.
    pub server: String,
    /// Whether the server was started for this run.
    pub own_server: bool,
    /// The name of the run, with which its topics begin.
    pub run: String,
    /// When it began, in milliseconds since 1970.
    pub started_at_ms: i64,
    /// Processors of the machine that sent the load.
    pub cores: usize,
    /// What was asked for.
    pub settings: Value,
    /// Why it ended: `duration`, `count`, `drained`, `interrupted` or `gave_up`.
    pub ended: &'static str,
    /// Whether it kept its schedule; none in a closed loop.
    pub schedule: Option<Kept>,
    /// The disk's own figures; none if it was not measured.
    pub disk: Option<BesideDisk>,
    /// What was measured.
    pub results: Vec<Measured>,
    /// What does not add up.
    pub faults: Vec<String>,
    /// What else is to be known.
    pub notes: Vec<String>,
}

/// Around a run.
#[derive(Clone, Debug)]
pub struct Heading {
    /// Which benchmark.
    pub bench: &'static str,
    /// Address of the server.
    pub server: String,
    /// Whether the server was started for this run.
    pub own_server: bool,
    /// The name of the run.
    pub run: String,
    /// When it began, in milliseconds since 1970.
    pub started_at_ms: i64,
    /// What was asked for.
    pub settings: Value,
    /// Records (or sagas) of a request.
    pub records_of_request: u64,
}

impl Report {
    /// The report of a run.
    ///
    /// # Panics
    /// When nothing was measured.
    #[must_use]
    pub fn new(heading: Heading, plan: &Plan, disk: Option<Disk>, done: Done) -> Self {
        let Heading { bench, server, own_server, run, started_at_ms, settings, records_of_request } = heading;
        let Done { results, loaded, faults, notes } = done;
        let first = results.first().expect("something was sent");
        Self {
            bench,
            version: env!("CARGO_PKG_VERSION"),
            server,
            own_server,
            run,
            started_at_ms,
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            settings,
            ended: match loaded.ended {
                Ended::Duration => "duration",
                Ended::Count => "count",
                Ended::Drained => "drained",
                Ended::Interrupted => "interrupted",
                Ended::GaveUp => "gave_up",
            },
            schedule: Kept::of(plan, &loaded, records_of_request, first.late_max_ms),
            disk: disk.map(|disk| BesideDisk::of(disk, first)),
            results,
            faults,
            notes,
        }
    }

    /// Whether every request succeeded and everything adds up.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.faults.is_empty() && self.ended != "gave_up" && self.results.iter().all(|measured| measured.failed() == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::board::{Outcome, Sample};
    use crate::bench::schedule::Schedule;

    fn plan(rate: Option<f64>) -> Plan {
        let (warmup, duration, interval) = (Duration::from_secs(1), Duration::from_secs(10), Duration::from_secs(1));
        let schedule = rate.map(|rate| Schedule::new(rate).expect("a rate"));
        Plan { schedule, warmup, duration, count_max: None, interval, patience: interval }
    }

    fn board(outcomes: &[(u64, Outcome)]) -> Board {
        let board = Board::new(Duration::from_secs(1));
        for &(at, outcome) in outcomes {
            let (intended, ended) = (Duration::from_millis(at), Duration::from_millis(at + 10));
            board.record(0, &Sample { intended, sent: intended, ended, outcome });
        }
        board.tick(Duration::from_secs(12));
        board
    }

    fn loaded(ended: Ended, due: u64, sent: u64) -> Loaded {
        Loaded { ended, at: Duration::from_secs(11), due, sent }
    }

    const DONE: Outcome = Outcome::Done { records: 100, bytes: 1_000_000 };

    fn report(plan: &Plan, board: &Board, loaded: Loaded) -> Report {
        let heading = Heading {
            bench: "produce",
            server: "http://127.0.0.1:7070".into(),
            own_server: false,
            run: "bench-1".into(),
            started_at_ms: 0,
            settings: Value::Null,
            records_of_request: 100,
        };
        let results = vec![Measured::of("produce", "records", board, plan, &loaded)];
        let disk = Disk { write_bytes: 1_000, writes: 10, seconds: 1.0 };
        Report::new(heading, plan, Some(disk), Done { results, loaded, faults: vec![], notes: vec![] })
    }

    #[test]
    fn rates_are_over_the_time_that_was_planned_or_the_last_answer() {
        let board = board(&[(500, DONE), (2_000, DONE), (4_000, DONE)]);
        let whole = report(&plan(None), &board, loaded(Ended::Duration, 3, 3));
        assert_eq!((whole.results[0].seconds, whole.results[0].records_per_second, whole.results[0].mb_per_second), (10.0, 20.0, 0.2));
        assert_eq!(whole.results[0].warmup_records, 100);
        let drained = report(&plan(None), &board, loaded(Ended::Drained, 3, 3));
        assert_eq!(drained.results[0].seconds, 3.01, "from the end of the warm-up to the last answer");
        assert_eq!(drained.disk.expect("measured").requests_a_write, 2.0 / 3.01 / 10.0);
        assert!(whole.schedule.is_none() && whole.is_ok());
    }

    #[test]
    fn a_schedule_that_was_not_kept_is_told() {
        let board = board(&[(2_000, DONE)]);
        let kept = |due, sent| report(&plan(Some(10.0)), &board, loaded(Ended::Duration, due, sent)).schedule.expect("it has one");
        assert_eq!((kept(1_000, 990).kept, kept(1_000, 989).kept, kept(1_000, 989).not_sent), (true, false, 11));
        assert_eq!((kept(1_000, 990).asked_per_second, kept(1, 1).late_max_ms), (1_000.0, 0.0));
    }

    #[test]
    fn errors_make_a_run_a_failure_whenever_they_were() {
        for at in [500, 2_000] {
            let failed = report(&plan(None), &board(&[(3_000, DONE), (at, Outcome::Failed("TIMEOUT"))]), loaded(Ended::Duration, 2, 2));
            assert!(!failed.is_ok(), "{at}");
            assert_eq!((failed.results[0].failed(), failed.results[0].in_doubt()), (1, 1));
        }
        assert!(!report(&plan(None), &board(&[]), loaded(Ended::GaveUp, 0, 0)).is_ok());
    }

    #[test]
    fn the_tail_has_points_as_far_as_there_are_samples() {
        let mut histogram = Histogram::<u64>::new_with_max(1_000_000, 3).expect("legal");
        assert!(percentiles(&histogram).is_empty());
        (1..=1_000).for_each(|latency| histogram.saturating_record(latency * 1_000));
        let points = percentiles(&histogram);
        assert_eq!(points.len(), 31);
        assert!((points[30].0 - 99.9).abs() < 1e-9 && (points[30].1 - 999.0).abs() < 1.0, "{:?}", points[30]);
        assert!((points[10].0 - 90.0).abs() < 1e-9 && (points[10].1 - 900.0).abs() < 1.0);
    }
}
