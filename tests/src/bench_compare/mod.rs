//! Two binaries of the server side by side: the same requests over HTTP, in turns, on new data each time, and the medians and their ratio.
//!
//! The machine is shared and noisy, and client and server share its cores, so only ratios of one run are a claim. The rate of the disk is
//! measured beside each round.

mod case;
mod client;
mod payload;

use crate::bench::disk::{self, DiskRate};
use crate::bench::report::median;
use case::Case;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

/// What is compared.
#[derive(Clone, Debug)]
pub struct Options {
    before: PathBuf,
    after: PathBuf,
    rounds: usize,
    span: Duration,
    cases: Vec<Case>,
}

const USAGE: &str = "usage: sagamq-bench-compare --before BINARY [--after BINARY] [--rounds N] [--seconds N] [--cases NAME,NAME]";

impl Options {
    /// Reads the command line.
    ///
    /// # Errors
    /// With what was wrong and how it is used.
    pub fn from_args(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let (mut before, mut after) = (None, crate::server::binary("sagamq"));
        let (mut rounds, mut seconds, mut cases) = (5, 4, Case::ALL.to_vec());
        while let Some(name) = arguments.next() {
            let value = arguments.next().ok_or(USAGE)?;
            let count = || value.parse().ok().filter(|&count: &usize| count > 0).ok_or(USAGE);
            match name.as_str() {
                "--before" => before = Some(value.into()),
                "--after" => after = value.into(),
                "--rounds" => rounds = count()?,
                "--seconds" => seconds = count()? as u64,
                "--cases" => cases = value.split(',').map(named).collect::<Result<_, _>>()?,
                _ => return Err(USAGE.to_owned()),
            }
        }
        Ok(Self { before: before.ok_or(USAGE)?, after, rounds, span: Duration::from_secs(seconds), cases })
    }
}

fn named(name: &str) -> Result<Case, String> {
    let names = || Case::ALL.map(Case::name).join(", ");
    Case::ALL.into_iter().find(|case| case.name() == name).ok_or_else(|| format!("no case `{name}`; there are {}", names()))
}

/// Runs everything and gives the report as Markdown. Progress goes to stderr.
pub async fn run(options: &Options) -> String {
    let mut disks: Vec<DiskRate> = Vec::new();
    let mut rates: BTreeMap<Case, [Vec<f64>; 2]> = BTreeMap::new();
    let directory = tempfile::Builder::new().prefix("sagamq-bench-compare-").tempdir().expect("a directory");
    for round in 0..options.rounds {
        disks.push(disk::measure(&directory.path().join("data"), options.span / 4));
        for &case in &options.cases {
            // In turns, and the first is not always the same.
            for side in if round % 2 == 0 { [0, 1] } else { [1, 0] } {
                let rate = case.measure([&options.before, &options.after][side], options.span).await;
                eprintln!("round {} of {}, {}, {}: {rate:.1}", round + 1, options.rounds, case.name(), ["before", "after"][side]);
                rates.entry(case).or_default()[side].push(rate);
            }
        }
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let (small, batch) = (median(disks.iter().map(|rate| rate.small)), median(disks.iter().map(|rate| rate.batch)));
    let mut text = format!(
        "Medians of {} rounds in turns, {} s a measurement, {cores} cores shared by client and server; every write synced. The disk alone: \
         {small:.0} writes of 1 KiB with `fdatasync` a second, {batch:.0} of 100 KiB.\n\n| what | before | after | ratio |\n|---|---:|---:|---:|\n",
        options.rounds,
        options.span.as_secs(),
    );
    for (case, sides) in &rates {
        let [before, after] = sides.each_ref().map(|rates| median(rates.iter().copied()));
        writeln!(text, "| {} | {before:.1} | {after:.1} | {:.2} |", case.says(), after / before).expect("a string takes it");
    }
    text
}
