//! What came of the requests: latencies in histograms, counts, errors by their code, and a line for each second.
//!
//! Whoever sends writes into a stripe, which few share. Each second the stripes are added to the whole and emptied: what they held is that
//! second's line.

use hdrhistogram::Histogram;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Longest latency that is told apart, in microseconds; a longer one counts as this.
const LATENCY_US_MAX: u64 = 24 * 3_600 * 1_000_000;

/// Digits of a latency that are kept.
const DIGITS: u8 = 3;

/// A shorter interval is no line of its own: its rate would be noise.
const LINE_MIN: Duration = Duration::from_millis(100);

/// Senders share so many stripes.
const STRIPES: usize = 8;

/// What came of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It did what it was to do.
    Done {
        /// Records (or sagas) that it was about.
        records: u64,
        /// Bytes of their values.
        bytes: u64,
    },
    /// It did not, or nobody knows; with the code of the error.
    Failed(&'static str),
    /// There was nothing to do. It is not counted.
    Idle,
    /// There was nothing to do, and there will be nothing: the run ends. It is not counted.
    Over,
}

/// A request that has ended; times from the beginning of the run.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// When it was meant to start.
    pub intended: Duration,
    /// When it was sent.
    pub sent: Duration,
    /// When its answer was there.
    pub ended: Duration,
    /// What came of it.
    pub outcome: Outcome,
}

/// Errors by their code.
pub type Errors = BTreeMap<&'static str, u64>;

/// Counts of requests that were meant to start in the time that is measured.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Requests that did what they were to do.
    pub requests: u64,
    /// Records in them.
    pub records: u64,
    /// Bytes of the records' values.
    pub bytes: u64,
    /// Those that did not.
    pub errors: Errors,
    /// Records of requests before, while the server warmed up.
    pub warm_records: u64,
    /// Requests before that failed.
    pub warm_errors: Errors,
    /// The longest that a request was sent after it was due.
    pub late_max: Duration,
    /// When the last answer was there.
    pub last_ended: Duration,
}

impl Counts {
    fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.records += other.records;
        self.bytes += other.bytes;
        self.warm_records += other.warm_records;
        self.late_max = self.late_max.max(other.late_max);
        self.last_ended = self.last_ended.max(other.last_ended);
        for (mine, theirs) in [(&mut self.errors, &other.errors), (&mut self.warm_errors, &other.warm_errors)] {
            for (code, count) in theirs {
                *mine.entry(code).or_default() += count;
            }
        }
    }
}

/// A second (or another interval) of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Moment {
    /// When it was over, in seconds after the measurement began.
    pub at_seconds: f64,
    /// Records a second.
    pub records_per_second: f64,
    /// Bytes of values a second, in 10^6.
    pub mb_per_second: f64,
    /// Requests that failed, those of the time before the measurement included.
    pub errors: u64,
    /// Median of the latencies.
    pub p50_ms: f64,
    /// 99th percentile of the latencies.
    pub p99_ms: f64,
    /// The longest latency.
    pub max_ms: f64,
}

/// Latencies and counts of everything so far.
#[derive(Clone, Debug)]
pub struct Total {
    /// From when a request was meant to start until its answer was there, in microseconds.
    pub latency: Histogram<u64>,
    /// From when it was sent.
    pub service: Histogram<u64>,
    /// The counts.
    pub counts: Counts,
    /// A line for each interval.
    pub timeline: Vec<Moment>,
}

/// Where samples are collected.
#[derive(Debug)]
pub struct Board {
    from: Duration,
    /// When the last request ended that did what it was to do, in microseconds.
    done: AtomicU64,
    /// The longest time between two of them.
    silence_max: AtomicU64,
    stripes: Vec<Mutex<Interval>>,
    whole: Mutex<Whole>,
}

#[derive(Clone, Debug)]
struct Interval {
    latency: Histogram<u64>,
    service: Histogram<u64>,
    counts: Counts,
}

#[derive(Debug)]
struct Whole {
    total: Total,
    /// What came since the last tick.
    fresh: Interval,
    /// What came since the last line of the timeline, and when that ended.
    interval: Interval,
    last: Duration,
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_US_MAX, DIGITS).expect("the bounds are legal")
}

impl Interval {
    fn new() -> Self {
        Self { latency: histogram(), service: histogram(), counts: Counts::default() }
    }

    fn record(&mut self, from: Duration, sample: &Sample) {
        let is_measured = sample.intended >= from;
        let counts = &mut self.counts;
        match sample.outcome {
            Outcome::Idle | Outcome::Over => return,
            Outcome::Failed(code) => {
                let errors = if is_measured { &mut counts.errors } else { &mut counts.warm_errors };
                *errors.entry(code).or_default() += 1;
            }
            Outcome::Done { records, .. } if !is_measured => counts.warm_records += records,
            Outcome::Done { records, bytes } => {
                counts.requests += 1;
                counts.records += records;
                counts.bytes += bytes;
                counts.last_ended = counts.last_ended.max(sample.ended);
                self.latency.saturating_record(micros(sample.ended.saturating_sub(sample.intended)));
                self.service.saturating_record(micros(sample.ended.saturating_sub(sample.sent)));
            }
        }
        if is_measured {
            counts.late_max = counts.late_max.max(sample.sent.saturating_sub(sample.intended));
        }
    }

    fn take(&mut self, other: &mut Self) {
        self.latency.add(&other.latency).expect("all have the same bounds");
        self.service.add(&other.service).expect("all have the same bounds");
        self.counts.add(&other.counts);
        other.clear();
    }

    fn moment(&self, at: Duration, length: Duration) -> Moment {
        let seconds = length.as_secs_f64();
        let a_second = |count: u64| if seconds > 0.0 { count as f64 / seconds } else { 0.0 };
        let Counts { records, bytes, errors, warm_errors, .. } = &self.counts;
        Moment {
            at_seconds: at.as_secs_f64(),
            records_per_second: a_second(*records),
            mb_per_second: a_second(*bytes) / 1e6,
            errors: errors.values().sum::<u64>() + warm_errors.values().sum::<u64>(),
            p50_ms: millis(self.latency.value_at_quantile(0.5)),
            p99_ms: millis(self.latency.value_at_quantile(0.99)),
            max_ms: millis(self.latency.max()),
        }
    }

    fn clear(&mut self) {
        self.latency.reset();
        self.service.reset();
        self.counts = Counts::default();
    }
}

impl Board {
    /// Counts requests that are meant to start after `from`; what was before only warmed the server up.
    #[must_use]
    pub fn new(from: Duration) -> Self {
        let total = Total { latency: histogram(), service: histogram(), counts: Counts::default(), timeline: Vec::new() };
        let whole = Whole { total, fresh: Interval::new(), interval: Interval::new(), last: from };
        let stripes = (0..STRIPES).map(|_| Mutex::new(Interval::new())).collect();
        Self { from, done: AtomicU64::new(0), silence_max: AtomicU64::new(0), stripes, whole: Mutex::new(whole) }
    }

    /// When what is measured begins.
    #[must_use]
    pub fn from(&self) -> Duration {
        self.from
    }

    /// Counts a request of this sender.
    pub fn record(&self, sender: usize, sample: &Sample) {
        if matches!(sample.outcome, Outcome::Done { .. }) {
            self.heard(sample.ended);
        }
        lock(&self.stripes[sender % STRIPES]).record(self.from, sample);
    }

    /// Somebody was answered, or nobody will be any more.
    fn heard(&self, at: Duration) {
        let at = micros(at);
        let before = self.done.fetch_max(at, Ordering::Relaxed);
        self.silence_max.fetch_max(at.saturating_sub(before), Ordering::Relaxed);
    }

    /// The longest time in which no request ended that did what it was to do, from the beginning of the run up to [`Self::finish`].
    #[must_use]
    pub fn silence_max(&self) -> Duration {
        Duration::from_micros(self.silence_max.load(Ordering::Relaxed))
    }

    /// Adds what came since the last time to the whole. Gives the interval that ends now, which is a line of the timeline unless it is too
    /// short to be one.
    pub fn tick(&self, now: Duration) -> Moment {
        let mut whole = lock(&self.whole);
        let Whole { total, fresh, interval, last } = &mut *whole;
        for stripe in &self.stripes {
            fresh.take(&mut lock(stripe));
        }
        total.latency.add(&fresh.latency).expect("all have the same bounds");
        total.service.add(&fresh.service).expect("all have the same bounds");
        total.counts.add(&fresh.counts);
        interval.take(fresh);
        let length = now.saturating_sub(*last);
        let moment = interval.moment(now.saturating_sub(self.from), length);
        // Of the time before the measurement there is no line.
        if length >= LINE_MIN {
            total.timeline.push(moment);
            interval.clear();
            *last = now;
        }
        moment
    }

    /// The last tick: what is left is a line even if it is short, when there is no other.
    pub fn finish(&self, now: Duration) {
        self.heard(now);
        let moment = self.tick(now);
        let mut whole = lock(&self.whole);
        if whole.total.timeline.is_empty() && now > self.from {
            whole.total.timeline.push(moment);
        }
    }

    /// Everything up to the last [`Self::tick`].
    #[must_use]
    pub fn total(&self) -> Total {
        lock(&self.whole).total.clone()
    }

    /// Records of requests that succeeded up to the last [`Self::tick`], the warm-up's included.
    #[must_use]
    pub fn successes(&self) -> u64 {
        let whole = lock(&self.whole);
        whole.total.counts.records + whole.total.counts.warm_records
    }

    /// The line of the last interval.
    #[must_use]
    pub fn last(&self) -> Option<Moment> {
        lock(&self.whole).total.timeline.last().copied()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Microseconds as milliseconds.
#[must_use]
pub fn millis(micros: u64) -> f64 {
    micros as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(intended_ms: u64, sent_ms: u64, ended_ms: u64, outcome: Outcome) -> Sample {
        let ms = Duration::from_millis;
        Sample { intended: ms(intended_ms), sent: ms(sent_ms), ended: ms(ended_ms), outcome }
    }

    const DONE: Outcome = Outcome::Done { records: 10, bytes: 1_000 };

    #[test]
    fn stripes_and_intervals_add_up_to_what_one_histogram_has() {
        let board = Board::new(Duration::ZERO);
        let mut plain = histogram();
        for number in 0..10_000_u64 {
            let latency = number * number % 7_919;
            board.record(usize::try_from(number).expect("small"), &sample(number, number, number + latency, DONE));
            plain.saturating_record(latency * 1_000);
            if number % 1_000 == 999 {
                board.tick(Duration::from_millis(number + 1));
            }
        }
        let total = board.total();
        assert_eq!(total.latency, plain);
        assert_eq!((total.counts.requests, total.counts.records, total.counts.bytes), (10_000, 100_000, 10_000_000));
        assert_eq!(total.timeline.len(), 10);
        let records: f64 = total.timeline.iter().map(|moment| moment.records_per_second).sum();
        assert!((records - 100_000.0).abs() < 1.0, "ten seconds' rates are all records: {records}");
    }

    #[test]
    fn latency_counts_from_the_intended_start_and_service_from_the_sending() {
        let board = Board::new(Duration::ZERO);
        board.record(0, &sample(0, 900, 1_000, DONE));
        board.tick(Duration::from_secs(1));
        let total = board.total();
        assert!((millis(total.latency.max()) - 1_000.0).abs() < 2.0, "what waited to be sent is latency");
        assert!((millis(total.service.max()) - 100.0).abs() < 1.0);
        assert_eq!(total.counts.late_max, Duration::from_millis(900));
    }

    #[test]
    fn the_longest_silence_is_from_answer_to_answer_whoever_sends_and_errors_are_none() {
        let board = Board::new(Duration::from_secs(1));
        assert_eq!(board.silence_max(), Duration::ZERO);
        // One that was sent later is answered sooner.
        for (sender, ended, outcome) in [(0, 500, DONE), (1, 400, DONE), (0, 2_000, Outcome::Failed("STANDBY")), (1, 3_000, DONE)] {
            board.record(sender, &sample(0, 0, ended, outcome));
        }
        assert_eq!(board.silence_max(), Duration::from_millis(2_500));
        board.finish(Duration::from_millis(5_000));
        assert_eq!(board.silence_max(), Duration::from_millis(2_500));
        board.finish(Duration::from_millis(8_000));
        assert_eq!(board.silence_max(), Duration::from_millis(3_000), "also at the end");
    }

    #[test]
    fn errors_are_counted_by_code_and_never_as_latency() {
        let board = Board::new(Duration::from_secs(1));
        board.record(0, &sample(500, 500, 600, Outcome::Failed("OVERLOADED")));
        board.record(1, &sample(500, 500, 600, DONE));
        for code in ["UNREACHABLE", "OVERLOADED", "OVERLOADED"] {
            board.record(2, &sample(1_500, 1_500, 1_600, Outcome::Failed(code)));
        }
        board.record(3, &sample(1_500, 1_500, 1_600, Outcome::Idle));
        assert_eq!(board.tick(Duration::from_secs(2)).errors, 4);
        let Total { latency, counts, .. } = board.total();
        assert_eq!((latency.len(), counts.requests, counts.warm_records), (0, 0, 10));
        assert_eq!(counts.errors, Errors::from([("OVERLOADED", 2), ("UNREACHABLE", 1)]));
        assert_eq!(counts.warm_errors, Errors::from([("OVERLOADED", 1)]));
    }
}
