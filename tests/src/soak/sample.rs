//! What is looked at every few seconds of a soak.

use crate::ServerProcess;
use crate::bench_log::used;
use sagamq::bench::board::Board;
use sagamq_api::{GroupName, TopicName};
use sagamq_sdk::{Client, ClientError};
use serde_json::{Value, json};
use std::time::Duration;

/// A look at server, disk and load.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sample {
    /// When, in seconds after the load had warmed up.
    pub at_seconds: f64,
    /// Resident memory of the server.
    pub memory_mib: f64,
    /// Of that, the database's cache of blocks, its buffers of what is not in files yet, and the newest records: as the server measured them last.
    pub cache_mib: f64,
    /// See [`Sample::cache_mib`].
    pub buffers_mib: f64,
    /// See [`Sample::cache_mib`].
    pub records_mib: f64,
    /// What the data directory takes on the device.
    pub disk_mib: f64,
    /// Records that were produced a second, since the sample before.
    pub records_per_second: f64,
    /// 99th percentile of produce requests, from when they were due.
    pub p99_ms: f64,
    /// The longest of them.
    pub max_ms: f64,
    /// Records that the queue group has not settled.
    pub group_lag: f64,
    /// Records that the stream group has not committed.
    pub stream_lag: f64,
    /// Sagas that completed a second, since the sample before.
    pub sagas_per_second: f64,
    /// Requests of anybody that failed since the sample before.
    pub errors: u64,
}

impl Sample {
    /// As JSON.
    pub(super) fn json(&self) -> Value {
        json!({
            "at_seconds": self.at_seconds,
            "memory_mib": self.memory_mib,
            "cache_mib": self.cache_mib,
            "buffers_mib": self.buffers_mib,
            "records_mib": self.records_mib,
            "disk_mib": self.disk_mib,
            "records_per_second": self.records_per_second,
            "p99_ms": self.p99_ms,
            "max_ms": self.max_ms,
            "group_lag": self.group_lag,
            "stream_lag": self.stream_lag,
            "sagas_per_second": self.sagas_per_second,
            "errors": self.errors,
        })
    }
}

/// Who is looked at.
#[derive(Debug)]
pub(super) struct Looker<'a> {
    pub(super) server: &'a ServerProcess,
    pub(super) client: Client,
    pub(super) topic: TopicName,
    pub(super) queue: GroupName,
    pub(super) stream: GroupName,
}

impl Looker<'_> {
    /// Looks. `boards` are those of produce, of both groups and of the sagas; the interval of all ends now.
    pub(super) async fn look(&self, now: Duration, [produced, queue, stream, sagas]: [&Board; 4]) -> Result<Sample, ClientError> {
        let moments = [produced, queue, stream, sagas].map(|board| board.tick(now));
        let [produced, _, _, sagas] = moments;
        let group_lag = self.client.describe_group(&self.topic, &self.queue).await?.lag_records as f64;
        let stream_lag = self.client.describe_stream_group(&self.stream).await?.lag_records as f64;
        let parts = metrics(self.server).await.unwrap_or_default();
        let part = |names: &[&str]| names.iter().map(|name| bytes_of(&parts, name)).sum::<f64>() / f64::from(1 << 20);
        Ok(Sample {
            at_seconds: moments[0].at_seconds,
            memory_mib: self.server.memory_kib() as f64 / 1024.0,
            cache_mib: part(&["block_cache", "block_cache_log"]),
            buffers_mib: part(&["write_buffers"]),
            records_mib: part(&["records"]),
            disk_mib: used(&self.server.data()) as f64 / f64::from(1 << 20),
            records_per_second: produced.records_per_second,
            p99_ms: produced.p99_ms,
            max_ms: produced.max_ms,
            group_lag,
            stream_lag,
            sagas_per_second: sagas.records_per_second,
            errors: moments.iter().map(|moment| moment.errors).sum(),
        })
    }
}

/// The server's metrics as text.
async fn metrics(server: &ServerProcess) -> Option<String> {
    reqwest::get(format!("{}/metrics", server.url())).await.ok()?.text().await.ok()
}

/// A part of the memory in the text of the metrics; 0 before it was measured.
fn bytes_of(metrics: &str, part: &str) -> f64 {
    let name = format!("sagamq_memory_bytes{{part=\"{part}\"}} ");
    metrics.lines().find_map(|line| line.strip_prefix(&name)?.trim().parse().ok()).unwrap_or(0.0)
}
