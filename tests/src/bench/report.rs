//! The figures of all rounds, and their medians as Markdown.

use crate::bench::disk::DiskRate;
use crate::bench::produce::{BATCH_RECORDS, ProduceRate, RECORD_BYTES};
use crate::bench::sagas::SagaRate;
use crate::bench::{Latency, Options};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

/// What all rounds gave.
#[derive(Debug, Default)]
pub(crate) struct Report {
    disk: Vec<DiskRate>,
    produce: BTreeMap<usize, Vec<ProduceRate>>,
    consume: BTreeMap<usize, Vec<f64>>,
    sagas: BTreeMap<u32, Vec<SagaRate>>,
    restart: Vec<Duration>,
}

/// The middle of the values; 0 of none.
pub(crate) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

impl Report {
    pub(crate) fn disk(&mut self, rate: DiskRate) {
        eprintln!("  disk: {:.0} writes of 1 KiB + fdatasync/s, {:.0} of 100 KiB", rate.small, rate.batch);
        self.disk.push(rate);
    }

    pub(crate) fn produce(&mut self, connections: usize, rate: ProduceRate) {
        eprintln!("  produce, {connections} connections: {:.0} records/s", rate.records_per_second);
        self.produce.entry(connections).or_default().push(rate);
    }

    pub(crate) fn consume(&mut self, consumers: usize, rate: f64) {
        eprintln!("  consume, {consumers} consumers: {rate:.0} records/s");
        self.consume.entry(consumers).or_default().push(rate);
    }

    pub(crate) fn sagas(&mut self, concurrency: u32, rate: SagaRate) {
        eprintln!("  sagas, {concurrency} at a time: {:.0}/s", rate.completed_per_second);
        self.sagas.entry(concurrency).or_default().push(rate);
    }

    pub(crate) fn restart(&mut self, took: Duration) {
        eprintln!("  restart: {} ms", took.as_millis());
        self.restart.push(took);
    }

    /// The medians as tables.
    pub(crate) fn markdown(&self, options: &Options) -> String {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let (small, batch) = (median(self.disk.iter().map(|d| d.small)), median(self.disk.iter().map(|d| d.batch)));
        let mut text = format!(
            "Medians of {} rounds, {} s a measurement, {cores} cores shared by client and server.\n\n\
             | what | rate | p50 | p99 | beside the disk |\n|---|---:|---:|---:|---|\n\
             | raw: write 1 KiB + fdatasync, one thread | {small:.0} writes/s | | | |\n\
             | raw: write 100 KiB + fdatasync, one thread | {batch:.0} writes/s ({:.0} MiB/s) | | | |\n",
            options.rounds,
            options.span.as_secs(),
            batch * 100.0 / 1024.0,
        );
        for (connections, rates) in &self.produce {
            let records = median(rates.iter().map(|r| r.records_per_second));
            let latency = Latency::median_of(&rates.iter().map(|r| r.request).collect::<Vec<_>>());
            let requests = records / BATCH_RECORDS as f64;
            row(
                &mut text,
                &format!("durable produce, {connections} connection(s), {BATCH_RECORDS} records of {RECORD_BYTES} bytes a request"),
                &format!("{records:.0} records/s ({:.0} MiB/s)", records * RECORD_BYTES as f64 / 1024.0 / 1024.0),
                Some(latency),
                &format!("{:.2} requests a raw 100 KiB sync", requests / batch),
            );
        }
        for (consumers, rates) in &self.consume {
            let records = median(rates.iter().copied());
            let what = format!("queue consume with acks, {consumers} consumer(s), up to 100 records a receive");
            row(&mut text, &what, &format!("{records:.0} records/s"), None, &format!("{:.1} records a raw 1 KiB sync", records / small));
        }
        for (concurrency, rates) in &self.sagas {
            let completed = median(rates.iter().map(|r| r.completed_per_second));
            let latency = Latency::median_of(&rates.iter().map(|r| r.saga).collect::<Vec<_>>());
            let beside = format!("{:.2} sagas a raw 1 KiB sync", completed / small);
            row(
                &mut text,
                &format!("4-step sagas, {concurrency} at a time"),
                &format!("{completed:.0} completed/s"),
                Some(latency),
                &beside,
            );
        }
        let restart = median(self.restart.iter().map(Duration::as_secs_f64));
        row(&mut text, "restart after kill -9, 100,000 records and 1,000 running sagas", &format!("{:.0} ms", restart * 1000.0), None, "");
        text
    }
}

fn row(text: &mut String, what: &str, rate: &str, latency: Option<Latency>, beside: &str) {
    let milliseconds =
        |pick: fn(Latency) -> Duration| latency.map_or(String::new(), |l| format!("{:.1} ms", pick(l).as_secs_f64() * 1000.0));
    writeln!(text, "| {what} | {rate} | {} | {} | {beside} |", milliseconds(|l| l.p50), milliseconds(|l| l.p99))
        .expect("a string takes it");
}
