//! What protection and tracing cost: the same load on servers that ask nobody, ask for keys, speak TLS, and tell of every request as a trace,
//! in turns, each time a process of its own on new data.
//!
//! The load is `sagamq bench` in a further process. The machine is shared and noisy, so only ratios of one run are a claim.

mod collector;
mod guard;
mod load;

use crate::measure::disk::{self, DiskRate};
use crate::measure::median;
use collector::Collector;
use guard::{Files, Guard, Guarded};
use load::{Load, Rate};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

/// What is measured.
#[derive(Clone, Debug)]
pub struct Options {
    program: PathBuf,
    rounds: usize,
    seconds: u32,
    loads: Vec<Load>,
}

const USAGE: &str = "usage: sagamq-bench-security [--server BINARY] [--rounds N] [--seconds N] [--loads NAME,NAME]";

impl Options {
    /// Reads the command line.
    ///
    /// # Errors
    /// With what was wrong and how it is used.
    pub fn from_args(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self { program: crate::server::binary("sagamq"), rounds: 5, seconds: 4, loads: Load::ALL.to_vec() };
        while let Some(name) = arguments.next() {
            let value = arguments.next().ok_or(USAGE)?;
            let count = || value.parse().ok().filter(|&count: &u32| count > 0).ok_or(USAGE);
            match name.as_str() {
                "--server" => options.program = value.into(),
                "--rounds" => options.rounds = count()? as usize,
                "--seconds" => options.seconds = count()?,
                "--loads" => options.loads = value.split(',').map(load::named).collect::<Result<_, _>>()?,
                _ => return Err(USAGE.to_owned()),
            }
        }
        Ok(options)
    }
}

/// What each load came to at each server, in every round.
type Rates = BTreeMap<(Load, Guard), Vec<Rate>>;

/// Runs everything and gives the report as Markdown. Progress goes to stderr.
///
/// # Panics
/// When a server does not start, a load fails, or a server that should tell of its requests told nothing.
pub async fn run(options: &Options) -> String {
    let directory = tempfile::Builder::new().prefix("sagamq-bench-security-").tempdir().expect("a directory");
    let files = Files::write(directory.path(), &options.program);
    let collector = Collector::start().await;
    let (mut disks, mut rates): (Vec<DiskRate>, Rates) = (Vec::new(), BTreeMap::new());
    for round in 0..options.rounds {
        disks.push(disk::measure(&directory.path().join("data"), Duration::from_millis(500)));
        for &load in &options.loads {
            // In turns, and the first is not always the same.
            let mut order = Guard::ALL;
            order.rotate_left(round % Guard::ALL.len());
            for guard in order {
                let told = collector.requests();
                let server = Guarded::start(&options.program, guard, &files, &collector.endpoint()).await;
                let rate = load.measure(&options.program, &server, options.seconds).await;
                server.stop().await;
                let told = collector.requests() - told;
                assert_eq!(told > 0, guard.is_traced(), "{}: the collector was told {told} times", guard.says());
                eprintln!(
                    "round {} of {}, {}, {}: {:.0} {}/s, p99 {:.1} ms",
                    round + 1,
                    options.rounds,
                    load.name(),
                    guard.says(),
                    rate.per_second,
                    load.unit(),
                    rate.p99_ms
                );
                rates.entry((load, guard)).or_default().push(rate);
            }
        }
    }
    report(options, &disks, &rates)
}

fn report(options: &Options, disks: &[DiskRate], rates: &Rates) -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let small = median(disks.iter().map(|rate| rate.small));
    let mut text = format!(
        "Medians of {} rounds in turns, {} s a measurement, {cores} cores shared by server, load and collector; every write synced. The disk alone: \
         {small:.0} writes of 1 KiB with `fdatasync` a second. A ratio is the rate beside that of the server that asks nobody.\n",
        options.rounds, options.seconds,
    );
    for &load in &options.loads {
        let of = |guard: Guard, what: fn(&Rate) -> f64| median(rates[&(load, guard)].iter().map(what));
        write!(text, "\n| {} | {}/s | ratio | p99 ms |\n|---|---:|---:|---:|\n", load.says(), load.unit()).expect("a string takes it");
        let open = of(Guard::Open, |rate| rate.per_second);
        for guard in Guard::ALL {
            let (rate, p99) = (of(guard, |rate| rate.per_second), of(guard, |rate| rate.p99_ms));
            writeln!(text, "| {} | {rate:.0} | {:.2} | {p99:.1} |", guard.says(), rate / open).expect("a string takes it");
        }
    }
    text
}
