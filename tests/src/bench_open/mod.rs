//! How long an open takes, from the start of the process until the server is ready, after a `kill -9`: with very many partitions and
//! groups, and with very many records under a small limit of open files.

mod fill;

use crate::ServerProcess;
use core::fmt::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Open files that the process may have.
const FILES_MAX: u32 = 256;

/// How much is stored before the open.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Opens of each case; the median is reported.
    pub rounds: usize,
    /// Topics of the first case.
    pub topics: u32,
    /// Records of the second case.
    pub records: u64,
}

impl Options {
    /// Reads `--rounds N --topics N --records N`.
    ///
    /// # Errors
    /// With what was wrong and how it is used.
    pub fn from_args(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self { rounds: 5, topics: 1_000, records: 10_000_000 };
        while let Some(name) = arguments.next() {
            let usage = || "usage: sagamq-bench-open [--rounds N] [--topics N] [--records N]".to_owned();
            let value: u32 = arguments.next().and_then(|value| value.parse().ok()).filter(|&value| value > 0).ok_or_else(usage)?;
            match name.as_str() {
                "--rounds" => options.rounds = value as usize,
                "--topics" => options.topics = value,
                "--records" => options.records = value.into(),
                _ => return Err(usage()),
            }
        }
        Ok(options)
    }
}

/// Measures, and gives the report as Markdown. Progress goes to stderr.
///
/// # Panics
/// When the server does not get ready.
pub async fn run(options: &Options) -> String {
    let mut report = "| what is stored | open, median | slowest |\n|---|---|---|\n".to_owned();
    let Options { topics, records, .. } = *options;
    for used_partitions in [0, fill::PARTITIONS] {
        let mut server = ServerProcess::start().await;
        server.kill();
        fill::topics(&server.data(), topics, used_partitions).await;
        let what = format!("{topics} topics x {} partitions x {} groups, {used_partitions} used", fill::PARTITIONS, fill::GROUPS);
        line(&mut report, &what, &mut opens(&mut server, options.rounds).await);
    }
    let mut server = ServerProcess::start().await;
    server.kill();
    fill::records(&server.data(), records).await;
    let what = format!("{records} records, {FILES_MAX} open files at most");
    line(&mut report, &what, &mut opens(&mut server, options.rounds).await);
    report
}

async fn opens(server: &mut ServerProcess, rounds: usize) -> Vec<Duration> {
    let mut took = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        let serve = ServerProcess::command(&server.data(), server.address());
        let mut limited = Command::new("sh");
        limited.arg("-c").arg(format!("ulimit -n {FILES_MAX} && exec \"$@\"")).arg("sh").arg(serve.get_program()).args(serve.get_args());
        limited.stdin(Stdio::null()).stdout(Stdio::null());
        took.push(server.restart_as(limited).await);
        server.kill();
    }
    took
}

fn line(report: &mut String, what: &str, took: &mut [Duration]) {
    took.sort_unstable();
    let (median, slowest) = (took[took.len() / 2].as_secs_f64(), took[took.len() - 1].as_secs_f64());
    eprintln!("{what}: {median:.2} s");
    writeln!(report, "| {what} | {median:.2} s | {slowest:.2} s |").expect("text takes it");
}
