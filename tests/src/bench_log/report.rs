//! The figures as a table in Markdown.

use super::Options;
use std::fmt::Write as _;
use std::time::Duration;

#[derive(Debug)]
pub(crate) struct Report(String);

impl Report {
    pub(crate) fn new(options: &Options) -> Self {
        let Options { gigabytes, batch_bytes, partitions, case } = options;
        let head = format!("{gigabytes} GB in batches of {batch_bytes} bytes, two topics of {partitions} partitions, {case:?}\n\n");
        Self(head + "| what | figure |\n|---|---:|\n")
    }

    fn row(&mut self, what: &str, figure: &str) {
        eprintln!("{what}: {figure}");
        writeln!(self.0, "| {what} | {figure} |").expect("a string takes it");
    }

    pub(crate) fn ratio(&mut self, what: &str, bytes: u64, of: u64) {
        self.row(what, &format!("{:.2}", bytes as f64 / of as f64));
    }

    pub(crate) fn rate(&mut self, what: &str, bytes: u64, seconds: f64) {
        self.row(what, &format!("{:.0} MB/s", bytes as f64 / 1e6 / seconds));
    }

    pub(crate) fn seconds(&mut self, what: &str, time: Duration) {
        self.row(what, &format!("{:.2} s", time.as_secs_f64()));
    }

    /// What the database says of itself.
    pub(crate) fn text(&mut self, text: &str) {
        eprintln!("{text}");
    }

    pub(crate) fn finish(self) -> String {
        self.0
    }
}
