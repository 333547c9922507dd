//! What the wire costs: the same records as JSON, as binary batches, and beside Redis Streams that sync each write, in one run.
//!
//! The machine is shared and noisy, and client and server share its cores, so only ratios of one run are a claim. The rate of the disk is
//! measured beside each round.

mod file;
mod lean;
mod redis;
mod wire;

use crate::measure::disk::{self, DiskRate};
use crate::measure::median;
use redis::RedisServer;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;
use wire::Wire;

/// Records of a request.
const BATCH: usize = 100;
/// Bytes of a value.
const VALUE: usize = 1024;
/// Connections that produce batches.
const CONNECTIONS: usize = 16;
/// Connections that produce single records.
const SINGLES: usize = 64;
/// Bytes of a value of a single record.
const SINGLE_VALUE: usize = 100;

/// What is measured.
#[derive(Clone, Debug)]
pub struct Options {
    server: PathBuf,
    rounds: usize,
    span: Duration,
    /// Payload that is produced before the batches are measured, in GB (10^9).
    prefill: u64,
    /// Payload that is read, in MB (10^6).
    read: u64,
    /// Only figures that are called so, in part; none: all.
    only: Vec<String>,
}

const USAGE: &str = "usage: sagamq-bench-wire [--server BINARY] [--rounds N] [--seconds N] [--prefill-gb N] [--read-mb N] [--only TEXT]...";

/// One figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Case {
    Batches(Wire),
    BatchesRedis,
    Single,
    SingleRedis,
    Read(Wire),
    ReadFile,
}

impl Case {
    const ALL: [Self; 8] = [
        Self::Batches(Wire::Json),
        Self::Batches(Wire::Binary),
        Self::BatchesRedis,
        Self::Single,
        Self::SingleRedis,
        Self::Read(Wire::Json),
        Self::Read(Wire::Binary),
        Self::ReadFile,
    ];

    fn says(self) -> String {
        let batches = format!("{BATCH} records of {VALUE} bytes a request, {CONNECTIONS} connections");
        let single = format!("one record of {SINGLE_VALUE} bytes a request, {SINGLES} connections");
        match self {
            Self::Batches(Wire::Json) => format!("{batches}, JSON: records/s"),
            Self::Batches(Wire::Binary) => format!("{batches}, binary: records/s"),
            Self::BatchesRedis => format!("{batches}, Redis Streams, pipelined, `appendfsync always`: records/s"),
            Self::Single => format!("{single}, JSON: records/s"),
            Self::SingleRedis => format!("{single}, Redis Streams, `appendfsync always`: records/s"),
            Self::Read(Wire::Json) => "catch-up read after a restart, one connection, JSON: MiB of payload/s".to_owned(),
            Self::Read(Wire::Binary) => "catch-up read after a restart, one connection, binary: MiB of payload/s".to_owned(),
            Self::ReadFile => "a plain file over the same HTTP stack, one connection: MiB/s".to_owned(),
        }
    }
}

impl Options {
    /// Reads the command line.
    ///
    /// # Errors
    /// With what was wrong and how it is used.
    pub fn from_args(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options =
            Self { server: crate::server::binary("sagamq"), rounds: 3, span: Duration::from_secs(4), prefill: 0, read: 500, only: vec![] };
        while let Some(name) = arguments.next() {
            let value = arguments.next().ok_or(USAGE)?;
            let count = || value.parse::<u64>().ok().filter(|&count| count > 0).ok_or(USAGE);
            match name.as_str() {
                "--server" => options.server = value.into(),
                "--rounds" => options.rounds = usize::try_from(count()?).map_err(|_| USAGE)?,
                "--seconds" => options.span = Duration::from_secs(count()?),
                "--prefill-gb" => options.prefill = count()?,
                "--read-mb" => options.read = count()?,
                "--only" => options.only.push(value),
                _ => return Err(USAGE.to_owned()),
            }
        }
        Ok(options)
    }
}

/// Runs everything and gives the report as Markdown. Progress goes to stderr.
pub async fn run(options: &Options) -> String {
    let directory = tempfile::Builder::new().prefix("sagamq-bench-wire-").tempdir().expect("a directory");
    let (mut disks, mut rates): (Vec<DiskRate>, BTreeMap<Case, Vec<f64>>) = (Vec::new(), BTreeMap::new());
    let mut commits = Vec::new();
    for round in 0..options.rounds {
        disks.push(disk::measure(&directory.path().join("data"), options.span / 4));
        let mut order = Case::ALL.to_vec();
        order.retain(|case| options.only.is_empty() || options.only.iter().any(|text| case.says().contains(text)));
        // The first is not always the same.
        if round % 2 == 1 {
            order.reverse();
        }
        for case in order {
            let Some((rate, commit_bytes)) = measure(case, options).await else { continue };
            if let Some(bytes) = commit_bytes.filter(|_| case == Case::Batches(Wire::Binary)) {
                let writes = disk::writes(&directory.path().join("data"), bytes as usize, options.span / 4);
                commits.push((bytes, rate * VALUE as f64 / (bytes * writes)));
            }
            eprintln!("round {} of {}, {}: {rate:.1}", round + 1, options.rounds, case.says());
            rates.entry(case).or_default().push(rate);
        }
    }
    report(options, &disks, &rates, &commits)
}

/// The figure, and the bytes of a commit where that is known. `None`: what is needed for it is not there.
async fn measure(case: Case, options: &Options) -> Option<(f64, Option<f64>)> {
    let rate = match case {
        Case::Batches(wire) => {
            let (rate, commit_bytes) = wire::batches(&options.server, wire, options.span, options.prefill).await;
            return Some((rate, Some(commit_bytes)));
        }
        Case::Single => Some(wire::singles(&options.server, options.span).await),
        Case::Read(wire) => Some(wire::read(&options.server, wire, options.read).await),
        Case::ReadFile => Some(file::read(options.read).await),
        Case::BatchesRedis => Some(RedisServer::start()?.produce(CONNECTIONS, BATCH, VALUE, options.span, options.prefill).await),
        Case::SingleRedis => Some(RedisServer::start()?.produce(SINGLES, 1, SINGLE_VALUE, options.span, 0).await),
    };
    rate.map(|rate| (rate, None))
}

fn report(options: &Options, disks: &[DiskRate], rates: &BTreeMap<Case, Vec<f64>>, commits: &[(f64, f64)]) -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let (small, batch) = (median(disks.iter().map(|rate| rate.small)), median(disks.iter().map(|rate| rate.batch)));
    let mut text = format!(
        "Medians of {} rounds in turns, {} s a measurement after {} GB of payload, {cores} cores shared by client and server; values that cannot \
         be compressed; every write synced. The disk alone: {small:.0} writes of 1 KiB with `fdatasync` a second, {batch:.0} of 100 KiB.\n\n\
         | what | |\n|---|---:|\n",
        options.rounds,
        options.span.as_secs(),
        options.prefill,
    );
    for case in Case::ALL {
        let rate = rates.get(&case).map(|rates| format!("{:.0}", median(rates.iter().copied())));
        let rate = rate.unwrap_or_else(|| "NOT RUN: there is no `redis-server`".to_owned());
        if options.only.is_empty() || rates.contains_key(&case) {
            writeln!(text, "| {} | {rate} |", case.says()).expect("a string takes it");
        }
    }
    if !commits.is_empty() {
        let bytes = median(commits.iter().map(|commit| commit.0)) / 1024.0;
        let share = median(commits.iter().map(|commit| commit.1)) * 100.0;
        writeln!(
            text,
            "\nCommits of binary batches: {bytes:.0} KiB in the mean. Payload is {share:.0}% of what the disk alone takes in writes of that size, each synced."
        )
        .expect("a string takes it");
    }
    text
}
