//! Sagas on two binaries of the server side by side, in turns, on new data each time: rates and latencies, syncs, memory, the time to resume, and
//! what is left to others beside a hot key and a service that hangs.
//!
//! Server, starters, workers and HTTP service are processes of their own on the same cores. The machine is shared and noisy, so only ratios
//! of one run are a claim.

mod case;
mod definitions;
mod http;
mod many;
mod neighbours;
mod role;
mod side;

pub use role::Role;

use crate::measure::disk::{self, DiskRate};
use crate::measure::median;
use case::Case;
use many::Many;
use side::Side;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

/// What is compared.
#[derive(Clone, Debug)]
pub struct Options {
    /// Before and after.
    sides: Vec<Side>,
    rounds: usize,
    span: Duration,
    cases: Vec<Case>,
    /// Running sagas for memory and the time to resume; 0: left out.
    many: u32,
}

const USAGE: &str = "usage: sagamq-bench-sagas [--before SERVER] [--before-clients BENCH] [--after SERVER] [--rounds N] [--seconds N] \
                     [--cases NAME,NAME | none] [--many N]\n\
                     --before-clients: an older build of this program, whose workers the older server is measured with";

impl Options {
    /// Reads the command line.
    ///
    /// # Errors
    /// With what was wrong and how it is used.
    pub fn from_args(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let clients = std::env::current_exe().map_err(|error| error.to_string())?;
        let mut after = Side { server: crate::server::binary("sagamq"), clients: clients.clone() };
        let mut before: Option<Side> = None;
        let mut before_clients: Option<PathBuf> = None;
        let (mut rounds, mut seconds, mut cases, mut many) = (5, 4, Case::ALL.to_vec(), 0);
        while let Some(name) = arguments.next() {
            let value = arguments.next().ok_or(USAGE)?;
            let count = || value.parse().ok().filter(|&count: &u32| count > 0).ok_or(USAGE);
            match name.as_str() {
                "--before" => before = Some(Side { server: value.into(), clients: clients.clone() }),
                "--before-clients" => before_clients = Some(value.into()),
                "--after" => after.server = value.into(),
                "--rounds" => rounds = count()? as usize,
                "--seconds" => seconds = count()?,
                "--many" => many = count()?,
                "--cases" if value == "none" => cases.clear(),
                "--cases" => cases = value.split(',').map(named).collect::<Result<_, _>>()?,
                _ => return Err(USAGE.to_owned()),
            }
        }
        if let (Some(before), Some(clients)) = (&mut before, before_clients) {
            before.clients = clients;
        }
        Ok(Self { sides: before.into_iter().chain([after]).collect(), rounds, span: Duration::from_secs(seconds.into()), cases, many })
    }
}

fn named(name: &str) -> Result<Case, String> {
    let names = || Case::ALL.map(Case::name).join(", ");
    Case::ALL.into_iter().find(|case| case.name() == name).ok_or_else(|| format!("no case `{name}`; there are {}", names()))
}

/// What a row says, and each side's values.
type Rows = BTreeMap<String, Vec<Vec<f64>>>;

/// Runs everything and gives the report as Markdown. Progress goes to stderr.
pub async fn run(options: &Options) -> String {
    let (mut disks, mut rows): (Vec<DiskRate>, Rows) = (Vec::new(), Rows::new());
    let directory = tempfile::Builder::new().prefix("sagamq-bench-sagas-").tempdir().expect("a directory");
    for round in 0..options.rounds {
        disks.push(disk::measure(&directory.path().join("data"), options.span / 8));
        for &case in &options.cases {
            // In turns, and the first is not always the same.
            let mut order: Vec<usize> = (0..options.sides.len()).collect();
            order.rotate_left(round % options.sides.len());
            for side in order {
                for (what, value) in case.measure(&options.sides[side], options.span).await {
                    eprintln!("round {} of {}, side {side}: {what}: {value:.2}", round + 1, options.rounds);
                    rows.entry(what).or_insert_with(|| vec![Vec::new(); options.sides.len()])[side].push(value);
                }
            }
        }
    }
    if options.many > 0 {
        for (index, side) in options.sides.iter().enumerate() {
            let Many { memory_mib, ready_seconds, resumed_seconds } = many::measure(side, options.many).await;
            let of = format!("{} running sagas", options.many);
            for (what, value) in
                [("memory, MiB", memory_mib), ("ready after SIGKILL, s", ready_seconds), ("all resumed after SIGKILL, s", resumed_seconds)]
            {
                eprintln!("side {index}: {of}: {what}: {value:.2}");
                rows.entry(format!("{of}: {what}")).or_insert_with(|| vec![Vec::new(); options.sides.len()])[index].push(value);
            }
        }
    }
    report(options, &disks, &rows)
}

fn report(options: &Options, disks: &[DiskRate], rows: &Rows) -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let small = median(disks.iter().map(|rate| rate.small));
    let mut text = format!(
        "Medians of {} rounds in turns, {} s a measurement, {cores} cores shared by all processes. The disk alone: {small:.0} writes of 1 KiB \
         with `fdatasync` a second.\n\n",
        options.rounds,
        options.span.as_secs(),
    );
    text.push_str(if options.sides.len() == 2 {
        "| what | before | after | ratio |\n|---|---:|---:|---:|\n"
    } else {
        "| what | |\n|---|---:|\n"
    });
    for (what, sides) in rows {
        let medians: Vec<f64> = sides.iter().map(|values| median(values.iter().copied())).collect();
        match medians[..] {
            [before, after] => writeln!(text, "| {what} | {before:.2} | {after:.2} | {:.2} |", after / before),
            _ => writeln!(text, "| {what} | {:.2} |", medians[0]),
        }
        .expect("a string takes it");
    }
    text
}
