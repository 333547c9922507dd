//! The benchmark: durable produce, queue consume with acknowledgements, sagas, and a restart.
//!
//! The machine is assumed to be shared and noisy, so nothing here is an absolute claim: each figure is the median of several
//! rounds, and each round measures the raw `write + fdatasync` rate of the same disk as well. Client and server share the
//! machine's cores.

mod consume;
pub(crate) mod disk;
mod produce;
pub(crate) mod report;
mod restart;
mod sagas;

use crate::ServerProcess;
use report::{Report, median};
use std::time::{Duration, Instant};

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Rounds; the median is reported.
    pub rounds: usize,
    /// How long each measurement of a round takes.
    pub span: Duration,
    /// Sagas of a round.
    pub sagas: u32,
}

impl Options {
    /// Reads `--rounds N --seconds N --sagas N`.
    ///
    /// # Errors
    /// With what was wrong and how it is used.
    pub fn from_args(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self { rounds: 5, span: Duration::from_secs(4), sagas: 2000 };
        while let Some(name) = arguments.next() {
            let usage = || "usage: sagamq-bench [--rounds N] [--seconds N] [--sagas N]".to_owned();
            let value: u32 = arguments.next().and_then(|value| value.parse().ok()).filter(|&value| value > 0).ok_or_else(usage)?;
            match name.as_str() {
                "--rounds" => options.rounds = value as usize,
                "--seconds" => options.span = Duration::from_secs(value.into()),
                "--sagas" => options.sagas = value,
                _ => return Err(usage()),
            }
        }
        Ok(options)
    }
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Runs everything and gives the report as Markdown. Progress goes to stderr.
pub async fn run(options: &Options) -> String {
    let mut report = Report::default();
    for round in 1..=options.rounds {
        eprintln!("round {round} of {}", options.rounds);
        let server = ServerProcess::start().await;
        report.disk(disk::measure(&server.data(), options.span / 4));
        for connections in [1, 16] {
            report.produce(connections, produce::measure(&server, connections, options.span).await);
        }
        for consumers in [1, 16] {
            report.consume(consumers, consume::measure(&server, consumers).await);
        }
        for concurrency in [1, 64] {
            let count = if concurrency == 1 { options.sagas / 10 } else { options.sagas };
            report.sagas(concurrency, sagas::measure(&server, concurrency, count.max(1)).await);
        }
        report.restart(restart::measure().await);
    }
    report.markdown(options)
}

/// Latencies of operations: the median and the 99th percentile.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Latency {
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
}

impl Latency {
    pub(crate) fn of(latencies: &mut [Duration]) -> Self {
        latencies.sort_unstable();
        let at = |share: f64| {
            let index = (latencies.len() as f64 * share) as usize;
            latencies.get(index.min(latencies.len().saturating_sub(1))).copied().unwrap_or_default()
        };
        Self { p50: at(0.50), p99: at(0.99) }
    }

    pub(crate) fn median_of(all: &[Self]) -> Self {
        let of = |pick: fn(&Self) -> Duration| Duration::from_secs_f64(median(all.iter().map(|l| pick(l).as_secs_f64())));
        Self { p50: of(|l| l.p50), p99: of(|l| l.p99) }
    }
}
