//! Two binaries of the server side by side: the same requests over HTTP, in turns, on new data each time, and the medians and their ratio.
//!
//! The machine is shared and noisy, and client and server share its cores, so only ratios of one run are a claim. The rate of the disk is
//! measured beside each round.

mod case;
mod client;
mod payload;
mod written;

pub(crate) use client::Connection;
pub(crate) use payload::{Noise, Place, request};

use crate::measure::disk::{self, DiskRate};
use crate::measure::median;
use case::Case;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;
use written::Topics;

/// What is compared.
#[derive(Clone, Debug)]
pub struct Options {
    before: PathBuf,
    after: PathBuf,
    rounds: usize,
    span: Duration,
    cases: Vec<Case>,
    /// Payload for the measurement of written bytes, in GB (10^9); 0: it is left out.
    written: u64,
}

const USAGE: &str = "usage: sagamq-bench-compare [--before BINARY] [--after BINARY] [--rounds N] [--seconds N] [--cases NAME,NAME | none] \
                     [--written-gb N]";

impl Options {
    /// Reads the command line.
    ///
    /// # Errors
    /// With what was wrong and how it is used.
    pub fn from_args(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let (mut before, mut after) = (None, crate::server::binary("sagamq"));
        let (mut rounds, mut seconds, mut cases, mut written) = (5, 4, Case::ALL.to_vec(), 0);
        while let Some(name) = arguments.next() {
            let value = arguments.next().ok_or(USAGE)?;
            let count = || value.parse().ok().filter(|&count: &usize| count > 0).ok_or(USAGE);
            match name.as_str() {
                "--before" => before = Some(value.into()),
                "--after" => after = value.into(),
                "--rounds" => rounds = count()?,
                "--seconds" => seconds = count()? as u64,
                "--written-gb" => written = count()? as u64,
                "--cases" if value == "none" => cases.clear(),
                "--cases" => cases = value.split(',').map(named).collect::<Result<_, _>>()?,
                _ => return Err(USAGE.to_owned()),
            }
        }
        let before = before.unwrap_or_else(|| after.clone());
        Ok(Self { before, after, rounds, span: Duration::from_secs(seconds), cases, written })
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
    if options.written > 0 {
        text.push_str(&written(options).await);
    }
    text
}

/// Once for each binary: written bytes hardly depend on what else the machine does.
async fn written(options: &Options) -> String {
    let mut text = format!("\n| {} GB of payload, 100 records of 1 KiB a request | before | after |\n|---|---:|---:|\n", options.written);
    for (topics, what) in [(Topics::One, "one topic"), (Topics::Interleaved, "half of it in topics that are deleted")] {
        let before = written::measure(&options.before, options.written, topics).await;
        let after = if options.after == options.before { before } else { written::measure(&options.after, options.written, topics).await };
        eprintln!("written, {what}: {before:?}, {after:?}");
        for (says, before, after) in [
            ("written a byte", before.a_byte, after.a_byte),
            ("on disk in the end, a byte that is kept", before.kept_a_byte, after.kept_a_byte),
            ("payload, MB/s", before.mb_per_second, after.mb_per_second),
        ] {
            writeln!(text, "| {what}: {says} | {before:.2} | {after:.2} |").expect("a string takes it");
        }
    }
    text
}
