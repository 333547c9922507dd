//! The result of a soak: lines while it runs, a table, JSON and a plot.

use super::{Sample, Soaked};
use sagamq::bench::plot::{Curve, Panel, Scale, draw};
use serde_json::json;
use std::fmt::Write as _;
use std::io;
use std::path::Path;

/// Above the lines.
pub(super) const HEADER: &str = "  time s  memory MiB  disk MiB  records/s    p99 ms    max ms  queue lag  stream lag  sagas/s  errors";

/// A look as a line.
pub(super) fn line(sample: &Sample) -> String {
    let Sample {
        at_seconds,
        memory_mib,
        disk_mib,
        records_per_second,
        p99_ms,
        max_ms,
        group_lag,
        stream_lag,
        sagas_per_second,
        errors,
        ..
    } = sample;
    format!(
        "{at_seconds:8.0}  {memory_mib:10.1}  {disk_mib:8.0}  {records_per_second:9.0}  {p99_ms:8.1}  {max_ms:8.1}  {group_lag:9.0}  \
         {stream_lag:10.0}  {sagas_per_second:7.1}  {errors:6}"
    )
}

impl Soaked {
    /// The verdicts as a table in Markdown, below what each third of the run was like.
    #[must_use]
    pub fn markdown(&self) -> String {
        let mut text = format!("{:.0} records a second", self.rate);
        if let Some(peak) = self.peak {
            write!(text, ", half of the peak of {peak:.0}").expect("a string takes it");
        }
        text.push_str("\n\n| third | memory MiB, highest | disk MiB, highest | records/s | produce p99 ms, highest | longest ms | queue lag, highest | stream lag, highest |\n|---|---:|---:|---:|---:|---:|---:|---:|\n");
        let length = self.samples.len().div_ceil(3).max(1);
        for (samples, third) in self.samples.chunks(length).zip(["first", "second", "last"]) {
            let highest = |pick: fn(&Sample) -> f64| samples.iter().map(pick).fold(0.0, f64::max);
            let mean = samples.iter().map(|sample| sample.records_per_second).sum::<f64>() / samples.len() as f64;
            let (memory, disk) = (highest(|sample| sample.memory_mib), highest(|sample| sample.disk_mib));
            let (p99, max) = (highest(|sample| sample.p99_ms), highest(|sample| sample.max_ms));
            let (queue, stream) = (highest(|sample| sample.group_lag), highest(|sample| sample.stream_lag));
            writeln!(text, "| {third} | {memory:.0} | {disk:.0} | {mean:.0} | {p99:.1} | {max:.1} | {queue:.0} | {stream:.0} |")
                .expect("a string takes it");
        }
        text.push_str("\n| judged | | figures |\n|---|---|---|\n");
        for verdict in &self.verdicts {
            let ok = if verdict.ok { "ok" } else { "FAILED" };
            writeln!(text, "| {} | {ok} | {} |", verdict.what, verdict.says).expect("a string takes it");
        }
        text
    }
}

/// Writes `soak.json` and `soak.svg` into a folder.
pub(super) fn write(soaked: &Soaked, folder: &Path) -> io::Result<()> {
    let verdicts = soaked.verdicts.iter().map(|verdict| json!({ "what": verdict.what, "ok": verdict.ok, "says": verdict.says }));
    let document = json!({
        "peak_records_per_second": soaked.peak,
        "records_per_second": soaked.rate,
        "ok": soaked.is_ok(),
        "verdicts": verdicts.collect::<Vec<_>>(),
        "samples": soaked.samples.iter().map(Sample::json).collect::<Vec<_>>(),
    });
    std::fs::write(folder.join("soak.json"), serde_json::to_string_pretty(&document)? + "\n")?;
    if soaked.samples.is_empty() {
        return Ok(());
    }
    draw(&folder.join("soak.svg"), &panels(&soaked.samples)).map_err(io::Error::other)
}

fn panels(samples: &[Sample]) -> Vec<Panel> {
    let curve = |name: &str, pick: fn(&Sample) -> f64| Curve {
        name: name.to_owned(),
        points: samples.iter().map(|sample| (sample.at_seconds, pick(sample))).collect(),
    };
    let panel = |title: &str, unit: &str, scale, curves| Panel {
        title: title.to_owned(),
        x: ("seconds".to_owned(), Scale::Linear),
        y: (unit.to_owned(), scale),
        curves,
    };
    vec![
        panel(
            "Memory of the server",
            "MiB",
            Scale::Linear,
            vec![
                curve("resident", |sample| sample.memory_mib),
                curve("newest records", |sample| sample.records_mib),
                curve("cache of blocks", |sample| sample.cache_mib),
                curve("write buffers", |sample| sample.buffers_mib),
            ],
        ),
        panel("Data directory", "MiB", Scale::Linear, vec![curve("on the device", |sample| sample.disk_mib)]),
        panel(
            "Produce, from when it was due",
            "ms",
            Scale::Logarithmic,
            vec![curve("p99", |sample| sample.p99_ms), curve("longest", |sample| sample.max_ms)],
        ),
        panel("Rate", "records/s", Scale::Linear, vec![curve("produced", |sample| sample.records_per_second)]),
        panel(
            "Lag",
            "records",
            Scale::Linear,
            vec![curve("queue group", |sample| sample.group_lag), curve("stream group", |sample| sample.stream_lag)],
        ),
    ]
}
