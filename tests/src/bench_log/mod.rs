//! What the log costs the disk: bytes written and kept for each byte of payload, the rate of catch-up reads, the time of an open, and
//! how space comes back when topics are deleted.
//!
//! It works on the storage as the committer does, in one process: commits of about 1 MiB over many partitions, each synced, of bytes
//! that cannot be compressed. What the process wrote is what the system counted, so it has everything in it: the write-ahead log, sorted
//! files, merging, collection. Written bytes and space hardly depend on what else the machine does; rates do.

mod disk;
mod log;
mod report;

use crate::measure::now;
use disk::Disk;
use log::Log;
use report::Report;
use sagamq_broker::storage::rocks::{RocksOptions, RocksStorage};
use std::time::Duration;

/// How much is measured.
#[derive(Clone, Debug)]
pub struct Options {
    /// Payload that is written, in GB (10^9).
    pub gigabytes: u64,
    /// Bytes of one stored batch.
    pub batch_bytes: usize,
    /// Partitions of each of the two topics.
    pub partitions: u32,
    /// Which case.
    pub case: Case,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    /// Write, restart, read cold and warm, then delete one of two topics.
    Steady,
    /// Records of one topic are deleted while it is written: it keeps the newest tenth of the payload; the other keeps all.
    Interleaved,
}

impl Options {
    /// Reads `--gb N --batch-bytes N --partitions N --interleaved`.
    ///
    /// # Errors
    /// With what was wrong and how it is used.
    pub fn from_args(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let usage = || "usage: sagamq-bench-log [--gb N] [--batch-bytes N] [--partitions N] [--interleaved]".to_owned();
        let mut options = Self { gigabytes: 10, batch_bytes: 100 * 1024, partitions: 16, case: Case::Steady };
        while let Some(name) = arguments.next() {
            if name == "--interleaved" {
                options.case = Case::Interleaved;
                continue;
            }
            let value: u32 = arguments.next().and_then(|value| value.parse().ok()).filter(|&value| value > 0).ok_or_else(usage)?;
            match name.as_str() {
                "--gb" => options.gigabytes = value.into(),
                "--batch-bytes" => options.batch_bytes = value as usize,
                "--partitions" => options.partitions = value,
                _ => return Err(usage()),
            }
        }
        Ok(options)
    }
}

/// Bytes on the device under the directory.
pub(crate) fn used(directory: &std::path::Path) -> u64 {
    Disk::new(directory).used()
}

/// How long the disk may take to give space back.
const PATIENCE: Duration = Duration::from_secs(300);

/// Measures in a directory of its own, which it removes, and gives the report. Progress goes to stderr.
///
/// # Panics
/// When the storage fails.
#[must_use]
pub fn run(options: &Options) -> String {
    let directory = tempfile::Builder::new().prefix("sagamq-bench-log-").tempdir().expect("a directory");
    let disk = Disk::new(directory.path());
    let open = || RocksStorage::open(directory.path(), &RocksOptions::default()).expect("opens");
    let mut report = Report::new(options);
    let storage = open();
    let mut log = Log::new(options);
    let (began, written) = (now(), disk.written());
    let most = log.fill(&storage, &disk, options);
    let seconds = began.elapsed().as_secs_f64();
    report.rate("written, every commit synced", log.payload(), seconds);
    report.ratio("on disk at most while writing, a byte that is kept", most, log.kept());
    disk.wait_until_quiet();
    report.ratio("written to disk, a byte of payload", disk.written() - written, log.payload());
    report.ratio("on disk, a byte that is kept", disk.used(), log.kept());
    report.text(&storage.describe());
    drop(storage);
    disk.forget_cached();
    let began = now();
    let storage = open();
    report.seconds("open, nothing of it in memory", began.elapsed());
    for (what, bytes) in [("1 MiB", 1 << 20), ("100 KiB", 100 << 10)] {
        disk.forget_cached();
        let began = now();
        let read = log.read(&storage, bytes);
        report.rate(&format!("read by {what}, nothing of it in memory"), read, began.elapsed().as_secs_f64());
        let began = now();
        let read = log.read(&storage, bytes);
        report.rate(&format!("read by {what}, again"), read, began.elapsed().as_secs_f64());
    }
    drop(storage);
    let began = now();
    let storage = open();
    report.seconds("open, the system has it in memory", began.elapsed());
    if options.case == Case::Steady {
        let (used, written, kept) = (disk.used(), disk.written(), log.kept());
        let began = now();
        let gone = log.delete_half(&storage);
        let target = used - gone * 9 / 10;
        while disk.used() > target && began.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(100));
        }
        report.seconds("one of two topics deleted: until nine tenths of its space were back", began.elapsed());
        disk.wait_until_quiet();
        report.ratio("written to disk meanwhile, a byte that is kept", disk.written() - written, kept - gone);
        report.ratio("on disk afterwards, a byte that is kept", disk.used(), kept - gone);
        report.text(&storage.describe());
    }
    report.finish()
}
