//! What a log outside costs: the same load on a server that is alone, on one to three nodes whose log is in a folder, and on one whose log is on an S3
//! server of the same machine, also with a longer way to it. In turns, each time processes of their own on new data.
//!
//! The load is `sagamq bench` in a further process. The machine is shared and noisy, so only ratios of one run are a claim.

mod delay;
mod load;
mod place;

use crate::measure::disk::{self, DiskRate};
use crate::measure::median;
use load::{Figures, Load};
use place::{Bucket, Place, Server};
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

const USAGE: &str = "usage: sagamq-bench-cluster [--server BINARY] [--rounds N] [--seconds N] [--loads NAME,NAME]\n\
                     run it by scripts/with-s3, or the S3 server is left out";

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
                "--loads" => options.loads = value.split(',').map(Load::named).collect::<Result<_, _>>()?,
                _ => return Err(USAGE.to_owned()),
            }
        }
        Ok(options)
    }
}

/// What a column of the report says, and which figure it has.
type Column = (&'static str, fn(&Figures) -> f64);

/// What each load came to at each place, in every round.
type Rounds = BTreeMap<(Load, Place), Vec<Figures>>;

/// Runs everything and gives the report as Markdown. Progress goes to stderr.
///
/// # Panics
/// When a server does not start, or a load fails.
pub async fn run(options: &Options) -> String {
    let directory = tempfile::Builder::new().prefix("sagamq-bench-cluster-").tempdir().expect("a directory");
    let bucket = Bucket::of_environment();
    let places: Vec<Place> = Place::ALL.into_iter().filter(|place| bucket.is_some() || !place.needs_s3()).collect();
    if bucket.is_none() {
        eprintln!("NOT RUN on an S3 server, because SAGAMQ_TEST_S3 is not set: scripts/with-s3 sets it");
    }
    let (mut disks, mut rounds): (Vec<DiskRate>, Rounds) = (Vec::new(), BTreeMap::new());
    for round in 0..options.rounds {
        disks.push(disk::measure(&directory.path().join("data"), Duration::from_millis(500)));
        for &load in &options.loads {
            // In turns, and the first is not always the same.
            let mut order = places.clone();
            order.rotate_left(round % places.len());
            for place in order {
                let own = format!("bench-{}-{}", std::process::id(), rounds.values().map(Vec::len).sum::<usize>());
                let server = Server::start(&options.program, place, bucket.as_ref(), &own).await;
                let figures = load.measure(&options.program, &server, options.seconds).await;
                server.stop().await;
                eprintln!(
                    "round {} of {}, {}, {}: {:.0} {}/s, p50 {:.2} ms, p99 {:.2} ms",
                    round + 1,
                    options.rounds,
                    load.name(),
                    place.says(),
                    figures.per_second,
                    load.unit(),
                    figures.p50_ms,
                    figures.p99_ms
                );
                rounds.entry((load, place)).or_default().push(figures);
            }
        }
    }
    report(options, &places, &disks, &rounds)
}

fn report(options: &Options, places: &[Place], disks: &[DiskRate], rounds: &Rounds) -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let small = median(disks.iter().map(|rate| rate.small));
    let mut text = format!(
        "Medians of {} rounds in turns, {} s a measurement, {cores} cores shared by server, load, S3 server and the way to it. The disk alone: {small:.0} writes of \
         1 KiB with `fdatasync` a second. A ratio is beside the server without a log.\n",
        options.rounds, options.seconds,
    );
    for &load in &options.loads {
        let of = |place: Place, what: fn(&Figures) -> f64| median(rounds[&(load, place)].iter().map(what));
        let columns: [Column; 3] =
            [("p50 ms", |figures| figures.p50_ms), ("p99 ms", |figures| figures.p99_ms), ("a second", |figures| figures.per_second)];
        let heads = columns.map(|(head, _)| format!(" {head} (ratio) |")).concat();
        writeln!(text, "\n| {}: the log is |{heads}\n|---|---:|---:|---:|", load.says()).expect("a string takes it");
        for &place in places {
            write!(text, "| {} |", place.says()).expect("a string takes it");
            for (_, what) in columns {
                let (value, alone) = (of(place, what), of(Place::Alone, what));
                let digits = usize::from(value < 1_000.0) + usize::from(value < 100.0);
                write!(text, " {value:.digits$} ({:.2}) |", value / alone).expect("a string takes it");
            }
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_has_a_table_a_load_with_ratios_to_the_server_alone() {
        let options = Options { program: PathBuf::new(), rounds: 3, seconds: 4, loads: vec![Load::Single] };
        let figures = |p50_ms: f64| Figures { per_second: 1_000.0 / p50_ms, p50_ms, p99_ms: 2.0 * p50_ms };
        let places = [Place::Alone, Place::Folder(1)];
        let rounds = BTreeMap::from([
            ((Load::Single, Place::Alone), [2.0, 1.0, 30.0].map(figures).to_vec()),
            ((Load::Single, Place::Folder(1)), [8.0, 5.0, 6.0].map(figures).to_vec()),
        ]);
        let text = report(&options, &places, &[], &rounds);
        assert!(text.contains("| no log | 2.00 (1.00) | 4.00 (1.00) | 500.0 (1.00) |"), "{text}");
        assert!(text.contains("| a folder on the same disk | 6.00 (3.00) | 12.00 (3.00) | 166.7 (0.33) |"), "{text}");
    }

    #[test]
    fn what_is_not_known_is_refused_with_what_is() {
        let parsed = |arguments: &[&str]| Options::from_args(arguments.iter().map(|&argument| argument.to_owned()));
        for wrong in [&["--rounds", "0"][..], &["--rounds"], &["--what", "1"]] {
            assert!(parsed(wrong).expect_err("refused").contains("usage"), "{wrong:?}");
        }
        assert!(parsed(&["--loads", "none"]).expect_err("refused").contains("single, batches, sagas"));
    }
}
